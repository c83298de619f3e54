//! Prints how long loads and single changes take in the kernel's table, from rows in memory. Makes a network namespace
//! of its own; needs root. Run with `cargo run --release -p tandem-nft --example speed`.
#![expect(clippy::expect_used, clippy::print_stdout, reason = "a measuring program")]

#[path = "../tests/netns/rows.rs"]
#[expect(dead_code, reason = "shared with other tests")]
mod rows;
#[path = "../tests/netns/support.rs"]
#[expect(dead_code, reason = "shared with other tests")]
mod support;

use std::time::{Duration, Instant};

use rows::{any, at, endpoint, frontend, nth, plain, service};
use tandem_core::family::{Family, V4, V6};
use tandem_core::plane::{DataPlane, Delta, RuleSettings};
use tandem_core::row::{Class, Protocol, Row};
use tandem_nft::Kernel;

fn main() {
    support::in_namespace(|| {
        println!("{:<34} {:>9} {:>9} {:>9}", "", "rows", "IPv4", "IPv6");
        for (services, endpoints) in [(10_000, 3), (44_000, 2), (5_000, 50)] {
            let (rows, v4) = load::<V4>(services, endpoints);
            let (_, v6) = load::<V6>(services, endpoints);
            let what = format!("load {services} services x {endpoints}");
            println!("{what:<34} {rows:>9} {v4:>9.1?} {v6:>9.1?}");
        }
        for services in [0, 10_000, 50_000] {
            change::<V4>(services);
            change::<V6>(services);
        }
        read_back::<V4>();
    });
}

/// Rows of so many services with so many endpoints each, ordered as a change is.
fn many<F: Family>(services: u32, endpoints: u16) -> Vec<Row<F>> {
    let mut rows = Vec::new();
    for n in 1..=services {
        for slot in 0..endpoints {
            let addr = nth::<F>(0x10_0000 + n * 64 + u32::from(slot));
            rows.push(Row::Endpoint {
                service: plain(n),
                slot,
                endpoint: endpoint(addr, 8080),
            });
        }
    }
    rows.extend((1..=services).map(|n| service(plain(n), any(endpoints), &label(n))));
    rows.extend((1..=services).map(|n| Row::ClusterIp { addr: nth::<F>(n) }));
    rows.extend(
        (1..=services).map(|n| frontend(Class::Cluster, at(nth::<F>(n), Protocol::Tcp, 80), plain(n), &label(n))),
    );
    rows
}

fn label(n: u32) -> String {
    format!("namespace-{}/service-{n}:http", n % 100)
}

fn fresh<F: Family>() -> Kernel<F> {
    support::enter_new_namespace();
    Kernel::open(RuleSettings::default()).expect("a table")
}

fn load<F: Family>(services: u32, endpoints: u16) -> (usize, Duration) {
    let delta = Delta {
        added: many::<F>(services, endpoints),
        ..Delta::default()
    };
    let mut kernel = fresh::<F>();
    let start = Instant::now();
    kernel.apply(&delta).expect("a load");
    (delta.added.len(), start.elapsed())
}

fn change<F: Family>(services: u32) {
    let mut kernel = fresh::<F>();
    kernel
        .apply(&Delta {
            added: many::<F>(services, 3),
            ..Delta::default()
        })
        .expect("a load");
    let row = |n: u32| Row::Endpoint {
        service: plain(70_000),
        slot: 0,
        endpoint: endpoint(nth::<F>(n), 8080),
    };
    kernel
        .apply(&Delta {
            added: vec![row(0)],
            ..Delta::default()
        })
        .expect("a row");
    let mut took: Vec<Duration> = (0..5_000)
        .map(|n| {
            let delta = Delta {
                changed: vec![(row(n), row(n + 1))],
                ..Delta::default()
            };
            let start = Instant::now();
            kernel.apply(&delta).expect("a change");
            start.elapsed()
        })
        .collect();
    took.sort_unstable();
    let what = format!("change 1 endpoint of {services} services");
    println!(
        "{what:<38} {:?}: p50 {:?}, p99 {:?}",
        F::FAMILY,
        took[took.len() / 2],
        took[took.len() * 99 / 100]
    );
}

fn read_back<F: Family>() {
    let mut kernel = fresh::<F>();
    let rows = many::<F>(5_000, 50);
    kernel
        .apply(&Delta {
            added: rows.clone(),
            ..Delta::default()
        })
        .expect("a load");
    let start = Instant::now();
    let found = kernel.read().expect("rows");
    println!("read back {} rows: {:.1?}", found.len(), start.elapsed());
    assert_eq!(found.len(), rows.len());
}
