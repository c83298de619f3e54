//! Whether Services are up to date here, by kube-proxy's rules. Pure: time is an argument.
//!
//! kube-proxy is unhealthy if an update has waited for two of its sync periods. Tandem has no sync period. A change
//! waits only if the kernel refuses it as a whole. The limit is the same time.

use std::time::{Duration, Instant, SystemTime};

use crate::engine::{FamilyStatus, Snapshot};

/// Two of kube-proxy's sync periods.
pub(super) const LATE: Duration = Duration::from_mins(1);

/// The families' names in reports. All arrays here have this order.
pub(super) const FAMILIES: [&str; 2] = ["IPv4", "IPv6"];

/// What was seen of both families until now.
#[derive(Clone, Debug, Default)]
pub(super) struct Health {
    families: [Seen; 2],
}

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// When the kernel last had everything.
    updated: Option<SystemTime>,
    /// Since when a change waits.
    waiting: Option<Instant>,
}

/// The state of a family. While the lists are not complete, a family has no state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FamilyHealth {
    /// When the kernel last had everything. None if it never had.
    pub(super) updated: Option<SystemTime>,
    /// Whether no change has waited for too long.
    pub(super) healthy: bool,
}

impl Health {
    /// Notes the state that a snapshot shows.
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

    /// The state of both families. `at_work` is how long the engine has worked on its present task. Before the lists
    /// were complete once, nothing is unhealthy.
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
        // Each attempt that fails is published. The wait began with the first.
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
