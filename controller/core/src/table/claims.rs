//! Which Service has a frontend that several Services want: the oldest Service, then the first by name. The others
//! wait. When the holder goes, the next one takes over in the same change.

use std::cmp::Reverse;

use crate::id::ServiceId;
use crate::plan::PortKey;

/// The order of claims: the smallest has the frontend. Rows that no Service has claimed yet come last.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    owned: Reverse<bool>,
    created: i64,
    key: Option<PortKey>,
}

impl Rank {
    pub(super) fn owner(created: i64, key: PortKey) -> Self {
        Self {
            owned: Reverse(true),
            created,
            key: Some(key),
        }
    }

    /// The rank of adopted rows that no Service has claimed yet.
    pub(super) fn orphan() -> Self {
        Self {
            owned: Reverse(false),
            created: 0,
            key: None,
        }
    }
}

/// The claims on one frontend, in order of rank. There is almost always one.
#[derive(Clone, Debug, Default)]
pub(super) struct Claims(Vec<(Rank, ServiceId)>);

impl Claims {
    /// The Service port that has the frontend, as its id for all endpoints.
    pub(super) fn holder(&self) -> Option<ServiceId> {
        self.0.first().map(|(_, id)| *id)
    }

    /// The ids of all claims, the holder first.
    pub(super) fn ids(&self) -> impl Iterator<Item = ServiceId> + '_ {
        self.0.iter().map(|(_, id)| *id)
    }

    /// Whether several Service ports want the frontend.
    pub(super) fn disputed(&self) -> bool {
        self.0.len() > 1
    }

    pub(super) fn insert(&mut self, rank: Rank, id: ServiceId) {
        let at = self.0.partition_point(|(other, _)| *other <= rank);
        self.0.insert(at, (rank, id));
        self.0.shrink_to_fit();
    }

    pub(super) fn remove(&mut self, id: ServiceId) {
        self.0.retain(|(_, other)| *other != id);
    }
}
