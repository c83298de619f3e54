//! What a scenario creates and changes.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;
use serde_json::Value;

use super::words::{families, protocol};
use crate::stage::Ip;
use crate::traffic::Protocol;

/// A pod: a namespace with servers, and a Pod object if it has an `app`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PodPlan {
    /// Its name, with which its servers answer.
    pub name: String,
    /// Its node, 1 to 3.
    pub node: u8,
    /// The label `app` of its object. Without one there is no object.
    pub app: Option<String>,
}

/// A Service's hand-made EndpointSlices: `NAME-ipv4` and `NAME-ipv6`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlicePlan {
    /// The beginning of their names.
    pub name: String,
    /// Their namespace, if it is not the common one.
    pub namespace: Option<String>,
    /// The Service that they belong to.
    pub service: String,
    /// The families for which there is a slice.
    #[serde(default = "both", deserialize_with = "families")]
    pub families: Vec<Ip>,
    /// More labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Their ports.
    #[serde(default)]
    pub ports: Vec<SlicePort>,
    /// Their endpoints.
    #[serde(default)]
    pub endpoints: Vec<EndpointPlan>,
}

/// A port of a slice.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlicePort {
    /// Its name in the Service.
    #[serde(default)]
    pub name: String,
    /// Its number. Without one the port is ignored.
    pub port: Option<u16>,
    /// Its transport.
    #[serde(default = "tcp", deserialize_with = "protocol")]
    pub protocol: Protocol,
}

/// An endpoint. Conditions that are not given are left out.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointPlan {
    /// The pod whose addresses it has, or
    pub pod: Option<String>,
    /// the node, whose own address it has.
    pub node: Option<u8>,
    /// The node that it names, if that is not its real one: another name, or `false` for none.
    #[serde(default, rename = "node name")]
    pub node_name: NodeName,
    /// A condition.
    pub ready: Option<bool>,
    /// A condition.
    pub serving: Option<bool>,
    /// A condition.
    pub terminating: Option<bool>,
    /// The zones in its hints.
    pub zones: Option<Vec<String>>,
    /// The nodes in its hints.
    pub nodes: Option<Vec<String>>,
}

/// The node that an endpoint names.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(try_from = "Value")]
pub enum NodeName {
    /// The node of its pod.
    #[default]
    True,
    /// No node.
    Missing,
    /// This node.
    Other(String),
}

impl TryFrom<Value> for NodeName {
    type Error = anyhow::Error;

    fn try_from(value: Value) -> Result<Self> {
        match value {
            Value::Bool(false) => Ok(Self::Missing),
            Value::String(name) => Ok(Self::Other(name)),
            _ => bail!("{value} is neither a node's name nor `false`"),
        }
    }
}

/// One change.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "RawAction")]
pub enum Action {
    /// A merge patch of an object. Its `status` is sent to the status subresource.
    Patch(Reference, Value),
    /// A new object.
    Create(Value),
    /// An object is deleted.
    Delete(Reference),
    /// Slices are created or replaced.
    Slice(SlicePlan),
    /// Slices are deleted.
    Unslice(String),
    /// A merge patch of a Node.
    Node(u8, Value),
    /// A Pod object changes its state.
    Pod(String, PodState),
    /// A pod is added.
    AddPod(PodPlan),
}

/// An object by its kind and name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reference {
    /// For example `Service`.
    pub kind: String,
    /// Its namespace, if it is not the common one.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

/// The state of a Pod object.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum PodState {
    /// Ready.
    Ready,
    /// Not ready.
    Unready,
    /// Being deleted, and still serving.
    Terminating,
    /// There is no object any more.
    Gone,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAction {
    patch: Option<String>,
    with: Option<Value>,
    create: Option<Value>,
    delete: Option<String>,
    slice: Option<SlicePlan>,
    unslice: Option<String>,
    node: Option<u8>,
    pod: Option<String>,
    is: Option<PodState>,
    #[serde(rename = "add-pod")]
    add_pod: Option<PodPlan>,
}

impl TryFrom<RawAction> for Action {
    type Error = anyhow::Error;

    fn try_from(raw: RawAction) -> Result<Self> {
        let mut actions = Vec::new();
        let (mut with, mut is) = (raw.with, raw.is);
        if let Some(object) = raw.patch {
            let change = with.take().context("patch: needs `with`, the change")?;
            actions.push(Self::Patch(object.parse()?, change));
        }
        if let Some(node) = raw.node {
            ensure!((1..=3).contains(&node), "there is no node {node} (1, 2, 3)");
            actions.push(Self::Node(node, with.take().context("node: needs `with`, the change")?));
        }
        if let Some(pod) = raw.pod {
            actions.push(Self::Pod(pod, is.take().context("pod: needs `is`, its new state")?));
        }
        actions.extend(raw.create.map(Self::Create));
        actions.extend(raw.delete.map(|object| object.parse().map(Self::Delete)).transpose()?);
        actions.extend(raw.slice.map(Self::Slice));
        actions.extend(raw.unslice.map(Self::Unslice));
        actions.extend(raw.add_pod.map(Self::AddPod));
        ensure!(
            with.is_none() && is.is_none(),
            "`with` belongs to patch or node, `is` to pod"
        );
        match actions.len() {
            1 => actions.pop().context("one change"),
            0 => bail!("says no change (patch, create, delete, slice, unslice, node, pod, add-pod)"),
            count => bail!("says {count} changes; give each an item of its own"),
        }
    }
}

impl std::str::FromStr for Reference {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts: Vec<&str> = text.split('/').collect();
        let (kind, namespace, name) = match parts[..] {
            [kind, name] => (kind, None, name),
            [kind, namespace, name] => (kind, Some(namespace.to_owned()), name),
            _ => bail!("{text:?} is not Kind/name or Kind/namespace/name"),
        };
        Ok(Self {
            kind: kind.to_owned(),
            namespace,
            name: name.to_owned(),
        })
    }
}

fn both() -> Vec<Ip> {
    Ip::BOTH.to_vec()
}

fn tcp() -> Protocol {
    Protocol::Tcp
}
