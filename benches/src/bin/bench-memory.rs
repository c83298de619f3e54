//! How much memory the agent needs for a large cluster. The real program reads complete objects over HTTP. With
//! `DATA_PLANE=xdp`, it follows in sockets, too.

use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tandem_benches::api_server::ApiServer;
use tandem_benches::memory::{self, Memory};
use tandem_benches::report::{note, print, setting};
use tandem_benches::second;
use tandem_benches::synthetic::{DUAL_STACK, IPV4, NODE, Shape};
use tandem_tests::bpffs::BpfFolder;
use tandem_tests::cgroup::Cgroups;
use tandem_tests::eventually;
use tandem_tests::netns::Namespace;
use tandem_tests::scratch::Scratch;
use tandem_tests::tandem::Tandem;

/// How long the benchmark waits before it reads the memory. After this time, unused chains and the memory of the first
/// load are gone.
const REST: Duration = Duration::from_secs(6);
/// The time between two changes.
const PACE: Duration = Duration::from_millis(5);
const PATIENCE: Duration = Duration::from_mins(1);

fn main() -> Result<()> {
    let changes: u32 = setting("CHANGES", 2000)?;
    let only = std::env::var("SHAPE").ok();
    for (name, services, endpoints, families) in [
        ("10k_x10", 10_000, 10, DUAL_STACK),
        ("10k_x10_ipv4_only", 10_000, 10, IPV4),
        ("50k_x3", 50_000, 3, DUAL_STACK),
    ] {
        if only.as_ref().is_some_and(|only| only != name) {
            continue;
        }
        let shape = Shape {
            services,
            endpoints,
            families,
        };
        note(format_args!(
            "{services} Services x {endpoints} endpoints in each of {} families",
            families.len()
        ));
        let (before, after, kernel) = measure(shape, changes)?;
        let print_mb = |figure: String, value: f64| print(&figure, format_args!("{value:.1}"));
        print_mb(format!("rss_{name}_mb"), after.now);
        print_mb(format!("rss_{name}_before_changes_mb"), before.now);
        print_mb(format!("rss_{name}_peak_mb"), after.peak);
        print_mb(format!("kernel_tables_{name}_mb"), kernel);
    }
    Ok(())
}

/// The memory after the first lists, the memory after this number of changes, and the memory of the kernel's tables.
fn measure(shape: Shape, changes: u32) -> Result<(Memory, Memory, f64)> {
    let namespace = Namespace::new("memory")?;
    let server = ApiServer::start(&namespace, shape)?;
    let folder = Scratch::new("memory")?;
    let kubeconfig = folder.path().join("kubeconfig");
    server.write_kubeconfig(&kubeconfig)?;
    let mut plan = Tandem::in_namespace(&namespace, NODE).kubeconfig(&kubeconfig);
    let second = if second::wanted()? {
        Some((Cgroups::new("memory")?, BpfFolder::new("memory")?))
    } else {
        None
    };
    if let Some((cgroups, pins)) = &second {
        let groups = cgroups.node(NODE)?;
        namespace.settle(&groups.system()?)?;
        plan = plan.sockets(&groups, pins);
    }
    let mut tandem = plan.start()?;
    tandem.wait_ready()?;
    if second.is_some() {
        let on = eventually(PATIENCE, || follows(&tandem).ok().filter(|on| *on));
        on.with_context(|| format!("sockets are not on after {PATIENCE:?}"))?;
    }
    let pid = tandem.pid().context("tandem has ended")?;
    thread::sleep(REST);
    let before = Memory::of(pid)?;

    for i in 0..changes {
        // An endpoint comes and goes, with enough time between, so that each is a change of its own.
        let n = (i / 2 * 7919) % shape.services;
        server.change(n, shape.families[i as usize / 2 % shape.families.len()], 1 - i % 2);
        thread::sleep(PACE);
    }
    let mut seen = None;
    let settled = eventually(PATIENCE, || {
        thread::sleep(Duration::from_millis(500));
        let applied = applied(&tandem).ok();
        (seen.replace(applied) == Some(applied)).then_some(applied)?
    });
    let applied = settled.with_context(|| format!("the tables still change after {PATIENCE:?}"))?;
    note(format_args!(
        "{changes} changes of slices, {applied} transactions in all"
    ));
    thread::sleep(REST);
    let after = Memory::of(pid)?;
    tandem.finish()?;
    drop(server);
    Ok((before, after, tables(&namespace)?))
}

/// Whether the second data plane answers in both families.
fn follows(tandem: &Tandem) -> Result<bool> {
    let status = tandem.status()?;
    let families = status["families"].as_array().context("the status has no families")?;
    Ok(families.iter().all(|family| family["follower"]["state"] == "on"))
}

/// How much memory the kernel has more after both tables were removed.
fn tables(namespace: &Namespace) -> Result<f64> {
    // What the agent left behind goes first: its sockets, and its last changes.
    thread::sleep(REST);
    let with = memory::kernel()?;
    for family in ["ip", "ip6"] {
        namespace.exec(&["nft", "delete", "table", family, "tandem"])?;
    }
    // The kernel frees a table's elements some time after the table is gone.
    thread::sleep(REST);
    Ok(with - memory::kernel()?)
}

/// The number of transactions in both families.
fn applied(tandem: &Tandem) -> Result<u64> {
    let status = tandem.status()?;
    let families = status["families"].as_array().context("the status has no families")?;
    Ok(families.iter().filter_map(|family| family["changes"].as_u64()).sum())
}
