//! When flows are looked at once more, and which.

use std::time::{Duration, Instant};

use tandem_core::family::Family;
use tandem_core::flows::Look;

/// How long after a change, at least, its flows are looked at once more; twice as long at most. What was held up for longer
/// is cut with the next change.
const AFTER: Duration = Duration::from_secs(1);

/// So often in a row it is looked again only because flows were begun by answers: a client that is moved may have been sent
/// another answer just then.
const TURNS: u8 = 8;

/// What one look is about.
#[derive(Clone, Debug)]
pub(super) struct Job<F: Family> {
    pub(super) look: Look<F>,
    /// Frontends that came until this round.
    pub(super) round: u64,
}

/// What is to be looked at once more: at most one look a second, however many changes there are.
#[derive(Debug)]
pub(super) struct Again<F: Family> {
    next: Option<(Instant, Job<F>)>,
    /// For the one after the next, that comes soon enough for changes up to this time.
    later: Option<(Instant, Job<F>)>,
    turns: u8,
}

impl<F: Family> Default for Again<F> {
    fn default() -> Self {
        Self {
            next: None,
            later: None,
            turns: 0,
        }
    }
}

impl<F: Family> Again<F> {
    /// When there is something to look at.
    pub(super) fn due(&self) -> Option<Instant> {
        self.next.as_ref().map(|(due, _)| *due)
    }

    /// What was looked at just now is to be looked at again.
    pub(super) fn add(&mut self, job: Job<F>, now: Instant) {
        self.turns = 0;
        self.put(job, now);
    }

    /// The second look found flows that answers had begun.
    pub(super) fn once_more(&mut self, mut job: Job<F>, now: Instant) {
        if self.turns < TURNS {
            self.turns += 1;
            job.look.arrivals = false;
            self.put(job, now);
        }
    }

    /// What is due; none before its time.
    pub(super) fn take(&mut self, now: Instant) -> Option<Job<F>> {
        let (_, job) = self.next.take_if(|(due, _)| *due <= now)?;
        self.next = self.later.take();
        Some(job)
    }

    fn put(&mut self, job: Job<F>, now: Instant) {
        let due = now + AFTER;
        let waiting = if self.next.is_none() { &mut self.next } else { &mut self.later };
        match waiting {
            None => *waiting = Some((due, job)),
            Some((at, waiting)) => {
                *at = due;
                waiting.round = waiting.round.max(job.round);
                waiting.look.add(job.look);
            }
        }
    }
}
