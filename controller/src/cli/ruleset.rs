//! `tandem ruleset`

use std::io::ErrorKind;
use std::process::{Command, Stdio};

use clap::{Args, ValueEnum};

use super::CommandError;

/// Print the live tables as nft does. Needs nft, and root; the agent need not run.
///
/// How to read it: `cluster-frontends`, `external-frontends` and `node-ports` lead from an address to a service id;
/// `services` says how an endpoint of that id is picked and counts the connections; `endpoints` holds them.
#[derive(Args)]
#[command(after_help = "Examples:\n  tandem ruleset --family ipv6\n  \
    nft get element ip tandem cluster-frontends '{ 10.96.0.10 . udp . 53 }'   # whose is this?")]
pub(super) struct Ruleset {
    /// Only this family.
    #[arg(long, value_enum)]
    family: Option<FamilyName>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FamilyName {
    Ipv4,
    Ipv6,
}

impl Ruleset {
    pub(super) fn run(self) -> Result<(), CommandError> {
        let families = [(FamilyName::Ipv4, "ip"), (FamilyName::Ipv6, "ip6")];
        for (_, table) in families
            .into_iter()
            .filter(|(family, _)| self.family.is_none_or(|only| only == *family))
        {
            let output = Command::new("nft")
                .args(["list", "table", table, "tandem"])
                .stdout(Stdio::inherit())
                .stderr(Stdio::piped())
                .output()
                .map_err(|error| match error.kind() {
                    ErrorKind::NotFound => "nft is not installed: the package is called nftables".to_owned(),
                    _ => format!("nft: {error}"),
                })?;
            if !output.status.success() {
                let words = String::from_utf8_lossy(&output.stderr);
                let first = words
                    .lines()
                    .next()
                    .unwrap_or("nft failed")
                    .trim_start_matches("Error: ");
                return Err(format!("nft list table {table} tandem: {first}").into());
            }
        }
        Ok(())
    }
}
