//! The one task that owns the tables. It takes events, computes a delta, applies it and publishes a snapshot.
//!
//! There is no sync period. Everything that waits in the channel is one batch. It is applied in one transaction per
//! family, and published after the kernel acknowledged it. Nothing is applied until every kind of object was listed
//! once.
//!
//! The engine is a machine: [`Engine::step`] takes events and the time, and returns the time of the next step. `run`
//! calls it.
//!
//! Invariant: only this task changes an index, a table or a data plane.

#![cfg_attr(not(test), deny(clippy::disallowed_methods, clippy::disallowed_types))]

mod changed;
mod disputes;
mod family;
mod follow;
mod inputs;
mod observer;
mod problems;
mod run;
mod snapshot;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use tandem_core::family::{V4, V6};
use tandem_core::object::Node;
use tandem_core::plane::Open;
use tokio::sync::watch;

pub use changed::{Changed, Pulse};
pub use disputes::{Disputes, Place};
pub use family::FamilyEngine;
pub use follow::{Follow, Seat};
pub use inputs::Inputs;
pub use observer::Observer;
pub use problems::NodeProblem;
pub use snapshot::{FamilyStatus, FollowState, FollowStatus, SetAside, Snapshot};

use crate::event::{Event, NodeFact, Object, ObjectKind, Reach};
use crate::index::{ChangedServices, Index};
use crate::node_settings::NodeSettings;
use changed::Followers;
use problems::{Facts, Surroundings};

/// How often the engine checks whether the kernel asks another program's rules before Tandem's. A check is one question
/// to the kernel.
const FIRST_EVERY: Duration = Duration::from_secs(1);

/// How long after a change unused chains are removed. What was used once will probably be used again.
const TIDY_AFTER: Duration = Duration::from_secs(5);

/// The time of a step. The engine reads no clock.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// The time that decides what is due.
    pub monotonic: Instant,
    /// The time for people.
    pub wall: SystemTime,
}

/// When the engine has something to do although no event came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wake {
    /// The latest time of the next step.
    pub at: Instant,
    /// Whether the first load is done and everything that it left is tidied. It is true only once.
    pub loaded: bool,
}

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
    /// Whether something may have changed that the node's problems depend on.
    look: bool,
    problems: Arc<[NodeProblem]>,
    started: SystemTime,
    role: Role,
    published: Arc<ArcSwap<Snapshot>>,
    changes: watch::Sender<()>,
    followers: Followers,
    pulse: Arc<Pulse>,
    /// Whether there are events that were taken and not brought to the data planes yet, or news of an observer.
    told: bool,
    due: Due,
}

/// Who serves the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// This agent.
    Serves,
    /// Another one. Nothing reaches the kernel.
    StandsBy,
}

/// What is due because time passes.
struct Due {
    /// When to check next whether the rules are asked first.
    first: Instant,
    /// When to remove what no row uses any more.
    tidy: Option<Instant>,
    /// Whether [`Wake::loaded`] was true already.
    loaded: bool,
}

impl Engine {
    /// An engine that has seen no event yet.
    pub fn new(settings: NodeSettings, v4: Open<V4>, v6: Open<V6>, now: Now) -> Self {
        let (v4, v6) = (FamilyEngine::new(v4), FamilyEngine::new(v6));
        let started = now.wall;
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
            role: Role::Serves,
            published,
            changes: watch::Sender::new(()),
            followers: Followers::default(),
            pulse: Arc::new(Pulse::new(now.monotonic)),
            told: false,
            due: Due {
                first: now.monotonic + FIRST_EVERY,
                tidy: None,
                loaded: false,
            },
        }
    }

    /// Adds an observer for each family's changes. They are called after those that were added before.
    pub fn observe(&mut self, v4: impl Observer<V4> + 'static, v6: impl Observer<V6> + 'static) {
        self.v4.observe(v4);
        self.v6.observe(v6);
    }

    /// Has it leave the kernel alone until [`Event::TakeOver`] comes.
    pub fn stand_by(&mut self) {
        self.role = Role::StandsBy;
        self.publish(&ChangedServices::new());
    }

    /// Where snapshots are published.
    pub fn published(&self) -> Arc<ArcSwap<Snapshot>> {
        self.published.clone()
    }

    /// A receiver that wakes when a snapshot is published. Several snapshots in quick succession may cause one wake-up.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// The Services that change from now on, for a part that follows them.
    pub fn follow(&mut self) -> Changed {
        self.followers.add()
    }

    /// Shows whether the engine is stuck.
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

    /// Takes events in their order, and does everything that is due. Returns the latest time of the next step.
    pub fn step(&mut self, events: impl IntoIterator<Item = Event>, now: Now) -> Wake {
        let is_due = |at: Instant| at <= now.monotonic;
        self.pulse.begin(now.monotonic);
        self.told |= self.v4.begin(now) | self.v6.begin(now);
        self.take(events);
        if is_due(self.due.first) {
            self.due.first = now.monotonic + FIRST_EVERY;
            let also_kube_proxy = self.around.comes_before_kube_proxy();
            self.v4.keep_first(also_kube_proxy, now);
            self.v6.keep_first(also_kube_proxy, now);
        }
        if std::mem::take(&mut self.told) || self.next_try().is_some_and(is_due) {
            self.sync(now);
        }
        let mut loaded = false;
        if self.due.tidy.is_some_and(is_due) {
            self.due.tidy = None;
            self.v4.tidy();
            self.v6.tidy();
            loaded = !std::mem::replace(&mut self.due.loaded, self.index.complete()) && self.due.loaded;
        }
        if self.v4.untidy() || self.v6.untidy() {
            self.due.tidy.get_or_insert(now.monotonic + TIDY_AFTER);
        }
        self.pulse.end();
        let others = self.next_try().into_iter().chain(self.due.tidy);
        Wake {
            at: others.fold(self.due.first, Instant::min),
            loaded,
        }
    }

    /// Takes events in their order. Nothing reaches the kernel before [`Self::step`].
    pub fn take(&mut self, events: impl IntoIterator<Item = Event>) {
        for mut event in events {
            self.told = true;
            match &mut event {
                Event::Reach(kind, Reach::Lost(reason)) => {
                    *reason = self.around.with_server(std::mem::take(reason));
                    tracing::warn!(%kind, "cannot be read: {reason}; what is known stays in the kernel");
                }
                Event::Reach(kind, Reach::Watching) => tracing::info!(%kind, "watching"),
                Event::Configured(settings) => {
                    self.reconfigured |= self.settings != **settings;
                    self.settings.clone_from(settings);
                }
                Event::TakeOver => {
                    self.role = Role::Serves;
                    // Before, nothing counted as missing.
                    self.look = true;
                }
                Event::Listed(_) | Event::Deleted(ObjectKind::Node, ..) | Event::Applied(Object::Node(_), _) => {
                    self.look = true;
                }
                _ => {}
            }
            if let Event::NodeFact(around) = event {
                if let NodeFact::KubeProxy(kube_proxy) = &around {
                    self.reconfigured |= self.around.place() != kube_proxy.place;
                }
                if let NodeFact::Ahead(ahead) = &around {
                    self.reconfigured |= self.around.ahead() != *ahead;
                }
                self.v4.take_fact(&around);
                self.v6.take_fact(&around);
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
    fn sync(&mut self, now: Now) {
        let mut changed = ChangedServices::new();
        if self.serves() {
            changed = self.index.take_changed();
            let node_changed = self.index.take_node_changed() | std::mem::take(&mut self.reconfigured);
            let inputs = Inputs {
                services: self.index.services(),
                node: self.index.node().map(|node| &**node),
                last_listed: self.index.last_listed(),
                settings: &self.settings,
                place: self.around.place(),
                ahead: self.around.ahead(),
                service_cidrs: self.index.service_cidrs(),
                interfaces: self.index.interfaces(),
                time: now.wall,
            };
            self.v4.mark(&changed, node_changed, &inputs);
            self.v6.mark(&changed, node_changed, &inputs);
            self.v4.sync(&inputs, now);
            self.v6.sync(&inputs, now);
            if node_changed {
                self.node = self.index.node().map(|node| self.as_it_counts(node));
                self.look = true;
            }
        } else {
            self.node = self.index.node().cloned();
            self.v4.report();
            self.v6.report();
        }
        if std::mem::take(&mut self.look) {
            self.look_for_problems();
        }
        self.publish(&changed);
    }

    /// Whether what is known is brought to the kernel.
    fn serves(&self) -> bool {
        self.index.complete() && self.role == Role::Serves
    }

    /// The node's object, with the addresses that count although it does not list them any more.
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

    /// Logs each problem of the node once, when it begins.
    fn look_for_problems(&mut self) {
        let facts = Facts {
            settings: &self.settings,
            complete: self.serves(),
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

    /// When a family has something to try again.
    fn next_try(&self) -> Option<Instant> {
        [self.v4.next_try(), self.v6.next_try()].into_iter().flatten().min()
    }

    fn publish(&self, changed: &ChangedServices) {
        self.published.store(Arc::new(Snapshot {
            started: self.started,
            complete: self.serves(),
            listed: self.index.complete(),
            stands_by: self.role == Role::StandsBy,
            kube_proxy: self.around.kube_proxy(),
            services: self.index.services().clone(),
            slices: self.index.slice_count(),
            node: self.node.clone(),
            problems: self.problems.clone(),
            node_name: Arc::clone(&self.settings.node_name),
            usual_choice: self.settings.usual_choice,
            interfaces: self.index.interfaces().clone(),
            node_v4: self.v4.node_rows().clone(),
            node_v6: self.v6.node_rows().clone(),
            reach: self.index.reach().clone(),
            notices: self.index.notices().clone(),
            faults: self.index.faults().clone(),
            v4: self.v4.status().clone(),
            v6: self.v6.status().clone(),
        }));
        // The snapshot is published before anybody is told of it.
        self.followers.tell(changed);
        self.changes.send_replace(());
    }
}
