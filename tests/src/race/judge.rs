//! Counts, after all of a node's rules, connections that nobody translated, and connections that were led to another
//! Service's endpoint.
//!
//! A table beside Tandem's sees each first packet when nothing can change it any more: when it leaves the node or
//! enters it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::netns::{Namespace, feed_command};

const TABLE: &str = "table inet race
delete table inet race
table inet race {
  counter leaked { }
  counter wrong { }
  set frontends4 { type ipv4_addr . inet_service; }
  set frontends6 { type ipv6_addr . inet_service; }
  set right4 { type ipv4_addr . ipv4_addr; }
  set right6 { type ipv6_addr . ipv6_addr; }
  set untranslated4 { type ipv4_addr . inet_service . ipv4_addr . inet_service; size 65535; flags dynamic; }
  set untranslated6 { type ipv6_addr . inet_service . ipv6_addr . inet_service; size 65535; flags dynamic; }
  chain judge {
    meta nfproto ipv4 ct status & dnat == dnat ct original ip daddr . ip daddr != @right4 counter name wrong
    meta nfproto ipv6 ct status & dnat == dnat ct original ip6 daddr . ip6 daddr != @right6 counter name wrong
    ct status & dnat == dnat return
    ip daddr . tcp dport @frontends4 counter name leaked add @untranslated4 { ip saddr . tcp sport . ip daddr . tcp dport }
    ip6 daddr . tcp dport @frontends6 counter name leaked add @untranslated6 { ip6 saddr . tcp sport . ip6 daddr . tcp dport }
  }
  chain input {
    type filter hook input priority 320;
    meta l4proto tcp ct direction original ct state new jump judge
  }
  chain postrouting {
    type filter hook postrouting priority 320;
    meta l4proto tcp ct direction original ct state new jump judge
  }
}
";

/// The judge of one node.
#[derive(Debug)]
pub(super) struct Judge(Namespace);

/// What it has seen.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Verdict {
    /// Connections that left without a translation.
    pub(super) untranslated: u64,
    /// Their packets.
    pub(super) leaked_packets: u64,
    /// Packets that were translated to an endpoint that is none of their Service's.
    pub(super) wrong_service: u64,
}

impl Judge {
    /// Starts to count. `frontends` must be translated. `right` are the allowed pairs of an address and an endpoint.
    pub(super) fn start(
        node: &Namespace,
        frontends: &BTreeSet<SocketAddr>,
        right: &BTreeSet<(IpAddr, IpAddr)>,
    ) -> Result<Self> {
        let mut text = TABLE.to_owned();
        let family = |address: IpAddr| if address.is_ipv4() { 4 } else { 6 };
        for frontend in frontends {
            let (address, port) = (frontend.ip(), frontend.port());
            writeln!(
                text,
                "add element inet race frontends{} {{ {address} . {port} }}",
                family(address)
            )?;
        }
        for (address, endpoint) in right {
            writeln!(
                text,
                "add element inet race right{} {{ {address} . {endpoint} }}",
                family(*address)
            )?;
        }
        node.run(|| feed_command(Command::new("nft").args(["-f", "-"]), &text))?
            .context("start the judge")?;
        Ok(Self(node.clone()))
    }

    /// What it has seen so far.
    pub(super) fn verdict(&self) -> Result<Verdict> {
        let list = |arguments: &[&str]| -> Result<Value> {
            let command = ["nft", "-j", "list"].iter().chain(arguments).copied();
            let text = self.0.exec(&command.collect::<Vec<_>>())?;
            serde_json::from_str(&text).context("read what nft lists")
        };
        let mut verdict = Verdict::default();
        for set in ["untranslated4", "untranslated6"] {
            let listing = list(&["set", "inet", "race", set])?;
            let elements = objects(&listing).find_map(|object| object["set"]["elem"].as_array());
            verdict.untranslated += elements.map_or(0, |elements| elements.len() as u64);
        }
        let counters = list(&["counters", "table", "inet", "race"])?;
        let packets = |name: &str| {
            let counter = objects(&counters).find(|object| object["counter"]["name"] == name);
            counter
                .and_then(|object| object["counter"]["packets"].as_u64())
                .with_context(|| format!("there is no counter {name}"))
        };
        verdict.leaked_packets = packets("leaked")?;
        verdict.wrong_service = packets("wrong")?;
        Ok(verdict)
    }
}

fn objects(listing: &Value) -> impl Iterator<Item = &Value> {
    listing["nftables"].as_array().into_iter().flatten()
}
