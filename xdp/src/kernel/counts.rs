//! How many connections each Service port of a family has taken. Programs count, and this process only begins anew.

use std::sync::{Mutex, PoisonError};

use aya::maps::{Array, IterableMap as _, Map, MapData, MapError};
use tandem_xdp_layout::ListIndex;

use super::memory::Words;
use crate::store::StoreError;

/// The counts of one family. They are not mapped: what is mapped counts as memory of this process, and few ask.
pub(crate) struct Counts(Mutex<Array<MapData, u64>>);

impl std::fmt::Debug for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Counts")
    }
}

impl Counts {
    pub(crate) fn take(map: Map) -> Result<Self, MapError> {
        Ok(Self(Mutex::new(map.try_into()?)))
    }

    /// How many connections of sockets a Service port has taken, and how many from outside.
    pub(crate) fn get(&self, port: ListIndex) -> Result<[u64; 2], MapError> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok([counts.get(&port.port(), 0)?, counts.get(&port.port_from_outside(), 0)?])
    }

    /// Has a Service port begin to count from zero. Returns whether that was another number.
    pub(crate) fn begin_anew(&self, port: ListIndex) -> Result<bool, MapError> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut counted = false;
        for place in [port.port(), port.port_from_outside()] {
            if counts.get(&place, 0)? > 0 {
                counted = true;
                counts.set(place, 0, 0)?;
            }
        }
        Ok(counted)
    }

    /// The Service ports that have counted anything.
    pub(crate) fn counted(&self) -> Result<Vec<ListIndex>, StoreError> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let words = Words::map(counts.map().fd(), counts.len()).map_err(|error| StoreError::Failed(error.into()))?;
        let counted = words.all().filter(|(_, count)| *count > 0);
        // Those from outside are behind those of sockets.
        let mut ports: Vec<ListIndex> = counted
            .filter_map(|(place, _)| ListIndex::of_port(place % (ListIndex::COUNT / 2)))
            .collect();
        ports.sort_unstable();
        ports.dedup();
        Ok(ports)
    }
}
