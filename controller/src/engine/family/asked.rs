//! Programs what Services ask for, as far as limits allow. A Service may be too large, may get no id, or may have to
//! use ways to pick an endpoint that exist.

use std::collections::{HashMap, HashSet};

use tandem_core::family::Family;
use tandem_core::object::{Node, ObjectKey, Service};
use tandem_core::plan::{OwnFrontends, PortKey, PortPlan, TooLarge, plan};
use tandem_core::row::Pick;
use tandem_core::table::Limit;

use super::FamilyEngine;
use super::error::{Refusal, SyncError};
use crate::engine::inputs::Inputs;

/// What a Service lacks that is programmed only as far as limits allow.
pub(super) struct Lack {
    pub(super) reason: String,
    kind: Lacks,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Lacks {
    /// Everything: it is too large, and stays as it was.
    Everything,
    /// An id, with affinity or without.
    Id { sticky: bool },
    /// Affinity, because no id with affinity is free.
    Affinity,
    /// Something that only a new version of the Service can change.
    Other,
}

impl<F: Family> FamilyEngine<F> {
    /// Serves Services for whose way to pick an endpoint there was no room: they use ways that exist. They stay set
    /// aside, and are tried again.
    pub(super) fn make_do(&mut self, services: Vec<ObjectKey>, inputs: &Inputs<'_>) -> Result<(), SyncError<F>> {
        for key in services {
            let Ok(plans) = plans::<F>(&key, inputs, &self.node) else {
                continue;
            };
            if let Err(error) = self.make_one_do(&key, &plans, inputs) {
                self.pending.insert(key);
                return Err(error);
            }
        }
        Ok(())
    }

    fn make_one_do(&mut self, key: &ObjectKey, plans: &[PortPlan<F>], inputs: &Inputs<'_>) -> Result<(), SyncError<F>> {
        let own = self.table.ways(key);
        let mut ways = self.ways();
        if own.iter().any(|(_, shared)| !shared) {
            // The Service has a way that no other Service uses. If it gives up that one, there is room for the way that
            // it needs.
            let shared: Vec<Pick> = ways
                .iter()
                .copied()
                .filter(|way| !own.contains(&(*way, false)))
                .collect();
            if let Some(narrow) = within(plans, &shared) {
                self.set(key, narrow.plans);
                if self.accepts(inputs)? {
                    self.set(key, plans.to_vec());
                    if self.accepts(inputs)? {
                        self.set_aside.remove(key);
                        return Ok(());
                    }
                }
            }
            // The number of the way that it gave up is still free.
            ways = self.ways();
            ways.extend(own.into_iter().map(|(way, _)| way));
        }
        let Some(Narrow { plans, lack }) = within(plans, &ways) else {
            return Ok(());
        };
        self.set(key, plans);
        if !self.accepts(inputs)? {
            return Ok(());
        }
        let (Some((port, limit)), Some(aside)) = (lack, self.set_aside.get_mut(key)) else {
            self.set_aside.remove(key);
            return Ok(());
        };
        let reason = format!("port {port} {limit}");
        if aside.reason != reason {
            tracing::warn!(family = %F::FAMILY, service = %key, "{reason}");
            aside.reason = reason;
        }
        Ok(())
    }

    /// Whether the data plane applies what waits. If it refuses rows, everything is as before.
    fn accepts(&mut self, inputs: &Inputs<'_>) -> Result<bool, SyncError<F>> {
        match self.flush(inputs, false) {
            Ok(()) => Ok(true),
            Err(Refusal::Of { .. }) => Ok(false),
            Err(Refusal::Whole(error)) => Err(error.into()),
        }
    }

    fn ways(&self) -> Vec<Pick> {
        self.plane.as_ref().map(|plane| plane.ways()).unwrap_or_default()
    }

    /// Removes rows of an earlier run that nobody claims. If a Service is set aside or too large, rows that it could
    /// not claim may still serve it. These rows stay as long as the Service does, and no others stay.
    pub(super) fn drop_orphans(&mut self, batch: &[ObjectKey], inputs: &Inputs<'_>) {
        let batch: HashSet<&ObjectKey> = batch.iter().collect();
        let aside = self.set_aside.keys().filter(|key| !batch.contains(key));
        let too_large = self.lacks.iter().filter(|(_, lack)| lack.kind == Lacks::Everything);
        let own = aside.chain(too_large.map(|(key, _)| key)).filter_map(|key| {
            let own = OwnFrontends::<F>::of(inputs.services.get(key)?.service.as_deref()?);
            Some((own.name().clone(), own))
        });
        let own: HashMap<_, _> = own.collect();
        self.table
            .drop_orphans(|service, frontend| own.get(service).is_some_and(|own| own.contains(frontend)));
    }

    /// The Services that lack an id, as far as enough ids have become free.
    pub(super) fn served_by_free_ids(&self) -> Vec<ObjectKey> {
        if self.lacks.is_empty() {
            return Vec::new();
        }
        let [mut plain, mut sticky] = [false, true].map(|sticky| self.table.ids_left(sticky));
        let mut one_of = |kind| {
            let left = match kind {
                Lacks::Id { sticky: true } if sticky > 0 => &mut sticky,
                Lacks::Id { .. } => &mut plain,
                Lacks::Affinity => &mut sticky,
                Lacks::Everything | Lacks::Other => return false,
            };
            let some = *left > 0;
            *left = left.saturating_sub(1);
            some
        };
        let lacks = self.lacks.iter();
        lacks
            .filter(|(_, lack)| one_of(lack.kind))
            .map(|(key, _)| key.clone())
            .collect()
    }

    /// Makes the table hold what a Service asks for, as far as limits allow.
    pub(super) fn plan(&mut self, key: &ObjectKey, inputs: &Inputs<'_>) {
        let lack = match plans::<F>(key, inputs, &self.node) {
            Ok(plans) => {
                let sticky = plans.iter().any(|plan| plan.affinity.is_some());
                self.set(key, plans).map(|(port, limit)| Lack {
                    reason: format!("{port} {limit}"),
                    kind: match limit {
                        Limit::Ids => Lacks::Id { sticky },
                        Limit::Affinity => Lacks::Affinity,
                        Limit::Endpoints { .. } | Limit::Ways { .. } => Lacks::Other,
                    },
                })
            }
            Err((service, too_large)) => {
                // Another Service may have what this one no longer has.
                let own = OwnFrontends::<F>::of(service);
                self.table.keep(key, |frontend| own.contains(frontend));
                Some(Lack {
                    reason: format!("is too large: {too_large}; it stays as it was"),
                    kind: Lacks::Everything,
                })
            }
        };
        let known = self.lacks.remove(key);
        if let Some(lack) = lack {
            if known.is_none_or(|known| known.reason != lack.reason) {
                tracing::warn!(family = %F::FAMILY, service = %key, "{}", lack.reason);
            }
            self.lacks.insert(key.clone(), lack);
        }
    }

    /// Makes the table hold these plans for a Service. If a port is not programmed as planned, returns the port and the
    /// reason; if there are several, the worst one.
    fn set(&mut self, key: &ObjectKey, plans: Vec<PortPlan<F>>) -> Option<(String, Limit)> {
        self.observers.tell(|observer| observer.staged(key, &plans));
        for port in self.unwanted(key, &plans) {
            self.table.remove(&port);
        }
        let mut worst: Option<(PortKey, Limit)> = None;
        for plan in plans {
            let port = plan.key.clone();
            if let Some(limit) = self.table.set(plan)
                && worst.as_ref().is_none_or(|(_, worst)| rank(*worst) < rank(limit))
            {
                worst = Some((port, limit));
            }
        }
        worst.map(|(port, limit)| (port.to_string(), limit))
    }

    /// The ports of a Service that are programmed, and that no plan names.
    fn unwanted(&self, key: &ObjectKey, plans: &[PortPlan<F>]) -> Vec<PortKey> {
        if let [plan] = plans {
            let others = self.table.ports(key).filter(|port| **port != plan.key);
            return others.cloned().collect();
        }
        let wanted: HashSet<&PortKey> = plans.iter().map(|plan| &plan.key).collect();
        let others = self.table.ports(key).filter(|port| !wanted.contains(port));
        others.cloned().collect()
    }
}

/// The plans for a Service in one family. If the Service is too large, the error names it.
fn plans<'w, F: Family>(
    key: &ObjectKey,
    inputs: &Inputs<'w>,
    node: &Node,
) -> Result<Vec<PortPlan<F>>, (&'w Service, TooLarge)> {
    let Some(entry) = inputs.services.get(key) else {
        return Ok(Vec::new());
    };
    let Some(service) = entry.service.as_deref() else {
        return Ok(Vec::new());
    };
    let slices = entry.slices.iter().map(|slice| &**slice);
    plan::<F>(service, &slices, node, inputs.settings.usual_choice).map_err(|too_large| (service, too_large))
}

/// A higher rank says more about what a Service lacks.
fn rank(limit: Limit) -> u8 {
    match limit {
        Limit::Endpoints { .. } => 0,
        Limit::Ways { .. } => 1,
        Limit::Affinity => 2,
        Limit::Ids => 3,
    }
}

/// Plans that use only ways to pick an endpoint that exist.
struct Narrow<F: Family> {
    plans: Vec<PortPlan<F>>,
    /// What the first port lacks that lacks something.
    lack: Option<(String, Limit)>,
}

/// The plans with these ways only; none if a port would not be served at all.
fn within<F: Family>(plans: &[PortPlan<F>], ways: &[Pick]) -> Option<Narrow<F>> {
    let mut narrow = Narrow {
        plans: Vec::with_capacity(plans.len()),
        lack: None,
    };
    for plan in plans {
        let (plan, limit) = plan.clone().within(ways)?;
        narrow.lack = narrow.lack.or_else(|| Some((plan.key.to_string(), limit?)));
        narrow.plans.push(plan);
    }
    Some(narrow)
}
