//! Kubernetes Events about objects that cannot be used or programmed, so that their owners see it where they look.
//!
//! Everything is in the log and in `tandem status` as well. Events are an addition: they are late and few, and nothing
//! waits for them.

mod bucket;
mod fault;

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::cluster::write::{Outcome, create};
use crate::engine::{NodeProblem, SetAside, Snapshot};
use crate::event::ObjectKind;
use crate::index::Notices;
use crate::wait::until;
use bucket::Bucket;
pub use fault::Fault;

/// How many Events may wait. Further ones are only in the log.
const WAITING: usize = 1000;
/// How often a write is tried if the API server does not answer.
const TRIES: u32 = 5;
/// How long until the second try. This time doubles with each further try.
const RETRY: Duration = Duration::from_secs(15);
/// Changes that come within this time are handled together.
const TOGETHER: Duration = Duration::from_millis(100);

/// Where other parts report faults. It never blocks. If nobody writes Events, nothing happens.
#[derive(Clone, Debug)]
pub struct Recorder {
    node: Arc<str>,
    told: Option<Sender<Fault>>,
}

impl Recorder {
    /// A recorder, and the receiver that [`run`] needs.
    pub fn new(node: &str) -> (Self, Receiver<Fault>) {
        let (sender, receiver) = channel(WAITING);
        let recorder = Self {
            node: node.into(),
            told: Some(sender),
        };
        (recorder, receiver)
    }

    /// A recorder for agents that write no Events.
    pub fn silent(node: &str) -> Self {
        Self {
            node: node.into(),
            told: None,
        }
    }

    /// This node's name.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Reports a fault, which is in the log already.
    pub fn tell(&self, fault: Fault) {
        if let Some(Err(error)) = self.told.as_ref().map(|told| told.try_send(fault)) {
            tracing::debug!("an Event is left out: {error}");
        }
    }
}

/// Writes Events for ever: one about this node's start, and then those for faults that other parts report or that
/// snapshots show.
pub async fn run(
    client: Client,
    node: &str,
    mut told: Receiver<Fault>,
    mut news: watch::Receiver<()>,
    published: Arc<ArcSwap<Snapshot>>,
) {
    let mut book = Book::new(client, node, published);
    book.note_birth();
    loop {
        let next = book.next();
        tokio::select! {
            Ok(()) = news.changed() => {
                book.look();
                tokio::time::sleep(TOGETHER).await;
            }
            Some(fault) = told.recv() => book.add(fault),
            () = until(next) => book.write_next().await,
        }
    }
}

/// The known faults, and the Events that are to be written.
struct Book {
    client: Client,
    node: String,
    published: Arc<ArcSwap<Snapshot>>,
    /// The faults of the last snapshot, by number.
    seen: HashSet<u64>,
    notices: Arc<Notices>,
    problems: Arc<[NodeProblem]>,
    set_aside: [Vec<SetAside>; 2],
    queue: VecDeque<Entry>,
    bucket: Bucket,
    /// Whether the log says that Events cannot be written.
    said: bool,
}

struct Entry {
    due: Instant,
    /// The time at which the fault came, until it is known whether this node is near to it. That is decided at a near
    /// node's time, because a Service's slices come a moment after the Service.
    since: Option<Instant>,
    tries: u32,
    /// The fault; none for the node's start.
    fault: Option<Fault>,
}

impl Book {
    fn new(client: Client, node: &str, published: Arc<ArcSwap<Snapshot>>) -> Self {
        Self {
            client,
            node: node.to_owned(),
            published,
            seen: HashSet::new(),
            notices: Arc::default(),
            problems: Arc::default(),
            set_aside: [Vec::new(), Vec::new()],
            queue: VecDeque::new(),
            bucket: Bucket::new(Instant::now().into_std()),
            said: false,
        }
    }

    fn note_birth(&mut self) {
        self.push(Entry {
            due: Instant::now(),
            since: None,
            tries: 0,
            fault: None,
        });
    }

    fn add(&mut self, fault: Fault) {
        // The fault went and came again while its entry waited.
        if self.queue.iter().any(|entry| entry.fault.as_ref() == Some(&fault)) {
            return;
        }
        let now = Instant::now();
        self.push(Entry {
            due: now + fault.delay(&self.node, true),
            since: Some(now),
            tries: 0,
            fault: Some(fault),
        });
    }

    /// Adds the faults that a snapshot shows for the first time.
    fn look(&mut self) {
        let snapshot = self.published.load_full();
        let set_aside = [&snapshot.v4.set_aside, &snapshot.v6.set_aside];
        let same = Arc::ptr_eq(&self.notices, &snapshot.notices) && Arc::ptr_eq(&self.problems, &snapshot.problems);
        if same && set_aside == self.set_aside.each_ref() {
            return;
        }
        self.problems = Arc::clone(&snapshot.problems);
        self.notices = Arc::clone(&snapshot.notices);
        self.set_aside = set_aside.map(Clone::clone);
        let faults = Fault::all(&snapshot);
        let before = std::mem::replace(&mut self.seen, faults.keys().copied().collect());
        for (_, fault) in faults.into_iter().filter(|(number, _)| !before.contains(number)) {
            self.add(fault);
        }
    }

    fn push(&mut self, entry: Entry) {
        if self.queue.len() >= WAITING {
            tracing::debug!("an Event is left out: too many wait");
            return;
        }
        let at = self.queue.partition_point(|other| other.due <= entry.due);
        self.queue.insert(at, entry);
    }

    fn next(&self) -> Option<Instant> {
        let due = self.queue.front()?.due;
        Some(due.max(self.bucket.ready().into()))
    }

    async fn write_next(&mut self) {
        let Some(mut entry) = self.queue.pop_front() else {
            return;
        };
        let event = match &entry.fault {
            None => fault::birth(&self.node, Timestamp::now()),
            Some(fault) => {
                let snapshot = self.published.load();
                if !self.stands(fault, &snapshot) {
                    return;
                }
                if let Some(since) = entry.since.take()
                    && !fault.near(&self.node, &snapshot.services)
                {
                    entry.due = since + fault.delay(&self.node, false);
                    drop(snapshot);
                    self.push(entry);
                    return;
                }
                let uid = fault.regarded_uid(&snapshot.services);
                fault.event(&self.node, uid, Timestamp::now())
            }
        };
        self.bucket.take(Instant::now().into_std());
        let name = event.metadata.name.as_deref().unwrap_or_default();
        match create(&self.client, &event).await {
            Outcome::Written => {
                let object = entry.fault.as_ref().map_or_else(
                    || format!("{} {}", ObjectKind::Node, self.node),
                    |fault| format!("{} {}", fault.kind, fault.key),
                );
                tracing::debug!(event = name, object, "the Event is there");
                self.said = false;
            }
            Outcome::Failed(reason) if entry.tries + 1 < TRIES => {
                tracing::debug!(event = name, "tried again later: {reason}");
                entry.due = Instant::now() + RETRY * 2_u32.pow(entry.tries);
                entry.tries += 1;
                self.push(entry);
            }
            Outcome::Refused(reason) | Outcome::Failed(reason) => self.say(&reason),
        }
    }

    /// Whether the fault still exists. Before its time comes, the fault may be repaired or the object deleted.
    fn stands(&self, fault: &Fault, snapshot: &Snapshot) -> bool {
        if fault.own && fault.kind == ObjectKind::Service {
            let entry = snapshot.services.get(&fault.key);
            entry.is_some_and(|entry| entry.service.is_some())
        } else {
            self.seen.contains(&fault.identity())
        }
    }

    /// Logs once that Events cannot be written, until it has worked again.
    fn say(&mut self, reason: &str) {
        if !std::mem::replace(&mut self.said, true) {
            tracing::warn!(
                "Events cannot be written: {reason}; what is wrong with objects is in the log and in `tandem status` alone"
            );
        }
    }
}
