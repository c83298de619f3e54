//! The reconciler's thread. It waits until it is asked, reads the flows in question, and cuts the wrong ones. A second
//! later, it does so once more.

use std::collections::BTreeSet;
use std::io;
use std::sync::{MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use tandem_core::family::Family;
use tandem_core::flows::{Flow, FlowCheck, Servers, Wrong};

use super::again::{Again, Job};
use super::conntrack::{EntriesError, Filter, Name, Tracking};
use super::{Shared, State, Status};

/// A datagram that was on its way through the kernel when the rules changed may still make an entry by the old rules.
/// That takes microseconds. Changes that come during this time are checked together.
const GRACE: Duration = Duration::from_millis(2);

/// Up to this number of destinations, the kernel filters entries for one destination after the other. Each time it
/// walks the whole table. That takes about a tenth of the time that it needs to return every entry.
const FEW: usize = 8;

/// So many entries are cut before the others are read again. This limits what the thread has to remember.
const AT_ONCE: usize = 16_384;

/// How long after a failure the check is tried again, if no change comes before.
const RETRY: Duration = Duration::from_secs(30);

/// The result of one check.
#[derive(Debug, Default)]
struct Tally {
    read: u64,
    astray: u64,
    turned: u64,
    connecting: u64,
}

/// Why a check is not complete.
#[derive(Debug, thiserror::Error)]
pub(super) enum CheckError {
    #[error(transparent)]
    Entries(#[from] EntriesError),
    #[error("XDP's records of flows cannot be read: {0}")]
    Records(io::Error),
}

/// Why the thread wakes up.
enum Wake {
    /// The engine is gone.
    Over,
    /// There is something new to check.
    Asked,
    /// The time has come.
    Due,
}

/// Works until the engine is gone.
pub(super) fn run<F: Family>(shared: &Shared<F>, entries: &mut impl Tracking<F>) {
    let mut again = Again::default();
    let mut retry: Option<Instant> = None;
    loop {
        let until = again.due().into_iter().chain(retry).min();
        let due = match shared.wait(until) {
            Wake::Over => return,
            Wake::Asked => None,
            Wake::Due => again.take(Instant::now()),
        };
        let second = due.is_some();
        let mut job = due.unwrap_or_else(|| {
            thread::sleep(GRACE);
            shared.take()
        });
        let started = Instant::now();
        let mut tally = Tally::default();
        let result = shared.reconcile(&mut job.look, second, entries, &mut tally);
        shared.note(&tally, started.elapsed(), &job.look, second, &result);
        if result.is_err() {
            retry = Some(Instant::now() + RETRY);
            // This does not wake the thread. The next change, or the time of the next try, does.
            shared.lock().look.add(job.look);
        } else if second {
            if job.look.arrivals {
                shared.lock().arrivals.forget(job.round);
            }
            if tally.turned > 0 {
                again.once_more(job, Instant::now());
            }
        } else {
            retry = None;
            again.add(job, Instant::now());
        }
    }
}

impl<F: Family> Shared<F> {
    /// Waits until there is something to check, until the time `until`, or until the engine is gone.
    fn wait(&self, until: Option<Instant>) -> Wake {
        let mut state = self.lock();
        loop {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if state.over {
                return Wake::Over;
            }
            if left == Some(Duration::ZERO) {
                return Wake::Due;
            }
            if state.asked {
                return Wake::Asked;
            }
            state = match left {
                None => self.wake.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(left) => {
                    let waited = self.wake.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    fn take(&self) -> Job<F> {
        let mut state = self.lock();
        state.asked = false;
        let look = std::mem::take(&mut state.look);
        Job {
            round: state.arrivals.next_round(),
            look,
        }
    }

    /// The state at a moment when no rows are on their way to the kernel.
    fn settled(&self) -> MutexGuard<'_, State<F>> {
        let waited = self.wake.wait_while(self.lock(), |state| state.applying);
        waited.unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks flows wherever there are some. What cannot be read in one place does not hold up the other.
    fn reconcile(
        &self,
        look: &mut FlowCheck<F>,
        second: bool,
        entries: &mut impl Tracking<F>,
        tally: &mut Tally,
    ) -> Result<(), CheckError> {
        let records = self.cut_records(look, tally);
        self.cut_entries(look, second, entries, tally)?;
        records.map_err(CheckError::Records)
    }

    /// Cuts wrong UDP flows of another data plane. None of them was begun by an answer ([`super::FlowRecords`]), so
    /// both checks look for the same.
    fn cut_records(&self, look: &FlowCheck<F>, tally: &mut Tally) -> io::Result<()> {
        let records = if look.has_destinations() {
            self.lock().records.clone()
        } else {
            None
        };
        let Some(records) = records else { return Ok(()) };
        let found = records.cut(&mut |flow| {
            let state = self.settled();
            look.is_wrong_among_services(flow, &state.ledger, &state.node_addresses)
        })?;
        tally.read += found.read;
        tally.astray += found.cut;
        Ok(())
    }

    fn cut_entries(
        &self,
        look: &mut FlowCheck<F>,
        second: bool,
        entries: &mut impl Tracking<F>,
        tally: &mut Tally,
    ) -> Result<(), EntriesError> {
        if look.has_udp() {
            let filters = self.udp_filters(look, second);
            // These are known only after their flows were compared. The next check uses them.
            let mut servers = Servers::default();
            cut_all(entries, &filters, tally, |flow| {
                let state = self.settled();
                let wrong = look.wrong(flow, &state.ledger, &state.node_addresses)?;
                if wrong == Wrong::Astray {
                    servers.note(flow);
                }
                Some(wrong.into())
            })?;
            look.servers.add(servers);
        }
        if look.arrivals {
            let filters = self.lock().arrivals.protocols().into_iter().map(Filter::Unanswered);
            cut_all(entries, &filters.collect(), tally, |flow| {
                let state = self.settled();
                let missed = state.arrivals.missed_by(flow, &state.node_addresses);
                missed.then_some(Cut::Connecting)
            })?;
        }
        Ok(())
    }

    /// The filters for the entries that must be read. Entries that an answer began are read only in the second check,
    /// because answers may still come until then.
    fn udp_filters(&self, look: &FlowCheck<F>, second: bool) -> BTreeSet<Filter<F>> {
        let servers = if second {
            look.servers.few(FEW)
        } else {
            Some(BTreeSet::new())
        };
        match (look.few(&self.lock().ledger, FEW), servers) {
            (Some(few), Some(servers)) => {
                let to = few.iter().map(Filter::to);
                to.chain(servers.iter().map(Filter::from)).collect()
            }
            _ => [Filter::Udp].into(),
        }
    }

    fn note(&self, tally: &Tally, took: Duration, look: &FlowCheck<F>, second: bool, result: &Result<(), CheckError>) {
        let before = self.report.load();
        let cut = tally.astray + tally.turned + tally.connecting;
        let mut status = Status {
            cut: before.cut + cut,
            turned: before.turned + tally.turned,
            connecting: before.connecting + tally.connecting,
            last_error: None,
            ..(*before).clone()
        };
        if !second {
            status.last = Some(SystemTime::now());
            status.last_took = took;
            status.last_read = tally.read;
        }
        let (family, destinations, read) = (F::FAMILY, look.changed.len(), tally.read);
        match result {
            Ok(()) => {
                if second {
                    status.second_looks += 1;
                } else {
                    status.reconciliations += 1;
                }
                if before.last_error.is_some() {
                    tracing::info!(%family, "flows are looked at again");
                }
                if look.everything && !second {
                    tracing::info!(%family, read, cut, ?took, "all UDP flows were looked at");
                } else {
                    tracing::debug!(%family, destinations, second, read, cut, ?took, "flows were looked at");
                }
            }
            Err(error) => {
                let reason = error.to_string();
                if before.last_error.as_ref() != Some(&reason) {
                    tracing::warn!(%family, reason, "flows may still be with endpoints that are gone; it is tried again");
                }
                status.failures += 1;
                status.last_error = Some(reason);
            }
        }
        self.report.0.store(status.into());
    }
}

/// Why an entry is cut.
#[derive(Clone, Copy)]
enum Cut {
    Astray,
    Turned,
    Connecting,
}

impl From<Wrong> for Cut {
    fn from(wrong: Wrong) -> Self {
        match wrong {
            Wrong::Astray => Self::Astray,
            Wrong::Turned => Self::Turned,
        }
    }
}

/// Reads entries, and deletes those for which `judge` gives a reason.
fn cut_all<F: Family>(
    entries: &mut impl Tracking<F>,
    filters: &BTreeSet<Filter<F>>,
    tally: &mut Tally,
    mut judge: impl FnMut(&Flow<F>) -> Option<Cut>,
) -> Result<(), EntriesError> {
    loop {
        let mut wrong: Vec<(Name, Cut)> = Vec::new();
        for filter in filters {
            entries.read(filter, &mut |flow: &Flow<F>, name| {
                tally.read += 1;
                if wrong.len() < AT_ONCE
                    && let Some(cut) = judge(flow)
                {
                    wrong.push((name(), cut));
                }
            })?;
        }
        let mut gone = 0_u64;
        for (name, cut) in &wrong {
            if entries.delete(name)? {
                gone += 1;
                match cut {
                    Cut::Astray => tally.astray += 1,
                    Cut::Turned => tally.turned += 1,
                    Cut::Connecting => tally.connecting += 1,
                }
            }
        }
        // If entries went by themselves, nothing more is to be done for them either.
        if wrong.len() < AT_ONCE || gone == 0 {
            return Ok(());
        }
    }
}
