//! The connections of all listeners that share a limit. Anybody who can reach the node can open connections. So each
//! connection must make progress within some time, and there is a limit for each listener and for all together. A new
//! connection is always accepted. If it is one too many, the one that has been silent for longest is closed. So a
//! client that sends its request at once is answered, whatever connections others hold open.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::progress::{Patience, Phase, Progress};
use crate::files;

/// How many connections may be open, and how long each may wait in one phase.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Of one listener.
    pub(crate) each: usize,
    /// Of all listeners together.
    pub(crate) all: usize,
    /// How long each may wait in one phase.
    pub(crate) patience: Patience,
}

impl Limits {
    /// For health checks and metrics. Anybody who can reach the node may ask for these.
    pub(crate) fn strangers() -> Self {
        let all = files::shares().probes.max(1);
        Self {
            each: all.min(256),
            all,
            patience: Patience {
                head: Duration::from_secs(5),
                idle: Duration::from_mins(1),
                unread: Duration::from_secs(5),
            },
        }
    }

    /// For the local API. Only root may ask, and the answers can be large.
    pub(crate) fn local() -> Self {
        let all = files::shares().local.max(1);
        Self {
            each: all,
            all,
            patience: Patience {
                head: Duration::from_secs(5),
                idle: Duration::from_mins(1),
                unread: Duration::from_mins(1),
            },
        }
    }
}

/// All open connections, by listener.
#[derive(Debug)]
pub(crate) struct Connections {
    limits: Limits,
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

    /// Closes the connection that has been silent for longest. A connection that is being answered stays. Returns false
    /// if there is none to close.
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
    pub(crate) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            rooms: Mutex::default(),
        })
    }

    /// Makes a place for the connections of one more listener.
    pub(crate) fn room(self: &Arc<Self>) -> Room {
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

/// A listener's connections. When it is dropped, they end with their tasks.
#[derive(Debug)]
pub(crate) struct Room {
    connections: Arc<Connections>,
    listener: u64,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.connections.rooms().of_listeners.remove(&self.listener);
    }
}

impl Room {
    /// Accepts a connection. If this listener has too many, one of its connections is closed. If all together have too
    /// many, one of the listener with the most is closed.
    pub(super) fn enter(&self) -> Visit {
        let mut rooms = self.connections.rooms();
        let here = rooms.of_listeners.get(&self.listener).map_or(0, BTreeMap::len);
        if here >= self.connections.limits.each {
            rooms.send_away_from(self.listener);
        } else if rooms.total() >= self.connections.limits.all
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

    /// Closes a connection of the listener with the most, because the process can open no more files. Returns false if
    /// there is none.
    pub(super) fn make_room(&self) -> bool {
        let mut rooms = self.connections.rooms();
        rooms.largest().is_some_and(|largest| rooms.send_away_from(largest))
    }
}

/// One connection's place. When dropped, it becomes free.
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

    /// Serves the connection to its end, or until it must go.
    pub(super) async fn during(self, serving: impl Future) {
        tokio::select! {
            _ = serving => {}
            () = self.progress.gone.notified() => {}
            () = self.overdue() => {}
        }
    }

    async fn overdue(&self) {
        let patience = &self.connections.limits.patience;
        loop {
            let (now, deadline) = (Instant::now(), self.progress.state().deadline(patience));
            if deadline <= now {
                return;
            }
            // The deadline of its next phase may be earlier than the present one.
            sleep_until(deadline.min(now + patience.least())).await;
        }
    }
}

#[cfg(test)]
mod tests;
