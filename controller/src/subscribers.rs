//! The parts that follow the engine's snapshots and act on them by themselves: health checks, nodePorts on loopback
//! addresses, Events. None of them can delay the engine.

use std::sync::Arc;

use arc_swap::ArcSwap;
use kube::Client;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::config::Settings;
use crate::engine::{Changed, Engine, Snapshot};
use crate::event::Event;
use crate::health::{self, HardFail};
use crate::kube_proxy::HealthAddress;
use crate::loopback;
use crate::recorder::{self, Fault, Recorder};

/// All parts, not yet running.
pub struct Subscribers {
    health: health::Engine,
    health_address: HealthAddress,
    loopback: Option<Changed>,
    recorder: Recorder,
}

/// The part that needs the API server.
pub struct Reporter {
    client: Client,
    node: String,
    told: mpsc::Receiver<Fault>,
    news: watch::Receiver<()>,
    published: Arc<ArcSwap<Snapshot>>,
}

impl Subscribers {
    /// Makes the parts that the settings ask for. Events need a client of an API server. `events` reach the engine.
    pub fn new(
        engine: &mut Engine,
        events: &mpsc::Sender<Event>,
        settings: &Settings,
        client: Option<&Client>,
    ) -> (Self, Option<Reporter>) {
        let node = &settings.node_name;
        let (recorder, reporter) = if let Some(client) = client.filter(|_| settings.events) {
            let (recorder, told) = Recorder::new(node);
            let reporter = Reporter {
                client: client.clone(),
                node: node.clone(),
                told,
                news: engine.changes(),
                published: engine.published(),
            };
            (recorder, Some(reporter))
        } else {
            (Recorder::silent(node), None)
        };
        let subscribers = Self {
            health: health::Engine {
                published: engine.published(),
                pulse: engine.pulse(),
                news: engine.changes(),
                changed: engine.follow(),
            },
            health_address: HealthAddress {
                address: settings.healthz_bind_address,
                hard_fail: settings.bind_address_hard_fail,
                removes: settings.remove_kube_proxy_rules,
                events: events.clone(),
                published: engine.published(),
                news: engine.changes(),
            },
            loopback: settings.node_port_loopback.then(|| engine.follow()),
            recorder,
        };
        (subscribers, reporter)
    }

    /// Runs them until `end` is cancelled. Also returns if one of the agent's own addresses cannot be bound and the settings
    /// say that the agent then ends.
    pub async fn run(self, settings: watch::Receiver<Arc<Settings>>, end: CancellationToken) -> Result<(), HardFail> {
        if let Some(changed) = self.loopback {
            let (news, published) = (self.health.news.clone(), Arc::clone(&self.health.published));
            tokio::spawn(loopback::run(news, changed, published, settings.clone()));
        }
        health::run(self.health, self.health_address, settings, self.recorder, end).await
    }
}

impl Reporter {
    /// Writes Events. It never returns.
    pub async fn run(self) {
        recorder::run(self.client, &self.node, self.told, self.news, self.published).await;
    }
}
