//! When the kernel's nftables ruleset of a namespace changes: a new generation for each transaction that was committed.

use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rustix::io::Errno;

use crate::netns::Namespace;
use crate::notices::{Notice, Notices};

/// The moments at which generations began, from the one on in which this was made.
#[derive(Debug)]
pub struct Generations(Receiver<Instant>);

impl Generations {
    /// Notes from now on what happens in this namespace, on a thread that lives as long as the process.
    pub fn watch(namespace: &Namespace) -> Result<Self> {
        let mut notices = namespace.run(Notices::open)??;
        let (sender, generations) = channel();
        let listen = move || {
            loop {
                let received = notices.next();
                let at = Instant::now();
                let new = match received {
                    Ok(mut notices) => notices.any(|notice| matches!(notice, Notice::Generation)),
                    // What did not fit was a change too: its generation comes last, in a message of its own.
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

    /// The next one that was not asked for yet; none if there is none in this time.
    pub fn next(&self, patience: Duration) -> Option<Instant> {
        self.0.recv_timeout(patience).ok()
    }

    /// Forgets those that have come.
    pub fn forget(&self) {
        while self.0.try_recv().is_ok() {}
    }

    /// Waits until there was none for so long, and forgets those before.
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
