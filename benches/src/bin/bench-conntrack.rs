//! UDP flows in connection tracking: a restart among 10,000 of them, and one endpoint that goes. Right flows must stay,
//! wrong ones must go.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tandem::engine::Engine;
use tandem::event::{Event, Object};
use tandem::flows::{Reconciler, Report};
use tandem_benches::kernel::{self, NOW};
use tandem_benches::report::{Samples, note, print, print_ms, setting};
use tandem_benches::synthetic::{DUAL_STACK, PORT, Shape, TARGET};
use tandem_core::family::IpFamily;
use tandem_core::row::Protocol;
use tandem_tests::conntrack::{Entry, make_here, udp_here};
use tandem_tests::netns::Namespace;

const SHAPE: Shape = Shape::dual_stack(500, 10);
/// One entry in this number leads to an endpoint that does not exist.
const STALE: usize = 10;
/// How long the entries live. This is longer than the program runs.
const SECONDS: u32 = 3600;
/// 172.16.0.0 and fd00:200::, the first of the clients' addresses.
const CLIENTS_V4: u32 = 0xac10_0000;
const CLIENTS_V6: u128 = 0xfd00_0200 << 96;
/// How long a check may take before the benchmark gives up.
const PATIENCE: Duration = Duration::from_mins(1);

fn main() -> Result<()> {
    let live: usize = setting("ENTRIES", 10_000)?;
    let changes: u32 = setting("CHANGES", 200)?;
    Namespace::new("conntrack")?.run(|| measure(live, changes))?
}

fn measure(live: usize, changes: u32) -> Result<()> {
    let mut engine = kernel::engine();
    kernel::bring(&mut engine, SHAPE.events().map(udp))?;
    drop(engine);
    note(format_args!(
        "{} dual-stack Services x {} endpoints per family, all UDP",
        SHAPE.services, SHAPE.endpoints
    ));
    make_here((0..live).map(|n| entry(n, false)), SECONDS)?;
    make_here((live..live + live / STALE).map(|n| entry(n, true)), SECONDS)?;
    let before: BTreeSet<Entry> = udp_here()?.into_iter().collect();
    print("conntrack_entries", before.len());
    ensure!(before.len() == live + live / STALE, "entries were not made");

    let started = Instant::now();
    let mut engine = kernel::engine();
    let reports = observe(&mut engine)?;
    kernel::bring(&mut engine, SHAPE.events().map(udp))?;
    let programmed = Instant::now();
    for report in &reports {
        wait(report, 1)?;
    }
    let done = Instant::now();
    let after: BTreeSet<Entry> = udp_here()?.into_iter().collect();
    let (kept, cut): (Vec<&Entry>, Vec<&Entry>) = before.iter().partition(|entry| after.contains(entry));
    let was_right = |entry: &&&Entry| !entry_is_stale(entry);
    let live_cut = cut.iter().filter(was_right).count();
    let stale_left = kept.len() - kept.iter().filter(was_right).count();
    print("conntrack_live_cut", live_cut);
    print("conntrack_stale_cut", cut.len() - live_cut);
    print("conntrack_stale_left", stale_left);
    ensure!(live_cut == 0, "a restart cut {live_cut} flows that lead to endpoints");
    ensure!(
        stale_left == 0,
        "a restart left {stale_left} flows that lead to no endpoint"
    );
    print_ms("conntrack_reconcile_ms", done - programmed);
    print_ms("conntrack_restart_ms", done - started);

    let mut samples = Samples::default();
    for n in 0..changes {
        // Each change takes one endpoint away from another Service, in turns of the families.
        let (at, service) = ((n % 2) as usize, n / 2 % SHAPE.services);
        let reports = &reports[at];
        let (looks, cut) = (reports.load().reconciliations, reports.load().cut);
        let gone = Event::Applied(Object::EndpointSlice(one_less(service, DUAL_STACK[at])), Vec::new());
        let started = Instant::now();
        engine.step([udp(gone)], *NOW);
        wait(reports, looks + 1)?;
        samples.push(started.elapsed());
        ensure!(reports.load().cut > cut, "an endpoint went and no flow was cut");
    }
    print_ms("conntrack_change_ms_p50", samples.median());
    print_ms("conntrack_change_ms_p99", samples.percentile(99));
    Ok(())
}

/// The same object with UDP instead of TCP.
fn udp(event: Event) -> Event {
    match event {
        Event::Applied(Object::Service(mut service), notices) => {
            service.ports.iter_mut().for_each(|port| port.protocol = Protocol::Udp);
            Event::Applied(Object::Service(service), notices)
        }
        Event::Applied(Object::EndpointSlice(mut slice), notices) => {
            for port in Arc::make_mut(&mut slice.ports) {
                port.protocol = Protocol::Udp;
            }
            Event::Applied(Object::EndpointSlice(slice), notices)
        }
        other => other,
    }
}

fn one_less(service: u32, family: IpFamily) -> tandem_core::object::EndpointSlice {
    let mut slice = SHAPE.slice(service, family, 0);
    slice.endpoints = slice.endpoints.iter().skip(1).collect();
    slice
}

/// The entry of the `n`th client. It sends to a Service, and has one of its endpoints, or the one that does not exist.
fn entry(n: usize, stale: bool) -> Entry {
    let number = u32::try_from(n).unwrap_or(u32::MAX);
    let family = DUAL_STACK[n % 2];
    let service = number / 2 % SHAPE.services;
    let endpoint = if stale {
        SHAPE.endpoints
    } else {
        number / 2 / SHAPE.services % SHAPE.endpoints
    };
    let client: IpAddr = match family {
        IpFamily::V4 => Ipv4Addr::from_bits(CLIENTS_V4 + number).into(),
        IpFamily::V6 => Ipv6Addr::from_bits(CLIENTS_V6 + u128::from(number)).into(),
    };
    Entry {
        from: SocketAddr::new(client, 20_000),
        to: SocketAddr::new(SHAPE.cluster_ip(service, family), PORT.get()),
        with: SocketAddr::new(SHAPE.endpoint(service, endpoint, family), TARGET.get()),
        id: 0,
    }
}

fn entry_is_stale(entry: &Entry) -> bool {
    let family = IpFamily::of(entry.to.ip());
    (0..SHAPE.services).any(|service| {
        SHAPE.cluster_ip(service, family) == entry.to.ip()
            && SHAPE.endpoint(service, SHAPE.endpoints, family) == entry.with.ip()
    })
}

/// Makes the engine follow UDP flows, as in the agent.
fn observe(engine: &mut Engine) -> Result<[Report; 2]> {
    let (v4, v6) = (Reconciler::start()?, Reconciler::start()?);
    let reports = [v4.report(), v6.report()];
    engine.observe(v4, v6);
    Ok(reports)
}

/// Waits until flows were checked this number of times.
fn wait(report: &Report, looks: u64) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status = report.load();
        if let Some(error) = &status.last_error {
            anyhow::bail!("{error}");
        }
        if status.reconciliations >= looks {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "flows were not looked at in {PATIENCE:?}");
        sleep(Duration::from_micros(50));
    }
}
