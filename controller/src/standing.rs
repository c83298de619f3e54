//! The node's lock: who serves the node. An agent that stands by waits for it.

use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use tandem_nft::{LockError, NodeLock};
use tokio::sync::oneshot;

/// How often an agent that stands by asks for the lock. It is one question to the kernel.
const EVERY: Duration = Duration::from_millis(20);

/// Whether this agent serves the node, or waits until it does.
pub struct Standing {
    /// The lock, once this program has it. It is freed when the last part of the program that holds this ends.
    lock: Arc<OnceLock<NodeLock>>,
    /// Tells when the lock is taken. None if it was free at the start.
    taken: Option<oneshot::Receiver<Result<(), LockError>>>,
}

impl Standing {
    /// Takes the lock. If another Tandem has it and `stand_by` is true, it is taken as soon as it is free.
    pub fn take(stand_by: bool) -> Result<Self, LockError> {
        let lock = Arc::new(OnceLock::new());
        let taken = match NodeLock::acquire() {
            Ok(acquired) => {
                // The cell is new, so it is empty.
                let _ = lock.set(acquired);
                None
            }
            Err(LockError::Held(holder)) if stand_by => {
                tracing::info!("stands by: another tandem serves this node: {holder}");
                Some(wait(Arc::clone(&lock)))
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
    pub async fn served(&mut self) -> Result<(), LockError> {
        match self.taken.take() {
            None => Ok(()),
            // The thread ends after it has told.
            Some(taken) => taken.await.unwrap_or(Ok(())),
        }
    }

    /// Keeps the lock for as long as the result lives.
    pub fn keep(&self) -> impl Sized + use<> {
        Arc::clone(&self.lock)
    }
}

fn wait(lock: Arc<OnceLock<NodeLock>>) -> oneshot::Receiver<Result<(), LockError>> {
    let (tell, taken) = oneshot::channel();
    // A thread, because the lock belongs to the network namespace of the thread that takes it, and its questions block.
    thread::spawn(move || {
        while !tell.is_closed() {
            match NodeLock::acquire() {
                Ok(acquired) => {
                    let _ = lock.set(acquired);
                    let _ = tell.send(Ok(()));
                    return;
                }
                // Two agents may stand by, and the other one was first.
                Err(LockError::Held(_) | LockError::KeepsChanging) => thread::sleep(EVERY),
                Err(error) => {
                    let _ = tell.send(Err(error));
                    return;
                }
            }
        }
    });
    taken
}
