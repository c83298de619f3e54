//! How long maps take to be filled and to follow, what a restart writes, and how much memory they take.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tandem_benches::report::{Samples, note, print, print_s, print_us, setting};
use tandem_benches::synthetic::{self, Shape};
use tandem_benches::{kernel, second};
use tandem_core::family::{Family, V4, V6};
use tandem_core::object::Choice;
use tandem_core::plan::plan;
use tandem_core::row::Row;
use tandem_core::table::Table;
use tandem_tests::bpffs::BpfFolder;
use tandem_xdp::kernel::{KernelMaps, Sizes};
use tandem_xdp::{Plane, Rows};

const MEGABYTE: f64 = 1024.0 * 1024.0;

/// The rows of one family, as the engine's table has them.
fn table<F: Family>(shape: Shape) -> Result<Table<F>> {
    let mut table = Table::<F>::default();
    table.set_node(synthetic::node_rows());
    for n in 0..shape.services {
        set(&mut table, shape, n, 0)?;
    }
    table.take();
    table.commit();
    Ok(table)
}

/// Plans a Service again, with so many endpoints more than usual.
fn set<F: Family>(table: &mut Table<F>, shape: Shape, n: u32, more: u32) -> Result<()> {
    let (service, slice) = (shape.service(n), shape.slice(n, F::FAMILY, more));
    for plan in plan::<F>(&service, &std::iter::once(&slice), &synthetic::node(), Choice::Random)? {
        table.set(plan);
    }
    Ok(())
}

/// The rows of both families.
type Both = (Vec<Row<V4>>, Vec<Row<V6>>);

/// The rows of both families, and the sizes of maps for them.
fn both(shape: Shape) -> Result<(Both, Sizes)> {
    let (v4, v6) = (table::<V4>(shape)?.rows(), table::<V6>(shape)?.rows());
    let sizes = Sizes::of_rows([v4.len(), v6.len()]);
    Ok(((v4, v6), sizes))
}

/// Holds these rows, and returns how long that took.
fn renew<F: Plane>(rows: &mut Rows<F, KernelMaps<F::Mapped>>, wanted: &[Row<F>]) -> Result<Duration> {
    let started = Instant::now();
    rows.renew(&kernel::SETTINGS, wanted)?;
    let took = started.elapsed();
    ensure!(
        rows.answers() && rows.left().is_empty(),
        "the maps do not hold everything"
    );
    Ok(took)
}

pub(crate) fn measure() -> Result<()> {
    for (size, shape) in [
        ("10k_x3", Shape::dual_stack(10_000, 3)),
        ("44k_x2", Shape::dual_stack(44_000, 2)),
    ] {
        let ((wanted4, wanted6), sizes) = both(shape)?;
        let (mut v4, mut v6) = (Samples::default(), Samples::default());
        for _ in 0..setting("RENEWALS", 7)? {
            let pins = BpfFolder::new("renew")?;
            let (_sockets, mut rows4, mut rows6) = second::open(pins.path(), &sizes)?;
            v4.push(renew(&mut rows4, &wanted4)?);
            v6.push(renew(&mut rows6, &wanted6)?);
        }
        note(format_args!(
            "{} Services x {} endpoints, {} times: IPv4 {:.3} s, IPv6 {:.3} s",
            shape.services,
            shape.endpoints,
            v4.len(),
            v4.median().as_secs_f64(),
            v6.median().as_secs_f64()
        ));
        print_s(&format!("renew_{size}_s"), v4.median().max(v6.median()));
    }
    let shape = Shape::dual_stack(10_000, 3);
    adopt(shape)?;
    changes(shape)?;
    memory(Shape::dual_stack(10_000, 10))
}

/// A restart among maps that nobody touched.
fn adopt(shape: Shape) -> Result<()> {
    let ((wanted4, wanted6), sizes) = both(shape)?;
    let pins = BpfFolder::new("adopt")?;
    let (sockets, mut v4, mut v6) = second::open(pins.path(), &sizes)?;
    renew(&mut v4, &wanted4)?;
    renew(&mut v6, &wanted6)?;
    drop((sockets, v4, v6));
    let (_sockets, mut v4, mut v6) = second::open(pins.path(), &sizes)?;
    let took = renew(&mut v4, &wanted4)?.max(renew(&mut v6, &wanted6)?);
    print("adopt_10k_x3_writes", v4.store().writes() + v6.store().writes());
    print_s("adopt_10k_x3_s", took);
    Ok(())
}

/// Changes of Services, without nftables.
fn changes(shape: Shape) -> Result<()> {
    let changes = setting("CHANGES", 4000)?;
    let pins = BpfFolder::new("follow")?;
    let (_sockets, mut v4, mut v6) = second::open(pins.path(), &Sizes::default())?;
    let (v4, v6) = (follow(&mut v4, shape, changes)?, follow(&mut v6, shape, changes)?);
    note(format_args!("{changes} changes in each family"));
    let mut all = v4.clone();
    all.extend(v6.iter());
    print_us("follow_us_p50", all.median());
    print_us("follow_us_p99", all.percentile(99));
    print_us("follow_ipv4_us_p50", v4.median());
    print_us("follow_ipv6_us_p50", v6.median());
    Ok(())
}

/// One endpoint comes or goes, over Services far apart.
fn follow<F: Plane>(rows: &mut Rows<F, KernelMaps<F::Mapped>>, shape: Shape, changes: u32) -> Result<Samples> {
    let mut table = table::<F>(shape)?;
    renew(rows, &table.rows())?;
    let step = (shape.services / (changes / 2).max(1)).max(1);
    let mut samples = Samples::default();
    for more in [1, 0] {
        for i in 0..changes / 2 {
            set(&mut table, shape, i * step % shape.services, more)?;
            let delta = table.take();
            let started = Instant::now();
            rows.follow(&delta)?;
            samples.push(started.elapsed());
            table.commit();
        }
    }
    ensure!(
        rows.answers() && rows.left().is_empty(),
        "the maps do not hold everything"
    );
    Ok(samples)
}

#[expect(clippy::cast_precision_loss, reason = "megabytes for people")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / MEGABYTE
}

/// The memory of all maps, filled for both families.
fn memory(shape: Shape) -> Result<()> {
    let ((wanted4, wanted6), sizes) = both(shape)?;
    let pins = BpfFolder::new("memory")?;
    let (sockets, mut v4, mut v6) = second::open(pins.path(), &sizes)?;
    renew(&mut v4, &wanted4)?;
    renew(&mut v6, &wanted6)?;
    let maps = sockets.maps().context("look at the maps")?;
    for map in &maps {
        note(format_args!(
            "{}: {:.2} MB, {:?} of {:?}",
            map.name,
            megabytes(map.bytes),
            map.used,
            map.room
        ));
    }
    let all = megabytes(maps.iter().map(|map| map.bytes).sum());
    print("maps_10k_x10_mb", format_args!("{all:.1}"));
    Ok(())
}
