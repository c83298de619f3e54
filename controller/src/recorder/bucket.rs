//! How many Events one node may write: thousands of nodes share one API server. Pure: time is an argument.

use std::time::{Duration, Instant};

/// So many at once.
const MOST: u32 = 5;
/// One more after this time.
const EVERY: Duration = Duration::from_secs(30);

/// A token bucket.
#[derive(Debug)]
pub(super) struct Bucket {
    /// When it was, or will be, empty but for what has come back since.
    empty: Instant,
}

impl Bucket {
    /// A full one.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            empty: now.checked_sub(EVERY * MOST).unwrap_or(now),
        }
    }

    /// When the next token is there.
    pub(super) fn ready(&self) -> Instant {
        self.empty + EVERY
    }

    /// Takes one that is there.
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
        // However long nothing came, it is never fuller than full.
        let later = start + Duration::from_hours(9);
        for _ in 0..MOST {
            assert!(bucket.ready() <= later);
            bucket.take(later);
        }
        assert_eq!(bucket.ready(), later + EVERY);
    }
}
