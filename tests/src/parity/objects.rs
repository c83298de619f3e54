//! Makes and changes the objects of a scenario at the API server, and removes them afterwards.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use http::Method;
use serde_json::{Map, Value, json};

use super::action::{Action, PodPlan, PodState, Reference, SlicePlan};
use super::side::{FIRST, SlotKey, shell_slot};
use super::slices;
use super::twins::Twins;
use crate::cluster::{path, pod_object};
use crate::eventually;
use crate::stage::Ip;

/// The namespace of all objects without another one.
pub(super) const NAMESPACE: &str = "parity";
/// How long controllers may take to remove what a scenario left.
const PATIENCE: Duration = Duration::from_secs(20);
/// The sections of a Node that scenarios may change, and that are restored.
const NODE_SECTIONS: [&str; 3] = ["/metadata/labels", "/metadata/annotations", "/spec"];

/// What a scenario has made so far.
#[derive(Debug, Default)]
pub(super) struct Objects {
    /// The slots of the pods, the same in both worlds.
    pods: BTreeMap<String, SlotKey>,
    taken: [u8; 3],
    /// Paths of objects, in the order in which they were made.
    made: Vec<String>,
    namespaces: BTreeSet<String>,
    /// ClusterIPs of Services, by `namespace/name`: the first ones and the last ones, IPv4 first.
    addresses: BTreeMap<String, [[Option<IpAddr>; 2]; 2]>,
    nodes: BTreeMap<u8, Value>,
}

impl Objects {
    /// Carries out an action.
    pub(super) fn act(&mut self, twins: &mut Twins, action: &Action) -> Result<()> {
        let done = match action {
            Action::Patch(object, change) => path_of(object).and_then(|at| patch_both(twins, &at, change)),
            Action::Create(object) => self.create(twins, object),
            Action::Delete(object) => twins.api().delete(&path_of(object)?, &json!({})),
            Action::Slice(slice) => self.slice(twins, slice),
            Action::Unslice(name) => self.unslice(twins, name),
            Action::Node(number, change) => self.change_node(twins, *number, change),
            Action::Pod(name, state) => self.set_pod(twins, name, *state),
            Action::AddPod(pod) => self.add_pod(twins, pod),
        };
        done.with_context(|| format!("{action:?}"))?;
        self.learn(twins)
    }

    /// The slot of a pod.
    pub(super) fn slot(&self, name: &str) -> Option<SlotKey> {
        self.pods.get(name).copied().or_else(|| shell_slot(name))
    }

    /// A Service's ClusterIP of a family: the first one, or the present or last one.
    pub(super) fn cluster_ip(&self, service: &str, first: bool, family: Ip) -> Result<IpAddr> {
        let known = self.addresses.get(&full_name(service));
        let known = known.with_context(|| format!("there is no Service {service}"))?;
        family
            .of(known[usize::from(!first)])
            .with_context(|| format!("Service {service} has no ClusterIP of {family:?}"))
    }

    /// Creates an object. Without a namespace it gets the common one.
    pub(super) fn create(&mut self, twins: &Twins, object: &Value) -> Result<()> {
        let mut object = object.clone();
        let kind = object["kind"].as_str().context("an object without a kind")?.to_owned();
        if object.get("apiVersion").is_none() {
            object["apiVersion"] = json!(match kind.as_str() {
                "EndpointSlice" => "discovery.k8s.io/v1",
                "ServiceCIDR" => "networking.k8s.io/v1",
                _ => "v1",
            });
        }
        let name = object["metadata"]["name"]
            .as_str()
            .context("an object without a name")?
            .to_owned();
        let mut reference = Reference {
            kind,
            namespace: None,
            name,
        };
        if is_namespaced(&reference.kind) {
            let namespace = object["metadata"]["namespace"].as_str().unwrap_or(NAMESPACE).to_owned();
            self.need_namespace(twins, &namespace)?;
            object["metadata"]["namespace"] = json!(namespace);
            reference.namespace = Some(namespace);
        }
        twins.api().create(&object)?;
        self.made.push(path_of(&reference)?);
        if reference.kind == "Service" {
            let namespace = reference.namespace.unwrap_or_default();
            self.addresses
                .insert(format!("{namespace}/{}", reference.name), Default::default());
            self.learn(twins)?;
        }
        Ok(())
    }

    /// Gives a pod its slot, and an object if it has an `app`.
    pub(super) fn add_pod(&mut self, twins: &mut Twins, pod: &PodPlan) -> Result<()> {
        ensure!((1..=3).contains(&pod.node), "there is no node {} (1, 2, 3)", pod.node);
        let taken = &mut self.taken[usize::from(pod.node) - 1];
        let slot = (pod.node, FIRST + *taken);
        *taken += 1;
        for side in &mut twins.sides {
            side.serve(slot, &pod.name)?;
        }
        self.pods.insert(pod.name.clone(), slot);
        if let Some(app) = &pod.app {
            self.need_namespace(twins, NAMESPACE)?;
            let side = twins.ours();
            let object = pod_object(NAMESPACE, &pod.name, side.node(pod.node)?, side.pod(slot)?, app);
            twins.api().create(&object)?;
            self.made.push(path("Pod", NAMESPACE, &pod.name)?);
        }
        Ok(())
    }

    /// Makes or replaces a Service's slices of both families.
    pub(super) fn slice(&mut self, twins: &Twins, slice: &SlicePlan) -> Result<()> {
        let namespace = slice.namespace.as_deref().unwrap_or(NAMESPACE);
        self.need_namespace(twins, namespace)?;
        for family in &slice.families {
            let object = slices::build(slice, namespace, *family, twins, &|name| self.slot(name))?;
            let at = path("EndpointSlice", namespace, &slices::name(&slice.name, *family))?;
            if self.made.contains(&at) {
                twins.api().call(Method::PUT, &at, Some(&object))?;
            } else {
                twins.api().create(&object)?;
                self.made.push(at);
            }
        }
        Ok(())
    }

    fn unslice(&mut self, twins: &Twins, name: &str) -> Result<()> {
        let ours = |at: &String| {
            Ip::BOTH
                .iter()
                .any(|family| at.ends_with(&format!("/endpointslices/{}", slices::name(name, *family))))
        };
        let (gone, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.made).into_iter().partition(ours);
        self.made = rest;
        ensure!(!gone.is_empty(), "there is no slice {name}");
        gone.iter().try_for_each(|at| twins.api().delete(at, &json!({})))
    }

    /// Changes a Node. It is restored at the end.
    pub(super) fn change_node(&mut self, twins: &Twins, number: u8, change: &Value) -> Result<()> {
        let at = path("Node", "", &format!("node{number}"))?;
        if let Entry::Vacant(unknown) = self.nodes.entry(number) {
            unknown.insert(twins.api().get(&at)?);
        }
        patch_both(twins, &at, change)
    }

    fn set_pod(&self, twins: &Twins, name: &str, state: PodState) -> Result<()> {
        let at = path("Pod", NAMESPACE, name)?;
        ensure!(self.made.contains(&at), "pod {name} has no object: it has no `app`");
        let ready = |status: &str| {
            let change = json!({ "status": { "conditions": [{ "type": "Ready", "status": status }] } });
            twins.api().patch(&format!("{at}/status"), &change).map(drop)
        };
        match state {
            PodState::Ready => ready("True"),
            PodState::Unready => ready("False"),
            PodState::Terminating => twins.api().delete(&at, &json!({ "gracePeriodSeconds": 30 })),
            PodState::Gone => twins.api().delete(&at, &json!({ "gracePeriodSeconds": 0 })),
        }
    }

    /// Notes which ClusterIPs Services have now.
    fn learn(&mut self, twins: &Twins) -> Result<()> {
        for (service, known) in &mut self.addresses {
            let (namespace, name) = service.split_once('/').unwrap_or((NAMESPACE, service));
            let Ok(object) = twins.api().get(&path("Service", namespace, name)?) else {
                continue; // it was deleted, so its last ones stay known
            };
            let list = object["spec"]["clusterIPs"].as_array().into_iter().flatten();
            let addresses = list.filter_map(|address| address.as_str()?.parse().ok());
            for address in addresses {
                let family = usize::from(!IpAddr::is_ipv4(&address));
                known[0][family].get_or_insert(address);
                known[1][family] = Some(address);
            }
        }
        Ok(())
    }

    fn need_namespace(&mut self, twins: &Twins, name: &str) -> Result<()> {
        if self.namespaces.insert(name.to_owned()) && twins.api().get(&path("Namespace", "", name)?).is_err() {
            let object = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
            twins.api().create(&object)?;
        }
        Ok(())
    }

    /// Removes everything, and restores Nodes. Returns when nothing is left.
    pub(super) fn clear(self, twins: &Twins) -> Result<()> {
        let api = twins.api();
        for at in self.made.iter().rev() {
            match api.delete(at, &json!({ "gracePeriodSeconds": 0 })) {
                Err(error) if !is_missing(&error) => return Err(error),
                _ => {}
            }
        }
        for (number, before) in &self.nodes {
            let at = path("Node", "", &format!("node{number}"))?;
            let now = api.get(&at)?;
            let mut change = json!({});
            for section in NODE_SECTIONS {
                let section_of = |object: &Value| object.pointer(section).cloned().unwrap_or_else(|| json!({}));
                let (first, second) = section
                    .trim_start_matches('/')
                    .split_once('/')
                    .unwrap_or((&section[1..], ""));
                let back = way_back(&section_of(&now), &section_of(before));
                if second.is_empty() {
                    change[first] = back;
                } else {
                    change[first][second] = back;
                }
            }
            api.patch(&at, &change)?;
        }
        for namespace in &self.namespaces {
            let (pods, slices) = (path("Pod", namespace, "")?, path("EndpointSlice", namespace, "")?);
            let is_empty = || {
                // The controller may make one more before it sees that its Service is gone.
                api.call(Method::DELETE, &slices, None).ok()?;
                let empty = |at: &str| {
                    api.get(at)
                        .is_ok_and(|list| list["items"].as_array().is_some_and(Vec::is_empty))
                };
                (empty(&pods) && empty(&slices)).then_some(())
            };
            eventually(PATIENCE, is_empty)
                .with_context(|| format!("namespace {namespace} is not empty after {PATIENCE:?}"))?;
        }
        Ok(())
    }
}

/// The path of an object whose namespace may be left out.
fn path_of(object: &Reference) -> Result<String> {
    let namespace = object.namespace.as_deref().unwrap_or(NAMESPACE);
    path(
        &object.kind,
        if is_namespaced(&object.kind) { namespace } else { "" },
        &object.name,
    )
}

/// Sends a merge patch, each part to the resource that accepts it.
fn patch_both(twins: &Twins, at: &str, change: &Value) -> Result<()> {
    let Value::Object(fields) = change else {
        bail!("with: not an object: {change}");
    };
    let (status, rest): (Map<String, Value>, Map<String, Value>) =
        fields.clone().into_iter().partition(|(name, _)| name == "status");
    if !rest.is_empty() {
        twins.api().patch(at, &Value::Object(rest))?;
    }
    if !status.is_empty() {
        twins.api().patch(&format!("{at}/status"), &Value::Object(status))?;
    }
    Ok(())
}

/// The merge patch from one object back to another, one level deep.
fn way_back(now: &Value, before: &Value) -> Value {
    let keys = |value: &Value| {
        value
            .as_object()
            .map(|fields| fields.keys().cloned().collect::<BTreeSet<_>>())
            .unwrap_or_default()
    };
    let all: BTreeSet<String> = keys(now).union(&keys(before)).cloned().collect();
    let changed = all.into_iter().filter(|key| now.get(key) != before.get(key));
    changed
        .map(|key| {
            let value = before.get(&key).cloned().unwrap_or(Value::Null);
            (key, value)
        })
        .collect::<Map<_, _>>()
        .into()
}

fn is_missing(error: &anyhow::Error) -> bool {
    let cause = error
        .root_cause()
        .downcast_ref::<kube::Error>()
        .or_else(|| error.downcast_ref());
    matches!(cause, Some(kube::Error::Api(status)) if status.code == 404)
}

fn is_namespaced(kind: &str) -> bool {
    !matches!(kind, "Namespace" | "Node" | "ServiceCIDR")
}

fn full_name(service: &str) -> String {
    if service.contains('/') {
        service.to_owned()
    } else {
        format!("{NAMESPACE}/{service}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_back_restores_what_was_changed_and_takes_away_what_was_added() {
        let (before, now) = (json!({ "a": "1", "b": "2" }), json!({ "a": "1", "b": "3", "c": "4" }));
        assert_eq!(way_back(&now, &before), json!({ "b": "2", "c": null }));
    }
}
