//! Objects from a Kubernetes API server. It lists them, as the beginning of a watch, from the server's watch cache or page by
//! page, and takes them one by one as they arrive. Then it watches, with one task for each thing that is watched. While decoding, it drops what Tandem does not need, so no full
//! object is held. It never gives up. If it cannot see an object, it does not remove it.
//!
//! The list-and-watch loop is Tandem's own, on top of kube's client. It handles an answer 410 or 504 to the watch
//! request, a silent watch, versions that go backwards, and one unreadable object. For that, it must see bookmarks,
//! HTTP statuses and single objects, and `kube::runtime::watcher` does not show these.

mod backoff;
pub(crate) mod events;
mod failure;
pub(crate) mod fuzzing;
mod instead;
mod items;
mod kinds;
mod lines;
mod machine;
mod objects;
mod pages;
mod protobuf;
mod query;
mod run;
mod split;
#[cfg(test)]
mod tests;
mod versions;
mod watched;
mod wire;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use kube::Client;
use tokio::sync::mpsc::Sender;
use tokio::task::JoinSet;

use crate::event::{Event, ObjectKind};
use crate::source::decode::Decoder;
use crate::ways::Ways;
use backoff::Jitter;
use kinds::OfKind;
use machine::Machine;
pub use query::Timing;
pub use watched::{Change, Encoded, ListState, ReadObject, Resource, Watched, WrongKind};

/// Watches something until nobody receives its events any more. Everything that is watched with one client shares
/// `admitted`.
pub async fn watch<W: Watched>(
    client: Client,
    watched: W,
    ways: &Ways,
    timing: Timing,
    events: Sender<W::Event>,
    admitted: Arc<AtomicBool>,
) {
    let machine = Machine::new(watched, ways, timing, Jitter::random());
    run::run(machine, client, timing.answer, events, admitted).await;
}

/// Watches everything that the engine of the node of this name needs, until nobody receives events any more.
pub async fn run(client: Client, node_name: &str, ways: &Ways, events: Sender<Event>) {
    run_with(client, node_name, ways, events, Timing::default()).await;
}

/// As [`run`], with other times.
pub async fn run_with(client: Client, node_name: &str, ways: &Ways, events: Sender<Event>, timing: Timing) {
    let decoder = Arc::new(Decoder::new(node_name));
    let admitted = Arc::new(AtomicBool::new(false));
    let mut tasks = JoinSet::new();
    for kind in ObjectKind::ALL {
        let watched = OfKind::new(kind, node_name, &decoder);
        let (client, events) = (client.clone(), events.clone());
        let (ways, admitted) = (ways.clone(), Arc::clone(&admitted));
        tasks.spawn(async move { watch(client, watched, &ways, timing, events, admitted).await });
    }
    drop(events);
    // Each task ends when the channel closes. Dropping this future ends all of them.
    while tasks.join_next().await.is_some() {}
}
