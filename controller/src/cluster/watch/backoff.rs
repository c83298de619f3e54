//! How long to wait after a failure. Jitter spreads the waits, so that the nodes of a cluster do not all ask at once.

use std::time::Duration;

use crate::backoff::Backoff;

/// The next wait after a failure. It is at least what the server asked for, up to a limit.
pub(super) fn next_wait(backoff: &mut Backoff, jitter: &mut Jitter, asked: Option<Duration>) -> Duration {
    let wait = jitter.spread(backoff.next(), 0.5);
    asked.map_or(wait, |asked| wait.max(asked.min(backoff.longest())))
}

/// Numbers that look random, to spread times. The same seed gives the same numbers.
#[derive(Clone, Debug)]
pub(super) struct Jitter(fastrand::Rng);

impl Jitter {
    pub(super) fn seeded(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    /// Each node gets its own seed.
    pub(super) fn random() -> Self {
        Self(fastrand::Rng::new())
    }

    /// A time between `1 - spread` and `1` of the given one.
    pub(super) fn spread(&mut self, time: Duration, spread: f64) -> Duration {
        time.mul_f64(1.0 - spread * self.0.f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits() -> Backoff {
        Backoff::new(Duration::from_millis(800), Duration::from_secs(30))
    }

    #[test]
    fn waits_are_spread_and_never_none() {
        let (mut backoff, mut jitter) = (waits(), Jitter::random());
        for most in [800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000, 30_000] {
            let wait = next_wait(&mut backoff, &mut jitter, None);
            let most = Duration::from_millis(most);
            assert!(wait <= most && wait >= most / 2, "{wait:?} of {most:?}");
        }
        for _ in 0..100 {
            assert!(next_wait(&mut backoff, &mut jitter, None) >= Duration::from_secs(15));
        }
        backoff.reset();
        assert!(next_wait(&mut backoff, &mut jitter, None) <= Duration::from_millis(800));
    }

    #[test]
    fn a_server_that_asks_for_time_gets_it_within_reason() {
        let (mut backoff, mut jitter) = (waits(), Jitter::random());
        let mut asked = |seconds| next_wait(&mut backoff, &mut jitter, Some(Duration::from_secs(seconds)));
        assert_eq!(asked(5), Duration::from_secs(5));
        assert_eq!(asked(3600), Duration::from_secs(30));
    }

    #[test]
    fn jitter_varies_with_the_node_and_is_the_same_for_a_seed() {
        let one = |mut jitter: Jitter| jitter.spread(Duration::from_secs(10), 0.5);
        let times: std::collections::HashSet<_> = (0..32).map(|_| one(Jitter::random())).collect();
        assert!(times.len() > 16);
        assert_eq!(one(Jitter::seeded(7)), one(Jitter::seeded(7)));
    }
}
