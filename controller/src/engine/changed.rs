//! For parts that follow the engine: which Services changed since they last asked, and whether the engine is stuck.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tandem_core::object::ObjectKey;

use crate::index::ChangedServices;

/// All parts that want to know which Services changed. Telling them costs as much as the number of changed Services,
/// and never waits.
#[derive(Default)]
pub(super) struct Followers(Vec<Changed>);

/// The Services that changed since they were last taken. A slow reader misses nothing and delays nobody.
#[derive(Clone, Default)]
pub struct Changed(Arc<Mutex<HashSet<ObjectKey>>>);

impl Followers {
    pub(super) fn add(&mut self) -> Changed {
        let changed = Changed::default();
        self.0.push(changed.clone());
        changed
    }

    pub(super) fn tell(&self, changed: &ChangedServices) {
        for Changed(waiting) in self.0.iter().filter(|_| !changed.is_empty()) {
            let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.extend(changed.keys().cloned());
        }
    }
}

impl Changed {
    /// Returns all that changed since the last call. The last published snapshot, or a later one, has these changes.
    pub fn take(&self) -> HashSet<ObjectKey> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Since when the engine has been working on its last events.
pub struct Pulse {
    origin: Instant,
    /// Milliseconds since the origin, plus one; 0 while the engine waits.
    since: AtomicU64,
}

impl Pulse {
    /// A pulse that counts from this origin.
    pub(super) fn new(origin: Instant) -> Self {
        Self {
            origin,
            since: AtomicU64::new(0),
        }
    }

    pub(super) fn begin(&self, now: Instant) {
        let since = now.saturating_duration_since(self.origin).as_millis();
        let since = u64::try_from(since).unwrap_or(u64::MAX - 1);
        self.since.store(since + 1, Ordering::Relaxed);
    }

    pub(super) fn end(&self) {
        self.since.store(0, Ordering::Relaxed);
    }

    /// How long the engine has been working without a pause; zero while it waits.
    #[cfg_attr(
        not(test),
        expect(clippy::disallowed_methods, reason = "asked by others, in their own time")
    )]
    pub fn at_work(&self) -> Duration {
        match self.since.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since => self.origin.elapsed().saturating_sub(Duration::from_millis(since - 1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tandem_core::family::Families;

    fn keys(names: &[&str]) -> HashSet<ObjectKey> {
        names.iter().map(|name| ObjectKey::new("shop", *name)).collect()
    }

    fn services(names: &[&str]) -> ChangedServices {
        let changed = |key| (key, Families::BOTH);
        keys(names).into_iter().map(changed).collect()
    }

    #[test]
    fn each_follower_gets_what_changed_since_it_looked() {
        let mut followers = Followers::default();
        let (first, second) = (followers.add(), followers.add());
        followers.tell(&services(&["a"]));
        assert_eq!(first.take(), keys(&["a"]));
        followers.tell(&services(&["b"]));
        followers.tell(&services(&[]));
        assert_eq!(first.take(), keys(&["b"]));
        assert_eq!(first.take(), keys(&[]));
        assert_eq!(second.take(), keys(&["a", "b"]));
    }

    #[test]
    fn an_engine_is_at_work_from_the_beginning_to_the_end() {
        let pulse = Pulse::new(Instant::now());
        assert_eq!(pulse.at_work(), Duration::ZERO);
        pulse.begin(Instant::now());
        std::thread::sleep(Duration::from_millis(5));
        assert!(pulse.at_work() >= Duration::from_millis(3));
        pulse.end();
        assert_eq!(pulse.at_work(), Duration::ZERO);
    }
}
