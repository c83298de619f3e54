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
use nftables::schema::NfListObject;

use crate::netns::{Namespace, feed_command};
use crate::nft;

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
    /// Packets that were translated to an endpoint of another Service.
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
        let mut verdict = Verdict::default();
        for name in ["untranslated4", "untranslated6"] {
            let listing = nft::list(&self.0, &["set", "inet", "race", name])?;
            let set = listing.typed().find_map(|object| match object {
                NfListObject::Set(set) => Some(set),
                _ => None,
            });
            let set = set.with_context(|| format!("there is no set {name}"))?;
            verdict.untranslated += set.elem.as_ref().map_or(0, |elements| elements.len() as u64);
        }
        let counters = nft::list(&self.0, &["counters", "table", "inet", "race"])?;
        let packets = |name: &str| {
            let counter = counters.typed().find_map(|object| match object {
                NfListObject::Counter(counter) if counter.name == name => counter.packets,
                _ => None,
            });
            let packets = counter.with_context(|| format!("there is no counter {name}"))?;
            Ok::<_, anyhow::Error>(u64::from(packets))
        };
        verdict.leaked_packets = packets("leaked")?;
        verdict.wrong_service = packets("wrong")?;
        Ok(verdict)
    }
}
