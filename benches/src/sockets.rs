//! The connections from a node to the API server, and how many bytes arrived over them.

use anyhow::{Context as _, Result, ensure};
use tandem_tests::netns::Namespace;

/// The connections that stand at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sockets {
    /// The node's address and port of each, sorted.
    pub locals: Vec<String>,
    /// The bytes of TCP that arrived over all of them.
    pub received: u64,
}

impl Sockets {
    /// Those of a node, as `ss` lists them.
    pub fn of(node: &Namespace) -> Result<Self> {
        let listed = node.exec(&["ss", "-Htni", "state", "established", "dport", "=", ":6443"])?;
        Self::parse(&listed)
    }

    /// Each socket has a line, and then an indented one with its counters.
    fn parse(listed: &str) -> Result<Self> {
        let (mut locals, mut received) = (Vec::new(), 0);
        for line in listed.lines() {
            if line.starts_with(char::is_whitespace) {
                // A connection over which nothing arrived has no such word.
                let counter = line
                    .split_whitespace()
                    .find_map(|word| word.strip_prefix("bytes_received:"));
                let bytes: u64 = counter.unwrap_or("0").parse().with_context(|| line.to_owned())?;
                received += bytes;
            } else {
                let local = line.split_whitespace().nth(2);
                locals.push(local.with_context(|| format!("no address in {line:?}"))?.to_owned());
            }
        }
        locals.sort_unstable();
        Ok(Self { locals, received })
    }

    /// How many bytes arrived since `before`. No connection may have come or gone meanwhile.
    pub fn since(&self, before: &Self) -> Result<u64> {
        ensure!(
            self.locals == before.locals,
            "other connections than before: {:?}, and {:?} before",
            self.locals,
            before.locals
        );
        Ok(self.received - before.received)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_and_their_bytes_are_read() {
        let listed = "0      0      192.0.2.11:40002   192.0.2.1:6443 \n\t cubic rto:204 bytes_sent:5 bytes_received:1200 segs_out:3\n\
                      0      0      192.0.2.11:40000   192.0.2.1:6443\n\t cubic bytes_received:34\n";
        let sockets = Sockets::parse(listed).unwrap();
        assert_eq!(sockets.locals, ["192.0.2.11:40000", "192.0.2.11:40002"]);
        assert_eq!(sockets.received, 1234);
        assert!(sockets.since(&Sockets::parse("").unwrap()).is_err());
    }
}
