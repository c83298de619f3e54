//! Who has a frontend that several Services want: the oldest Service, then the first by name. The others wait, and the
//! next one takes over in the same change in which the holder goes.

use std::cmp::Reverse;

use crate::id::ServiceId;
use crate::plan::PortKey;

/// What decides between claims; the smallest has the frontend. Rows without an owner yet come last.
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

    /// The rank of rows found in the kernel that no Service has claimed yet.
    pub(super) fn orphan() -> Self {
        Self {
            owned: Reverse(false),
            created: 0,
            key: None,
        }
    }
}

/// The claims on one frontend, in order of rank: almost always one.
#[derive(Clone, Debug, Default)]
pub(super) struct Claims(Vec<(Rank, ServiceId)>);

impl Claims {
    /// The Service port (by its id for all endpoints) that has the frontend.
    pub(super) fn holder(&self) -> Option<ServiceId> {
        self.0.first().map(|(_, id)| *id)
    }

    /// All of them, the holder first.
    pub(super) fn ids(&self) -> impl Iterator<Item = ServiceId> + '_ {
        self.0.iter().map(|(_, id)| *id)
    }

    /// Whether several want it.
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
