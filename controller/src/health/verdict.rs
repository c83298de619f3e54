//! Whether Services are kept up to date here, by kube-proxy's rules. Pure: time is an argument.
//!
//! kube-proxy calls itself unhealthy when an update has waited for two of its sync periods. Tandem has no sync period;
//! a change waits only where the kernel refuses it as a whole, and the time is the same.

use std::time::{Duration, Instant, SystemTime};

use crate::engine::{FamilyStatus, Snapshot};

/// Two of kube-proxy's sync periods.
pub(super) const LATE: Duration = Duration::from_mins(1);

/// The families' names in reports, in the order of everything here.
pub(super) const FAMILIES: [&str; 2] = ["IPv4", "IPv6"];

/// What was seen of both families so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Health {
    families: [Seen; 2],
}

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// When the kernel last had all that was due.
    updated: Option<SystemTime>,
    /// Since when something waits.
    waiting: Option<Instant>,
}

/// How a family is. A family of which there is nothing to say yet (the lists are not complete) has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FamilyHealth {
    /// When the kernel last had all that was due; never, where it never had.
    pub(super) updated: Option<SystemTime>,
    /// Whether nothing has waited for too long.
    pub(super) healthy: bool,
}

impl Health {
    /// Takes in what was published.
    pub(super) fn see(&mut self, snapshot: &Snapshot, now: Instant, time: SystemTime) {
        if snapshot.complete {
            self.see_families([&snapshot.v4, &snapshot.v6], now, time);
        }
    }

    fn see_families(&mut self, statuses: [&FamilyStatus; 2], now: Instant, time: SystemTime) {
        for (seen, status) in self.families.iter_mut().zip(statuses) {
            if status.last_error.is_some() {
                seen.waiting.get_or_insert(now);
            } else {
                *seen = Seen {
                    updated: Some(time),
                    waiting: None,
                };
            }
        }
    }

    /// How both families are, where the engine has been at work on the same thing for so long. Nothing is unhealthy before
    /// the lists were complete once.
    pub(super) fn families(&self, now: Instant, at_work: Duration) -> [Option<FamilyHealth>; 2] {
        self.families.map(|seen| {
            if seen.updated.is_none() && seen.waiting.is_none() {
                return None;
            }
            let waited = seen
                .waiting
                .map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
            Some(FamilyHealth {
                updated: seen.updated,
                healthy: waited.max(at_work) < LATE,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_TIME: Duration = Duration::ZERO;

    fn status(error: bool) -> FamilyStatus {
        FamilyStatus {
            last_error: error.then(|| (SystemTime::now(), "no".to_owned())),
            ..FamilyStatus::default()
        }
    }

    fn healthy(health: &Health, now: Instant, at_work: Duration) -> [Option<bool>; 2] {
        health.families(now, at_work).map(|family| Some(family?.healthy))
    }

    #[test]
    fn nothing_is_said_while_the_lists_are_not_complete() {
        let start = Instant::now();
        let health = Health::default();
        assert_eq!(healthy(&health, start + 10 * LATE, 10 * LATE), [None, None]);
    }

    #[test]
    fn a_family_is_unhealthy_from_a_minute_of_waiting_until_it_is_programmed_again() {
        let (start, time) = (Instant::now(), SystemTime::now());
        let mut health = Health::default();
        health.see_families([&status(false), &status(false)], start, time);
        health.see_families([&status(false), &status(true)], start, time);
        // Each try that fails is published; the wait began with the first.
        let almost = start + LATE.saturating_sub(Duration::from_millis(1));
        health.see_families([&status(false), &status(true)], almost, time);
        assert_eq!(healthy(&health, almost, NO_TIME), [Some(true), Some(true)]);
        assert_eq!(healthy(&health, start + LATE, NO_TIME), [Some(true), Some(false)]);
        assert_eq!(health.families(start + LATE, NO_TIME)[1].unwrap().updated, Some(time));
        health.see_families([&status(false), &status(false)], start + 2 * LATE, time);
        assert_eq!(healthy(&health, start + 9 * LATE, NO_TIME), [Some(true), Some(true)]);
    }

    #[test]
    fn an_engine_that_is_stuck_is_unhealthy_in_both_families() {
        let (start, time) = (Instant::now(), SystemTime::now());
        let mut health = Health::default();
        health.see_families([&status(false), &status(false)], start, time);
        assert_eq!(healthy(&health, start, LATE), [Some(false), Some(false)]);
    }

    #[test]
    fn a_family_that_never_could_be_programmed_is_late_as_well() {
        let (start, time) = (Instant::now(), SystemTime::now());
        let mut health = Health::default();
        health.see_families([&status(false), &status(true)], start, time);
        assert_eq!(healthy(&health, start, NO_TIME), [Some(true), Some(true)]);
        assert_eq!(healthy(&health, start + LATE, NO_TIME), [Some(true), Some(false)]);
    }
}
