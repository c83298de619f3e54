//! The connections of all health servers. Anybody who can reach the node can open them, so each has to make progress within
//! some time, and there is a most of each listener and of all together. A new connection is always taken in: where that is
//! one too many, the one that has been silent for longest goes. So whoever asks at once is answered, whatever others hold open.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::files;

/// Connections of one listener.
const EACH: usize = 256;

/// How long a connection may stay as it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// From its beginning, or from the first byte of a later request, to the end of the request's head. Bytes that trickle in
    /// do not prolong it.
    pub(super) head: Duration,
    /// Between an answer and the next request.
    pub(super) idle: Duration,
    /// While an answer is not taken.
    pub(super) unread: Duration,
}

const PATIENCE: Patience = Patience {
    head: Duration::from_secs(5),
    idle: Duration::from_mins(1),
    unread: Duration::from_secs(5),
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The head of a request is due, or begun.
    Head,
    /// All requests are answered, and no other has begun.
    Idle,
    /// An answer is being made and sent.
    Answering,
    /// An answer waits for the client to take it.
    Unread,
}

/// How far a connection is, and since when.
#[derive(Clone, Copy, Debug)]
struct State {
    phase: Phase,
    since: Instant,
}

impl State {
    /// When it has been so for too long.
    fn deadline(self, patience: &Patience) -> Instant {
        self.since
            + match self.phase {
                Phase::Head => patience.head,
                Phase::Idle => patience.idle,
                Phase::Answering | Phase::Unread => patience.unread,
            }
    }
}

/// One connection's part that others see.
#[derive(Debug)]
pub(super) struct Progress {
    state: Mutex<State>,
    /// Told when it has to go.
    gone: Notify,
}

impl Patience {
    fn least(&self) -> Duration {
        self.head.min(self.idle).min(self.unread)
    }
}

impl Progress {
    fn new() -> Self {
        let state = State {
            phase: Phase::Head,
            since: Instant::now(),
        };
        Self {
            state: Mutex::new(state),
            gone: Notify::new(),
        }
    }

    fn state(&self) -> State {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Goes from one of these phases to another; from any other nothing changes.
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

    fn has_read(&self) {
        self.advance(&[Phase::Idle], Phase::Head);
    }

    fn has_sent_all(&self) {
        self.advance(&[Phase::Answering, Phase::Unread], Phase::Idle);
    }

    fn cannot_send(&self) {
        self.advance(&[Phase::Answering], Phase::Unread);
    }
}

/// All of them, by listener.
#[derive(Debug)]
pub(super) struct Connections {
    each: usize,
    all: usize,
    patience: Patience,
    rooms: Mutex<Rooms>,
}

#[derive(Debug, Default)]
struct Rooms {
    next: u64,
    of_listeners: BTreeMap<u64, BTreeMap<u64, Arc<Progress>>>,
}

impl Rooms {
    fn total(&self) -> usize {
        self.of_listeners.values().map(BTreeMap::len).sum()
    }

    fn next(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn largest(&self) -> Option<u64> {
        let largest = self.of_listeners.iter().max_by_key(|(_, room)| room.len());
        largest.map(|(listener, _)| *listener)
    }

    /// Sends the one away that has been silent for longest; false where there is none. One that is being answered stays.
    fn send_away_from(&mut self, listener: u64) -> bool {
        let Some(room) = self.of_listeners.get_mut(&listener) else {
            return false;
        };
        let silent = room.iter().filter_map(|(id, progress)| {
            let state = progress.state();
            (state.phase != Phase::Answering).then_some((state.since, *id))
        });
        let Some((_, longest)) = silent.min() else {
            return false;
        };
        if let Some(progress) = room.remove(&longest) {
            progress.gone.notify_one();
        }
        true
    }
}

impl Connections {
    /// As many as this process has files for.
    pub(super) fn new() -> Arc<Self> {
        let all = files::shares().probes.max(1);
        Self::with(EACH.min(all), all, PATIENCE)
    }

    fn with(each: usize, all: usize, patience: Patience) -> Arc<Self> {
        Arc::new(Self {
            each,
            all,
            patience,
            rooms: Mutex::default(),
        })
    }

    /// Those of one listener.
    pub(super) fn room(self: &Arc<Self>) -> Room {
        let mut rooms = self.rooms();
        let listener = rooms.next();
        rooms.of_listeners.insert(listener, BTreeMap::new());
        Room {
            connections: Arc::clone(self),
            listener,
        }
    }

    fn rooms(&self) -> MutexGuard<'_, Rooms> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A listener's connections. Those that are there when it is dropped end with their tasks.
#[derive(Debug)]
pub(super) struct Room {
    connections: Arc<Connections>,
    listener: u64,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.connections.rooms().of_listeners.remove(&self.listener);
    }
}

impl Room {
    /// Takes a connection in. Where it is one too many for this listener, one of this listener's goes; where it is one too
    /// many for all, one of the listener that has most.
    pub(super) fn enter(&self) -> Visit {
        let mut rooms = self.connections.rooms();
        let here = rooms.of_listeners.get(&self.listener).map_or(0, BTreeMap::len);
        if here >= self.connections.each {
            rooms.send_away_from(self.listener);
        } else if rooms.total() >= self.connections.all
            && let Some(largest) = rooms.largest()
        {
            rooms.send_away_from(largest);
        }
        let id = rooms.next();
        let progress = Arc::new(Progress::new());
        let room = rooms.of_listeners.entry(self.listener).or_default();
        room.insert(id, Arc::clone(&progress));
        drop(rooms);
        Visit {
            connections: Arc::clone(&self.connections),
            place: (self.listener, id),
            progress,
        }
    }

    /// Sends one away, of the listener that has most, for the process has no file left. False where there is none.
    pub(super) fn make_room(&self) -> bool {
        let mut rooms = self.connections.rooms();
        rooms.largest().is_some_and(|largest| rooms.send_away_from(largest))
    }
}

/// One connection's place, given back when dropped.
#[derive(Debug)]
pub(super) struct Visit {
    connections: Arc<Connections>,
    place: (u64, u64),
    progress: Arc<Progress>,
}

impl Drop for Visit {
    fn drop(&mut self) {
        let (listener, id) = self.place;
        if let Some(room) = self.connections.rooms().of_listeners.get_mut(&listener) {
            room.remove(&id);
        }
    }
}

impl Visit {
    pub(super) fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    /// Serves it to its end, or until it has to go.
    pub(super) async fn during(self, serving: impl Future) {
        tokio::select! {
            _ = serving => {}
            () = self.progress.gone.notified() => {}
            () = self.overdue() => {}
        }
    }

    async fn overdue(&self) {
        let patience = &self.connections.patience;
        loop {
            let (now, deadline) = (Instant::now(), self.progress.state().deadline(patience));
            if deadline <= now {
                return;
            }
            // What it does next may be due sooner than what it does now.
            sleep_until(deadline.min(now + patience.least())).await;
        }
    }
}

/// A stream that tells how far its connection is.
#[derive(Debug)]
pub(super) struct Observed {
    stream: TcpStream,
    progress: Arc<Progress>,
}

impl Observed {
    pub(super) fn new(stream: TcpStream, visit: &Visit) -> Self {
        let progress = visit.progress();
        Self { stream, progress }
    }

    fn sent(&self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if result.is_pending() {
            self.progress.cannot_send();
        }
        result
    }
}

impl AsyncRead for Observed {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        if buffer.filled().len() > before {
            self.progress.has_read();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Observed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.sent(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.sent(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Asked for once everything is written.
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.progress.has_sent_all();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
