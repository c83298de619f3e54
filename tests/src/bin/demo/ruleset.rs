//! A short excerpt of the ruleset: the way of one packet through it.

use anyhow::{Context as _, Result};

use crate::paper::{Ink, Paper};
use crate::services::WEB;
use crate::setting::{Place, Setting};
use tandem_tests::stage::Ip;

/// Prints what nft says of each step that a packet from a pod to a ClusterIP takes.
pub(crate) fn excerpt(setting: &Setting, paper: &Paper) -> Result<()> {
    let address = Ip::V4.cluster_ip(WEB);
    let element = |map: &str, key: &str| get(setting, map, key);
    let frontend = element("cluster-frontends", &format!("{address} . tcp . 80"))?;
    let (_, id) = frontend.rsplit_once(" : ").context("an element without a value")?;
    let service = element("services", id)?;
    let (_, chain) = service.rsplit_once(" goto ").context("a service that leads nowhere")?;
    let rule = rule(setting, chain)?;
    let count: usize = chain
        .trim_start_matches("pick-")
        .parse()
        .with_context(|| format!("chain {chain}"))?;
    let endpoints = (0..count).map(|slot| element("endpoints", &format!("{id} . {slot}")));
    let endpoints = endpoints.collect::<Result<Vec<_>>>()?;

    paper.heading(&format!(
        "The ruleset on node1 (nft list table ip tandem): the way of a packet to {address}:80"
    ));
    let step = |number: usize, place: &str, element: &str| {
        let place = paper.ink(Ink::Dim, &format!("{number}. {place:<17}"));
        paper.line(&format!("  {place}  {element}"));
    };
    step(1, "cluster-frontends", &frontend);
    step(2, "services", &service);
    step(3, &format!("chain {chain}"), &rule);
    for endpoint in endpoints {
        step(4, "endpoints", &endpoint);
    }
    paper.text(&format!(
        "\nHow to read it: the address leads to the Service's number {id} (1), the number to a chain (2)\n\
         that draws (3) one of its endpoints (4). Rules are fixed, Services are elements of maps; counters\n\
         count connections. `nft get element` tells for every map whose an element is and where it leads."
    ));
    Ok(())
}

/// An element of one of the maps, as nft writes it.
fn get(setting: &Setting, map: &str, key: &str) -> Result<String> {
    let key = format!("{{ {key} }}");
    let node = setting.namespace(Place::Node(1))?;
    let text = node.exec(&["nft", "get", "element", "ip", "tandem", map, &key])?;
    let element = text.lines().find_map(|line| line.trim().strip_prefix("elements = {"));
    let element = element.with_context(|| format!("no element in {text}"))?;
    Ok(element.trim().trim_end_matches('}').trim().to_owned())
}

/// The last rule of a chain, without the condition that it is a protocol with ports.
fn rule(setting: &Setting, chain: &str) -> Result<String> {
    let node = setting.namespace(Place::Node(1))?;
    let text = node.exec(&["nft", "list", "chain", "ip", "tandem", chain])?;
    let rule = text
        .lines()
        .rfind(|line| line.contains("dnat"))
        .with_context(|| format!("no rule in {text}"))?;
    Ok(rule
        .trim()
        .trim_start_matches("meta l4proto { tcp, udp, sctp } ")
        .to_owned())
}
