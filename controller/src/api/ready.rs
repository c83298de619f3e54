//! Whether this agent can be relied on, and if not, why. Pure.

use serde::{Deserialize, Serialize};
use tandem_core::family::IpFamily;

use super::document::VERSION;
use crate::engine::{FamilyStatus, Snapshot};
use crate::event::Reach;

/// The answer to `tandem ready`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReadyView {
    /// `tandem/v1`
    pub api_version: String,
    /// `Readiness`
    pub kind: String,
    /// Whether it is ready.
    pub ready: bool,
    /// What it does, or why it is not ready.
    pub reason: String,
}

impl ReadyView {
    /// An agent that is ready, and what it does.
    pub fn yes(reason: impl Into<String>) -> Self {
        Self::new(true, reason.into())
    }

    /// A program that is not ready, and why.
    pub fn no(reason: impl Into<String>) -> Self {
        Self::new(false, reason.into())
    }

    fn new(ready: bool, reason: String) -> Self {
        Self {
            api_version: VERSION.into(),
            kind: "Readiness".into(),
            ready,
            reason,
        }
    }

    /// Whether the agent that shows this snapshot is ready.
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        match not_ready(snapshot) {
            Some(reason) => Self::new(false, reason),
            None if snapshot.stands_by => {
                Self::yes("stands by: another tandem serves this node, and every list is complete")
            }
            None => Self::yes("serves this node"),
        }
    }
}

fn not_ready(snapshot: &Snapshot) -> Option<String> {
    if !snapshot.listed {
        let lost = snapshot.reach.iter().find_map(|(kind, reach)| match reach {
            Reach::Watching => None,
            Reach::Lost(reason) => Some(format!(": {kind}: {reason}")),
        });
        return Some(format!("not every list is complete yet{}", lost.unwrap_or_default()));
    }
    if snapshot.stands_by {
        return None;
    }
    let families = [(IpFamily::V4, &snapshot.v4), (IpFamily::V6, &snapshot.v6)];
    let unprogrammed = families
        .into_iter()
        .find_map(|(family, status)| unprogrammed(family, status));
    if unprogrammed.is_some() {
        return unprogrammed;
    }
    if snapshot.kube_proxy.is_none() {
        return Some("it is not known yet whether a kube-proxy runs on this node".into());
    }
    let mut problems = snapshot.problems.iter();
    let problem = problems.find(|problem| problem.keeps_from_being_ready())?;
    Some(format!("{}: {problem}", problem.object()))
}

fn unprogrammed(family: IpFamily, status: &FamilyStatus) -> Option<String> {
    match (&status.last_error, &status.ownership) {
        (Some((_, reason)), _) => Some(format!("changes of {family} wait: {reason}")),
        (None, None) => Some(format!("{family} is not programmed yet")),
        (None, Some(_)) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::SystemTime;

    use tandem_core::plane::Ownership;

    use super::*;
    use crate::engine::NodeProblem;
    use crate::event::{KubeProxy, Neighbour, ObjectKind};

    fn programmed() -> FamilyStatus {
        FamilyStatus {
            ownership: Some(Ownership::Owned),
            ..FamilyStatus::default()
        }
    }

    fn alone() -> Snapshot {
        let mut snapshot = Snapshot::empty(SystemTime::now());
        (snapshot.complete, snapshot.listed) = (true, true);
        (snapshot.v4, snapshot.v6) = (programmed(), programmed());
        snapshot.kube_proxy = Some(KubeProxy::default());
        snapshot
    }

    fn why_not(change: impl FnOnce(&mut Snapshot)) -> String {
        let mut snapshot = alone();
        change(&mut snapshot);
        let view = ReadyView::of(&snapshot);
        assert!(!view.ready, "{view:?}");
        view.reason
    }

    #[test]
    fn an_agent_is_ready_once_it_serves_alone_or_stands_by_with_complete_lists() {
        assert_eq!(ReadyView::of(&alone()), ReadyView::yes("serves this node"));
        let mut by = alone();
        (by.complete, by.stands_by, by.kube_proxy) = (false, true, None);
        (by.v4, by.v6) = Default::default();
        assert!(ReadyView::of(&by).ready);
        by.listed = false;
        assert!(!ReadyView::of(&by).ready);
    }

    #[test]
    fn each_reason_not_to_be_ready_is_one_line_that_says_it() {
        let lost = why_not(|s| {
            s.listed = false;
            let reach = [(ObjectKind::Service, Reach::Lost("refused".into()))];
            s.reach = Arc::new(reach.into());
        });
        assert_eq!(lost, "not every list is complete yet: Service: refused");
        let fails = why_not(|s| s.v6.last_error = Some((SystemTime::now(), "no memory".into())));
        assert_eq!(fails, "changes of IPv6 wait: no memory");
        assert_eq!(why_not(|s| s.v4.ownership = None), "IPv4 is not programmed yet");
        assert!(why_not(|s| s.kube_proxy = None).contains("not known yet"));
        for neighbour in [
            Neighbour::Runs,
            Neighbour::Appeared,
            Neighbour::Reappears,
            Neighbour::AddressTaken,
            Neighbour::AddressUnusable,
        ] {
            let address = Some(([0, 0, 0, 0], 10256).into());
            let kube_proxy = KubeProxy {
                neighbour,
                address,
                tables: true,
                ..KubeProxy::default()
            };
            let reason = why_not(|s| s.problems = Arc::new([NodeProblem::KubeProxy(kube_proxy)]));
            assert_eq!(reason.lines().count(), 1, "{reason}");
            assert!(reason.contains("healthzBindAddress"), "{reason}");
        }
    }

    #[test]
    fn what_a_kube_proxy_left_keeps_no_agent_from_being_ready() {
        let mut snapshot = alone();
        let left = KubeProxy {
            chains: true,
            ..KubeProxy::default()
        };
        snapshot.problems = Arc::new([NodeProblem::KubeProxy(left)]);
        assert!(ReadyView::of(&snapshot).ready);
    }
}
