//! Values from the output of `tandem services` and `tandem status`, and from the API server.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::netns::Namespace;
use crate::nft::{FAMILIES, TABLE};
use crate::stage::Ip;

/// The ClusterIP that the API server gave a Service in this family.
pub fn cluster_ip(service: &Value, family: Ip) -> Result<IpAddr> {
    let addresses = service["spec"]["clusterIPs"].as_array();
    let mut addresses = addresses.into_iter().flatten().filter_map(Value::as_str);
    addresses
        .find(|address| address.contains(':') == (family == Ip::V6))
        .with_context(|| format!("no ClusterIP of {family:?}: {service:#}"))?
        .parse()
        .context("parse a ClusterIP")
}

/// The same for both families, IPv4 first.
pub fn cluster_ips(service: &Value) -> Result<[IpAddr; 2]> {
    Ok([cluster_ip(service, Ip::V4)?, cluster_ip(service, Ip::V6)?])
}

/// The endpoints of all ports of a Service, sorted, for each family that it has; none if its ports differ.
pub(super) fn endpoints(service: &Value) -> Option<BTreeMap<String, Vec<String>>> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let of_port = |port: &Value| -> Option<BTreeMap<String, Vec<String>>> {
        let families = port["families"].as_array()?.iter();
        let of_family = |family: &Value| {
            let list = family["all"]["endpoints"].as_array()?;
            let mut endpoints = list.iter().map(text).collect::<Option<Vec<_>>>()?;
            endpoints.sort();
            Some((text(&family["family"])?, endpoints))
        };
        families.map(of_family).collect()
    };
    let mut ports = service["ports"].as_array()?.iter().map(of_port);
    let first = ports.next()??;
    ports.all(|port| port.as_ref() == Some(&first)).then_some(first)
}

/// Transactions that changed something, per family.
pub fn changes(status: &Value) -> [Option<u64>; 2] {
    [0, 1].map(|family: usize| status["families"][family]["changes"].as_u64())
}

/// Rows in the kernel, per family.
pub fn rows(status: &Value) -> [Option<u64>; 2] {
    [0, 1].map(|family: usize| status["families"][family]["rows"].as_u64())
}

/// The kinds of objects that cannot be read at present, and why.
pub fn lost_sources(status: &Value) -> BTreeMap<String, String> {
    let sources = status["sources"].as_array().into_iter().flatten();
    let state = |source: &Value| Some((source[0].as_str()?.to_owned(), source[1].as_str()?.to_owned()));
    sources
        .filter_map(state)
        .filter(|(_, state)| state != "watching")
        .collect()
}

/// A node's tables as text, without counters, and without the words that depend on whether their owner lives.
pub fn tables(node: &Namespace) -> Result<Vec<String>> {
    let list = |family: &str| -> Result<String> {
        let text = node.exec(&["nft", "-s", "list", "table", family, TABLE])?;
        let lines = text.lines().filter(|line| !line.starts_with("\tflags "));
        let lines: Vec<_> = lines
            .map(|line| line.split(" # progname").next().unwrap_or(line))
            .collect();
        Ok(lines.join("\n"))
    };
    FAMILIES.into_iter().map(list).collect()
}

/// The connections from a node to the API server.
pub fn connections(node: &Namespace) -> Result<Vec<String>> {
    let all = node.exec(&["ss", "-Htn", "state", "established", "dport", "=", ":6443"])?;
    Ok(all.lines().map(str::to_owned).collect())
}
