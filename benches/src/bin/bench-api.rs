//! What a node costs the API server, and how soon it is programmed after its start: Tandem and the real kube-proxy, one
//! after the other on the same cluster. At the end, both run for an hour in which nothing happens.

use std::hint::black_box;
use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use http::Method;
use serde_json::{Value, json};
use tandem::event::ObjectKind;
use tandem::fuzzing::Events;
use tandem_benches::audit::Audit;
use tandem_benches::memory::Memory;
use tandem_benches::population::{NAMESPACE, endpoints, load, slice_name};
use tandem_benches::proxies::cluster_ips;
use tandem_benches::report::{Samples, note, print, print_us, setting};
use tandem_benches::sockets::Sockets;
use tandem_benches::synthetic::{DUAL_STACK, NODE, Shape};
use tandem_tests::cluster::{Cluster, Program, path};
use tandem_tests::generations::Generations;
use tandem_tests::scratch::Scratch;
use tandem_tests::tandem::{Tandem, is_ready};

/// How long a start, or the end of all changes, may take.
const PATIENCE: Duration = Duration::from_mins(10);
/// If no change of the tables begins for this long, the proxy has done all that it knows of.
const QUIET: Duration = Duration::from_secs(2);
/// The time between two changes. Each is a message of its own.
const PACE: Duration = Duration::from_millis(50);
/// The node of whichever proxy is measured, and the node of kube-proxy in the idle hour.
const MEASURED: u8 = 1;
const BESIDE: u8 = 2;
/// The slice that is decoded.
const WIDE: &str = "wide";
const WIDE_ENDPOINTS: u32 = 100;
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

fn main() -> Result<()> {
    let shape = Shape::dual_stack(setting("SERVICES", 10_000)?, 3);
    let (starts, changes) = (setting("STARTS", 3)?, setting("CHANGES", 200)?);
    let idle: u32 = setting("IDLE_MINUTES", 60)?;
    let folder = Scratch::new("audit")?;
    let audit = Audit::within(folder.path())?;
    let [policy, log] = audit.arguments();
    let cluster = Cluster::start_by(2, &[&policy, &log])?;
    decode(&cluster)?;
    load(&cluster, shape)?;
    let bench = Bench {
        generations: Generations::watch(&cluster.node(MEASURED)?.namespace)?,
        cluster,
        shape,
    };

    let ours = bench.measure("tandem", starts, changes)?;
    let theirs = bench.measure("kube-proxy", starts, changes)?;

    print("api_connections", ours.connections);
    print("kube_proxy_api_connections", theirs.connections);
    print_ratio("api_start_bytes_ratio", ours.start, theirs.start)?;
    print_ratio("api_change_bytes_ratio", ours.changes, theirs.changes)?;
    let millis = |times: &Samples| format!("{:.0}", times.median().as_secs_f64() * 1e3);
    print("start_to_programmed_ms", millis(&ours.times));
    print("kube_proxy_start_to_programmed_ms", millis(&theirs.times));
    print("start_peak_rss_mb", format_args!("{:.1}", ours.peak));
    print("kube_proxy_start_peak_rss_mb", format_args!("{:.1}", theirs.peak));
    if idle > 0 {
        bench.idle(&audit, idle)?;
    }
    Ok(())
}

/// A proxy that runs.
enum Running {
    Tandem(Box<Tandem>),
    KubeProxy(Program),
}

/// What a proxy costs.
#[derive(Default)]
struct Cost {
    connections: usize,
    /// Bytes that arrived from the API server at the last start.
    start: u64,
    /// Bytes that arrived during the changes.
    changes: u64,
    /// From each start of the process to the last row.
    times: Samples,
    /// The largest memory of a start, in MB.
    peak: f64,
}

struct Bench {
    generations: Generations,
    cluster: Cluster,
    shape: Shape,
}

impl Running {
    fn tandem(cluster: &Cluster, node: u8) -> Result<Self> {
        let plan = Tandem::on(cluster.node(node)?).kubeconfig(&cluster.tandem_kubeconfig());
        Ok(Self::Tandem(Box::new(plan.start()?)))
    }

    fn kube_proxy(cluster: &Cluster, node: u8) -> Result<Self> {
        Ok(Self::KubeProxy(cluster.start_kube_proxy(node)?))
    }

    fn pid(&self) -> Result<u32> {
        match self {
            Self::Tandem(tandem) => tandem.pid().context("tandem has ended"),
            Self::KubeProxy(proxy) => Ok(proxy.pid()),
        }
    }

    /// Whether it has programmed every Service on its node.
    fn is_complete(&mut self, cluster: &Cluster, node: u8, services: usize) -> Result<bool> {
        let node = &cluster.node(node)?.namespace;
        let (table, ready) = match self {
            Self::Tandem(tandem) => ("tandem", tandem.status().is_ok_and(|status| is_ready(&status))),
            Self::KubeProxy(proxy) => ("kube-proxy", proxy.check().map(|()| true)?),
        };
        Ok(ready && cluster_ips(node, "ip", table)? >= services && cluster_ips(node, "ip6", table)? >= services)
    }

    /// Waits until it has programmed every Service.
    fn wait(&mut self, cluster: &Cluster, node: u8, services: usize) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !self.is_complete(cluster, node, services)? {
            ensure!(Instant::now() < deadline, "not programmed after {PATIENCE:?}");
            thread::sleep(QUIET);
        }
        Ok(())
    }
}

impl Bench {
    fn services(&self) -> usize {
        self.shape.services as usize
    }

    fn sockets(&self) -> Result<Sockets> {
        Sockets::of(&self.cluster.node(MEASURED)?.namespace)
    }

    /// Removes a proxy's tables, if they are there.
    fn clear(&self, table: &str) -> Result<()> {
        let node = &self.cluster.node(MEASURED)?.namespace;
        for family in ["ip", "ip6"] {
            let tables = node.exec(&["nft", "list", "tables", family])?;
            if tables.lines().any(|line| line == format!("table {family} {table}")) {
                node.exec(&["nft", "delete", "table", family, table])?;
            }
        }
        self.generations.settle(QUIET, PATIENCE)
    }

    /// Starts a proxy on empty tables this number of times, then changes slices.
    fn measure(&self, whose: &str, starts: u32, changes: u32) -> Result<Cost> {
        note(format_args!("{whose} begins"));
        let (mut cost, mut running) = (Cost::default(), None);
        for _ in 0..starts {
            drop(running.take());
            self.clear(whose)?;
            running = Some(self.start(whose, &mut cost)?);
        }
        let mut proxy = running.context("STARTS is 0")?;
        cost.changes = self.change(changes, &mut proxy)?;
        drop(proxy);
        self.clear(whose)?;
        Ok(cost)
    }

    /// Starts a proxy, and waits until it has programmed everything.
    fn start(&self, whose: &str, cost: &mut Cost) -> Result<Running> {
        let before = self.sockets()?.opened;
        self.generations.forget();
        let began = Instant::now();
        let mut proxy = match whose {
            "tandem" => Running::tandem(&self.cluster, MEASURED)?,
            _ => Running::kube_proxy(&self.cluster, MEASURED)?,
        };
        let (mut last, mut complete) = (began, false);
        loop {
            ensure!(began.elapsed() < PATIENCE, "not programmed after {PATIENCE:?}");
            if let Some(at) = self.generations.next(QUIET) {
                last = at;
            } else if complete {
                break;
            } else {
                // What began while this was asked is taken in the next round.
                complete = proxy.is_complete(&self.cluster, MEASURED, self.services())?;
            }
        }
        let sockets = self.sockets()?;
        ensure!(
            sockets.opened - before == sockets.locals.len() as u64,
            "{} connections were opened, of which {} stand: the bytes of the others are not known",
            sockets.opened - before,
            sockets.locals.len()
        );
        (cost.connections, cost.start) = (sockets.locals.len(), sockets.received);
        cost.times.push(last - began);
        cost.peak = cost.peak.max(Memory::of(proxy.pid()?)?.peak);
        Ok(proxy)
    }

    /// Changes slices, each twice. Returns how many bytes arrive at the node meanwhile.
    fn change(&self, changes: u32, proxy: &mut Running) -> Result<u64> {
        let before = self.sockets()?;
        for i in 0..changes {
            let (n, more) = (i / 2 * 37 % self.shape.services, 1 - i % 2);
            let family = DUAL_STACK[i as usize / 2 % 2];
            let at = path("EndpointSlice", NAMESPACE, &slice_name(n, family))?;
            let change = endpoints(self.shape, n, family, more);
            self.cluster.api().call_timed(Method::PATCH, &at, Some(&change))?;
            thread::sleep(PACE);
        }
        self.generations.settle(QUIET, PATIENCE)?;
        proxy.pid()?;
        self.sockets()?.since(&before)
    }

    /// Counts the requests of both proxies, each on a node of its own, while nothing happens.
    fn idle(&self, audit: &Audit, minutes: u32) -> Result<()> {
        let mut tandem = Running::tandem(&self.cluster, MEASURED)?;
        let mut proxy = Running::kube_proxy(&self.cluster, BESIDE)?;
        tandem.wait(&self.cluster, MEASURED, self.services())?;
        proxy.wait(&self.cluster, BESIDE, self.services())?;
        thread::sleep(Duration::from_mins(1));
        let bytes = |number| Ok::<_, anyhow::Error>(Sockets::of(&self.cluster.node(number)?.namespace)?.received);
        let before = [bytes(MEASURED)?, bytes(BESIDE)?];
        for number in [MEASURED, BESIDE] {
            let from = IpAddr::V4(self.cluster.node(number)?.v4);
            ensure!(audit.count(from, 0)? > 0, "the audit log names no request from {from}");
        }
        let end = audit.end()?;
        note(format_args!("{minutes} idle minutes begin"));
        thread::sleep(Duration::from_mins(1) * minutes);
        for (number, at, whose) in [(MEASURED, 0, ""), (BESIDE, 1, "kube_proxy_")] {
            let from = IpAddr::V4(self.cluster.node(number)?.v4);
            let hours = f64::from(minutes) / 60.0;
            let count = u32::try_from(audit.count(from, end)?)?;
            print(
                &format!("{whose}api_requests_per_hour"),
                format_args!("{:.1}", f64::from(count) / hours),
            );
            let received = bytes(number)?.saturating_sub(before[at]);
            note(format_args!(
                "{received} bytes in {minutes} minutes from {from}'s API server"
            ));
        }
        tandem.pid()?;
        proxy.pid()?;
        Ok(())
    }
}

fn print_ratio(name: &str, ours: u64, theirs: u64) -> Result<()> {
    note(format_args!("{name}: {ours} bytes, and kube-proxy {theirs}"));
    let [ours, theirs] = [u32::try_from(ours)?, u32::try_from(theirs)?].map(f64::from);
    print(name, format_args!("{:.3}", ours / theirs));
    Ok(())
}

/// How long an event of a slice with many endpoints takes to decode, from bytes, in both encodings.
fn decode(cluster: &Cluster) -> Result<()> {
    cluster.api().create(&wide())?;
    let all = path("EndpointSlice", NAMESPACE, "")?;
    let watch = format!("{all}?watch=1&resourceVersion=0&timeoutSeconds=1&fieldSelector=metadata.name%3D{WIDE}");
    let (binary, text) = (
        cluster.api().bytes(&watch, PROTOBUF)?,
        cluster.api().bytes(&watch, "application/json")?,
    );
    let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let (length, rest) = binary.split_first_chunk::<4>().context("no event in protobuf")?;
    let frame = rest
        .get(..u32::from_be_bytes(*length) as usize)
        .context("half an event in protobuf")?;
    let events = Events::of(ObjectKind::EndpointSlice, NODE);
    ensure!(
        format!("{:?}", events.line(line)) == format!("{:?}", events.frame(frame)) && events.line(line).is_some(),
        "the two encodings make different events"
    );
    note(format_args!(
        "a slice of {WIDE_ENDPOINTS} endpoints: {} bytes, {} in JSON",
        frame.len(),
        line.len()
    ));
    let rounds: u32 = setting("DECODE_ROUNDS", 5000)?;
    let (mut protobuf, mut json) = (Samples::default(), Samples::default());
    for _ in 0..rounds {
        // The two take turns, so that both meet the same disturbances.
        protobuf.push(timed(|| events.frame(black_box(frame))));
        json.push(timed(|| events.line(black_box(line))));
    }
    print_us("decode_slice_us_p50", protobuf.median());
    print_us("decode_slice_json_us_p50", json.median());
    Ok(())
}

fn timed<T>(work: impl FnOnce() -> T) -> Duration {
    let began = Instant::now();
    let made = black_box(work());
    let took = began.elapsed();
    drop(made);
    took
}

fn wide() -> Value {
    let endpoint = |n: u32| {
        json!({
            "addresses": [format!("10.250.{}.{}", n / 200, n % 200 + 1)],
            "conditions": { "ready": true, "serving": true, "terminating": false },
            "nodeName": format!("node{}", n % 20 + 1),
            "targetRef": { "kind": "Pod", "namespace": NAMESPACE, "name": format!("wide-{n:05}"), "uid": format!("5d2fa3c4-9f1e-4f0a-8c33-{n:012}") },
            "zone": "zone-a",
        })
    };
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": { "namespace": NAMESPACE, "name": WIDE, "labels": { "kubernetes.io/service-name": WIDE } },
        "addressType": "IPv4",
        "ports": [{ "name": "http", "protocol": "TCP", "port": 8080 }],
        "endpoints": (0..WIDE_ENDPOINTS).map(endpoint).collect::<Vec<_>>(),
    })
}
