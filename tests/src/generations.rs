//! When a namespace's nftables ruleset changes: each transaction that is committed makes a new generation.

use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rustix::io::Errno;

use crate::netns::Namespace;
use crate::notices::{Notice, Notices};

/// The moments at which generations began, since this was made.
#[derive(Debug)]
pub struct Generations(Receiver<Instant>);

impl Generations {
    /// Starts to note the generations of this namespace, on a thread that lives as long as the process.
    pub fn watch(namespace: &Namespace) -> Result<Self> {
        let mut notices = namespace.run(Notices::open)??;
        let (sender, generations) = channel();
        let listen = move || {
            loop {
                let received = notices.next();
                let at = Instant::now();
                let new = match received {
                    Ok(mut notices) => notices.any(|notice| matches!(notice, Notice::Generation)),
                    // If messages were lost, they were changes too. The generation follows at the end, in a message of
                    // its own.
                    Err(Errno::NOBUFS | Errno::INTR) => false,
                    Err(_) => return,
                };
                if new && sender.send(at).is_err() {
                    return;
                }
            }
        };
        namespace.entrance().thread("generations", listen)?;
        Ok(Self(generations))
    }

    /// The next moment that was not returned yet. None if no generation begins in this time.
    pub fn next(&self, patience: Duration) -> Option<Instant> {
        self.0.recv_timeout(patience).ok()
    }

    /// Forgets the moments noted until now.
    pub fn forget(&self) {
        while self.0.try_recv().is_ok() {}
    }

    /// Waits until no generation begins for the time `quiet`, and forgets all before.
    pub fn settle(&self, quiet: Duration, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        while self.0.recv_timeout(quiet).is_ok() {
            ensure!(
                Instant::now() < deadline,
                "the ruleset still changes after {patience:?}"
            );
        }
        Ok(())
    }
}
