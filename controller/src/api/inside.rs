//! Who answers a Service port from inside, and how many connections there were.

use std::collections::HashMap;
use std::sync::Arc;

use tandem_core::family::{Family, IpFamily, V4, V6};
use tandem_core::plan::{PortKey, PortPlan, Usable};
use tandem_core::row::Protocol;
use tandem_nft::service_counts;

use crate::engine::{FamilyStatus, FollowState};
use crate::xdp::{Stage, State};

use super::view::ConnectionsView;

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
        let of = &self.0[usize::from(family == IpFamily::V6)];
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
        counts.map_or(0, |counts| counts.taken(F::FAMILY, service))
    };
    let mut found: HashMap<Arc<str>, ConnectionsView> = HashMap::new();
    for count in counts.unwrap_or_default() {
        // Names that are too long may have been cut to the same.
        let connections = found.entry(count.label).or_default();
        connections.nftables += count.connections;
        connections.sockets += taken(count.service);
    }
    found
}

/// Who answers from inside, and the connections if somebody asked for them.
pub(super) struct Inside<'a> {
    pub(super) sockets: &'a State,
    pub(super) connections: Option<Counted>,
}

/// Who answers a Service port from inside.
pub(super) enum Who {
    Sockets,
    /// Why, if the configuration asks for sockets.
    Nftables(Option<String>),
}

impl Inside<'_> {
    pub(super) fn who<F: Family>(&self, plan: &PortPlan<F>, status: &FamilyStatus) -> Who {
        if !self.sockets.wants_sockets() {
            return Who::Nftables(None);
        }
        match why_nftables(plan, status, self.sockets) {
            None => Who::Sockets,
            why => Who::Nftables(why),
        }
    }

    pub(super) fn connections(&self, family: IpFamily, port: &PortKey) -> Option<ConnectionsView> {
        Some(self.connections.as_ref()?.of(family, port))
    }
}

/// Why nftables answers a Service port from inside, if sockets are asked for; none if they answer.
fn why_nftables<F: Family>(plan: &PortPlan<F>, status: &FamilyStatus, sockets: &State) -> Option<String> {
    let followed = &status.followed;
    if let Stage::Failed { why, .. } = &sockets.stage {
        return Some(why.to_string());
    }
    let why = match &followed.state {
        FollowState::On { .. } => None,
        FollowState::Off => Some("sockets are off"),
        FollowState::Waiting { .. } => Some("sockets wait"),
        FollowState::Beside { .. } => Some("a kube-proxy's rules come first"),
        FollowState::Behind { .. } => Some("sockets are behind"),
    };
    if why.is_some() {
        return why.map(str::to_owned);
    }
    if plan.key.protocol == Protocol::Sctp {
        return Some("SCTP".to_owned());
    }
    if let Some(left) = followed.left.get(&plan.key) {
        return Some(left.to_string());
    }
    let is_empty = |list: &Option<Usable<F>>| !matches!(list, Some(Usable::Endpoints(_)));
    (is_empty(&plan.all) && is_empty(&plan.local)).then(|| "no endpoint".to_owned())
}
