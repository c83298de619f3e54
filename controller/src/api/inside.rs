//! Who answers a Service port from inside, and how many connections there were.

use std::collections::HashMap;
use std::sync::Arc;

use tandem_core::family::{Family, IpFamily, V4, V6};
use tandem_core::plan::{FrontendPlan, NoEndpoints, PortKey, PortPlan, Usable};
use tandem_core::plane::Left;
use tandem_core::row::{Class, Frontend, Protocol};
use tandem_nft::service_counts;

use crate::config::Settings;
use crate::engine::{FamilyStatus, FollowState, Snapshot};
use crate::xdp::{SocketsOf, State, Where};

use super::view::{AnswersView, ConnectionsView};

/// The connections to all Service ports, by their names as the tables have them.
#[derive(Default)]
pub(super) struct Counted([HashMap<Arc<str>, ConnectionsView>; 2]);

impl Counted {
    /// Reads them from the kernel.
    pub(super) fn read(sockets: &State) -> Self {
        Self([read::<V4>(sockets), read::<V6>(sockets)])
    }

    /// Those of a Service port.
    fn of(&self, family: IpFamily, port: &PortKey) -> ConnectionsView {
        let of = &self.0[number(family)];
        of.get(&port.label()).copied().unwrap_or_default()
    }
}

fn read<F: Family>(sockets: &State) -> HashMap<Arc<str>, ConnectionsView> {
    let counts = service_counts::<F>().unwrap_or_else(|error| {
        tracing::warn!("the connections to Services cannot be counted: {error}");
        None
    });
    let taken = |service| {
        let counts = sockets.counts.as_ref();
        counts.map_or([0; 2], |counts| counts.taken(F::FAMILY, service))
    };
    let mut found: HashMap<Arc<str>, ConnectionsView> = HashMap::new();
    for count in counts.unwrap_or_default() {
        // Names that are too long may have been cut to the same.
        let connections = found.entry(count.label).or_default();
        connections.nftables += count.connections;
        let [sockets, xdp] = taken(count.service);
        connections.sockets += sockets;
        connections.xdp += xdp;
    }
    found
}

/// Who asks from inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asker {
    /// A program of the node, or of a pod in the node's network.
    Node,
    /// A program in a pod.
    Pod,
}

/// What the configuration says about pods' connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Whether pods' connections to ClusterIPs are masqueraded.
    pub masquerade_all: bool,
    /// Whether no source counts as a pod, IPv4 first.
    pub detects_nobody: [bool; 2],
}

impl Rules {
    /// By these settings on this node.
    pub fn of(settings: &Settings, snapshot: &Snapshot) -> Self {
        let has_ranges = [
            !snapshot.node_v4.local_pods.is_empty(),
            !snapshot.node_v6.local_pods.is_empty(),
        ];
        Self {
            masquerade_all: settings.masquerade_all,
            detects_nobody: has_ranges.map(|has_ranges| settings.detect_local.is_nobody(has_ranges)),
        }
    }
}

/// Who answers from inside, and the connections if somebody asked for them.
pub(super) struct Inside<'a> {
    pub(super) sockets: &'a State,
    pub(super) rules: Rules,
    pub(super) connections: Option<Counted>,
}

impl Inside<'_> {
    /// Who answers the frontends of a Service port that are its own.
    pub(super) fn who<F: Family>(
        &self,
        asker: Asker,
        plan: &PortPlan<F>,
        own: &[&FrontendPlan<F>],
        status: &FamilyStatus,
    ) -> AnswersView {
        if !self.sockets.wants_sockets() {
            return AnswersView::nftables(None);
        }
        let why = self.why_none(asker).or_else(|| why_not_the_port(plan, status));
        if let Some(why) = why {
            return AnswersView::nftables(Some(why.to_owned()));
        }
        let mut reasons: Vec<(&str, &str)> = Vec::new();
        let mut some = false;
        for frontend in own {
            match self.why_not(asker, plan, frontend) {
                None => some = true,
                Some(why) if reasons.contains(&(kind(frontend), why)) => {}
                Some(why) => reasons.push((kind(frontend), why)),
            }
        }
        if some {
            let except = reasons.iter().map(|(kind, why)| format!("{kind}: {why}"));
            let except: Vec<String> = except.collect();
            return AnswersView::sockets((!except.is_empty()).then(|| except.join(", ")));
        }
        let mut whys: Vec<&str> = reasons.into_iter().map(|(_, why)| why).collect();
        whys.dedup();
        AnswersView::nftables((!whys.is_empty()).then(|| whys.join(", ")))
    }

    pub(super) fn connections(&self, family: IpFamily, port: &PortKey) -> Option<ConnectionsView> {
        Some(self.connections.as_ref()?.of(family, port))
    }

    /// Why sockets take nothing of who asks.
    fn why_none(&self, asker: Asker) -> Option<&'static str> {
        let (_, of) = self.sockets.wanted;
        let place = match asker {
            Asker::Pod if of == SocketsOf::Node => return Some("socketLoadBalancing: node"),
            Asker::Pod => &self.sockets.pods,
            Asker::Node => &self.sockets.node,
        };
        match place {
            Where::At { .. } => None,
            Where::Not { .. } | Where::Nowhere => Some("programs not attached"),
        }
    }

    /// Why sockets do not take a frontend. This is what the programs ask, in their order.
    fn why_not<F: Family>(&self, asker: Asker, plan: &PortPlan<F>, frontend: &FrontendPlan<F>) -> Option<&'static str> {
        let is_cluster = is_cluster(frontend);
        if is_cluster && asker == Asker::Pod && self.rules.masquerade_all {
            return Some("masqueradeAll");
        }
        if frontend.sources.is_some() {
            return Some("source ranges");
        }
        let outside = asker == Asker::Pod && self.rules.detects_nobody[number(F::FAMILY)];
        let list = if (is_cluster || outside) && frontend.local {
            &plan.local
        } else {
            &plan.all
        };
        match list {
            Some(Usable::Endpoints(_)) => None,
            Some(Usable::None(NoEndpoints::OnThisNode)) => Some("no endpoint on this node"),
            Some(Usable::None(NoEndpoints::Anywhere)) | None => Some("no endpoint"),
        }
    }
}

/// IPv4 is first.
fn number(family: IpFamily) -> usize {
    usize::from(family == IpFamily::V6)
}

fn is_cluster<F: Family>(plan: &FrontendPlan<F>) -> bool {
    matches!(
        plan.frontend,
        Frontend::Address {
            class: Class::Cluster,
            ..
        }
    )
}

/// What a frontend is called.
fn kind<F: Family>(plan: &FrontendPlan<F>) -> &'static str {
    match plan.frontend {
        Frontend::Address {
            class: Class::Cluster, ..
        } => "ClusterIP",
        // Only addresses of a load balancer have source ranges.
        Frontend::Address { .. } if plan.sources.is_some() => "LoadBalancer",
        Frontend::Address { .. } => "external addresses",
        Frontend::NodePort { .. } => "nodePort",
    }
}

/// Why sockets take no connection to a Service port.
fn why_not_the_port<F: Family>(plan: &PortPlan<F>, status: &FamilyStatus) -> Option<&'static str> {
    let followed = &status.followed;
    match &followed.state {
        FollowState::On { .. } => {}
        FollowState::Off => return Some("sockets are off"),
        FollowState::Waiting { .. } => return Some("sockets are waiting"),
        FollowState::Beside { .. } => return Some("a kube-proxy's rules come first"),
        FollowState::Behind { .. } => return Some("sockets are behind"),
    }
    if plan.key.protocol == Protocol::Sctp {
        return Some("SCTP");
    }
    // The status says for what there is no room.
    followed.left.get(&plan.key).map(|left| match left {
        Left::Endpoints(_) | Left::Frontends(_) => "no room",
        Left::Incomplete => "incomplete list",
    })
}

#[cfg(test)]
mod tests;
