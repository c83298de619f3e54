//! Waits between failed attempts. Each is twice as long as the one before, up to a longest wait.

use std::time::{Duration, Instant};

/// The waits of one thing that is tried repeatedly.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
}

impl Backoff {
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        Self {
            first,
            longest,
            failures: 0,
        }
    }

    /// The next wait, after another failure.
    pub(crate) fn next(&mut self) -> Duration {
        let wait = self.first.saturating_mul(1 << self.failures.min(16)).min(self.longest);
        self.failures = self.failures.saturating_add(1);
        wait
    }

    /// The longest wait.
    pub(crate) fn longest(&self) -> Duration {
        self.longest
    }

    /// Begins again with the first wait, because the attempt succeeded.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

/// When to try something again. The wait doubles after each failure.
#[derive(Clone, Debug)]
pub(crate) struct Retry {
    waits: Backoff,
    at: Option<Instant>,
}

impl Default for Retry {
    /// For what takes milliseconds.
    fn default() -> Self {
        Self::new(Duration::from_millis(100), Duration::from_mins(1))
    }
}

impl Retry {
    /// It may be tried at once.
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        Self {
            waits: Backoff::new(first, longest),
            at: None,
        }
    }

    /// The retry after one more failure.
    #[must_use]
    pub(crate) fn failed(mut self, now: Instant) -> Self {
        self.at = Some(now + self.waits.next());
        self
    }

    /// Whether the time has come.
    pub(crate) fn due(&self, now: Instant) -> bool {
        self.at.is_none_or(|at| at <= now)
    }

    /// When to try again; none if at once.
    pub(crate) fn at(&self) -> Option<Instant> {
        self.at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_until_it_works_again() {
        let mut backoff = Backoff::new(Duration::from_millis(800), Duration::from_secs(30));
        let mut waits = || backoff.next().as_millis();
        assert_eq!([waits(), waits(), waits(), waits()], [800, 1_600, 3_200, 6_400]);
        assert_eq!([waits(), waits(), waits(), waits()], [12_800, 25_600, 30_000, 30_000]);
        for _ in 0..100 {
            assert_eq!(backoff.next(), backoff.longest());
        }
        backoff.reset();
        assert_eq!(backoff.next(), Duration::from_millis(800));
    }

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
