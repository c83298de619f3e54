//! One changed EndpointSlice, measured from the decoded event to the kernel's answer. In turns with it: the same change
//! of the same elements through a bare netlink socket. With `DATA_PLANE=xdp`, the second data plane follows each change.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use tandem::engine::Engine;
use tandem::event::{Event, Object};
use tandem::flows::Reconciler;
use tandem_benches::kernel::{self, NOW};
use tandem_benches::raw::{Change, Recorder, Writer, copy_tables};
use tandem_benches::report::{Samples, note, print, print_us, setting};
use tandem_benches::second::{self, Second};
use tandem_benches::synthetic::{DUAL_STACK, Shape};
use tandem_core::family::IpFamily;
use tandem_tests::netns::Namespace;

/// Endpoints of a Service, before one is taken away.
const ENDPOINTS: u32 = 3;

/// The figures for one size.
#[derive(Default)]
struct Figures {
    all: Samples,
    families: [Samples; 2],
    /// The time without the kernel and without encoding for it.
    planning: Samples,
    raw: Samples,
}

fn main() -> Result<()> {
    let changes: u32 = setting("CHANGES", 4000)?;
    let only: String = setting("SIZE", String::new())?;
    if !["", "10k", "50k"].contains(&&*only) {
        bail!("SIZE is {only:?}: it can be 10k or 50k");
    }
    for (size, services) in [("10k", 10_000), ("50k", 50_000)] {
        if !only.is_empty() && only != size {
            continue;
        }
        note(format_args!(
            "{services} dual-stack Services x {ENDPOINTS} endpoints per family, {changes} changes"
        ));
        let namespace = Namespace::new("change")?;
        let figures = namespace.run(|| measure(Shape::dual_stack(services, ENDPOINTS), changes))??;
        print_us(&format!("change_{size}_us_p50"), figures.all.median());
        print_us(&format!("change_{size}_us_p99"), figures.all.percentile(99));
        for (name, samples) in ["ipv4", "ipv6"].iter().zip(&figures.families) {
            print_us(&format!("change_{size}_{name}_us_p50"), samples.median());
        }
        print_us(&format!("change_{size}_planning_us_p50"), figures.planning.median());
        let suffix = if size == "10k" {
            String::new()
        } else {
            format!("_{size}")
        };
        print_us(&format!("raw_netlink{suffix}_us_p50"), figures.raw.median());
        print_us(&format!("raw_netlink{suffix}_us_p99"), figures.raw.percentile(99));
        let ratio = figures.all.median().as_secs_f64() / figures.raw.median().as_secs_f64();
        print(&format!("change_to_raw_ratio{suffix}"), format_args!("{ratio:.2}"));
    }
    Ok(())
}

fn measure(shape: Shape, changes: u32) -> Result<Figures> {
    // The engine is set up as in the agent: it follows UDP flows, and somebody follows its changes.
    let mut engine = kernel::engine();
    let second = second::asked_beside(&mut engine, shape)?;
    engine.observe(Reconciler::start()?, Reconciler::start()?);
    let (_followed, _news) = (engine.follow(), engine.changes());
    kernel::bring(&mut engine, shape.events())?;
    check(second.as_ref(), &mut engine)?;

    // The Services are far apart from each other, each in one of its families. An endpoint is added to all, and then
    // removed from all.
    let step = (shape.services / (changes / 2).max(1)).max(1);
    let spread = |i: u32| (i * step % shape.services, DUAL_STACK[(i % 2) as usize]);
    let services: Vec<(u32, IpFamily)> = (0..changes / 2).map(spread).collect();
    let round: Vec<Event> = [1, 0]
        .iter()
        .flat_map(|more| services.iter().map(move |at| change(shape, *at, *more)))
        .collect();

    // The chain for one endpoint more is made when it is first needed, so this happens before the tables are copied.
    for (more, family) in [
        (1, IpFamily::V4),
        (1, IpFamily::V6),
        (0, IpFamily::V4),
        (0, IpFamily::V6),
    ] {
        kernel::bring(&mut engine, [change(shape, (0, family), more)])?;
    }
    copy_tables()?;
    let mut recorder = Recorder::start()?;
    let mut raws: Vec<Change> = Vec::with_capacity(round.len());
    for event in round.clone() {
        kernel::bring(&mut engine, [event])?;
        raws.push(recorder.record()?);
    }
    drop(recorder);

    let mut nowhere = kernel::engine_without_kernel();
    kernel::bring(&mut nowhere, shape.events())?;
    let mut figures = Figures::default();
    let mut writer = Writer::open()?;
    for (event, raw) in round.into_iter().zip(&raws) {
        let family = family_of(&event);
        figures.planning.push(timed(&mut nowhere, event.clone())?);
        let took = timed(&mut engine, event)?;
        figures.all.push(took);
        figures.families[family].push(took);
        figures.raw.push(writer.make(raw)?);
    }
    check(second.as_ref(), &mut engine)?;
    drop(engine); // it holds what is pinned
    Ok(figures)
}

/// Fails unless both data planes hold everything.
fn check(second: Option<&Second>, engine: &mut Engine) -> Result<()> {
    kernel::bring(engine, [])?;
    second.map_or(Ok(()), |second| second.check(engine))
}

fn timed(engine: &mut Engine, event: Event) -> Result<Duration> {
    let before = transactions(engine);
    let started = Instant::now();
    engine.step([event], *NOW);
    let took = started.elapsed();
    ensure!(transactions(engine) == before + 1, "one change was not one transaction");
    Ok(took)
}

fn family_of(event: &Event) -> usize {
    usize::from(matches!(event, Event::Applied(Object::EndpointSlice(slice), _) if slice.family == IpFamily::V6))
}

fn change(shape: Shape, (n, family): (u32, IpFamily), more: u32) -> Event {
    Event::Applied(Object::EndpointSlice(shape.slice(n, family, more)), Vec::new())
}

fn transactions(engine: &Engine) -> u64 {
    engine.v4().status().changes + engine.v6().status().changes
}
