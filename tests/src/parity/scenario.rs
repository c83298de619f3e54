//! A scenario as it is in its file; see `tests/data/parity/README.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, ensure};
use serde::Deserialize;
use serde_json::Value;

use super::action::{Action, PodPlan, SlicePlan};
use super::configuration::Configuration;
use super::flow::{Expect, Flow, Place, Target, UNCONNECTED_PORTS};
use super::responder::{LARGEST_TCP, LARGEST_UDP};
use super::sender::Sender;
use super::words::{families, senders};
use crate::stage::Ip;
use crate::traffic::Protocol;

/// One file: objects, changes, and the flows that are sent.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// The file's name without its ending.
    #[serde(skip)]
    pub name: String,
    /// What it is about, in a sentence.
    pub title: String,
    /// The rule of kube-proxy that it covers.
    pub source: String,
    /// The configurations. The scenario is run once with each.
    #[serde(default = "base")]
    pub configurations: Vec<Configuration>,
    /// The families of all its flows that do not say their own.
    #[serde(default = "both", deserialize_with = "families")]
    pub families: Vec<Ip>,
    /// How the datagrams of all its flows are sent that do not say it themselves.
    #[serde(default = "connected", deserialize_with = "senders")]
    pub senders: Vec<Sender>,
    /// Pods that exist from the start.
    #[serde(default)]
    pub pods: Vec<PodPlan>,
    /// What is added to Node objects.
    #[serde(default)]
    pub nodes: BTreeMap<u8, NodePlan>,
    /// Objects as the API server takes them.
    #[serde(default)]
    pub objects: Vec<Value>,
    /// Hand-made EndpointSlices.
    #[serde(default)]
    pub slices: Vec<SlicePlan>,
    /// Changes and flows.
    pub steps: Vec<Step>,
}

/// What is added to a Node object.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodePlan {
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// Changes, and the flows that are sent after them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// What the step is about, if there are several.
    #[serde(default)]
    pub title: String,
    /// The changes, in order.
    #[serde(default, rename = "do")]
    pub actions: Vec<Action>,
    /// The flows.
    #[serde(default)]
    pub flows: Vec<Flow>,
}

/// The folder of the scenarios.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/parity")
}

/// Every scenario of a folder, sorted by name.
pub fn load(folder: &Path) -> Result<Vec<Scenario>> {
    let entries = fs::read_dir(folder).with_context(|| format!("read folder {}", folder.display()))?;
    let mut paths = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()
        .with_context(|| format!("read folder {}", folder.display()))?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    paths.sort();
    paths
        .iter()
        .map(|path| {
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
            parse(&name, &text).with_context(|| path.display().to_string())
        })
        .collect()
}

/// Reads the text of a file. An error names the field.
pub fn parse(name: &str, text: &str) -> Result<Scenario> {
    let options = serde_saphyr::options! { with_snippet: false };
    let value: Value = serde_saphyr::from_str_with_options(text, options).map_err(|error| anyhow!("{error}"))?;
    let mut scenario: Scenario = serde_path_to_error::deserialize(&value).map_err(|error| {
        let field = error.path().to_string();
        anyhow!("{field}: {}", error.into_inner())
    })?;
    name.clone_into(&mut scenario.name);
    scenario.check()?;
    Ok(scenario)
}

impl Scenario {
    /// The flows, each with its step's number and its families.
    pub fn flows(&self) -> impl Iterator<Item = (usize, &Flow)> {
        let steps = self.steps.iter().enumerate();
        steps.flat_map(|(number, step)| step.flows.iter().map(move |flow| (number, flow)))
    }

    /// The families of a flow.
    pub fn families_of<'a>(&'a self, flow: &'a Flow) -> &'a [Ip] {
        let own = flow.families.as_deref().unwrap_or(&self.families);
        match &flow.to {
            Target::Literal(addresses) if flow.families.is_none() && addresses.len() == 1 => {
                if addresses[0].is_ipv4() {
                    &[Ip::V4]
                } else {
                    &[Ip::V6]
                }
            }
            _ => own,
        }
    }

    /// The kinds of senders of a flow. Only those of datagrams differ.
    pub fn senders_of<'a>(&'a self, flow: &'a Flow) -> &'a [Sender] {
        match flow.protocol {
            Protocol::Udp => flow.senders.as_deref().unwrap_or(&self.senders),
            Protocol::Tcp | Protocol::Sctp => &[Sender::Connected],
        }
    }

    /// The number of answers that it compares in all its configurations.
    pub fn size(&self) -> usize {
        let flows = self.flows();
        let flows = flows.map(|(_, flow)| self.families_of(flow).len() * self.senders_of(flow).len());
        flows.sum::<usize>() * self.configurations.len()
    }

    /// Checks what types cannot express: every name that is used must be defined.
    fn check(&self) -> Result<()> {
        ensure!(!self.configurations.is_empty(), "configurations: none");
        ensure!(self.size() > 0, "steps: no flow at all");
        let pods = self.pod_names();
        let servers = servers(&pods);
        for slice in self.all_slices() {
            for endpoint in &slice.endpoints {
                if let Some(pod) = &endpoint.pod {
                    ensure!(pods.contains(pod), "slice {}: there is no pod {pod}", slice.name);
                }
            }
        }
        for (step, flow) in self.flows() {
            let what = || format!("steps[{step}]: flow `{flow}`");
            check_flow(flow, &pods, &servers).with_context(what)?;
            for family in self.families_of(flow) {
                if let Target::Literal(addresses) = &flow.to {
                    let has = addresses.iter().any(|address| address.is_ipv4() == (*family == Ip::V4));
                    ensure!(has, "{}: to: no address of {family:?}", what());
                }
            }
        }
        Ok(())
    }

    fn all_slices(&self) -> impl Iterator<Item = &SlicePlan> {
        let actions = self.steps.iter().flat_map(|step| &step.actions);
        let later = actions.filter_map(|action| match action {
            Action::Slice(slice) => Some(slice),
            _ => None,
        });
        self.slices.iter().chain(later)
    }

    fn pod_names(&self) -> BTreeSet<String> {
        let actions = self.steps.iter().flat_map(|step| &step.actions);
        let later = actions.filter_map(|action| match action {
            Action::AddPod(pod) => Some(pod),
            _ => None,
        });
        self.pods.iter().chain(later).map(|pod| pod.name.clone()).collect()
    }
}

/// The pods that always exist.
pub(super) fn shells() -> impl Iterator<Item = (u8, String)> {
    (1..=3).map(|number| (number, format!("shell-{number}")))
}

/// The names with which servers can answer.
fn servers(pods: &BTreeSet<String>) -> BTreeSet<String> {
    let hosts = (1..=3).map(|number| format!("host-{number}"));
    let all: Vec<String> = pods
        .iter()
        .cloned()
        .chain(hosts)
        .chain(shells().map(|(_, name)| name))
        .collect();
    let others = all.iter().map(|name| format!("{name}-other"));
    others.chain(all.iter().cloned()).collect()
}

fn check_flow(flow: &Flow, pods: &BTreeSet<String>, servers: &BTreeSet<String>) -> Result<()> {
    let pod_is_known = |name: &String| pods.contains(name) || shells().any(|(_, shell)| shell == *name);
    for name in [&flow.from.pod(), &flow.to.pod()].into_iter().flatten() {
        ensure!(pod_is_known(name), "there is no pod {name}");
    }
    let followed = flow.followed.as_ref().map(|followed| &followed.tandem);
    for expect in [Some(&flow.expect), flow.tandem.as_ref(), followed]
        .into_iter()
        .flatten()
    {
        for name in expect.names().into_iter().flatten() {
            ensure!(servers.contains(name), "expect: there is no server {name}");
        }
    }
    ensure!(
        flow.intended.is_some() == flow.tandem.is_some(),
        "intended and tandem go together: the reason, and what Tandem does instead"
    );
    ensure!(
        flow.intended.is_none() || flow.followed.is_none(),
        "followed: not where Tandem differs with each data plane"
    );
    ensure!(flow.requests > 0, "requests: 0 would show nothing");
    let largest = match flow.protocol {
        Protocol::Tcp => LARGEST_TCP,
        Protocol::Udp => LARGEST_UDP,
        Protocol::Sctp => 0,
    };
    if let Some(size) = flow.size {
        ensure!(
            size <= largest,
            "size: {size} is more than {largest}, the most over {}",
            flow.protocol
        );
    }
    ensure!(
        flow.senders.is_none() || flow.protocol == Protocol::Udp,
        "senders: only with UDP"
    );
    ensure!(
        flow.source_port.is_none_or(|port| port <= u16::MAX - UNCONNECTED_PORTS),
        "source port: at most {}",
        u16::MAX - UNCONNECTED_PORTS
    );
    ensure!(
        flow.rest.is_none() || flow.source_port.is_none() && flow.expect.names().is_some(),
        "rest: only where somebody answers, and not with `source port`"
    );
    ensure!(
        flow.sticky.is_none() || matches!(flow.expect, Expect::OneOf(_)),
        "sticky: only with `expect: {{one of: …}}`"
    );
    ensure!(
        !matches!(flow.from, Place::Node(_)) || !flow.sources.is_about_the_sender(),
        "sources: of a node there is only `same` and `any`; it has many addresses"
    );
    Ok(())
}

fn base() -> Vec<Configuration> {
    vec![Configuration::Base]
}

fn both() -> Vec<Ip> {
    Ip::BOTH.to_vec()
}

fn connected() -> Vec<Sender> {
    vec![Sender::Connected]
}
