//! The node's lock: who serves the node. An agent that stands by waits for it.

use std::sync::{Arc, OnceLock, Weak};
use std::thread;
use std::time::Duration;

use tandem_nft::{LockError, NodeLock};
use tokio::sync::oneshot;

/// How often an agent that stands by tries to take the lock. A try is a small transaction that the kernel refuses, and a
/// look at who has it.
const EVERY: Duration = Duration::from_millis(20);

/// Whether this agent serves the node, or waits until it does.
pub struct Standing {
    lock: Lock,
    /// Tells when the lock is taken. None if it was free at the start.
    taken: Option<oneshot::Receiver<()>>,
}

/// The lock, once this program has it. It is freed when the last clone is dropped.
#[derive(Clone, Debug, Default)]
pub struct Lock(Arc<OnceLock<NodeLock>>);

impl Lock {
    /// Whether this program has it.
    pub fn is_held(&self) -> bool {
        self.0.get().is_some()
    }

    /// Tells whether this program has it, without keeping it. The threads of the agent do not end before the process does.
    pub fn held(&self) -> Held {
        Held(Arc::downgrade(&self.0))
    }
}

/// A look at the lock.
#[derive(Clone, Debug)]
pub struct Held(Weak<OnceLock<NodeLock>>);

impl Held {
    /// Whether this program has the lock.
    pub fn now(&self) -> bool {
        self.0.upgrade().is_some_and(|lock| Lock(lock).is_held())
    }
}

/// The thread that waits for the lock has ended without it.
#[derive(Debug, thiserror::Error)]
#[error("the thread that waits for the node's lock ended in a panic; the tables stay as they are")]
pub struct NobodyWaits;

impl Standing {
    /// Takes the lock. If another Tandem has it and `stand_by` is true, it is taken as soon as it is free.
    pub fn take(stand_by: bool) -> Result<Self, LockError> {
        let lock = Lock::default();
        let taken = match NodeLock::acquire() {
            Ok(acquired) => {
                // The cell is new, so it is empty.
                let _ = lock.0.set(acquired);
                None
            }
            Err(LockError::Held(holder)) if stand_by => {
                tracing::info!("stands by: another tandem serves this node: {holder}");
                Some(wait(lock.clone()))
            }
            Err(error) => return Err(error),
        };
        Ok(Self { lock, taken })
    }

    /// Whether another agent serves the node.
    pub fn is_by(&self) -> bool {
        self.taken.is_some()
    }

    /// Waits until this agent serves the node.
    pub async fn served(&mut self) -> Result<(), NobodyWaits> {
        match self.taken.take() {
            None => Ok(()),
            Some(taken) => taken.await.map_err(|_| NobodyWaits),
        }
    }

    /// The lock.
    pub fn lock(&self) -> Lock {
        self.lock.clone()
    }
}

/// Waits for the lock on a thread, because its questions block. The thread ends when nobody waits any more.
fn wait(lock: Lock) -> oneshot::Receiver<()> {
    let (tell, taken) = oneshot::channel();
    thread::spawn(move || {
        let mut complaint = String::new();
        while !tell.is_closed() {
            match NodeLock::acquire() {
                Ok(acquired) => {
                    let _ = lock.0.set(acquired);
                    let _ = tell.send(());
                    return;
                }
                // Two that wait may disturb each other.
                Err(LockError::Held(_) | LockError::KeepsChanging) => {}
                Err(error) => {
                    let words = error.to_string();
                    if words != complaint {
                        tracing::warn!("{words}; tried again until it works");
                        complaint = words;
                    }
                }
            }
            thread::sleep(EVERY);
        }
    });
    taken
}
