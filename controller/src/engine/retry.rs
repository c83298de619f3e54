//! Decides when to try again.

use std::time::{Duration, Instant};

use crate::backoff::Backoff;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_mins(1);

/// The time of the next try. It doubles after each failure.
#[derive(Clone, Debug)]
pub(super) struct Retry {
    waits: Backoff,
    at: Option<Instant>,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            waits: Backoff::new(FIRST, LONGEST),
            at: None,
        }
    }
}

impl Retry {
    /// The retry after one more failure.
    #[must_use]
    pub(super) fn failed(mut self, now: Instant) -> Self {
        self.at = Some(now + self.waits.next());
        self
    }

    /// Whether the time has come.
    pub(super) fn due(&self, now: Instant) -> bool {
        self.at.is_none_or(|at| at <= now)
    }

    /// When to try again; none if at once.
    pub(super) fn at(&self) -> Option<Instant> {
        self.at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_minute() {
        let now = Instant::now();
        let mut retry = Retry::default();
        assert!(retry.due(now));
        let mut waits = Vec::new();
        for _ in 0..12 {
            retry = retry.failed(now);
            waits.push((retry.at().unwrap() - now).as_millis());
        }
        assert_eq!(waits[..4], [100, 200, 400, 800]);
        assert_eq!(waits[11], 60_000);
        assert!(!retry.due(now));
    }
}
