//! A first load: from rows in memory to the kernel's last answer, one family at a time. Then kube-proxy's ruleset of
//! the smallest of these clusters, loaded by `nft -f`.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tandem_benches::report::{note, print_s};
use tandem_benches::synthetic::Shape;
use tandem_benches::{kernel, kube_proxy, second, synthetic};
use tandem_core::family::{Family, V4, V6};
use tandem_core::object::Choice;
use tandem_core::plan::plan;
use tandem_core::plane::DataPlane as _;
use tandem_core::table::Table;
use tandem_nft::NftTable;
use tandem_tests::netns::{Namespace, run_command};
use tandem_tests::scratch::Scratch;

/// The number of rows in one transaction, as in the engine.
const CHUNK: usize = 20_000;
const SIZES: [(&str, Shape); 3] = [
    ("10k_x3", Shape::dual_stack(10_000, 3)),
    ("44k_x2", Shape::dual_stack(44_000, 2)),
    ("5k_x50", Shape::dual_stack(5_000, 50)),
];

/// How long a load took.
struct Load {
    /// The time for encoding, sending and waiting for the kernel's answers.
    apply: Duration,
    /// The same with planning and comparing.
    whole: Duration,
}

fn main() -> Result<()> {
    for (size, shape) in SIZES {
        let (services, endpoints) = (shape.services, shape.endpoints);
        note(format_args!(
            "{services} dual-stack Services x {endpoints} endpoints per family, into empty tables"
        ));
        let v4 = Namespace::new("load")?.run(|| load::<V4>(shape))??;
        let v6 = Namespace::new("load")?.run(|| load::<V6>(shape))??;
        print_s(&format!("load_{size}_s"), v4.apply.max(v6.apply));
        print_s(&format!("load_{size}_ipv4_s"), v4.apply);
        print_s(&format!("load_{size}_ipv6_s"), v6.apply);
        print_s(&format!("load_{size}_with_planning_s"), v4.whole.max(v6.whole));
        let both = Namespace::new("load")?.run(|| engine(shape))??;
        print_s(&format!("load_{size}_engine_both_families_s"), both);
    }
    let (_, shape) = SIZES[0];
    note("kube-proxy's ruleset of 10000 Services x 3 endpoints, IPv4, by nft -f");
    print_s("nft_cli_10k_x3_s", nft(shape)?);
    Ok(())
}

fn load<F: Family>(shape: Shape) -> Result<Load> {
    let objects: Vec<_> = (0..shape.services)
        .map(|n| (shape.service(n), shape.slice(n, F::FAMILY, 0)))
        .collect();
    let node = synthetic::node();
    let mut kernel = NftTable::<F>::open(kernel::SETTINGS).context("open the table")?;
    let mut table = Table::<F>::default();
    let mut apply = Duration::ZERO;
    let mut send = |table: &mut Table<F>| -> Result<()> {
        let delta = table.take();
        let started = Instant::now();
        kernel.apply(&delta)?;
        apply += started.elapsed();
        table.commit();
        Ok(())
    };

    let started = Instant::now();
    table.set_node(synthetic::node_rows());
    for (service, slice) in &objects {
        for plan in plan::<F>(service, &std::iter::once(slice), &node, Choice::Random)? {
            table.set(plan);
        }
        if table.waiting() >= CHUNK {
            send(&mut table)?;
        }
    }
    send(&mut table)?;
    let whole = started.elapsed();

    let rows = kernel.read()?.len();
    let least = shape.services as usize * (shape.endpoints as usize + 3);
    ensure!(
        rows >= least,
        "{rows} rows are in the kernel, at least {least} should be"
    );
    Ok(Load { apply, whole })
}

/// The same through the engine, for both families: from events in memory to the published snapshot. With `DATA_PLANE=xdp`, the
/// second data plane holds everything by then, too.
fn engine(shape: Shape) -> Result<Duration> {
    let events: Vec<_> = shape.events().collect();
    let mut engine = kernel::engine();
    let second = second::asked_beside(&mut engine, shape)?;
    let started = Instant::now();
    kernel::bring(&mut engine, events)?;
    let took = started.elapsed();
    second.as_ref().map_or(Ok(()), |second| second.check(&engine))?;
    drop(engine); // it holds what is pinned
    Ok(took)
}

fn nft(shape: Shape) -> Result<Duration> {
    let folder = Scratch::new("load")?;
    let file = folder.path().join("kube-proxy.nft");
    std::fs::write(&file, kube_proxy::ruleset(shape)).context("write the ruleset")?;
    Namespace::new("load")?.run(|| {
        let started = Instant::now();
        run_command(Command::new("nft").arg("-f").arg(&file))?;
        Ok(started.elapsed())
    })?
}
