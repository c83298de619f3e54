//! A short excerpt of the ruleset: the path of one packet through it.

use anyhow::{Context as _, Result};

use crate::paper::{Ink, Paper};
use crate::services::WEB;
use crate::setting::{Place, Setting};
use tandem_tests::stage::Ip;

/// Prints what nft lists for each step of a packet from a pod to a ClusterIP.
pub(crate) fn excerpt(setting: &Setting, paper: &Paper) -> Result<()> {
    let address = Ip::V4.cluster_ip(WEB);
    let element = |map: &str, key: &str| get(setting, map, key);
    let frontend = element("cluster-frontends", &format!("{address} . tcp . 80"))?;
    let (_, id) = frontend.rsplit_once(" : ").context("an element without a value")?;
    let service = element("services", id)?;
    let (_, noted) = service.rsplit_once(" : ").context("a service that leads nowhere")?;
    let pick = element("picks", &way(noted)?)?;
    let (_, chain) = pick.rsplit_once(" jump ").context("a number that leads nowhere")?;
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
    step(3, "picks", &pick);
    step(4, &format!("chain {chain}"), &rule);
    for endpoint in endpoints {
        step(5, "endpoints", &endpoint);
    }
    paper.text(&format!(
        "\nHow to read it: the address leads to the Service's number {id} (1), which notes in its last bits\n\
         how an endpoint is picked (2): by a chain (3) that draws (4) one of its endpoints (5). Rules are\n\
         fixed, Services are elements of maps; counters count connections. `nft get element` tells for\n\
         every map whose an element is and where it leads."
    ));
    Ok(())
}

/// The number of the way to pick an endpoint, as a key. It is the last nine bits of a service's value (`f000:203`).
fn way(noted: &str) -> Result<String> {
    let (_, low) = noted
        .split_once(':')
        .with_context(|| format!("{noted} is no number of nft's"))?;
    let low = u32::from_str_radix(low, 16).with_context(|| format!("{noted} is no number of nft's"))?;
    Ok(format!("0:{:x}", low & 0x1ff))
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

/// The last rule of a chain, without the condition on the protocol.
fn rule(setting: &Setting, chain: &str) -> Result<String> {
    let node = setting.namespace(Place::Node(1))?;
    let text = node.exec(&["nft", "list", "chain", "ip", "tandem", chain])?;
    let rule = text
        .lines()
        .find(|line| line.contains("dnat"))
        .with_context(|| format!("no rule in {text}"))?;
    Ok(rule
        .trim()
        .trim_start_matches("meta l4proto { tcp, udp, sctp } ")
        .to_owned())
}
