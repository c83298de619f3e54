//! Times one endpoint change of one Service among many: `cargo run --release --example set_one [services] [endpoints]`.

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use tandem_core::family::V4;
use tandem_core::object::ObjectKey;
use tandem_core::plan::{FrontendPlan, PortKey, PortPlan, Usable};
use tandem_core::row::{Class, Endpoint, Frontend, Port, Protocol, Socket};
use tandem_core::table::Table;

const ROUNDS: u32 = 20_000;

fn plan(n: u32, endpoints: u32, affinity: Option<u32>) -> PortPlan<V4> {
    let at = Socket {
        addr: Ipv4Addr::from(0x0a60_0000 + n),
        protocol: Protocol::Tcp,
        port: Port::MIN.saturating_add(79),
    };
    let endpoint = |i| Endpoint {
        addr: Ipv4Addr::from(0x0a80_0000 + n % 4096 * 256 + i),
        port: at.port,
    };
    let frontend = Frontend::Address {
        class: Class::Cluster,
        at,
    };
    PortPlan {
        key: PortKey {
            service: ObjectKey::new("default", format!("service-{n}")),
            port: "http".into(),
            protocol: Protocol::Tcp,
        },
        created: i64::from(n),
        frontends: vec![FrontendPlan {
            frontend,
            local: false,
            sources: None,
        }],
        all: Some(Usable::Endpoints((0..endpoints).map(endpoint).collect())),
        local: None,
        hairpin: Vec::new(),
        affinity,
        answering: Vec::new(),
    }
}

fn percentile(times: &[Duration], percent: usize) -> Duration {
    times[(times.len() * percent / 100).min(times.len() - 1)]
}

fn main() {
    let mut arguments = std::env::args().skip(1).filter_map(|text| text.parse().ok());
    let services: u32 = arguments.next().unwrap_or(50_000);
    let endpoints: u32 = arguments.next().unwrap_or(3);
    let affinity = arguments.next();
    let mut table = Table::default();
    let started = Instant::now();
    for n in 0..services {
        table.set(plan(n, endpoints, affinity.filter(|_| n.is_multiple_of(2))));
    }
    println!("{services} services: set in {:?}", started.elapsed());
    let rows = table.take().len();
    table.commit();
    println!("{rows} rows: taken and committed after {:?}", started.elapsed());

    let (mut set, mut whole) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let n = round.wrapping_mul(2_654_435_761) % services;
        let next = plan(
            n,
            endpoints + 1 - round / services % 2,
            affinity.filter(|_| n.is_multiple_of(2)),
        );
        let started = Instant::now();
        table.set(next);
        set.push(started.elapsed());
        let delta = table.take();
        table.commit();
        whole.push(started.elapsed());
        assert!(black_box(delta).len() <= 3);
    }
    for (what, mut times) in [("set", set), ("set, take, commit", whole)] {
        times.sort_unstable();
        let [p50, p99] = [50, 99].map(|percent| percentile(&times, percent));
        println!("{what}: p50 {p50:?}, p99 {p99:?}");
    }

    let rows = table.rows();
    let started = Instant::now();
    let (adopted, strays) = Table::adopt(rows);
    println!("adopt: {:?}, {} strays", started.elapsed(), strays.len());
    black_box(adopted);
}
