//! Connects all parts of the running agent. Sources and interfaces send events to the engine. The engine owns the
//! tables and publishes snapshots, from which the local API answers.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use kube::Client;
use tandem_core::family::{V4, V6};
use tandem_nft::NftTable;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::api::{Rules, Server, SocketError};
use crate::cluster::{self, Http};
use crate::config::{Live, Loaded, Settings, Sources};
use crate::engine::{Engine, Follow, Now, Seat, Snapshot};
use crate::event::{ApiServer, Event, NodeFact};
use crate::flows::{Reconciler, RecordsSeat, Report};
use crate::health::HardFail;
use crate::interfaces::Interfaces;
use crate::kube_proxy;
use crate::node_facts;
use crate::node_settings::NodeSettings;
use crate::routes;
use crate::source::directory;
use crate::standing::{Held, Standing};
use crate::subscribers::Subscribers;
use crate::sysctl;
use crate::xdp;

/// How many events may wait for the engine. If a source lists faster than the kernel takes rows, it waits here.
const WAITING: usize = 16_384;

/// How long it may take to give way to a kube-proxy at the end.
const LAST: Duration = Duration::from_secs(2);

/// Why the agent ended: one line for people.
type AgentError = Box<dyn std::error::Error>;

/// Sets what is logged from now on.
pub type SetLogFilter = Box<dyn Fn(&str) + Send>;

/// Where objects come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A Kubernetes API server.
    Kubernetes,
    /// A folder of manifests.
    Directory(PathBuf),
}

/// Runs all parts until a signal comes or one part must end. While another agent serves the node, it only reads.
pub async fn run(
    configured: Sources,
    loaded: Loaded,
    source: Source,
    standing: Standing,
    log: SetLogFilter,
) -> Result<(), AgentError> {
    // The first process of a container ends at a signal only if it asks for it.
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let live = Live::new(configured, loaded);
    let (settings, files) = (live.settings(), live.state());
    let objects = Objects::find(source, &settings).await?;
    let server = match Server::bind(&settings.socket) {
        // It belongs to the agent that serves the node.
        Err(SocketError::Taken(_)) if standing.is_by() => None,
        server => Some(server?),
    };
    let (events, received) = channel(WAITING);
    let stop = CancellationToken::new();

    let (mut engine, flows, seats, records) = engine(&settings)?;
    let published = engine.published();
    let (routes_on, routes_enabled) = watch::channel(settings.service_routes);
    let keeping_routes = routes::run(engine.published(), engine.changes(), routes_enabled);
    let (now, current) = watch::channel(settings.clone());
    let asked = current.clone();
    let mut keeper = xdp::Keeper::new(current.clone(), seats, records, engine.published(), events.clone());
    let sockets = keeper.report();
    let (subscribers, reporter) = Subscribers::new(&mut engine, &events, &settings, objects.client());
    let stands_by = standing.is_by();
    if stands_by {
        engine.stand_by();
    } else {
        keeper.begin();
    }
    tracing::info!(node = %settings.node_name, version = env!("CARGO_PKG_VERSION"), "tandem starts");
    let owner = own(engine, received, stop.clone())?;
    let lock = standing.lock();
    follow_network(events.clone(), keeping_routes).await?;
    gather_facts(&events)?;
    follow_configuration(live, lock.held(), events.clone(), routes_on, now, log)?;
    let end = CancellationToken::new();
    let ending = end.clone();
    let mut serving = Box::pin(serve(
        standing,
        keeper,
        events.clone(),
        current.clone(),
        end.clone(),
        async move {
            reporter.map(|reporter| tokio::spawn(reporter.run()));
            subscribers.run(current, ending).await
        },
    ));
    let (socket, rules) = (settings.socket.clone(), move |snapshot: &Snapshot| {
        Rules::of(&asked.borrow(), snapshot)
    });
    let answering = tokio::spawn(async move {
        let server = match server {
            Some(server) => server,
            None => Server::bind_when_free(&socket).await?,
        };
        server.run(published, files, flows, sockets, rules).await;
        Ok::<_, SocketError>(())
    });

    look_first(&events, settings.healthz_bind_address.filter(|_| !stands_by)).await;
    let result = tokio::select! {
        result = objects.read(&settings, events) => result,
        ended = &mut serving => return after(ended, stop, owner).await,
        answered = answering => match answered {
            Ok(Err(error)) => Err(error.into()),
            _ => Err("the local API ended".into()),
        },
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    };
    end.cancel();
    // The last thing that it does is little. If it hangs, the tables stay where they stand.
    let _ = timeout(LAST, serving).await;
    after(result, stop, owner).await
}

/// The seats of IPv4's and IPv6's followers.
type Seats = (Seat<V4>, Seat<V6>);

/// The places of IPv4's and IPv6's records of flows.
type RecordsSeats = (RecordsSeat<V4>, RecordsSeat<V6>);

/// The engine, with everybody who looks at what the kernel holds: what they report of flows, and the seats of followers
/// and of records.
fn engine(settings: &Settings) -> Result<(Engine, [Report; 2], Seats, RecordsSeats), AgentError> {
    let (v4, v6) = (NftTable::opener(), NftTable::opener());
    let mut engine = Engine::new(node_settings(settings), v4, v6, Now::read());
    // A follower is told of a change before the flows are judged by it.
    let ((follow_v4, seat_v4), (follow_v6, seat_v6)) = (Follow::new(Now::read()), Follow::new(Now::read()));
    engine.observe(follow_v4, follow_v6);
    let (flows_v4, flows_v6) = (Reconciler::start()?, Reconciler::start()?);
    let flows = [flows_v4.report(), flows_v6.report()];
    let records = (flows_v4.seat(), flows_v6.seat());
    engine.observe(flows_v4, flows_v6);
    Ok((engine, flows, (seat_v4, seat_v6), records))
}

/// Gives the engine a thread of its own. It waits for the kernel in system calls, and the other parts must not wait with it.
fn own(
    engine: Engine,
    received: Receiver<Event>,
    stop: CancellationToken,
) -> std::io::Result<thread::JoinHandle<std::io::Result<()>>> {
    thread::Builder::new().name("engine".into()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        runtime.block_on(engine.run(received, stop));
        Ok(())
    })
}

/// Waits until this agent serves the node, and then runs the parts that do so.
async fn serve(
    mut standing: Standing,
    mut keeper: xdp::Keeper,
    events: Sender<Event>,
    current: watch::Receiver<Arc<Settings>>,
    end: CancellationToken,
    parts: impl Future<Output = Result<(), HardFail>>,
) -> Result<(), AgentError> {
    if standing.is_by() {
        tokio::select! {
            acquired = standing.served() => acquired?,
            () = end.cancelled() => return Ok(()),
        }
        tracing::info!("takes over: the other tandem has ended");
        look_first(&events, current.borrow().healthz_bind_address).await;
        keeper.begin();
        // The engine is gone only if the agent ends.
        let _ = events.send(Event::TakeOver).await;
    }
    let settings = current.borrow().clone();
    sysctl::apply(Path::new("/"), &settings);
    keeper.run(end)?;
    Ok(parts.await?)
}

/// Tells the engine of a kube-proxy that runs already, before the engine opens the tables.
async fn look_first(events: &Sender<Event>, address: Option<SocketAddr>) {
    if let Some(kube_proxy) = kube_proxy::first_look(address).await {
        // The engine is gone only if the agent ends.
        let _ = events.send(Event::NodeFact(NodeFact::KubeProxy(kube_proxy))).await;
    }
}

/// Ends the engine, and then gives why the agent ended.
async fn after(
    result: Result<(), AgentError>,
    stop: CancellationToken,
    owner: thread::JoinHandle<std::io::Result<()>>,
) -> Result<(), AgentError> {
    stop.cancel();
    match tokio::task::spawn_blocking(move || owner.join()).await {
        Ok(Ok(Ok(()))) => tracing::info!("tandem stops; the tables stay as they are"),
        Ok(Ok(Err(error))) => return Err(error.into()),
        _ => return Err("the engine ended in a panic; the tables stay as they are".into()),
    }
    result
}

/// Which HTTP the API server is asked by. As in client-go, any value of this variable turns HTTP/2 off.
fn http() -> Http {
    match std::env::var_os("DISABLE_HTTP2") {
        Some(value) if !value.is_empty() => Http::One,
        _ => Http::Newest,
    }
}

/// A source of objects that can be read.
enum Objects {
    Cluster(Client, watch::Receiver<ApiServer>),
    Directory(PathBuf),
}

impl Objects {
    /// Makes the client, if one is needed. Everything that asks the API server shares it.
    async fn find(source: Source, settings: &Settings) -> Result<Self, AgentError> {
        Ok(match source {
            Source::Kubernetes => {
                let (kubeconfig, master) = (settings.kubeconfig.as_deref(), settings.master.as_deref());
                let (client, server) = cluster::connect(kubeconfig, master, http()).await?;
                tracing::info!("the API server is {}", server.borrow().name);
                Self::Cluster(client, server)
            }
            Source::Directory(path) => Self::Directory(path),
        })
    }

    fn client(&self) -> Option<&Client> {
        match self {
            Self::Cluster(client, _) => Some(client),
            Self::Directory(_) => None,
        }
    }

    /// Reads objects for as long as the source exists.
    async fn read(self, settings: &Settings, events: Sender<Event>) -> Result<(), AgentError> {
        let node_name = &settings.node_name;
        match self {
            Self::Cluster(client, server) => {
                tokio::spawn(tell_server(server, events.clone()));
                cluster::watch::run(client, node_name, &settings.ways, events).await;
            }
            Self::Directory(path) => directory::run(&path, node_name, events).await?,
        }
        Err("the source of objects ended".into())
    }
}

/// Tells the engine where the API server is: now, and when the kubeconfig says something else.
async fn tell_server(mut server: watch::Receiver<ApiServer>, events: Sender<Event>) {
    loop {
        let place = server.borrow_and_update().clone();
        let told = events.send(Event::NodeFact(NodeFact::ApiServer(place))).await;
        if told.is_err() || server.changed().await.is_err() {
            return;
        }
    }
}

/// Tells the engine which chains of other programs drop forwarded packets. This runs on a thread of its own, and nobody
/// waits for it.
fn gather_facts(events: &Sender<Event>) -> Result<(), AgentError> {
    let events = events.clone();
    thread::Builder::new()
        .name("node-facts".into())
        .spawn(move || node_facts::follow(&events))?;
    Ok(())
}

/// Starts the thread that speaks rtnetlink. It has a thread of its own, because the kernel's lock on its network
/// configuration may block it for long. It tells the engine the node's addresses: first before this function returns,
/// then at each change. It also keeps the routes.
async fn follow_network(
    events: Sender<Event>,
    keeping_routes: impl Future<Output = ()> + Send + 'static,
) -> Result<(), AgentError> {
    let (told, first) = oneshot::channel();
    thread::Builder::new().name("net".into()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let opened = Interfaces::open().and_then(|mut interfaces| Ok((interfaces.read()?, interfaces)));
            let (known, interfaces) = match opened {
                Ok(opened) => opened,
                Err(error) => return drop(told.send(Err(error))),
            };
            for event in known.clone().into_events() {
                let _ = events.send(event).await;
            }
            let _ = told.send(Ok(()));
            tokio::join!(interfaces.follow(known, events), keeping_routes);
        });
        Ok::<_, std::io::Error>(())
    })?;
    Ok(first.await??)
}

/// Follows the files on a thread of its own, and tells each part what changed.
fn follow_configuration(
    live: Live,
    lock: Held,
    events: Sender<Event>,
    routes_on: watch::Sender<bool>,
    now: watch::Sender<Arc<Settings>>,
    log: SetLogFilter,
) -> Result<(), AgentError> {
    let mut before = live.settings();
    let follow = live.follow(move |settings| {
        if settings.log_filter != before.log_filter {
            log(&settings.log_filter);
        }
        let changed = (settings.conntrack, settings.oom_score_adj) != (before.conntrack, before.oom_score_adj);
        // An agent that stands by applies them when it takes over.
        if changed && lock.now() {
            sysctl::apply(Path::new("/"), &settings);
        }
        routes_on.send_replace(settings.service_routes);
        now.send_replace(settings.clone());
        before = settings;
        events
            .blocking_send(Event::Configured(Box::new(node_settings(&before))))
            .is_ok()
    });
    Ok(follow?)
}

fn node_settings(settings: &Settings) -> NodeSettings {
    NodeSettings {
        node_name: settings.node_name.as_str().into(),
        detect_local: settings.detect_local.clone(),
        node_port_addresses: settings.node_port_addresses.clone(),
        masquerade_all: settings.masquerade_all,
        masquerade_bit: settings.masquerade_bit,
        drop_invalid: settings.drop_invalid,
        usual_choice: settings.xdp.pick,
    }
}
