//! What is programmed for one Service port, and the writes that a change of it needs.

use std::cmp::Reverse;
use std::sync::Arc;

use crate::family::Family;
use crate::id::ServiceId;
use crate::plan::{FrontendPlan, NoEndpoints, PortKey, Usable};
use crate::row::{Frontend, Label, Pick, Port, Row};

use super::claims::{Rank, UNCLAIMED};
use super::frontends::HeldFrontend;
use super::journal::Journal;
use super::slots::Slots;
use super::{Limit, capacity};

/// Whose rows these are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// A Service port's.
    Port(Arc<Owner>),
    /// Nobody's: they were adopted, and no Service has claimed them yet. They carry this name.
    Orphan(Label),
}

/// A Service port that has rows. Everything in the table that names it shares this.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) key: PortKey,
    /// `metadata.creationTimestamp` of its Service.
    pub(super) created: i64,
    /// The name that its rows carry.
    pub(super) label: Label,
    /// Whether packets from outside pick from its list of all endpoints by Maglev. It stands here because here it takes no
    /// memory.
    pub(super) maglev: bool,
}

impl Whose {
    /// The owner that a plan names. If it is the one of before, it is shared.
    pub(super) fn planned(key: PortKey, created: i64, maglev: bool, before: Option<&Self>) -> Self {
        let label = match before {
            Some(Self::Port(owner)) if owner.key == key => {
                if owner.created == created && owner.maglev == maglev {
                    return Self::Port(Arc::clone(owner));
                }
                owner.label.clone()
            }
            _ => key.label(),
        };
        Self::Port(Arc::new(Owner {
            key,
            created,
            label,
            maglev,
        }))
    }

    pub(super) fn owner(&self) -> Option<&Arc<Owner>> {
        match self {
            Self::Port(owner) => Some(owner),
            Self::Orphan(_) => None,
        }
    }

    pub(super) fn key(&self) -> Option<&PortKey> {
        self.owner().map(|owner| &owner.key)
    }

    pub(super) fn label(&self) -> &Label {
        match self {
            Self::Port(owner) => &owner.label,
            Self::Orphan(label) => label,
        }
    }

    pub(super) fn rank(&self) -> Rank<'_> {
        match self {
            Self::Port(owner) => (Reverse(true), owner.created, Some(&owner.key)),
            Self::Orphan(_) => UNCLAIMED,
        }
    }
}

/// What is programmed for one Service port, under its id for all endpoints. There are as many as Service ports, so this
/// is small.
#[derive(Clone, Debug)]
pub(super) struct Programmed<F: Family> {
    pub(super) whose: Whose,
    /// Sorted by frontend, each once.
    pub(super) frontends: Box<[FrontendPlan<F>]>,
    pub(super) all: Option<List<F>>,
    /// Boxed because few Services have one.
    pub(super) local: Option<Box<List<F>>>,
    pub(super) hairpin: Box<[F::Addr]>,
}

impl<F: Family> Programmed<F> {
    pub(super) fn plan(&self, frontend: Frontend<F>) -> Option<&FrontendPlan<F>> {
        let at = self
            .frontends
            .binary_search_by_key(&frontend, |plan| plan.frontend)
            .ok()?;
        self.frontends.get(at)
    }

    /// What this port plans for a frontend.
    pub(super) fn held(&self, id: ServiceId, frontend: Frontend<F>) -> Option<HeldFrontend<F>> {
        let plan = self.plan(frontend)?.clone();
        Some(HeldFrontend {
            id,
            plan,
            label: self.whose.label().clone(),
        })
    }

    /// Whether Maglev picks from its list of all endpoints. It does not while the list is empty, so that who holds no empty
    /// lists has nothing to remember.
    fn is_spread(&self) -> bool {
        let is_wanted = self.whose.owner().is_some_and(|owner| owner.maglev);
        is_wanted && self.all.as_ref().is_some_and(|list| list.slots.len() > 0)
    }

    /// Writes the differences between two states of a Service port's lists.
    pub(super) fn write<'a>(id: ServiceId, old: Option<&'a Self>, new: Option<&'a Self>, journal: &mut Journal<F>) {
        let list = |port: &'a Self, local| {
            if local {
                port.local.as_deref()
            } else {
                port.all.as_ref()
            }
        };
        let (before, after) = (old.is_some_and(Self::is_spread), new.is_some_and(Self::is_spread));
        if before != after {
            let row = |is: bool| is.then_some(Row::Spread { service: id });
            journal.write(row(before), row(after));
        }
        for local in [false, true] {
            let id = if local { id.local() } else { id };
            let of = |port: Option<&'a Self>| port.and_then(|port| list(port, local));
            List::write(id, of(old), of(new), journal);
            let row = |port: Option<&'a Self>| {
                Some(Row::Service {
                    service: id,
                    pick: of(port)?.pick,
                    label: port?.whose.label().clone(),
                })
            };
            let (old, new) = (row(old), row(new));
            if old != new {
                journal.write(old, new);
            }
        }
    }

    /// Whether both states claim the same frontends, with the same plan for each, under the same name.
    pub(super) fn claims_like(&self, other: &Self) -> bool {
        self.whose == other.whose && self.frontends == other.frontends
    }
}

/// A list of endpoints and how one of them is picked.
#[derive(Clone, Debug)]
pub(super) struct List<F: Family> {
    pub(super) pick: Pick,
    pub(super) slots: Slots<F>,
}

impl<F: Family> List<F> {
    /// The list that holds `usable`. As many endpoints as possible keep the slots that they have in `old`.
    pub(super) fn new(
        usable: Usable<F>,
        old: Option<&Self>,
        sticky: bool,
        affinity: Option<u32>,
    ) -> (Self, Option<Limit>) {
        let (mut wanted, empty) = match usable {
            Usable::Endpoints(endpoints) => (endpoints, Pick::Refuse),
            Usable::None(NoEndpoints::Anywhere) => (Vec::new(), Pick::Refuse),
            Usable::None(NoEndpoints::OnThisNode) => (Vec::new(), Pick::Discard),
        };
        let (found, used) = (wanted.len(), wanted.len().min(capacity(sticky)));
        wanted.truncate(used);
        let slots = old.map_or_else(|| Slots::empty(sticky).with(&wanted), |old| old.slots.with(&wanted));
        let pick = match (u16::try_from(used).ok().and_then(Port::new), affinity) {
            (None, _) => empty,
            (Some(count), None) => Pick::Any { count },
            (Some(count), Some(seconds)) => Pick::Sticky { count, seconds },
        };
        (
            Self { pick, slots },
            (found > used).then_some(Limit::Endpoints { found, used }),
        )
    }

    fn write(id: ServiceId, old: Option<&Self>, new: Option<&Self>, journal: &mut Journal<F>) {
        let none = Slots::empty(id.is_sticky());
        let [old, new] = [old, new].map(|list| list.map_or(&none, |list| &list.slots));
        old.write(id, new, journal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::V4;

    /// The usual allocators give 88 bytes for the one and 104 for the other, which is counted by two words.
    #[test]
    fn a_service_port_is_small() {
        assert!(size_of::<Programmed<V4>>() <= 88);
        assert!(size_of::<Owner>() + 2 * size_of::<usize>() <= 104);
    }
}
