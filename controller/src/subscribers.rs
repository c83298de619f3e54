//! The parts that read what the engine publishes and act on it by themselves: health checks, nodePorts on loopback
//! addresses, Events. None of them can hold the engine up.

use std::sync::Arc;

use arc_swap::ArcSwap;
use kube::Client;
use tokio::sync::{mpsc, watch};

use crate::config::Settings;
use crate::engine::{Changed, Engine, Snapshot};
use crate::health::{self, HardFail};
use crate::loopback;
use crate::recorder::{self, Fault, Recorder};

/// All of them, not yet running.
pub struct Subscribers {
    health: health::Engine,
    loopback: Option<Changed>,
    recorder: Recorder,
}

/// The one that needs the API server.
pub struct Reporter {
    client: Client,
    node: String,
    told: mpsc::Receiver<Fault>,
    news: watch::Receiver<()>,
    published: Arc<ArcSwap<Snapshot>>,
}

impl Subscribers {
    /// Those that the settings ask for. Events need an API server to write them to.
    pub fn new(engine: &mut Engine, settings: &Settings, client: Option<&Client>) -> (Self, Option<Reporter>) {
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
            loopback: settings.node_port_loopback.then(|| engine.follow()),
            recorder,
        };
        (subscribers, reporter)
    }

    /// Runs them until one of the agent's own addresses cannot be had and the settings say that this is the end.
    pub async fn run(self, settings: watch::Receiver<Arc<Settings>>) -> HardFail {
        if let Some(changed) = self.loopback {
            let (news, published) = (self.health.news.clone(), Arc::clone(&self.health.published));
            tokio::spawn(loopback::run(news, changed, published, settings.clone()));
        }
        health::run(self.health, settings, self.recorder).await
    }
}

impl Reporter {
    /// Writes Events, for ever.
    pub async fn run(self) {
        recorder::run(self.client, &self.node, self.told, self.news, self.published).await;
    }
}
