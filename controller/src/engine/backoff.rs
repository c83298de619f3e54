//! When to try again.

use std::time::{Duration, Instant};

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_mins(1);

/// The time of the next try: twice as long after each failure.
#[derive(Clone, Debug, Default)]
pub(super) struct Backoff {
    wait: Option<Duration>,
    at: Option<Instant>,
}

impl Backoff {
    /// After another failure.
    #[must_use]
    pub(super) fn failed(self, now: Instant) -> Self {
        let wait = self.wait.map_or(FIRST, |wait| (wait * 2).min(LONGEST));
        Self {
            wait: Some(wait),
            at: Some(now + wait),
        }
    }

    /// Whether it is time.
    pub(super) fn due(&self, now: Instant) -> bool {
        self.at.is_none_or(|at| at <= now)
    }

    /// When it will be time.
    pub(super) fn at(&self) -> Instant {
        self.at.unwrap_or_else(Instant::now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_minute() {
        let now = Instant::now();
        let mut backoff = Backoff::default();
        assert!(backoff.due(now));
        let mut waits = Vec::new();
        for _ in 0..12 {
            backoff = backoff.failed(now);
            waits.push((backoff.at() - now).as_millis());
        }
        assert_eq!(waits[..4], [100, 200, 400, 800]);
        assert_eq!(waits[11], 60_000);
        assert!(!backoff.due(now));
    }
}
