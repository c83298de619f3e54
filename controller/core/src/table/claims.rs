//! Which Service has a frontend that several Services want: the oldest Service, then the first by name. The others
//! wait. When the holder goes, the next one takes over in the same change.

use std::cmp::Reverse;
use std::collections::HashMap;

use crate::family::Family;
use crate::id::ServiceId;
use crate::plan::PortKey;
use crate::row::Frontend;

/// The order of claims: the smallest has the frontend. Rows that no Service has claimed yet come last; then the age
/// counts, then the name.
pub(super) type Rank<'a> = (Reverse<bool>, i64, Option<&'a PortKey>);

/// The rank of rows that no Service has claimed yet.
pub(super) const UNCLAIMED: Rank<'static> = (Reverse(false), 0, None);

/// The claims on frontends.
#[derive(Debug)]
pub(super) struct Claims<F: Family> {
    holders: HashMap<Frontend<F>, ServiceId>,
    /// The claims on each frontend that several Service ports want, in order of rank. The first one is the holder. Such
    /// frontends are rare.
    queues: HashMap<Frontend<F>, Vec<ServiceId>>,
}

impl<F: Family> Default for Claims<F> {
    fn default() -> Self {
        Self {
            holders: HashMap::new(),
            queues: HashMap::new(),
        }
    }
}

impl<F: Family> Claims<F> {
    /// The Service port that has the frontend, as its id for all endpoints.
    pub(super) fn holder(&self, frontend: &Frontend<F>) -> Option<ServiceId> {
        self.holders.get(frontend).copied()
    }

    /// The ids of all claims on a frontend, the holder first.
    pub(super) fn ids(&self, frontend: &Frontend<F>) -> &[ServiceId] {
        match self.queues.get(frontend) {
            Some(queue) => queue,
            None => self.holders.get(frontend).map_or(&[], std::slice::from_ref),
        }
    }

    /// Whether several Service ports want the frontend.
    pub(super) fn disputed(&self, frontend: &Frontend<F>) -> bool {
        self.queues.contains_key(frontend)
    }

    /// Adds a claim. `rank` says the rank of every id that has a claim.
    pub(super) fn insert<'a>(&mut self, frontend: Frontend<F>, id: ServiceId, rank: impl Fn(ServiceId) -> Rank<'a>) {
        let Some(holder) = self.holder(&frontend) else {
            self.holders.insert(frontend, id);
            return;
        };
        let queue = self.queues.entry(frontend).or_insert_with(|| vec![holder]);
        let at = queue.partition_point(|other| rank(*other) <= rank(id));
        queue.insert(at, id);
        self.holders.insert(frontend, queue[0]);
    }

    /// Removes a claim, if there is one.
    pub(super) fn remove(&mut self, frontend: &Frontend<F>, id: ServiceId) {
        let Some(queue) = self.queues.get_mut(frontend) else {
            if self.holder(frontend) == Some(id) {
                self.holders.remove(frontend);
            }
            return;
        };
        queue.retain(|other| *other != id);
        self.holders.extend(queue.first().map(|holder| (*frontend, *holder)));
        if queue.len() < 2 {
            self.queues.remove(frontend);
        }
    }

    /// Every frontend that somebody has.
    pub(super) fn held(&self) -> impl Iterator<Item = (Frontend<F>, ServiceId)> + '_ {
        self.holders.iter().map(|(frontend, holder)| (*frontend, *holder))
    }
}
