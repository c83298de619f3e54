//! What the proxy does for one Tandem while one case runs.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::case::{Case, Kind, Phase};
use super::fault::{Fault, Place};

/// A session of the proxy.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) case: Case,
    /// Ends the watch of the case's kind.
    pub(super) end: Notify,
    /// Ends all connections.
    pub(super) cut: Notify,
    state: Mutex<State>,
}

/// How far the fault is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Progress {
    /// It may not come yet.
    #[default]
    Waiting,
    /// It may come.
    Armed,
    /// It is there.
    Come,
    /// It is over.
    Over,
}

#[derive(Debug, Default)]
struct State {
    progress: Progress,
    /// Whether there was a connection since it was armed.
    connected: bool,
    /// The bytes and frames of the phase so far.
    bytes: usize,
    frames: usize,
    figures: Figures,
}

/// What the proxy has seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Figures {
    /// The lengths of the frames of each kind and phase.
    pub(super) frames: BTreeMap<(Kind, Phase), Vec<usize>>,
    /// The number of requests for each kind since the fault was armed.
    pub(super) requests: BTreeMap<Kind, usize>,
    /// The number of requests without a token.
    pub(super) nameless: usize,
}

impl Session {
    pub(super) fn new(case: Case) -> Self {
        Self {
            case,
            end: Notify::new(),
            cut: Notify::new(),
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on, the fault may come.
    pub(super) fn arm(&self) {
        self.state().progress = Progress::Armed;
        if self.case.fault == Fault::Nothing {
            self.over();
        }
        match self.case.fault.place() {
            // A watch that runs has its answer already.
            Place::Answer if self.case.phase == Phase::Watch => self.end.notify_one(),
            Place::Connection if self.case.fault != Fault::Nothing => self.cut.notify_waiters(),
            _ => {}
        }
    }

    /// Whether the fault was armed.
    pub(super) fn is_armed(&self) -> bool {
        self.state().progress >= Progress::Armed
    }

    /// Says that the fault is over.
    pub(super) fn over(&self) {
        self.state().progress = Progress::Over;
    }

    /// Whether the fault came and is over.
    pub(super) fn is_over(&self) -> bool {
        self.state().progress == Progress::Over
    }

    pub(super) fn figures(&self) -> Figures {
        self.state().figures.clone()
    }

    /// Counts a request for objects. If the fault takes the place of its answer, returns it.
    pub(super) fn asked(&self, kind: Kind, has_token: bool) -> Option<Fault> {
        let mut state = self.state();
        state.figures.nameless += usize::from(!has_token);
        if state.progress == Progress::Waiting {
            return None;
        }
        *state.figures.requests.entry(kind).or_default() += 1;
        let here =
            self.case.fault.place() == Place::Answer && self.case.kind == kind && state.progress == Progress::Armed;
        if here {
            state.progress = Progress::Come;
        }
        here.then_some(self.case.fault)
    }

    /// Counts a frame. If the fault is in it, returns how many bytes of it are before the fault.
    pub(super) fn passes(&self, kind: Kind, phase: Phase, length: usize) -> Option<usize> {
        let state = &mut *self.state();
        if state.progress >= Progress::Armed || phase == Phase::List {
            state.figures.frames.entry((kind, phase)).or_default().push(length);
        }
        if state.progress != Progress::Armed || (kind, phase) != (self.case.kind, self.case.phase) {
            return None;
        }
        let before = match self.case.fault.place() {
            Place::Byte => self.case.at.checked_sub(state.bytes).filter(|before| *before < length),
            Place::Frame => (state.frames == self.case.at).then_some(0),
            Place::Answer | Place::Connection => None,
        };
        state.bytes += length;
        state.frames += 1;
        if before.is_some() {
            state.progress = Progress::Come;
        }
        before
    }

    /// Counts a new connection. Returns whether it is the first one since the fault was armed.
    pub(super) fn connected(&self) -> bool {
        let state = &mut *self.state();
        state.progress >= Progress::Armed && !std::mem::replace(&mut state.connected, true)
    }
}
