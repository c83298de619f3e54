//! The one task that owns the tables: events in, delta out, apply, publish a snapshot.
//!
//! There is no sync period. Whatever waits in the channel is one batch; it is applied in one transaction per family and
//! published after the kernel acknowledged it. Nothing is applied before every kind of object was listed once.
//!
//! Invariant: nobody but this task changes an index, a table or a data plane.

mod backoff;
mod changed;
mod disputes;
mod family;
mod plane;
mod problems;
mod snapshot;
mod world;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use tandem_core::family::{V4, V6};
use tandem_core::object::Node;
use tokio::sync::mpsc::Receiver;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use changed::{Changed, Pulse};
pub use disputes::{Disputes, Place};
pub use family::{FamilyEngine, Open, Plane};
pub use problems::NodeProblem;
pub use snapshot::{FamilyStatus, SetAside, Snapshot};
pub use world::World;

use crate::conntrack::Reconciler;
use crate::event::{Event, Kind, Object, Reach};
use crate::index::{ChangedServices, Index};
use crate::node_settings::NodeSettings;
use changed::Followers;
use problems::{Facts, Surroundings};

/// How many events are taken in before they are applied.
const BATCH: usize = 4096;

/// How often it looks whether another program's rules are asked before Tandem's: one question to the kernel.
const FIRST_EVERY: Duration = Duration::from_secs(1);

/// How long after a change unused chains are removed. What was used once is likely to be used again.
const TIDY_AFTER: Duration = Duration::from_secs(5);

/// The owner of everything that changes.
pub struct Engine {
    settings: NodeSettings,
    reconfigured: bool,
    index: Index,
    v4: FamilyEngine<V4>,
    v6: FamilyEngine<V6>,
    /// This node's object with the addresses that count.
    node: Option<Arc<Node>>,
    around: Surroundings,
    /// Something that problems are gathered from may have changed.
    look: bool,
    problems: Arc<[NodeProblem]>,
    started: SystemTime,
    published: Arc<ArcSwap<Snapshot>>,
    changes: watch::Sender<()>,
    followers: Followers,
    pulse: Arc<Pulse>,
}

impl Engine {
    /// An engine that knows nothing yet.
    pub fn new(settings: NodeSettings, v4: Open<V4>, v6: Open<V6>) -> Self {
        let (v4, v6) = (FamilyEngine::new(v4), FamilyEngine::new(v6));
        let started = SystemTime::now();
        let published = Arc::new(ArcSwap::from_pointee(Snapshot::empty(started)));
        let index = Index::default();
        Self {
            settings,
            reconfigured: false,
            index,
            v4,
            v6,
            node: None,
            around: Surroundings::default(),
            look: true,
            problems: Arc::default(),
            started,
            published,
            changes: watch::Sender::new(()),
            followers: Followers::default(),
            pulse: Arc::default(),
        }
    }

    /// Has UDP flows cut that changes make wrong.
    #[must_use]
    pub fn with_flows(mut self, v4: Reconciler<V4>, v6: Reconciler<V6>) -> Self {
        self.v4 = self.v4.with_flows(v4);
        self.v6 = self.v6.with_flows(v6);
        self
    }

    /// Where snapshots are published.
    pub fn published(&self) -> Arc<ArcSwap<Snapshot>> {
        self.published.clone()
    }

    /// Wakes whoever waits for the next snapshot to be published. Several that come quickly may be one wake-up.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// The Services that change from now on, for one who follows them.
    pub fn follow(&mut self) -> Changed {
        self.followers.add()
    }

    /// Whether it is stuck.
    pub fn pulse(&self) -> Arc<Pulse> {
        self.pulse.clone()
    }

    /// The IPv4 family.
    pub fn v4(&self) -> &FamilyEngine<V4> {
        &self.v4
    }

    /// The IPv6 family.
    pub fn v6(&self) -> &FamilyEngine<V6> {
        &self.v6
    }

    /// Takes events in, in order. Nothing reaches the kernel before [`Self::sync`].
    pub fn take(&mut self, events: impl IntoIterator<Item = Event>) {
        for event in events {
            match &event {
                Event::Reach(kind, Reach::Lost(reason)) => {
                    tracing::warn!(%kind, "cannot be read: {reason}; what is known stays in the kernel");
                }
                Event::Reach(kind, Reach::Watching) => tracing::info!(%kind, "watching"),
                Event::Configured(settings) => {
                    self.reconfigured |= self.settings != **settings;
                    self.settings.clone_from(settings);
                }
                Event::Listed(_) | Event::Deleted(Kind::Node, ..) | Event::Applied(Object::Node(_), _) => {
                    self.look = true;
                }
                _ => {}
            }
            if let Event::Around(around) = event {
                self.v4.look_around(&around);
                self.v6.look_around(&around);
                self.around.take(around);
                self.look = true;
                continue;
            }
            for (kind, key, notice) in self.index.apply(event) {
                tracing::warn!(object = %format_args!("{kind} {key}"), "{notice}");
            }
        }
    }

    /// Brings everything that is due to both data planes, and publishes the result.
    pub fn sync(&mut self, now: Instant) {
        let mut changed = ChangedServices::new();
        if self.index.complete() {
            changed = self.index.take_changed();
            let node_changed = self.index.take_node_changed() | std::mem::take(&mut self.reconfigured);
            let world = World {
                services: self.index.services(),
                node: self.index.node().map(|node| &**node),
                heard: self.index.heard(),
                settings: &self.settings,
                service_cidrs: self.index.service_cidrs(),
                interfaces: self.index.interfaces(),
                time: SystemTime::now(),
            };
            self.v4.mark(&changed, node_changed, &world);
            self.v6.mark(&changed, node_changed, &world);
            self.v4.sync(&world, now);
            self.v6.sync(&world, now);
            if node_changed {
                self.node = self.index.node().map(|node| self.as_it_counts(node));
                self.look = true;
            }
        } else {
            self.node = self.index.node().cloned();
        }
        if std::mem::take(&mut self.look) {
            self.look_for_problems();
        }
        self.publish(&changed);
    }

    /// The node's object with the addresses that count although it does not list them any more.
    fn as_it_counts(&self, node: &Arc<Node>) -> Arc<Node> {
        let counted = self.v4.node().addresses.iter().chain(&self.v6.node().addresses);
        let kept: Vec<_> = counted.filter(|addr| !node.addresses.contains(addr)).copied().collect();
        if kept.is_empty() {
            return node.clone();
        }
        let mut node = Node::clone(node);
        node.addresses.extend(kept);
        Arc::new(node)
    }

    /// Says each problem of the node once, when it begins.
    fn look_for_problems(&mut self) {
        let facts = Facts {
            settings: &self.settings,
            complete: self.index.complete(),
            node: self.index.node().map(|node| &**node),
            gone: self.index.node_gone(),
            around: &self.around,
        };
        let problems = facts.problems(
            (self.v4.node(), self.v4.node_rows()),
            (self.v6.node(), self.v6.node_rows()),
        );
        for problem in problems.iter().filter(|problem| !self.problems.contains(problem)) {
            tracing::warn!(object = problem.object(), "{problem}");
        }
        for problem in self.problems.iter().filter(|problem| !problems.contains(problem)) {
            tracing::info!(object = problem.object(), "no longer so: {problem}");
        }
        self.problems = problems.into();
    }

    /// When [`Self::sync`] has something to do although no event came.
    fn next_try(&self) -> Option<Instant> {
        [self.v4.next_try(), self.v6.next_try()].into_iter().flatten().min()
    }

    fn publish(&self, changed: &ChangedServices) {
        self.published.store(Arc::new(Snapshot {
            started: self.started,
            complete: self.index.complete(),
            services: self.index.services().clone(),
            slices: self.index.slice_count(),
            node: self.node.clone(),
            problems: self.problems.clone(),
            node_name: self.settings.node_name.as_str().into(),
            interfaces: self.index.interfaces().clone(),
            node_v4: self.v4.node_rows().clone(),
            node_v6: self.v6.node_rows().clone(),
            reach: self.index.reach().clone(),
            notices: self.index.notices().clone(),
            faults: self.index.faults().clone(),
            v4: self.v4.status().clone(),
            v6: self.v6.status().clone(),
        }));
        // Whoever is told finds it published.
        self.followers.tell(changed);
        self.changes.send_replace(());
    }

    /// Runs until the sources are gone or `stop` is cancelled. Leaves the data planes as they are.
    pub async fn run(mut self, mut events: Receiver<Event>, stop: CancellationToken) {
        let mut batch = Vec::with_capacity(BATCH);
        let (mut tidy_at, mut loaded) = (None, false);
        let mut first_at = Instant::now() + FIRST_EVERY;
        loop {
            if self.v4.untidy() || self.v6.untidy() {
                tidy_at = tidy_at.or_else(|| Some(Instant::now() + TIDY_AFTER));
            }
            let wake = self.next_try().into_iter().chain(tidy_at).chain([first_at]).min();
            let mut told = false;
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                received = events.recv_many(&mut batch, BATCH) => {
                    if received == 0 {
                        break;
                    }
                    self.take(batch.drain(..));
                    told = true;
                }
                () = until(wake) => {}
            }
            let now = Instant::now();
            if first_at <= now {
                first_at = now + FIRST_EVERY;
                self.pulse.begin(now);
                self.v4.keep_first(now);
                self.v6.keep_first(now);
                self.pulse.end();
            }
            let due = self.next_try().into_iter().chain(tidy_at).any(|at| at <= now);
            if !told && !due {
                continue;
            }
            self.pulse.begin(now);
            self.sync(now);
            self.pulse.end();
            if tidy_at.is_some_and(|at| at <= Instant::now()) {
                tidy_at = None;
                self.v4.tidy();
                self.v6.tidy();
                if !std::mem::replace(&mut loaded, self.index.complete()) && loaded {
                    crate::memory::give_back();
                }
            }
        }
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
