//! Flows that another data plane remembers, and the place where it says so.

use std::io;
use std::sync::Arc;

use tandem_core::family::Family;
use tandem_core::flows::{FlowCheck, Translation};

use super::Shared;

/// The records that another data plane keeps of the flows that it translates.
///
/// Only UDP flows are asked for. Connections end by themselves. A frontend that comes late leaves no connection without
/// a translation here, because every record has one. And no answer begins a record: only a packet to a frontend does.
pub trait FlowRecords<F: Family>: Send + Sync {
    /// Reads the UDP flows one by one. Asks of each, after it was read, whether it is wrong, and cuts it then. If the
    /// record is another flow's by that time, it stays.
    fn cut(&self, wrong: &mut dyn FnMut(Translation<F>) -> bool) -> io::Result<Found>;
}

/// What was found in records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// How many UDP flows there were.
    pub read: u64,
    /// How many of them were cut.
    pub cut: u64,
}

/// The place of one family's records. A clone is a handle to the same place.
pub struct RecordsSeat<F: Family>(Arc<Shared<F>>);

impl<F: Family> Clone for RecordsSeat<F> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<F: Family> RecordsSeat<F> {
    pub(super) fn new(shared: Arc<Shared<F>>) -> Self {
        Self(shared)
    }

    /// Puts records in. Those that are there are dropped. The new ones may have flows of an earlier run, which nobody
    /// has judged. So all of them are judged: now, or once everything is loaded. Nobody waits for it.
    pub fn put(&self, records: impl FlowRecords<F> + 'static) {
        self.replace(Some(Arc::new(records)));
    }

    /// Takes the records out. If they are read at this moment, they are dropped when that is over.
    pub fn clear(&self) {
        self.replace(None);
    }

    fn replace(&self, records: Option<Arc<dyn FlowRecords<F>>>) {
        let mut state = self.0.lock();
        if records.is_some() && state.loaded {
            state.ask(FlowCheck {
                everything: true,
                ..FlowCheck::default()
            });
        }
        let before = std::mem::replace(&mut state.records, records);
        // To drop them may take system calls, for which the engine must not wait.
        drop(state);
        drop(before);
        self.0.wake.notify_one();
    }
}
