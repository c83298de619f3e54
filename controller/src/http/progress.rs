//! The phase of a connection, since when, and how long it may last.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// How long each phase of a connection may last.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// From the beginning of the connection, or from the first byte of a later request, to the end of the request's
    /// head. If bytes trickle in, this does not become longer.
    pub(super) head: Duration,
    /// Between an answer and the next request.
    pub(super) idle: Duration,
    /// While the client does not read an answer.
    pub(super) unread: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The head of a request is expected or has begun.
    Head,
    /// All requests are answered, and no other has begun.
    Idle,
    /// An answer is made and sent.
    Answering,
    /// An answer waits until the client reads it.
    Unread,
}

/// The phase of a connection, and since when.
#[derive(Clone, Copy, Debug)]
pub(super) struct State {
    pub(super) phase: Phase,
    pub(super) since: Instant,
}

impl State {
    /// The end of the time that this phase may last.
    pub(super) fn deadline(self, patience: &Patience) -> Instant {
        self.since
            + match self.phase {
                Phase::Head => patience.head,
                Phase::Idle => patience.idle,
                Phase::Answering | Phase::Unread => patience.unread,
            }
    }
}

/// The part of a connection that others see.
#[derive(Debug)]
pub(super) struct Progress {
    state: Mutex<State>,
    /// Signals that the connection must go.
    pub(super) gone: Notify,
}

impl Patience {
    pub(super) fn least(&self) -> Duration {
        self.head.min(self.idle).min(self.unread)
    }
}

impl Progress {
    pub(super) fn new() -> Self {
        let state = State {
            phase: Phase::Head,
            since: Instant::now(),
        };
        Self {
            state: Mutex::new(state),
            gone: Notify::new(),
        }
    }

    pub(super) fn state(&self) -> State {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the phase, if it is one of `from`. Otherwise nothing changes.
    fn advance(&self, from: &[Phase], phase: Phase) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if from.contains(&state.phase) {
            let since = Instant::now();
            *state = State { phase, since };
        }
    }

    /// A request's head is complete.
    pub(super) fn asked(&self) {
        self.advance(&[Phase::Head, Phase::Idle, Phase::Unread], Phase::Answering);
    }

    pub(super) fn has_read(&self) {
        self.advance(&[Phase::Idle], Phase::Head);
    }

    pub(super) fn has_sent_all(&self) {
        self.advance(&[Phase::Answering, Phase::Unread], Phase::Idle);
    }

    pub(super) fn cannot_send(&self) {
        self.advance(&[Phase::Answering], Phase::Unread);
    }
}
