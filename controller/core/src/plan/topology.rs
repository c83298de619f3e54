//! Hints in EndpointSlices: which of the ready endpoints clients on this node should use. Only for lists of all
//! endpoints; a traffic policy `Local` is stricter than any hint.

use crate::family::Family;
use crate::object::{Hints, NodeHint};

use super::Candidate;

/// Which of the ready endpoints are meant for clients here, by their hints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Topology<'z> {
    /// All.
    Anywhere,
    /// Those for this zone.
    Zone(&'z str),
    /// Those for this node.
    Node,
}

impl<'z> Topology<'z> {
    /// As kube-proxy's `topologyModeFromHints`: hints count only where every ready endpoint has one and at least one is
    /// for this node (or else this zone), so that half-written hints never leave clients without an endpoint.
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
