//! ClientIP affinity with real packets: UDP from addresses of the loopback device, through the output hook, to sockets
//! on its other addresses. Needs root and nft. MUST NOT test anything that a listing shows.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Barrier;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use crate::fill::fill;
use crate::rows::{addr, at, endpoint, frontend, port, service, sticky};
use crate::support::{in_namespace, run};
use tandem_core::family::{Family, IpFamily, V4, V6};
use tandem_core::plane::{DataPlane, Delta, RuleSettings};
use tandem_core::row::{Class, Pick, Protocol, Row};
use tandem_nft::NftTable;

/// A Service with affinity and its endpoints. Each endpoint is a socket that reads only what a test asks for.
struct Scene<F: Family> {
    kernel: NftTable<F>,
    servers: Vec<UdpSocket>,
}

fn v4<F: Family>() -> bool {
    F::FAMILY == IpFamily::V4
}

fn pod<F: Family>(n: u16) -> F::Addr {
    addr::<F>(&format!("10.244.0.{n}"), &format!("fd00:244::{n:x}"))
}

fn client<F: Family>(n: u16) -> IpAddr {
    addr::<F>(
        &format!("10.1.{}.{}", n / 200, n % 200 + 1),
        &format!("fd00:1::{:x}", n + 1),
    )
    .into()
}

fn cluster_ip<F: Family>() -> F::Addr {
    addr::<F>("10.96.0.1", "fd00:96::1")
}

fn endpoint_id<F: Family>(n: u16) -> Row<F> {
    let id = sticky(0).endpoint(n).expect("sticky");
    Row::EndpointId {
        id,
        endpoint: endpoint(pod::<F>(n), 53),
    }
}

fn slot<F: Family>(slot: u16, n: u16) -> Row<F> {
    Row::StickyEndpoint {
        service: sticky(0),
        slot,
        id: sticky(0).endpoint(n).expect("sticky"),
    }
}

fn pick<F: Family>(count: u16, seconds: u32) -> Row<F> {
    service(
        sticky(0),
        Pick::Sticky {
            count: port(count),
            seconds,
        },
        "kube-system/dns:dns",
    )
}

impl<F: Family> Scene<F> {
    fn new(endpoints: u16, seconds: u32) -> Self {
        let family = if v4::<F>() { "-4" } else { "-6" };
        let networks = if v4::<F>() {
            ["10.244.0.0/16", "10.1.0.0/16"]
        } else {
            ["fd00:244::/64", "fd00:1::/64"]
        };
        for local in networks {
            run("ip", &[family, "route", "add", "local", local, "dev", "lo"]);
        }
        let services = if v4::<F>() { "10.96.0.0/16" } else { "fd00:96::/64" };
        run("ip", &[family, "route", "add", services, "dev", "lo"]);
        let nonlocal = "/proc/sys/net/ipv6/ip_nonlocal_bind";
        std::fs::write(nonlocal, "1").expect(nonlocal);
        let servers = (1..=endpoints).map(|n| {
            let socket = UdpSocket::bind(SocketAddr::new(pod::<F>(n).into(), 53)).expect("a server");
            socket.set_nonblocking(true).expect("nonblocking");
            socket
        });
        let servers = servers.collect();
        let mut kernel = NftTable::open(RuleSettings::default()).expect("a table");
        let mut added: Vec<Row<F>> = (1..=endpoints).map(endpoint_id).collect();
        added.extend((1..=endpoints).map(|n| slot(n - 1, n)));
        added.push(pick(endpoints, seconds));
        added.push(frontend(
            Class::Cluster,
            at(cluster_ip::<F>(), Protocol::Udp, 53),
            sticky(0),
            "kube-system/dns:dns",
        ));
        kernel
            .apply(&Delta {
                added,
                ..Delta::default()
            })
            .expect("rows");
        Self { kernel, servers }
    }

    /// Opens a connection. Its first packet says `n`. Each connection has a new port: if a port were used again, the
    /// packet would belong to the old connection, and the kernel would not ask the rules.
    fn connect(n: u16) {
        static NEXT: AtomicU16 = AtomicU16::new(10_000);
        let port = NEXT.fetch_add(1, Ordering::Relaxed);
        let socket = UdpSocket::bind(SocketAddr::new(client::<F>(n), port)).expect("a client");
        socket
            .send_to(&n.to_be_bytes(), SocketAddr::new(cluster_ip::<F>().into(), 53))
            .expect("a packet");
    }

    /// The packets that arrived: which endpoint (from 1), and which client.
    fn arrived(&self) -> Vec<(u16, u16)> {
        let mut arrived = Vec::new();
        let mut packet = [0; 2];
        for (server, socket) in (1..).zip(&self.servers) {
            while socket.recv(&mut packet).is_ok() {
                arrived.push((server, u16::from_be_bytes(packet)));
            }
        }
        arrived
    }

    /// The one endpoint that a new connection of this client reaches.
    fn reaches(&self, n: u16) -> u16 {
        Self::connect(n);
        match self.arrived()[..] {
            [(server, from)] if from == n => server,
            ref other => panic!("{other:?}"),
        }
    }
}

fn clients_stay_and_spread<F: Family>() {
    in_namespace(|| {
        let scene = Scene::<F>::new(5, 10_800);
        let firsts: Vec<u16> = (0..60).map(|n| scene.reaches(n)).collect();
        for _ in 0..5 {
            assert_eq!((0..60).map(|n| scene.reaches(n)).collect::<Vec<_>>(), firsts);
        }
        assert_eq!(firsts.into_iter().collect::<HashSet<_>>().len(), 5);
    });
}

#[test]
fn a_client_stays_with_its_endpoint_and_clients_spread() {
    clients_stay_and_spread::<V4>();
    clients_stay_and_spread::<V6>();
}

fn dead_endpoint<F: Family>() {
    in_namespace(|| {
        let mut scene = Scene::<F>::new(3, 10_800);
        let before: Vec<u16> = (0..60).map(|n| scene.reaches(n)).collect();
        // Endpoint 2 is removed, and the last one takes its slot.
        let delta = Delta {
            added: Vec::new(),
            removed: vec![endpoint_id(2), slot(2, 3)],
            changed: vec![(slot(1, 2), slot(1, 3)), (pick(3, 10_800), pick(2, 10_800))],
        };
        scene.kernel.apply(&delta).expect("a change");
        let after: Vec<u16> = (0..60).map(|n| scene.reaches(n)).collect();
        for (before, after) in before.iter().zip(&after) {
            assert!(
                if *before == 2 { *after != 2 } else { before == after },
                "{before} {after}"
            );
        }
        assert_eq!((0..60).map(|n| scene.reaches(n)).collect::<Vec<_>>(), after);
    });
}

#[test]
fn a_client_whose_endpoint_is_gone_gets_another_with_its_next_connection_and_stays_there() {
    dead_endpoint::<V4>();
    dead_endpoint::<V6>();
}

fn at_once<F: Family>() {
    const THREADS: u16 = 4;
    const CLIENTS: u16 = 300;
    in_namespace(|| {
        let scene = Scene::<F>::new(7, 10_800);
        for n in 0..CLIENTS {
            let start = Barrier::new(usize::from(THREADS));
            std::thread::scope(|scope| {
                for _ in 0..THREADS {
                    scope.spawn(|| {
                        start.wait();
                        Scene::<F>::connect(n);
                    });
                }
            });
            let arrived = scene.arrived();
            assert_eq!(arrived.len(), usize::from(THREADS));
            assert_eq!(
                arrived.iter().collect::<HashSet<_>>().len(),
                1,
                "client {n}: {arrived:?}"
            );
        }
    });
}

#[test]
fn first_connections_of_a_client_at_the_same_moment_reach_one_endpoint() {
    at_once::<V4>();
    at_once::<V6>();
}

#[test]
fn a_client_is_forgotten_after_the_timeout_and_not_before() {
    in_namespace(|| {
        let scene = Scene::<V4>::new(50, 1);
        let remembered = || run("nft", &["list", "map", "ip", "tandem", "affinity"]).contains("f400:0 . ");
        let first = scene.reaches(0);
        for _ in 0..4 {
            std::thread::sleep(Duration::from_millis(500));
            assert_eq!(scene.reaches(0), first, "each connection renews the timeout");
        }
        std::thread::sleep(Duration::from_millis(1200));
        assert!(!remembered());
        scene.reaches(0);
        assert!(remembered());
    });
}

#[test]
fn a_service_flooded_by_ever_new_clients_leaves_room_for_the_clients_of_others() {
    in_namespace(|| {
        run("nft", &["add", "table", "ip", "tandem"]); // without an owner, so that this test may fill its map
        let scene = Scene::<V4>::new(2, 10_800);
        // All shares that a client can belong to. No source can fill more, whatever it sends.
        fill::<V4>(sticky(1), 0..16_384);
        let firsts: Vec<u16> = (0..60).map(|n| scene.reaches(n)).collect();
        assert_eq!((0..60).map(|n| scene.reaches(n)).collect::<Vec<_>>(), firsts);
        assert_eq!(unremembered(), 0);
    });
}

#[test]
fn when_no_more_clients_can_be_remembered_connections_still_reach_endpoints_and_are_counted() {
    in_namespace(|| {
        run("nft", &["add", "table", "ip", "tandem"]); // without an owner, so that this test may fill its map
        let scene = Scene::<V4>::new(2, 10_800);
        let known = scene.reaches(0);
        for service in 1..16 {
            fill::<V4>(sticky(service), 0..16_384);
        }
        fill::<V4>(sticky(16), 0..16_383);
        assert_eq!(scene.reaches(0), known);
        let reached: HashSet<u16> = (0..40).map(|_| scene.reaches(1)).collect();
        assert_eq!(reached.len(), 2, "not remembered, so any endpoint");
        assert_eq!(unremembered(), 40);
    });
}

/// The value of the table's counter. nft 1.0.6 is not used: it would read every element of every map before it prints a
/// counter.
fn unremembered() -> u64 {
    tandem_nft::unremembered::<V4>().expect("read").expect("a counter")
}
