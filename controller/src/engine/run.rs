//! Runs the engine: receives events, steps, waits. All decisions are made in [`Engine::step`].

use std::time::{Instant, SystemTime};

use tokio::sync::mpsc::Receiver;
use tokio_util::sync::CancellationToken;

use crate::event::Event;

use super::{Engine, Now};

/// The largest number of events that are taken before they are applied.
const BATCH: usize = 4096;
/// Room for this number of events is kept.
const FEW: usize = 64;

impl Now {
    /// The present time.
    #[cfg_attr(
        not(test),
        expect(
            clippy::disallowed_methods,
            reason = "the one place where the engine's time comes from"
        )
    )]
    pub fn read() -> Self {
        Self {
            monotonic: Instant::now(),
            wall: SystemTime::now(),
        }
    }
}

impl Engine {
    /// Runs until the sources are gone or `stop` is cancelled. The data planes stay as they are.
    pub async fn run(mut self, mut events: Receiver<Event>, stop: CancellationToken) {
        let mut batch = Vec::new();
        let mut wake = self.step([], Now::read());
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                received = events.recv_many(&mut batch, BATCH) => {
                    if received == 0 {
                        break;
                    }
                }
                () = tokio::time::sleep_until(wake.at.into()) => {}
            }
            wake = self.step(batch.drain(..), Now::read());
            // A list fills it, and a list is rare.
            batch.shrink_to(FEW);
            if wake.loaded {
                crate::memory::give_back();
            }
        }
    }
}
