//! Clients with affinity: which endpoint each of them has, in each world.

use std::collections::HashMap;

use super::case::Case;
use super::history::Specs;
use super::spec::{Spec, Way};
use crate::addresses::Ip;

/// A client of a Service's port, in the world of this number.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Visitor {
    world: usize,
    number: u8,
    is_six: bool,
    is_udp: bool,
    client: u8,
}

fn visitor(world: usize, case: &Case) -> Visitor {
    Visitor {
        world,
        number: case.number,
        is_six: case.family == Ip::V6,
        is_udp: case.is_udp,
        client: case.client,
    }
}

/// The endpoints that clients have.
#[derive(Debug, Default)]
pub(super) struct Claims(HashMap<Visitor, usize>);

impl Claims {
    /// Whether the world of this number knows the client of a case by its earlier ones. nftables and XDP remember clients each for
    /// itself. In xdp's world, only what XDP chooses counts. With policy `Local`, a client has one endpoint among all of them and
    /// may need another one here.
    fn counts(world: usize, case: &Case, specs: &Specs) -> bool {
        let has_one = |spec: &Spec| spec.affinity && !spec.local;
        case.spec(specs).is_some_and(has_one) && (world == 0 || case.is_xdps(specs))
    }

    /// Notes who answered a new client, and says if that is not the endpoint that it has.
    pub(super) fn check(&mut self, world: usize, case: &Case, specs: &Specs, by: usize) -> Result<(), String> {
        if !Self::counts(world, case, specs) {
            return Ok(());
        }
        let before = self.0.insert(visitor(world, case), by);
        match before {
            Some(before) if before != by => Err(format!("{by} answers a client with affinity that has {before}")),
            _ => Ok(()),
        }
    }

    /// Forgets a client that got another endpoint in a way that is not looked at.
    pub(super) fn forget(&mut self, world: usize, case: &Case) {
        self.0.remove(&visitor(world, case));
    }

    /// Forgets what does not hold any more after a step.
    pub(super) fn renew(&mut self, before: &Specs, after: &Specs) {
        self.0.retain(|visitor, pod| {
            let (Some(old), Some(new)) = (before.get(&visitor.number), after.get(&visitor.number)) else {
                return false;
            };
            let is_same = old.life == new.life && old.local == new.local && old.affinity == new.affinity;
            is_same && new.set(Way::ClusterIp).contains(pod)
        });
    }
}
