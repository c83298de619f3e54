//! Hints in EndpointSlices: which of the ready endpoints clients on this node should use. They count only for lists of
//! all endpoints, because a traffic policy `Local` is stricter than any hint.

use crate::family::Family;
use crate::object::{Hints, NodeHint};

use super::Candidate;

/// Which of the ready endpoints clients here should use, by the endpoints' hints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Topology<'z> {
    /// All endpoints.
    Anywhere,
    /// Those with a hint for this zone.
    Zone(&'z str),
    /// Those with a hint for this node.
    Node,
}

impl<'z> Topology<'z> {
    /// Decides as kube-proxy's `topologyModeFromHints` does. Hints count only if every ready endpoint has one, and at
    /// least one is for this node (or, failing that, for this zone). So incomplete hints never leave a client without
    /// an endpoint.
    pub(super) fn of<F: Family>(candidates: &[Candidate<'_, F>], zone: Option<&'z str>) -> Self {
        let ready = || candidates.iter().filter(|candidate| candidate.conditions.ready);
        let holds = |topology: Self, hinted: fn(&Hints) -> bool| {
            ready().all(|candidate| candidate.hints.is_some_and(hinted))
                && ready().any(|candidate| topology.wants(candidate))
        };
        if holds(Self::Node, |hints| hints.nodes != NodeHint::None) {
            return Self::Node;
        }
        match zone.map(Self::Zone) {
            Some(zone) if holds(zone, |hints| !hints.zones.is_empty()) => zone,
            _ => Self::Anywhere,
        }
    }

    pub(super) fn wants<F: Family>(self, candidate: &Candidate<'_, F>) -> bool {
        match self {
            Self::Anywhere => true,
            Self::Zone(zone) => candidate
                .hints
                .is_some_and(|hints| hints.zones.iter().any(|name| &**name == zone)),
            Self::Node => candidate.hints.is_some_and(|hints| hints.nodes == NodeHint::Here),
        }
    }
}
