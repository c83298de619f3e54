//! The second data plane in the words of the local API.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use tandem_core::family::IpFamily;

use crate::engine::{FollowState, FollowStatus};
use crate::xdp::{Below, DataPlane, SocketsOf, Stage, State, Where};

/// Socket load balancing. It is there if the configuration asks for the second data plane, or if something is left of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SocketsView {
    /// `socketLoadBalancing`: `all`, `node` or `off`
    pub of: String,
    /// `on`, `waiting`, `failed`, `ending` or `off`
    pub state: String,
    /// Since when, in seconds. None if it is not known.
    pub since_seconds_ago: Option<f64>,
    /// Why it failed or waits. None if it is on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Where the node's programs are attached.
    pub node: FolderView,
    /// Where the pods' programs are attached. None if they should not be.
    pub pods: Option<FolderView>,
    /// Where programs and maps are pinned.
    pub pins: String,
    /// How many instructions the kernel's verifier looked at.
    pub verified_instructions: u64,
    /// The maps, with their fill.
    pub maps: Vec<MapView>,
}

/// A cgroup folder with programs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FolderView {
    /// The folder. None if the programs are not attached.
    pub folder: Option<String>,
    /// Since when, in seconds.
    pub since_seconds_ago: Option<f64>,
    /// Why they are not attached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The processes in it and below it.
    pub processes: usize,
    /// The folders of pods below it.
    pub pods: usize,
}

/// A map in the kernel.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MapView {
    /// Its name.
    pub name: String,
    /// How many elements it can have. None if it grows with the sockets.
    pub size: Option<u32>,
    /// How many it has. None if that cannot be told.
    pub used: Option<u32>,
    /// Its memory in bytes.
    pub bytes: u64,
}

/// One family's sockets: how they follow nftables.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FollowerView {
    /// `on`, `waiting`, `behind` or `off`
    pub state: String,
    /// Since when, in seconds. None if it is not known.
    pub since_seconds_ago: Option<f64>,
    /// Why it is not on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How many Service ports it answers for.
    pub taken: usize,
    /// The Service ports that it leaves to nftables.
    pub left: Vec<LeftView>,
    /// The connections that were left to nftables.
    pub left_connections: Vec<CountView>,
    /// How many changes it followed.
    pub changes: u64,
    /// How often it was filled anew with nftables' rows.
    pub renewals: u64,
    /// Seconds since the last change or renewal.
    pub last_change_seconds_ago: Option<f64>,
    /// How long that took.
    pub last_change_microseconds: u64,
    /// How often it failed.
    pub failures: u64,
}

/// A Service port that is left to nftables.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeftView {
    /// `namespace/name:port`
    pub service_port: String,
    /// Why.
    pub reason: String,
}

/// Connections of a kind.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CountView {
    /// Why they were left.
    pub reason: String,
    /// How many.
    pub count: u64,
}

fn ago(then: SystemTime) -> f64 {
    SystemTime::now().duration_since(then).unwrap_or_default().as_secs_f64()
}

impl SocketsView {
    pub(super) fn of(state: &State) -> Option<Self> {
        let (plane, of) = state.wanted;
        if plane == DataPlane::Nft && state.stage == Stage::Off {
            return None;
        }
        let (name, since, reason) = match &state.stage {
            Stage::Off => ("off", None, None),
            // The programs are loaded for packets from outside alone.
            Stage::On { .. } if of == SocketsOf::Off => ("off", None, None),
            Stage::Ending { until, .. } => ("ending", None, Some(ending(*until))),
            Stage::Waiting { since } => (
                "waiting",
                Some(ago(*since)),
                Some("not every list is complete".to_owned()),
            ),
            Stage::Loading { since } => (
                "waiting",
                Some(ago(*since)),
                Some("the programs are being loaded".to_owned()),
            ),
            Stage::On { since } => ("on", Some(ago(*since)), None),
            Stage::Failed { since, why } => ("failed", Some(ago(*since)), Some(why.to_string())),
        };
        let folder = |place: &Where| {
            match place {
                Where::Nowhere => None,
                Where::At { folder, since } => {
                    // All folders below it are read for this, so once.
                    let below = state.counts.as_ref().map(|counts| counts.below(folder));
                    let Below { processes, pods } = below.unwrap_or_default();
                    Some(FolderView {
                        folder: Some(folder.display().to_string()),
                        since_seconds_ago: Some(ago(*since)),
                        reason: None,
                        processes,
                        pods,
                    })
                }
                Where::Not { why } => Some(FolderView {
                    reason: Some(why.to_string()),
                    ..FolderView::default()
                }),
            }
        };
        let maps = state.counts.as_ref().map(|counts| counts.maps()).unwrap_or_default();
        Some(Self {
            of: match of {
                SocketsOf::All => "all",
                SocketsOf::Node => "node",
                SocketsOf::Off => "off",
            }
            .to_owned(),
            state: name.to_owned(),
            since_seconds_ago: since,
            reason,
            node: folder(&state.node).unwrap_or_default(),
            pods: folder(&state.pods),
            pins: state.pins.display().to_string(),
            verified_instructions: state.verified,
            maps: maps
                .into_iter()
                .map(|map| MapView {
                    name: map.name.to_owned(),
                    size: map.size,
                    used: map.used,
                    bytes: map.bytes,
                })
                .collect(),
        })
    }
}

/// How long the programs stay that show translated sockets the Service's address.
fn ending(until: SystemTime) -> String {
    let left = until.duration_since(SystemTime::now()).unwrap_or_default();
    let minutes = left.as_secs().div_ceil(60);
    let plural = if minutes == 1 { "" } else { "s" };
    format!("for {minutes} more minute{plural}, programs still see the Service's address")
}

impl FollowerView {
    /// None if there is none.
    pub(super) fn of(status: &FollowStatus, family: IpFamily, state: &State) -> Option<Self> {
        let (name, since, reason) = match &status.state {
            FollowState::Off if state.wanted.0 == DataPlane::Nft => return None,
            FollowState::Off => ("off", None, Some("the programs are not loaded".to_owned())),
            FollowState::Waiting { since, off } => {
                let goes_on = if *off {
                    ""
                } else {
                    "; the programs of an earlier run go on meanwhile"
                };
                let waits_for = match state.stage {
                    Stage::Waiting { .. } => "not every list is complete",
                    Stage::Loading { .. } => "the programs are being loaded",
                    _ => "nftables does not hold everything yet",
                };
                let why = format!("{waits_for}{goes_on}");
                ("waiting", Some(ago(*since)), Some(why))
            }
            FollowState::On { since } => ("on", Some(ago(*since)), None),
            FollowState::Beside { since } => (
                "off",
                Some(ago(*since)),
                Some("a kube-proxy's rules come first".to_owned()),
            ),
            FollowState::Behind { since, why } => ("behind", Some(ago(*since)), Some(why.to_string())),
        };
        let left = status.left.iter().map(|(port, left)| LeftView {
            service_port: port.to_string(),
            reason: left.to_string(),
        });
        let counts = state
            .counts
            .as_ref()
            .map(|counts| counts.left(family))
            .unwrap_or_default();
        Some(Self {
            state: name.to_owned(),
            since_seconds_ago: since,
            reason,
            taken: status.taken,
            left: left.collect(),
            left_connections: counts
                .into_iter()
                .map(|(reason, count)| CountView { reason, count })
                .collect(),
            changes: status.changes,
            renewals: status.renewals,
            last_change_seconds_ago: status.last_change.map(ago),
            last_change_microseconds: u64::try_from(status.last_change_took.as_micros()).unwrap_or(u64::MAX),
            failures: status.failures,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_sockets_wait_for_is_named() {
        let (wanted, since) = ((DataPlane::Xdp, SocketsOf::All), SystemTime::now());
        let status = FollowStatus {
            state: FollowState::Waiting { since, off: false },
            ..FollowStatus::default()
        };
        for (stage, of_all, of_family) in [
            (
                Stage::Waiting { since },
                Some("not every list is complete"),
                "not every list is complete",
            ),
            (
                Stage::Loading { since },
                Some("the programs are being loaded"),
                "the programs are being loaded",
            ),
            (Stage::On { since }, None, "nftables does not hold everything yet"),
        ] {
            let state = State {
                wanted,
                stage,
                ..State::default()
            };
            let sockets = SocketsView::of(&state).unwrap();
            assert_eq!(sockets.reason.as_deref(), of_all);
            let follower = FollowerView::of(&status, IpFamily::V4, &state).unwrap();
            let wanted = format!("{of_family}; the programs of an earlier run go on meanwhile");
            assert_eq!(follower.reason, Some(wanted));
        }
    }
}
