//! Waits between failed attempts. Each is twice as long as the one before, up to a longest wait.

use std::time::Duration;

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
}
