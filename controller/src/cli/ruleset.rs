//! `tandem ruleset`

use std::io::ErrorKind;
use std::process::{Command, Stdio};

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::format::structured;
use super::{CommandError, Output};

/// Print the tables in the kernel as nft does. It needs nft and root. The agent need not run.
///
/// How to read it: `cluster-frontends`, `external-frontends` and `node-ports` lead from an address to a service id.
/// `services` says how to pick an endpoint of that id, and counts the connections. `endpoints` holds the endpoints. `-o
/// json` and `-o yaml` print both tables as one document of nft's JSON schema, libnftables-json(5).
#[derive(Args)]
#[command(after_help = "Examples:\n  tandem ruleset --family ipv6\n  \
    tandem ruleset -o json | jq '.nftables[].map | select(.name == \"cluster-frontends\") | .elem[]?'\n  \
    nft get element ip tandem cluster-frontends '{ 10.96.0.10 . udp . 53 }'   # whose is this?")]
pub(super) struct Ruleset {
    /// Only this family.
    #[arg(long, value_enum)]
    family: Option<FamilyName>,
    /// Another form than text.
    #[arg(short, long, value_enum)]
    output: Option<Output>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FamilyName {
    Ipv4,
    Ipv6,
}

/// A document of nft's JSON schema. It has the objects as nft prints them.
///
/// The types of the `nftables` crate cannot hold these objects. They lack maps with ids, and would drop comments and
/// the flags of a table.
#[derive(Debug, Default, Deserialize, Serialize)]
struct Document {
    nftables: Vec<Value>,
}

impl Ruleset {
    pub(super) fn run(self) -> Result<(), CommandError> {
        let families = [(FamilyName::Ipv4, "ip"), (FamilyName::Ipv6, "ip6")];
        let families = families
            .into_iter()
            .filter(|(family, _)| self.family.is_none_or(|only| only == *family));
        let mut document = Document::default();
        for (_, family) in families {
            if matches!(self.output, Some(Output::Json | Output::Yaml)) {
                let printed = nft(&["-j"], family, Stdio::piped())?;
                document.add(read(&printed, family).map_err(|problem| unreadable(&problem, family))?);
            } else {
                nft(&[], family, Stdio::inherit())?;
            }
        }
        structured(&document, self.output)?;
        Ok(())
    }
}

impl Document {
    /// Adds the objects of another table. The entry that describes nft itself is not repeated.
    fn add(&mut self, other: Self) {
        let again = !self.nftables.is_empty();
        let objects = other.nftables.into_iter();
        self.nftables
            .extend(objects.filter(|object| !again || object.get("metainfo").is_none()));
    }
}

/// Lists Tandem's table of a family. Returns what nft printed, if the output is captured.
fn nft(options: &[&str], family: &str, stdout: Stdio) -> Result<Vec<u8>, CommandError> {
    let output = Command::new("nft")
        .args(options)
        .args(["list", "table", family, "tandem"])
        .stdout(stdout)
        .stderr(Stdio::piped())
        .output()
        .map_err(|error| match error.kind() {
            ErrorKind::NotFound => format!(
                "nft is not installed here (the package is called nftables). From a container without it: run `nft list table \
                 {family} tandem` on the node, or in a container of the host's network that has nft"
            ),
            _ => format!("nft: {error}"),
        })?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let words = String::from_utf8_lossy(&output.stderr);
    let first = words
        .lines()
        .next()
        .unwrap_or("nft failed")
        .trim_start_matches("Error: ");
    Err(format!("nft list table {family} tandem: {first}").into())
}

/// Reads what nft printed as JSON. It must contain this family's table.
fn read(printed: &[u8], family: &str) -> Result<Document, String> {
    let document: Document = serde_json::from_slice(printed).map_err(|error| error.to_string())?;
    let is_table = |object: &Value| object["table"]["family"] == family && object["table"]["name"] == "tandem";
    if document.nftables.iter().any(is_table) {
        Ok(document)
    } else {
        Err("the table is not in it".to_owned())
    }
}

fn unreadable(problem: &str, family: &str) -> String {
    let version = Command::new("nft").arg("--version").output();
    let version = version.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let version = version
        .unwrap_or_default()
        .split_whitespace()
        .nth(1)
        .map(|version| format!(" {}", version.trim_start_matches('v')))
        .unwrap_or_default();
    format!(
        "the JSON of nft{version} for table {family} tandem cannot be read: {problem}; before 1.1 it breaks off while no \
         Tandem runs: leave out -o for the text, or see what it prints: nft -j list table {family} tandem"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const IPV4: &str =
        r#"{"nftables": [{"metainfo": {"version": "1.0.6"}}, {"table": {"family": "ip", "name": "tandem"}}]}"#;

    #[test]
    fn two_tables_are_one_document_that_names_nft_once() {
        let mut document = read(IPV4.as_bytes(), "ip").unwrap();
        document.add(read(IPV4.replace("\"ip\"", "\"ip6\"").as_bytes(), "ip6").unwrap());
        let kinds: Vec<&String> = document
            .nftables
            .iter()
            .flat_map(|object| object.as_object().unwrap().keys())
            .collect();
        assert_eq!(kinds, ["metainfo", "table", "table"]);
    }

    #[test]
    fn what_is_no_document_with_the_table_is_not_read() {
        for (printed, problem) in [
            ("", "EOF while parsing a value at line 1 column 0"),
            (&IPV4[..IPV4.len() - 20], "EOF while parsing"),
            ("[]", "invalid length 0"),
            ("{\"nftables\": 3}", "invalid type: integer `3`, expected a sequence"),
            ("{\"nftables\": []}", "the table is not in it"),
            ("{\"nftables\": [{\"table\": 7}, null]}", "the table is not in it"),
        ] {
            let error = read(printed.as_bytes(), "ip").unwrap_err();
            assert!(error.starts_with(problem), "{printed}: {error}");
        }
        assert!(read(b"{\"nftables\": [\"\xff\"]}", "ip").is_err());
        assert!(read(IPV4.as_bytes(), "ip6").is_err());
    }
}
