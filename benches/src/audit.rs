//! Counts requests to the API server by where they come from, with the server's own audit log.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::Deserialize;

/// One line for each request, written when it arrives.
const POLICY: &str = "apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [ResponseStarted, ResponseComplete, Panic]
rules: [{ level: Metadata }]
";

/// The audit log of an API server.
#[derive(Debug)]
pub struct Audit {
    log: PathBuf,
    policy: PathBuf,
}

/// A line of the log.
#[derive(Deserialize)]
struct Line {
    #[serde(rename = "sourceIPs", default)]
    source_ips: Vec<IpAddr>,
}

impl Audit {
    /// A log in this folder. The server writes it if it is started with [`Self::arguments`].
    pub fn within(folder: &Path) -> Result<Self> {
        let (log, policy) = (folder.join("audit.log"), folder.join("audit.yaml"));
        fs::write(&policy, POLICY).context("write the audit policy")?;
        Ok(Self { log, policy })
    }

    /// The arguments for the API server.
    pub fn arguments(&self) -> [String; 2] {
        [
            format!("--audit-policy-file={}", self.policy.display()),
            format!("--audit-log-path={}", self.log.display()),
        ]
    }

    /// The log's present end.
    pub fn end(&self) -> Result<u64> {
        let data = fs::metadata(&self.log).context("look at the audit log")?;
        Ok(data.len())
    }

    /// How many requests came from this address after that end of the log.
    pub fn count(&self, from: IpAddr, after: u64) -> Result<usize> {
        let mut log = File::open(&self.log).context("read the audit log")?;
        log.seek(SeekFrom::Start(after)).context("read the audit log")?;
        let mut count = 0;
        for line in BufReader::new(log).lines() {
            let line = line.context("read the audit log")?;
            let line: Line = serde_json::from_str(&line).with_context(|| format!("no audit event: {line}"))?;
            count += usize::from(line.source_ips.contains(&from));
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sources_of_an_audit_event_are_read() {
        let line = r#"{"kind":"Event","stage":"RequestReceived","verb":"watch","sourceIPs":["192.0.2.11"],"userAgent":"tandem"}"#;
        let line: Line = serde_json::from_str(line).unwrap();
        assert_eq!(line.source_ips, ["192.0.2.11".parse::<IpAddr>().unwrap()]);
    }
}
