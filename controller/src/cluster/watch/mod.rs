//! Objects from a Kubernetes API server: lists page by page, then watches, one task for each thing that is watched. Trimmed
//! while decoding, so that no full object is held. It never gives up, and never removes what it merely cannot see.
//!
//! The list-and-watch loop is Tandem's own, on top of kube's client, because the guards it needs (an answer 410 or 504 to
//! the watch request, a silent watch, versions going backwards, one unreadable object) need to see bookmarks, HTTP statuses
//! and single objects, which `kube::runtime::watcher` does not show.

mod backoff;
mod failure;
pub(crate) mod fuzzing;
mod instead;
mod kinds;
mod lines;
mod machine;
mod objects;
mod pages;
mod query;
mod run;
#[cfg(test)]
mod tests;
mod watched;
mod wire;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use kube::Client;
use tokio::sync::mpsc::Sender;
use tokio::task::JoinSet;

use crate::event::{Event, ObjectKind};
use crate::source::decode::Decoder;
use backoff::Jitter;
use kinds::OfKind;
use machine::Machine;
pub use query::Timing;
pub use watched::{Change, ListState, ReadObject, Resource, Watched, WrongKind};

/// Watches something until nobody receives its events any more. `admitted` is shared by all that is watched with one client.
pub async fn watch<W: Watched>(
    client: Client,
    watched: W,
    timing: Timing,
    events: Sender<W::Event>,
    admitted: Arc<AtomicBool>,
) {
    let machine = Machine::new(watched, timing, Jitter::random());
    run::run(machine, client, timing.answer, events, admitted).await;
}

/// Watches everything that the engine of the node of this name needs, until nobody receives events any more.
pub async fn run(client: Client, node_name: &str, events: Sender<Event>) {
    run_with(client, node_name, events, Timing::default()).await;
}

/// As [`run`], with other times than the usual ones.
pub async fn run_with(client: Client, node_name: &str, events: Sender<Event>, timing: Timing) {
    let decoder = Arc::new(Decoder::new(node_name));
    let admitted = Arc::new(AtomicBool::new(false));
    let mut tasks = JoinSet::new();
    for kind in ObjectKind::ALL {
        let watched = OfKind::new(kind, node_name, &decoder);
        let (client, events) = (client.clone(), events.clone());
        tasks.spawn(watch(client, watched, timing, events, Arc::clone(&admitted)));
    }
    drop(events);
    // Each ends when the channel closes; dropping this future ends them all.
    while tasks.join_next().await.is_some() {}
}
