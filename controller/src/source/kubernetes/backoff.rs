//! How long to wait after a failure: doubling, with jitter, so that a fleet of nodes does not ask all at once.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// Waits between failures.
#[derive(Debug)]
pub(super) struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
}

impl Backoff {
    pub(super) fn new(first: Duration, longest: Duration) -> Self {
        Self {
            first,
            longest,
            failures: 0,
        }
    }

    /// The next wait; at least what the server asked for, within reason.
    pub(super) fn next(&mut self, asked: Option<Duration>) -> Duration {
        let doubled = self.first.saturating_mul(1 << self.failures.min(16)).min(self.longest);
        self.failures = self.failures.saturating_add(1);
        let wait = jitter(doubled, 0.5);
        asked.map_or(wait, |asked| wait.max(asked.min(self.longest)))
    }

    /// It works again.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

/// A time between `1 - spread` and `1` of the given one.
pub(super) fn jitter(time: Duration, spread: f64) -> Duration {
    // std's hash keys are random; nothing here needs more than that.
    let random = RandomState::new().build_hasher().finish();
    let part = f64::from(u32::try_from(random >> 32).unwrap_or(0)) / f64::from(u32::MAX);
    time.mul_f64(1.0 - spread * part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_are_never_none() {
        let mut backoff = Backoff::new(Duration::from_millis(800), Duration::from_secs(30));
        for most in [800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000, 30_000] {
            let wait = backoff.next(None);
            let most = Duration::from_millis(most);
            assert!(wait <= most && wait >= most / 2, "{wait:?} of {most:?}");
        }
        for _ in 0..100 {
            assert!(backoff.next(None) >= Duration::from_secs(15));
        }
        backoff.reset();
        assert!(backoff.next(None) <= Duration::from_millis(800));
    }

    #[test]
    fn a_server_that_asks_for_time_gets_it_within_reason() {
        let mut backoff = Backoff::new(Duration::from_millis(800), Duration::from_secs(30));
        assert_eq!(backoff.next(Some(Duration::from_secs(5))), Duration::from_secs(5));
        assert_eq!(backoff.next(Some(Duration::from_hours(1))), Duration::from_secs(30));
    }

    #[test]
    fn jitter_varies() {
        let times: std::collections::HashSet<_> = (0..32).map(|_| jitter(Duration::from_secs(10), 0.5)).collect();
        assert!(times.len() > 16);
    }
}
