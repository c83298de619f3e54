//! Watches: all events after a version, and then new ones, until the requested time is over.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes};
use http_body_util::channel::{Channel, Sender};
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::{Resource, VERSION};

/// All events of one kind of objects. An event's version is [`VERSION`] plus its number, which counts from 1.
#[derive(Debug, Default)]
pub(super) struct History {
    events: Mutex<Vec<Bytes>>,
    count: watch::Sender<usize>,
}

impl History {
    /// Adds an event. The closure gets its version.
    pub(super) fn push(&self, event: impl FnOnce(u64) -> Value) {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        let number = events.len() + 1;
        let line = format!("{}\n", event(VERSION + number as u64));
        events.push(line.into());
        self.count.send_replace(number);
    }

    fn after(&self, number: usize) -> Vec<Bytes> {
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        events.get(number..).unwrap_or_default().to_vec()
    }
}

/// The body of a watch's answer. It begins with all objects of `all`, if there is one.
pub(super) fn body(history: Arc<History>, all: Option<Arc<Resource>>, after: u64, seconds: u64) -> Body {
    let (sender, body) = Channel::<Bytes, Infallible>::new(64);
    let deadline = Instant::now() + Duration::from_secs(seconds);
    let after = usize::try_from(after.saturating_sub(VERSION)).unwrap_or(usize::MAX);
    tokio::spawn(stream(history, all, after, deadline, sender));
    Body::new(body)
}

async fn stream(
    history: Arc<History>,
    all: Option<Arc<Resource>>,
    after: usize,
    deadline: Instant,
    mut to: Sender<Bytes>,
) {
    if let Some(all) = all {
        let objects = (0..all.count).map(|number| all.added(number));
        for line in objects.chain([all.all_sent()]) {
            if to.send_data(line.into()).await.is_err() {
                return;
            }
        }
    }
    let mut count = history.count.subscribe();
    let mut sent = after;
    loop {
        count.mark_unchanged();
        for line in history.after(sent) {
            sent += 1;
            if to.send_data(line).await.is_err() {
                return; // nobody reads any more
            }
        }
        if !matches!(timeout_at(deadline, count.changed()).await, Ok(Ok(()))) {
            return;
        }
    }
}
