//! What `dataPlane: xdp` works on: cgroup folders of a node, a BPF file system, and programs in these folders that ask.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::bpffs::BpfFolder;
use crate::cgroup::{Cgroups, NodeGroups};
use crate::eventually;
use crate::stage::{NAMESPACE, Stage};
use crate::tandem::Plan;

use super::ask::{TIMES, answered, every_family};
use super::outside;

const PATIENCE: Duration = Duration::from_secs(10);
/// A pod on the agent's node that asks.
const POD: &str = "web-2";

/// The folders. The agent uses them, so it must be dropped first.
pub(super) struct Inside {
    groups: NodeGroups,
    _cgroups: Cgroups,
    pins: BpfFolder,
}

impl Inside {
    /// Makes the folders, and mounts the file system: an agent with the chart's capabilities cannot.
    pub(super) fn new() -> Result<Self> {
        let cgroups = Cgroups::new("rights")?;
        Ok(Self {
            groups: cgroups.node("node1")?,
            _cgroups: cgroups,
            pins: BpfFolder::new("rights")?,
        })
    }

    /// The settings of an agent that uses them.
    pub(super) fn settings(&self, plan: Plan) -> Plan {
        plan.sockets(&self.groups, &self.pins).devices(&[outside::DEVICE])
    }

    /// Whether sockets of the node and of a pod are translated. If programs cannot be loaded, the agent's own words are the
    /// error.
    pub(super) fn check(&self, stage: &Stage) -> Result<()> {
        let decided = || {
            let sockets = stage.tandem.status().ok()?["sockets"].clone();
            ["on", "failed"]
                .contains(&sockets["state"].as_str()?)
                .then_some(sockets)
        };
        let sockets = eventually(PATIENCE, decided).context("the status says neither on nor failed")?;
        if sockets["state"] != "on" {
            bail!("{}", sockets["reason"].as_str().unwrap_or_default());
        }
        let follows = || {
            let status = stage.tandem.status().ok()?;
            let families = status["families"].as_array()?;
            let on = families.iter().all(|family| family["follower"]["state"] == "on");
            on.then_some(())
        };
        eventually(PATIENCE, follows).context("a family's rows are not followed")?;
        let before = taken(stage)?;
        let node = stage.node().beside(&self.groups.system()?);
        let pod = stage.pod(POD).beside(&self.groups.pod(POD)?);
        every_family(|family| {
            answered(stage, &node, (family.cluster_ip(10), 80).into())?;
            answered(stage, &pod, (family.cluster_ip(10), 80).into())
        })?;
        // Two ask, in two families.
        let (more, all) = (taken(stage)? - before, 2 * 2 * u64::from(TIMES));
        ensure!(more == all, "sockets took {more} connections of {all}");
        Ok(())
    }
}

/// How many connections to the Service sockets took.
fn taken(stage: &Stage) -> Result<u64> {
    let text = stage
        .tandem
        .command(&["services", "web", "-n", NAMESPACE, "-o", "json"])?;
    let service: Value = serde_json::from_str(&text)?;
    let ports = service["ports"].as_array().context("no such Service")?;
    let families = ports
        .iter()
        .flat_map(|port| port["families"].as_array().into_iter().flatten());
    Ok(families
        .filter_map(|family| family["connections"]["sockets"].as_u64())
        .sum())
}
