//! Objects from a Kubernetes API server: lists page by page, then watches, one task per kind. Trimmed while decoding, so
//! that no full object is held. It never gives up, and never removes what it merely cannot see.
//!
//! The list-and-watch loop is Tandem's own, on top of kube's client, because the guards it needs (an answer 410 or 504 to
//! the watch request, a silent watch, versions going backwards, one unreadable object) need to see bookmarks, HTTP statuses
//! and single objects, which `kube::runtime::watcher` does not show.

mod backoff;
mod failure;
pub(crate) mod fuzzing;
mod instead;
mod lines;
mod machine;
mod objects;
mod pages;
mod query;
mod run;
#[cfg(test)]
mod tests;
mod wire;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use kube::Client;
use tokio::sync::mpsc::Sender;
use tokio::task::JoinSet;

use crate::event::{Event, Kind};
use crate::source::decode::Decoder;
use backoff::Jitter;
use machine::Machine;
use query::Query;
pub use query::Timing;

/// Watches everything that the node of this name needs, until nobody receives events any more.
pub async fn run(client: Client, node_name: &str, events: Sender<Event>) {
    run_with(client, node_name, events, Timing::default()).await;
}

/// As [`run`], with other times than the usual ones.
pub async fn run_with(client: Client, node_name: &str, events: Sender<Event>, timing: Timing) {
    let decoder = Arc::new(Decoder::new(node_name));
    let admitted = Arc::new(AtomicBool::new(false));
    let mut tasks = JoinSet::new();
    for kind in Kind::ALL {
        let query = Query::of(kind, node_name);
        let machine = Machine::new(query, Arc::clone(&decoder), timing, Jitter::random());
        let (client, events, admitted) = (client.clone(), events.clone(), Arc::clone(&admitted));
        tasks.spawn(run::run(machine, client, timing.answer, events, admitted));
    }
    drop(events);
    // Each ends when the channel closes; dropping this future ends them all.
    while tasks.join_next().await.is_some() {}
}
