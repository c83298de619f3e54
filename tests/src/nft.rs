//! What the installed `nft` lists for a namespace: the tables as text and JSON, their counters, and whether the text
//! can be loaded again.

mod changes;
mod listing;
mod meaning;
mod picture;

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use nftables::expr::{Elem, Expression, NamedExpression};
use nftables::stmt::Counter;

use crate::netns::{Namespace, feed_command, run_command};

pub use changes::{Changes, Counts};
pub use listing::{Listing, Object, list};
pub use meaning::{Meaning, meaning};
pub use picture::picture;

/// The families of Tandem's tables, as nft names them.
pub const FAMILIES: [&str; 2] = ["ip", "ip6"];
/// The name of both tables.
pub const TABLE: &str = "tandem";
/// What nft 1.0.6 lists for a table that stays without its owner.
const NAMELESS_FLAG: &str = "\tflags \n";

/// An element of the map `services`: how many new connections went through one list of endpoints.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServiceCounter {
    /// The service's id, with its local bit.
    pub id: u32,
    /// The Service port: `namespace/name:port`.
    pub comment: String,
    /// The number of the way to pick an endpoint, a key of the map `picks`.
    pub way: u32,
    /// Packets counted, one for each new connection.
    pub packets: u64,
}

/// The bits of a service's value that hold the number of the way to pick an endpoint.
const WAY: u32 = 0x1ff;

/// The bit of an id that selects the list of local endpoints.
pub const LOCAL: u32 = 0x0800_0000;

/// One of Tandem's tables as text.
pub fn text(namespace: &Namespace, family: &str) -> Result<String> {
    namespace.exec(&["nft", "list", "table", family, TABLE])
}

/// Whether the namespace has Tandem's table of this family.
pub fn has_table(namespace: &Namespace, family: &str) -> Result<bool> {
    let tables = namespace.exec(&["nft", "list", "tables"])?;
    Ok(tables
        .lines()
        .any(|line| line.trim() == format!("table {family} {TABLE}")))
}

/// Whether a kube-proxy of iptables mode has its chains there, in any family.
pub fn has_kube_services(namespace: &Namespace) -> bool {
    let there = |family: &&str| {
        namespace
            .exec(&["nft", "list", "chain", family, "nat", "KUBE-SERVICES"])
            .is_ok()
    };
    FAMILIES.iter().any(there)
}

/// Lists both tables, as text and JSON, and loads the text into a new namespace without committing it.
///
/// The text cannot be loaded in place, because an owned table refuses everyone else. A missing table is no error here.
/// A table that stays without its owner is not listed as JSON with nft 1.0.6: that version has no name for the flag,
/// and prints random memory or nothing.
pub fn check(namespace: &Namespace) -> Result<()> {
    for family in FAMILIES {
        if has_table(namespace, family)? {
            let text = text(namespace, family).with_context(|| format!("list table {family} {TABLE}"))?;
            if !text.contains(NAMELESS_FLAG) {
                let listing = list(namespace, &["table", family, TABLE])?;
                listing.ensure_table(family, TABLE)?;
            }
            load(&text).with_context(|| format!("load the text of table {family} {TABLE} again"))?;
        }
    }
    Ok(())
}

/// Loads a ruleset into a new namespace without committing it.
pub fn load(ruleset: &str) -> Result<()> {
    let fresh = Namespace::new("fresh")?;
    let ruleset = without_what_nft_cannot_parse(ruleset, &version()?);
    let mut command = Command::new("nft");
    command.args(["-c", "-f", "-"]);
    fresh.run(|| feed_command(&mut command, &ruleset))??;
    Ok(())
}

/// The counters of every list of endpoints, by id.
pub fn counters(namespace: &Namespace, family: &str) -> Result<Vec<ServiceCounter>> {
    let listing = list(namespace, &["map", family, TABLE, "services"])?;
    let elements = listing.elements(family, "services")?;
    let mut counters = elements.iter().map(counter).collect::<Result<Vec<_>>>()?;
    counters.sort_by_key(|counter| counter.id);
    Ok(counters)
}

/// The number of new connections of `namespace/name:port` in this family, over all its lists of endpoints.
pub fn connections(namespace: &Namespace, family: &str, service_port: &str) -> Result<u64> {
    let counters = counters(namespace, family)?;
    Ok(counters
        .iter()
        .filter(|counter| counter.comment == service_port)
        .map(|counter| counter.packets)
        .sum())
}

/// The version of the installed nft, for example `1.0.6`.
pub fn version() -> Result<String> {
    let line = run_command(Command::new("nft").arg("--version"))?;
    let version = line
        .split_whitespace()
        .nth(1)
        .with_context(|| format!("no version in {line:?}"))?;
    Ok(version.trim_start_matches('v').to_owned())
}

fn counter(element: &Expression) -> Result<ServiceCounter> {
    let read = || {
        let Expression::List(pair) = element else { return None };
        let [Expression::Named(NamedExpression::Elem(key)), noted] = &pair[..] else {
            return None;
        };
        let Elem {
            val: id,
            comment,
            counter: Some(Counter::Anonymous(Some(counter))),
            ..
        } = key
        else {
            return None;
        };
        Some(ServiceCounter {
            id: number(id)?,
            comment: comment.as_deref().unwrap_or_default().to_owned(),
            way: number(noted)? & WAY,
            packets: counter.packets? as u64,
        })
    };
    let counter = read().with_context(|| format!("not an element with a counter: {element:?}"))?;
    ensure!(counter.id >> 28 == 0xf, "{:08x} is not a service's id", counter.id);
    Ok(counter)
}

fn number(id: &Expression) -> Option<u32> {
    match id {
        Expression::String(id) => parse_id(id),
        Expression::Number(id) => Some(*id),
        _ => None,
    }
}

/// Reads an id as nft writes it: `f000:1`.
fn parse_id(text: &str) -> Option<u32> {
    let (high, low) = text.split_once(':')?;
    let half = |digits: &str| {
        if digits.is_empty() {
            Some(0)
        } else {
            u32::from_str_radix(digits, 16).ok()
        }
    };
    Some(half(high)? << 16 | half(low)?)
}

/// nft 1.0.6 lists `update @affinity` with a key above 16 bytes, as IPv6 has, but aborts when it reads it. So the
/// bodies of the IPv6 table's chains with such a line are left out. Every other line is checked.
///
/// It also lists an empty `flags` for a table that stays without its owner, because it has no name for that flag.
fn without_what_nft_cannot_parse(ruleset: &str, version: &str) -> String {
    if version != "1.0.6" {
        return ruleset.to_owned();
    }
    let ruleset = ruleset.replace(NAMELESS_FLAG, "");
    let (mut kept, mut chain, mut is_ipv6) = (String::new(), Vec::new(), false);
    for line in ruleset.split_inclusive('\n') {
        if line.starts_with("table ") {
            is_ipv6 = line.starts_with("table ip6 ");
        }
        if is_ipv6 && line.trim_start().starts_with("chain ") {
            chain.push(line);
        } else if chain.is_empty() {
            kept.push_str(line);
        } else {
            chain.push(line);
            if line.trim() == "}" {
                if chain.iter().any(|line| line.contains("update @affinity")) {
                    chain.drain(1..chain.len() - 1);
                }
                kept.extend(chain.drain(..));
            }
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_nft_writes_them() {
        assert_eq!(parse_id("f000:1"), Some(0xf000_0001));
        assert_eq!(parse_id("f800:"), Some(0xf800_0000));
        assert_eq!(parse_id("none"), None);
    }

    #[test]
    fn only_bodies_of_ipv6_chains_with_affinity_updates_are_left_out() {
        let text = "table ip6 tandem {\n\tchain a {\n\t\tupdate @affinity { x }\n\t\tdrop\n\t}\n\tchain b {\n\t\tdrop\n\t}\n}\n";
        let cut = "table ip6 tandem {\n\tchain a {\n\t}\n\tchain b {\n\t\tdrop\n\t}\n}\n";
        assert_eq!(without_what_nft_cannot_parse(text, "1.0.6"), cut);
        assert_eq!(without_what_nft_cannot_parse(text, "1.1.3"), text);
        let left = text.replacen("{\n", "{\n\tflags \n", 1);
        assert_eq!(without_what_nft_cannot_parse(&left, "1.0.6"), cut);
        let ipv4 = text.replace("ip6", "ip");
        assert_eq!(without_what_nft_cannot_parse(&ipv4, "1.0.6"), ipv4);
    }
}
