//! Waits until no program is running that could still be reading what was replaced.
//!
//! An update of a map that holds maps ends only after every program has ended that ran when it began
//! (`maybe_wait_bpf_programs` in the kernel). That takes 15 to 50 ms on most kernels, so a thread of its own does it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;
use std::{io, thread};

use aya::maps::{Array, ArrayOfMaps, MapData};

/// How long the thread waits if the kernel refused the update.
const AGAIN: Duration = Duration::from_secs(1);

/// Counts grace periods.
#[derive(Debug, Default)]
struct Grace {
    /// The last ticket that was given, and whether the thread is to end.
    asked: Mutex<(u64, bool)>,
    wake: Condvar,
    passed: AtomicU64,
}

impl Grace {
    fn ticket(&self) -> u64 {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.0 += 1;
        self.wake.notify_one();
        asked.0
    }

    fn passed(&self) -> u64 {
        self.passed.load(Ordering::Acquire)
    }

    /// Waits for the next ticket; none if it is to end.
    fn next(&self) -> Option<u64> {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if asked.1 {
                return None;
            }
            if asked.0 > self.passed() {
                return Some(asked.0);
            }
            asked = self.wake.wait(asked).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits a while, or until it is to end.
    fn pause(&self) {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        // Whatever ends the wait, the loop looks again.
        drop(self.wake.wait_timeout_while(asked, AGAIN, |asked| !asked.1));
    }

    fn end(&self) {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).1 = true;
        self.wake.notify_all();
    }
}

/// The thread that waits. It ends with this value.
#[derive(Debug)]
pub(crate) struct Waiter {
    grace: Arc<Grace>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Waiter {
    /// Starts the thread. `outer` holds maps like `inner`, and nobody else uses it.
    pub(crate) fn start(
        mut outer: ArrayOfMaps<MapData, Array<MapData, u64>>,
        inner: Array<MapData, u64>,
    ) -> io::Result<Self> {
        let grace = Arc::new(Grace::default());
        let shared = Arc::clone(&grace);
        let thread = thread::Builder::new().name("tandem-grace".to_owned()).spawn(move || {
            while let Some(ticket) = shared.next() {
                if outer.set(0, &inner, 0).is_ok() {
                    shared.passed.store(ticket, Ordering::Release);
                } else {
                    // Without the wait nothing may be used again: the ticket does not pass.
                    shared.pause();
                }
            }
        })?;
        Ok(Self {
            grace,
            thread: Some(thread),
        })
    }

    /// A ticket that has passed once no program runs any more that runs now.
    pub(crate) fn ticket(&self) -> u64 {
        self.grace.ticket()
    }

    /// The last ticket that has passed.
    pub(crate) fn passed(&self) -> u64 {
        self.grace.passed()
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.grace.end();
        if let Some(thread) = self.thread.take() {
            // It panics nowhere, and there is nothing to do if it did.
            let _ = thread.join();
        }
    }
}
