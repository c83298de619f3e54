//! Load balancers, kubelets and autoscalers ask a node's service proxy for its health. The answers are those of
//! kube-proxy: `/healthz` and `/livez`, the health checks of Services, and the plain pages beside the metrics.
//!
//! This module only reads published snapshots. [`verdict`] defines what healthy means.

mod metrics;
mod node_port;
mod proxy;
mod verdict;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime};

use arc_swap::ArcSwap;
use http::{Request, Response};
use hyper::body::Incoming;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::Settings;
use crate::engine::{Changed, Pulse, Snapshot};
use crate::http::{Connections, Limits, serve};
use crate::kube_proxy::HealthAddress;
use crate::listeners::{Listeners, RETRY, bind_everywhere};
use crate::recorder::Recorder;
use node_port::HealthChecks;
use verdict::{FamilyHealth, Health};

/// The data for all answers.
struct Shared {
    published: Arc<ArcSwap<Snapshot>>,
    pulse: Arc<Pulse>,
    health: Mutex<Health>,
}

impl Shared {
    fn families(&self) -> [Option<FamilyHealth>; 2] {
        let health = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        health.families(Instant::now(), self.pulse.at_work())
    }

    fn healthy(&self) -> bool {
        self.families().iter().flatten().all(|family| family.healthy)
    }
}

/// Why the agent must end.
#[derive(Debug, thiserror::Error)]
#[error("{field}: {address}: cannot listen: {source}; the agent ends because bindAddressHardFail is true")]
pub struct HardFail {
    field: &'static str,
    address: SocketAddr,
    source: io::Error,
}

/// What the health checks need from the engine.
pub struct Engine {
    /// The snapshot that it published last.
    pub published: Arc<ArcSwap<Snapshot>>,
    /// Whether it is stuck.
    pub pulse: Arc<Pulse>,
    /// A signal for each new snapshot.
    pub news: watch::Receiver<()>,
    /// The Services that changed.
    pub changed: Changed,
}

/// Serves everything, at the health check address as long as `health_address` has it. Returns if an address cannot be
/// bound and the settings say that the agent then ends, or when `end` is cancelled.
pub(crate) async fn run(
    engine: Engine,
    health_address: HealthAddress,
    settings: watch::Receiver<Arc<Settings>>,
    recorder: Recorder,
    end: CancellationToken,
) -> Result<(), HardFail> {
    let shared = Arc::new(Shared {
        published: Arc::clone(&engine.published),
        pulse: engine.pulse,
        health: Mutex::default(),
    });
    let now = settings.borrow().clone();
    let hard_fail = now.bind_address_hard_fail;
    let proxy = {
        let shared = Arc::clone(&shared);
        move |request: &Request<Incoming>| proxy::answer(&shared, request.uri().path())
    };
    let metrics = |request: &Request<Incoming>| metrics::answer(request.uri());
    let connections = Connections::new(Limits::strangers());
    let checks = HealthChecks {
        shared: Arc::clone(&shared),
        connections: Arc::clone(&connections),
        recorder,
    };
    tokio::spawn(watch_health(shared, engine.news.clone()));
    tokio::spawn(Listeners::new(checks).follow(engine.news, engine.changed, engine.published, settings));
    let kept = health_address.keep(
        |listener| tokio::spawn(serve(listener, connections.room(), proxy.clone())),
        end,
    );
    tokio::select! {
        kept = kept => kept.map_err(|(address, source)| HardFail { field: "healthzBindAddress", address, source }),
        error = serve_at("metricsBindAddress", now.metrics_bind_address, hard_fail, &connections, metrics) => Err(error),
    }
}

async fn watch_health(shared: Arc<Shared>, mut news: watch::Receiver<()>) {
    while news.changed().await.is_ok() {
        let snapshot = shared.published.load();
        let mut health = shared.health.lock().unwrap_or_else(PoisonError::into_inner);
        health.see(&snapshot, Instant::now(), SystemTime::now());
    }
}

/// Serves one of the agent's own addresses. If it cannot be bound, that is logged once, and tried again until it works.
async fn serve_at<A>(
    field: &'static str,
    address: Option<SocketAddr>,
    hard_fail: bool,
    connections: &Arc<Connections>,
    answer: A,
) -> HardFail
where
    A: Fn(&Request<Incoming>) -> Response<String> + Clone + Send + 'static,
{
    let Some(address) = address else {
        return std::future::pending().await;
    };
    let mut told = false;
    loop {
        match bind_everywhere(address) {
            Ok(listener) => {
                tracing::info!(%address, "{field}: listening");
                serve(listener, connections.room(), answer.clone()).await;
            }
            Err(source) if hard_fail => {
                return HardFail { field, address, source };
            }
            Err(error) => {
                if !std::mem::replace(&mut told, true) {
                    tracing::error!(%address, "{field}: cannot listen: {error}; tried again until it works");
                }
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}
