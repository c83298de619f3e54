//! Hand-made EndpointSlices.

use std::net::IpAddr;

use anyhow::{Context as _, Result};
use serde_json::{Map, Value, json};

use super::action::{EndpointPlan, NodeName, SlicePlan};
use super::side::SlotKey;
use super::twins::Twins;
use crate::stage::Ip;

/// The name of the slice of this family.
pub(super) fn name(slice: &str, family: Ip) -> String {
    format!("{slice}-{}", family.of(["ipv4", "ipv6"]))
}

/// The slice of one family.
pub(super) fn build(
    slice: &SlicePlan,
    namespace: &str,
    family: Ip,
    twins: &Twins,
    slot: &dyn Fn(&str) -> Option<SlotKey>,
) -> Result<Value> {
    let mut labels = json!(slice.labels);
    labels["kubernetes.io/service-name"] = json!(slice.service);
    let ports = slice
        .ports
        .iter()
        .map(|port| json!({ "name": port.name, "port": port.port, "protocol": port.protocol.to_string() }));
    let endpoints = slice
        .endpoints
        .iter()
        .map(|endpoint| build_endpoint(endpoint, family, twins, slot));
    Ok(json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": { "namespace": namespace, "name": name(&slice.name, family), "labels": labels },
        "addressType": family.of(["IPv4", "IPv6"]),
        "ports": ports.collect::<Vec<_>>(),
        "endpoints": endpoints.collect::<Result<Vec<_>>>()?,
    }))
}

fn build_endpoint(
    endpoint: &EndpointPlan,
    family: Ip,
    twins: &Twins,
    slot: &dyn Fn(&str) -> Option<SlotKey>,
) -> Result<Value> {
    let (address, node) = where_it_is(endpoint, family, twins, slot)?;
    let conditions = [
        ("ready", endpoint.ready),
        ("serving", endpoint.serving),
        ("terminating", endpoint.terminating),
    ];
    let said = conditions
        .into_iter()
        .filter_map(|(name, is)| Some((name.to_owned(), json!(is?))));
    let mut built = json!({ "addresses": [address], "conditions": said.collect::<Map<_, _>>() });
    match &endpoint.node_name {
        NodeName::True => built["nodeName"] = json!(node),
        NodeName::Other(name) => built["nodeName"] = json!(name),
        NodeName::Missing => {}
    }
    let named = |names: &Vec<String>| names.iter().map(|name| json!({ "name": name })).collect::<Value>();
    for (kind, names) in [("forZones", &endpoint.zones), ("forNodes", &endpoint.nodes)] {
        if let Some(names) = names {
            built["hints"][kind] = named(names);
        }
    }
    Ok(built)
}

fn where_it_is(
    endpoint: &EndpointPlan,
    family: Ip,
    twins: &Twins,
    slot: &dyn Fn(&str) -> Option<SlotKey>,
) -> Result<(IpAddr, String)> {
    match (&endpoint.pod, endpoint.node) {
        (Some(name), None) => {
            let slot = slot(name).with_context(|| format!("there is no pod {name}"))?;
            let pod = twins.ours().pod(slot)?;
            Ok((family.of(pod.addresses()), pod.node.clone()))
        }
        (None, Some(number)) => {
            let node = twins.ours().node(number)?;
            Ok((family.of(node.addresses()), node.name.clone()))
        }
        _ => anyhow::bail!("an endpoint is either a pod or a node"),
    }
}
