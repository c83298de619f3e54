//! Limits how many Events one node may write, because thousands of nodes share one API server. It is pure: time is an
//! argument.

use std::time::{Duration, Instant};

/// The number of Events that may be written at once.
const MOST: u32 = 5;
/// The time after which one more may be written.
const EVERY: Duration = Duration::from_secs(30);

/// A token bucket.
#[derive(Debug)]
pub(super) struct Bucket {
    /// The time at which the bucket was, or will be, empty. Tokens come back from then on.
    empty: Instant,
}

impl Bucket {
    /// A full bucket.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            empty: now.checked_sub(EVERY * MOST).unwrap_or(now),
        }
    }

    /// The time at which the next token is available.
    pub(super) fn ready(&self) -> Instant {
        self.empty + EVERY
    }

    /// Takes a token that is available.
    pub(super) fn take(&mut self, now: Instant) {
        let full = now.checked_sub(EVERY * MOST).unwrap_or(now);
        self.empty = self.empty.max(full) + EVERY;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_faults_are_five_writes_at_once_and_two_a_minute() {
        let start = Instant::now() + Duration::from_hours(1);
        let mut bucket = Bucket::new(start);
        let mut written = Vec::new();
        let mut now = start;
        for _ in 0..1000 {
            now = now.max(bucket.ready());
            bucket.take(now);
            written.push(now);
        }
        let within = |time| written.iter().filter(|at| **at < start + time).count();
        assert_eq!(within(Duration::from_secs(30)), 5);
        assert_eq!(within(Duration::from_mins(1)), 6);
        assert_eq!(within(Duration::from_mins(11)), 26);
    }

    #[test]
    fn so_many_go_at_once_and_then_one_by_one() {
        let start = Instant::now() + Duration::from_hours(1);
        let mut bucket = Bucket::new(start);
        for _ in 0..MOST {
            assert!(bucket.ready() <= start);
            bucket.take(start);
        }
        assert_eq!(bucket.ready(), start + EVERY);
        bucket.take(start + EVERY);
        assert_eq!(bucket.ready(), start + 2 * EVERY);
        // However much time passes, the bucket holds no more than its size.
        let later = start + Duration::from_hours(9);
        for _ in 0..MOST {
            assert!(bucket.ready() <= later);
            bucket.take(later);
        }
        assert_eq!(bucket.ready(), later + EVERY);
    }
}
