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

    /// The count of a Service port.
    pub(crate) fn get(&self, port: ListIndex) -> Result<u64, MapError> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&port.port(), 0)
    }

    /// Has a Service port begin to count from zero. Returns whether that was another number.
    pub(crate) fn begin_anew(&self, port: ListIndex) -> Result<bool, MapError> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let counted = counts.get(&port.port(), 0)? > 0;
        if counted {
            counts.set(port.port(), 0, 0)?;
        }
        Ok(counted)
    }

    /// The Service ports that have counted anything.
    pub(crate) fn counted(&self) -> Result<Vec<ListIndex>, StoreError> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let words = Words::map(counts.map().fd(), counts.len()).map_err(|error| StoreError::Failed(error.into()))?;
        let counted = words.all().filter(|(_, count)| *count > 0);
        Ok(counted.filter_map(|(port, _)| ListIndex::of_port(port)).collect())
    }
}
