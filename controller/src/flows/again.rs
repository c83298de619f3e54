//! Decides when flows are checked again, and which ones.

use std::time::{Duration, Instant};

use tandem_core::family::Family;
use tandem_core::flows::FlowCheck;

/// The shortest time from a change to the second check of its flows; the longest is twice this time. A flow that was
/// held up for longer is cut with the next change.
const AFTER: Duration = Duration::from_secs(1);

/// How many more checks follow in a row only because answers began flows. A client that was moved may have been sent
/// another answer just then.
const TURNS: u8 = 8;

/// What one check covers.
#[derive(Clone, Debug)]
pub(super) struct Job<F: Family> {
    pub(super) look: FlowCheck<F>,
    /// The check covers frontends that came up to this round.
    pub(super) round: u64,
}

/// What must be checked again. There is at most one such check a second, however many changes there are.
#[derive(Debug)]
pub(super) struct Again<F: Family> {
    next: Option<(Instant, Job<F>)>,
    /// The job after `next`. It runs soon enough for changes up to the time at which it was last extended.
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
    /// The time of the next check; none if nothing waits.
    pub(super) fn due(&self) -> Option<Instant> {
        self.next.as_ref().map(|(due, _)| *due)
    }

    /// Adds what was just checked. It is checked again.
    pub(super) fn add(&mut self, job: Job<F>, now: Instant) {
        self.turns = 0;
        self.put(job, now);
    }

    /// Adds a job whose second check found flows that answers had begun.
    pub(super) fn once_more(&mut self, mut job: Job<F>, now: Instant) {
        if self.turns < TURNS {
            self.turns += 1;
            job.look.arrivals = false;
            self.put(job, now);
        }
    }

    /// Takes the job that is due; none before its time.
    pub(super) fn take(&mut self, now: Instant) -> Option<Job<F>> {
        let (_, job) = self.next.take_if(|(due, _)| *due <= now)?;
        self.next = self.later.take();
        Some(job)
    }

    fn put(&mut self, job: Job<F>, now: Instant) {
        let due = now + AFTER;
        let waiting = if self.next.is_none() {
            &mut self.next
        } else {
            &mut self.later
        };
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

#[cfg(test)]
mod tests {
    use tandem_core::family::V4;
    use tandem_core::flows::Destination;
    use tandem_core::row::Port;

    use super::*;

    fn job(port: u16) -> Job<V4> {
        let changed = Port::new(port).map(Destination::NodePort);
        Job {
            look: FlowCheck {
                changed: changed.into_iter().collect(),
                arrivals: true,
                ..FlowCheck::default()
            },
            round: port.into(),
        }
    }

    #[test]
    fn each_change_is_looked_at_again_a_second_later_at_least_and_two_at_most() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut again = Again::<V4>::default();
        assert_eq!(again.due(), None);
        again.add(job(1), at(0));
        again.add(job(2), at(400));
        again.add(job(3), at(900));
        assert!(again.take(at(999)).is_none());
        assert_eq!(again.take(at(1000)).unwrap().look, job(1).look);
        assert_eq!(again.due(), Some(at(1900)), "both that came meanwhile");
        again.add(job(4), at(1100));
        let second = again.take(at(1900)).unwrap();
        assert_eq!((second.look.changed.len(), second.round), (2, 3));
        assert_eq!(again.take(at(2100)).unwrap().look, job(4).look);
        assert_eq!(again.due(), None, "where nothing changes nothing is looked at");
    }

    #[test]
    fn what_answers_begin_is_followed_for_a_few_looks_and_not_for_ever() {
        let mut again = Again::<V4>::default();
        let now = Instant::now();
        again.add(job(1), now);
        let mut looks = 0;
        while let Some(job) = again.take(now + 2 * AFTER) {
            looks += 1;
            assert_eq!(job.look.arrivals, looks == 1);
            again.once_more(job, now);
        }
        assert_eq!(looks, 1 + usize::from(TURNS));
    }
}
