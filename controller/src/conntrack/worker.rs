//! The reconciler's thread: waits until it is asked, reads the flows in question, cuts the wrong ones.

use std::collections::BTreeSet;
use std::sync::{MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use tandem_core::family::Family;
use tandem_core::flows::{Flow, Look};

use super::entries::{Entries, EntriesError, Filter, Name};
use super::{Shared, State, Status};

/// A datagram that was on its way through the kernel when the rules changed may still make an entry by the old ones. It
/// takes microseconds for that. Changes that come meanwhile are looked at together.
const GRACE: Duration = Duration::from_millis(2);

/// Up to so many destinations, the kernel picks out the entries of one after the other; each time it walks the whole
/// table, which takes it about a tenth of the time of handing out every entry.
const FEW: usize = 8;

/// So many entries are cut before the others are read again: what is remembered of them has a bound.
const AT_ONCE: usize = 16_384;

/// How long after a failure it is tried again, where no change comes first.
const RETRY: Duration = Duration::from_secs(30);

/// What one look came to.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) read: u64,
    pub(super) cut: u64,
}

/// Works until the engine is gone.
pub(super) fn run<F: Family>(shared: &Shared<F>) {
    let mut entries = Entries::<F>::default();
    let mut failed = false;
    while shared.wait(failed.then_some(RETRY)) {
        thread::sleep(GRACE);
        let look = shared.take();
        let started = Instant::now();
        let mut tally = Tally::default();
        let result = shared.reconcile(&look, &mut entries, &mut tally);
        failed = result.is_err();
        shared.note(&tally, started.elapsed(), look, result);
    }
}

impl<F: Family> Shared<F> {
    /// Waits until there is something to look at; false where there never will be.
    fn wait(&self, retry: Option<Duration>) -> bool {
        let idle = |state: &mut State<F>| !state.asked && !state.over;
        let state = self.lock();
        let state = match retry {
            None => self
                .wake
                .wait_while(state, idle)
                .unwrap_or_else(PoisonError::into_inner),
            Some(retry) => {
                let waited = self.wake.wait_timeout_while(state, retry, idle);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        };
        !state.over
    }

    fn take(&self) -> Look<F> {
        let mut state = self.lock();
        state.asked = false;
        std::mem::take(&mut state.look)
    }

    /// The state while no rows are on their way to the kernel.
    fn settled(&self) -> MutexGuard<'_, State<F>> {
        let waited = self.wake.wait_while(self.lock(), |state| state.applying);
        waited.unwrap_or_else(PoisonError::into_inner)
    }

    fn reconcile(&self, look: &Look<F>, entries: &mut Entries<F>, tally: &mut Tally) -> Result<(), EntriesError> {
        loop {
            let few = look.few(&self.lock().ledger, FEW);
            let filters: BTreeSet<Filter<F>> = match few {
                Some(few) => few.iter().map(Filter::to).collect(),
                None => [Filter::ALL].into(),
            };
            let mut wrong: Vec<Name> = Vec::new();
            for filter in &filters {
                entries.read(filter, |flow: &Flow<F>, name| {
                    tally.read += 1;
                    if wrong.len() < AT_ONCE && self.is_wrong(look, flow) {
                        wrong.push(name());
                    }
                })?;
            }
            let mut cut = 0;
            for name in &wrong {
                cut += u64::from(entries.delete(name)?);
            }
            tally.cut += cut;
            // Entries that went by themselves leave nothing more to do either.
            if wrong.len() < AT_ONCE || cut == 0 {
                return Ok(());
            }
        }
    }

    fn is_wrong(&self, look: &Look<F>, flow: &Flow<F>) -> bool {
        let state = self.settled();
        look.wrong(flow, &state.ledger, &state.node_addresses)
    }

    fn note(&self, tally: &Tally, took: Duration, look: Look<F>, result: Result<(), EntriesError>) {
        let before = self.report.load();
        let mut status = Status {
            cut: before.cut + tally.cut,
            last: Some(SystemTime::now()),
            last_took: took,
            last_read: tally.read,
            last_error: None,
            ..(*before).clone()
        };
        let (family, destinations) = (F::FAMILY, look.changed.len());
        match result {
            Ok(()) => {
                status.reconciliations += 1;
                if before.last_error.is_some() {
                    tracing::info!(%family, "UDP flows are looked at again");
                }
                if look.everything {
                    tracing::info!(%family, read = tally.read, cut = tally.cut, ?took, "all UDP flows were looked at");
                } else {
                    tracing::debug!(%family, destinations, read = tally.read, cut = tally.cut, ?took, "UDP flows were looked at");
                }
            }
            Err(error) => {
                let reason = error.to_string();
                if before.last_error.as_ref() != Some(&reason) {
                    tracing::warn!(%family, reason, "UDP flows may still be with endpoints that are gone; it is tried again");
                }
                status.failures += 1;
                status.last_error = Some(reason);
                // Not asked: the next change, or time, comes first.
                self.lock().look.add(look);
            }
        }
        self.report.0.store(status.into());
    }
}
