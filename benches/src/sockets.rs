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
    /// How many connections the node ever opened, also those that ended.
    pub opened: u64,
}

impl Sockets {
    /// Those of a node, as `ss` lists them.
    pub fn of(node: &Namespace) -> Result<Self> {
        let listed = node.exec(&["ss", "-Htni", "state", "established", "dport", "=", ":6443"])?;
        Self::parse(&listed, &node.exec(&["cat", "/proc/net/snmp"])?)
    }

    /// Each socket has a line, and then an indented one with its counters.
    fn parse(listed: &str, snmp: &str) -> Result<Self> {
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
        let opened = opened(snmp)?;
        Ok(Self {
            locals,
            received,
            opened,
        })
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

/// The counter `ActiveOpens` of TCP. Its line of values follows its line of names.
fn opened(snmp: &str) -> Result<u64> {
    let mut lines = snmp.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (names, values) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let found = names
        .split(' ')
        .zip(values.split(' '))
        .find(|(name, _)| *name == "ActiveOpens");
    let (_, value) = found.context("/proc/net/snmp has no ActiveOpens")?;
    value.parse().with_context(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_and_their_bytes_are_read() {
        let listed = "0      0      192.0.2.11:40002   192.0.2.1:6443 \n\t cubic rto:204 bytes_sent:5 bytes_received:1200 segs_out:3\n\
                      0      0      192.0.2.11:40000   192.0.2.1:6443\n\t cubic bytes_received:34\n";
        let snmp = "Ip: Forwarding\nIp: 1\nTcp: RtoMin ActiveOpens PassiveOpens\nTcp: 200 7 9\n";
        let sockets = Sockets::parse(listed, snmp).unwrap();
        assert_eq!(sockets.opened, 7);
        assert_eq!(sockets.locals, ["192.0.2.11:40000", "192.0.2.11:40002"]);
        assert_eq!(sockets.received, 1234);
        assert!(sockets.since(&Sockets::parse("", snmp).unwrap()).is_err());
    }
}
