//! Where followers are put in and taken out while the engine runs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tandem_core::family::Family;
use tandem_core::plane::Follower;

/// The place of one family's follower. A clone is a handle to the same place. What is asked here happens at the
/// engine's next step, which is at most a second later. An agent that stands by asks nothing here: the follower's rows
/// belong to the agent that serves.
pub struct Seat<F: Family>(Arc<Mutex<Option<News<F>>>>);

/// What was asked and has not happened yet.
pub(super) enum News<F: Family> {
    Put(Box<dyn Follower<F>>),
    Clear,
}

impl<F: Family> Clone for Seat<F> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<F: Family> Default for Seat<F> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<F: Family> Seat<F> {
    /// Puts a follower in. The one that is there is switched off and dropped. What takes long, such as loading
    /// programs, must be done before: the engine waits for nothing of it.
    pub fn put(&self, follower: impl Follower<F> + 'static) {
        self.ask(News::Put(Box::new(follower)));
    }

    /// Takes the follower out: it is switched off and dropped.
    pub fn clear(&self) {
        self.ask(News::Clear);
    }

    fn ask(&self, news: News<F>) {
        let mut waiting = self.lock();
        // Two followers may share one switch. So the lock is held until the first is off, and the second can only be
        // switched on later.
        match waiting.replace(news) {
            // Its rows are the next one's.
            Some(News::Put(before)) if !before.ready() && matches!(*waiting, Some(News::Put(_))) => {}
            Some(News::Put(mut before)) => before.switch_off(),
            Some(News::Clear) | None => {}
        }
    }

    pub(super) fn take(&self) -> Option<News<F>> {
        self.lock().take()
    }

    fn lock(&self) -> MutexGuard<'_, Option<News<F>>> {
        // If a thread panicked while it held the lock, what was asked is still whole: it is only ever replaced.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
