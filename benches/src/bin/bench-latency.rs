//! The time from the API server's answer to a PATCH of one EndpointSlice to the kernel's new generation of its ruleset.
//! First Tandem, then the real kube-proxy, on the same node of the same real control plane.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use http::Method;
use tandem_benches::memory::Memory;
use tandem_benches::population::{NAMESPACE, endpoints, load, slice_name};
use tandem_benches::proxies::cluster_ips;
use tandem_benches::report::{Samples, note, print, print_ms, setting};
use tandem_benches::synthetic::{DUAL_STACK, Shape};
use tandem_tests::cluster::{Api, Cluster, path};
use tandem_tests::generations::Generations;
use tandem_tests::tandem::Tandem;

/// How long a change, or a first synchronisation, may take.
const PATIENCE: Duration = Duration::from_mins(5);

/// How long changes took.
#[derive(Default)]
struct Latency {
    /// The time from the API server's answer; zero if the kernel was first.
    answer: Samples,
    /// The time from the request.
    request: Samples,
}

fn main() -> Result<()> {
    let shape = Shape::dual_stack(setting("SERVICES", 1000)?, 3);
    let (changes, proxy_changes) = (setting("CHANGES", 200)?, setting("KUBE_PROXY_CHANGES", 20)?);
    let cluster = Cluster::start(1)?;
    load(&cluster, shape)?;
    let node = &cluster.node(1)?.namespace;
    let generations = Generations::watch(node)?;
    let bench = Bench {
        api: cluster.api(),
        generations,
        shape,
    };

    let mut tandem = Tandem::on(cluster.node(1)?)
        .kubeconfig(&cluster.tandem_kubeconfig())
        .start()?;
    tandem.wait_ready()?;
    let ours = bench.measure(changes, Duration::from_millis(50))?;
    let memory = Memory::of(tandem.pid().context("tandem has ended")?)?;
    tandem.kill()?;
    drop(tandem);
    ours.print("");
    print("rss_mb", format_args!("{:.1}", memory.now));

    for family in ["ip", "ip6"] {
        node.exec(&["nft", "delete", "table", family, "tandem"])?;
    }
    note("kube-proxy begins");
    let started = Instant::now();
    let mut proxy = cluster.start_kube_proxy(1)?;
    for family in ["ip", "ip6"] {
        while cluster_ips(node, family, "kube-proxy")? < shape.services as usize {
            proxy.check()?;
            ensure!(
                started.elapsed() < PATIENCE,
                "kube-proxy is not ready after {PATIENCE:?}:\n{}",
                proxy.log()?
            );
            thread::sleep(Duration::from_secs(1));
        }
    }
    note(format_args!(
        "kube-proxy was ready after about {:.0} s",
        started.elapsed().as_secs_f64()
    ));
    // kube-proxy writes at most once a second. A change within that second would have to wait.
    let theirs = bench.measure(proxy_changes, Duration::from_secs(3))?;
    theirs.print("kube_proxy_");
    print("kube_proxy_rss_mb", format_args!("{:.1}", Memory::of(proxy.pid())?.now));
    let ratio = |ours: &Samples, theirs: &Samples| theirs.median().as_secs_f64() / ours.median().as_secs_f64();
    print(
        "latency_ratio",
        format_args!("{:.1}", ratio(&ours.answer, &theirs.answer)),
    );
    print(
        "latency_from_request_ratio",
        format_args!("{:.1}", ratio(&ours.request, &theirs.request)),
    );
    Ok(())
}

struct Bench<'a> {
    api: &'a Api,
    generations: Generations,
    shape: Shape,
}

impl Bench<'_> {
    /// Changes one slice after the other, each when the last change is long done.
    fn measure(&self, changes: u32, quiet: Duration) -> Result<Latency> {
        let mut latency = Latency::default();
        for i in 0..changes {
            let (n, more) = (i / 2 * 37 % self.shape.services, 1 - i % 2);
            let family = DUAL_STACK[i as usize / 2 % 2];
            let (at, change) = (
                path("EndpointSlice", NAMESPACE, &slice_name(n, family))?,
                endpoints(self.shape, n, family, more),
            );
            self.generations.settle(quiet, PATIENCE)?;
            let sent = Instant::now();
            let (_, answered) = self.api.call_timed(Method::PATCH, &at, Some(&change))?;
            let programmed = self.generations.next(PATIENCE).context("the ruleset did not change")?;
            latency.answer.push(programmed.saturating_duration_since(answered));
            latency.request.push(programmed.saturating_duration_since(sent));
        }
        Ok(latency)
    }
}

impl Latency {
    fn print(&self, whose: &str) {
        print_ms(&format!("{whose}latency_ms_p50"), self.answer.median());
        print_ms(&format!("{whose}latency_ms_p99"), self.answer.percentile(99));
        print_ms(&format!("{whose}latency_from_request_ms_p50"), self.request.median());
        print_ms(
            &format!("{whose}latency_from_request_ms_p99"),
            self.request.percentile(99),
        );
    }
}
