//! Which rules are asked first if several programs translate, with real packets: UDP from the loopback device, through
//! the output hook, to a Service. Another program's rules lead the Service's address elsewhere. Needs root and nft.
//! MUST NOT test what the rules of the table do.

use std::io::Write;
use std::net::{SocketAddr, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::rows::{addr, any, at, endpoint, frontend, plain, service};
use crate::support::{check_loads, in_namespace, list, run};
use tandem_core::family::{Family, IpFamily, V4, V6};
use tandem_core::plane::{DataPlane, Delta, Place, RuleSettings};
use tandem_core::row::{Class, Protocol, Row};
use tandem_nft::NftTable;

/// A Service with one endpoint, and the place where the rival's rules lead its packets.
struct Scene {
    service: SocketAddr,
    ours: UdpSocket,
    theirs: UdpSocket,
}

fn name<F: Family>() -> &'static str {
    if F::FAMILY == IpFamily::V4 { "ip" } else { "ip6" }
}

fn feed(ruleset: &str) {
    let mut nft = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("nft");
    nft.stdin
        .take()
        .expect("piped")
        .write_all(ruleset.as_bytes())
        .expect("nft reads");
    assert!(nft.wait().expect("nft").success(), "{ruleset}");
}

impl Scene {
    fn new<F: Family>() -> Self {
        let flag = if F::FAMILY == IpFamily::V4 { "-4" } else { "-6" };
        let services = if F::FAMILY == IpFamily::V4 {
            "10.96.0.0/16"
        } else {
            "fd00:96::/64"
        };
        run("ip", &[flag, "route", "add", services, "dev", "lo"]);
        let local = if F::FAMILY == IpFamily::V4 {
            "10.244.0.0/16"
        } else {
            "fd00:244::/64"
        };
        run("ip", &[flag, "route", "add", "local", local, "dev", "lo"]);
        std::fs::write("/proc/sys/net/ipv6/ip_nonlocal_bind", "1").expect("nonlocal");
        let server = |v4, v6| {
            let socket = UdpSocket::bind(SocketAddr::new(addr::<F>(v4, v6).into(), 53)).expect("a server");
            socket.set_nonblocking(true).expect("nonblocking");
            socket
        };
        Self {
            service: SocketAddr::new(addr::<F>("10.96.0.1", "fd00:96::1").into(), 53),
            ours: server("10.244.0.1", "fd00:244::1"),
            theirs: server("10.244.0.2", "fd00:244::2"),
        }
    }

    /// A table that redirects the Service's packets. The caller chooses the table's family.
    fn rival<F: Family>(&self, table: &str) {
        self.rival_named::<F>(table, "rival");
    }

    /// A table of another program that leads the Service to the rival's endpoint.
    fn rival_named<F: Family>(&self, table: &str, rival: &str) {
        let to = match self.theirs.local_addr().expect("bound") {
            SocketAddr::V4(to) => format!("dnat ip to {to}"),
            SocketAddr::V6(to) => format!("dnat ip6 to {to}"),
        };
        feed(&format!(
            "table {table} {rival} {{\n chain out {{\n  type nat hook output priority -100\n  {} daddr {} meta l4proto udp {to}\n }}\n}}\n",
            name::<F>(),
            self.service.ip()
        ));
    }

    fn rows<F: Family>() -> Vec<Row<F>> {
        vec![
            Row::Endpoint {
                service: plain(1),
                slot: 0,
                endpoint: endpoint(addr::<F>("10.244.0.1", "fd00:244::1"), 53),
            },
            service(plain(1), any(1), "shop/web:dns"),
            frontend(
                Class::Cluster,
                at(addr::<F>("10.96.0.1", "fd00:96::1"), Protocol::Udp, 53),
                plain(1),
                "shop/web:dns",
            ),
        ]
    }

    fn kernel<F: Family>() -> NftTable<F> {
        let mut kernel = NftTable::open(RuleSettings::default()).expect("a table");
        kernel
            .apply(&Delta {
                added: Self::rows::<F>(),
                ..Delta::default()
            })
            .expect("rows");
        kernel
    }

    fn send(&self) {
        let any = if self.service.is_ipv4() {
            "127.0.0.1:0"
        } else {
            "[::1]:0"
        };
        let socket = UdpSocket::bind(any).expect("a client");
        socket.send_to(b"?", self.service).expect("a packet");
    }

    /// How many packets arrived at the Service's endpoint, and how many at the rival's.
    fn arrived(&self) -> (usize, usize) {
        let count = |socket: &UdpSocket| std::iter::from_fn(|| socket.recv(&mut [0; 4]).ok()).count();
        (count(&self.ours), count(&self.theirs))
    }

    fn ask(&self) -> (usize, usize) {
        self.send();
        self.arrived()
    }
}

fn both_orders<F: Family>(table: &str) {
    in_namespace(|| {
        let scene = Scene::new::<F>();
        scene.rival::<F>(table);
        assert_eq!(scene.ask(), (0, 1), "the rival works");
        let mut kernel = Scene::kernel::<F>();
        assert_eq!(scene.ask(), (1, 0), "made later, asked first");
        assert!(!kernel.keep_first(false).expect("the chains"), "nothing new");
        run("nft", &["delete", "table", table, "rival"]);
        assert!(!kernel.keep_first(false).expect("the chains"), "nobody came");
        scene.rival::<F>(table);
        assert_eq!(scene.ask(), (0, 1), "the rival was made later");
        assert!(kernel.keep_first(false).expect("the chains"));
        assert_eq!(scene.ask(), (1, 0), "asked first again");
        assert!(!kernel.keep_first(false).expect("the chains"), "once is enough");
        let listing = list(name::<F>());
        assert!(!listing.contains("stand-in"), "{listing}");
        check_loads(&listing);
        // This makes the rival's table anew, with the same names and numbers, in one transaction.
        feed(&format!(
            "delete table {table} rival\n{}",
            run("nft", &["list", "table", table, "rival"])
        ));
        assert_eq!(scene.ask(), (0, 1), "made anew, the rival is first");
        assert!(kernel.keep_first(false).expect("the chains"));
        assert_eq!(scene.ask(), (1, 0));
    });
}

#[test]
fn the_tables_chains_are_asked_before_those_that_came_earlier_and_those_that_came_later() {
    both_orders::<V4>("ip");
    both_orders::<V6>("ip6");
    both_orders::<V4>("inet");
    both_orders::<V6>("inet");
}

#[test]
fn a_table_that_is_taken_over_is_put_first_and_one_that_nobody_keeps_is_not() {
    in_namespace(|| {
        let scene = Scene::new::<V4>();
        drop(Scene::kernel::<V4>());
        // Tandem has ended. It does not stand in the way of a program that starts later.
        scene.rival::<V4>("ip");
        assert_eq!(scene.ask(), (0, 1));
        std::thread::sleep(Duration::from_millis(20));
        let kernel = NftTable::<V4>::open(RuleSettings::default()).expect("the table");
        assert_eq!(scene.ask(), (1, 0));
        drop(kernel);
    });
}

#[test]
fn what_was_left_of_an_interrupted_reordering_goes_at_the_next_start() {
    in_namespace(|| {
        run("nft", &["add", "table", "ip", "tandem"]); // without an owner, so that this test may write into it
        let scene = Scene::new::<V4>();
        drop(Scene::kernel::<V4>());
        feed(
            "table ip tandem {\n chain output-stand-in {\n  type nat hook output priority -100\n  jump service-traffic\n }\n}\n",
        );
        let mut kernel = NftTable::<V4>::open(RuleSettings::default()).expect("the table");
        let listing = list("ip");
        assert!(!listing.contains("stand-in"), "{listing}");
        assert_eq!(kernel.read().expect("rows").len(), 3, "it was not made anew for that");
        assert_eq!(scene.ask(), (1, 0));
    });
}

#[test]
fn what_a_kube_proxy_makes_comes_first_until_it_is_asked_to_come_second() {
    in_namespace(|| {
        let scene = Scene::new::<V4>();
        let mut kernel = Scene::kernel::<V4>();
        for _ in 0..2 {
            scene.rival_named::<V4>("ip", "kube-proxy");
            assert!(
                !kernel.keep_first(false).expect("the chains"),
                "kube-proxy's do not count"
            );
            assert_eq!(scene.ask(), (0, 1));
            assert!(kernel.keep_first(true).expect("the chains"), "now they count");
            assert_eq!(scene.ask(), (1, 0));
            assert!(!kernel.keep_first(true).expect("the chains"), "once is enough");
            run("nft", &["delete", "table", "ip", "kube-proxy"]);
        }
        scene.rival::<V4>("ip");
        feed("table ip rival {\n chain KUBE-SERVICES { }\n}\n");
        assert!(
            !kernel.keep_first(false).expect("the chains"),
            "iptables mode does not count"
        );
        assert!(kernel.keep_first(true).expect("the chains"));
        assert_eq!(scene.ask(), (1, 0));
    });
}

fn second() -> RuleSettings {
    RuleSettings {
        place: Place::Second,
        ..RuleSettings::default()
    }
}

/// Opens a table that was closed just now. A program that another test starts at this moment holds all sockets for an
/// instant, and then the table still has its owner.
fn open_again<F: Family>(settings: RuleSettings) -> NftTable<F> {
    let deadline = std::time::Instant::now() + Duration::from_secs(2);
    loop {
        match NftTable::open(settings) {
            Ok(table) => return table,
            Err(error) => assert!(std::time::Instant::now() < deadline, "{error}"),
        }
    }
}

fn gives_way<F: Family>(table: &str) {
    in_namespace(|| {
        let scene = Scene::new::<F>();
        scene.rival::<F>(table);
        drop(Scene::kernel::<F>());
        assert_eq!(scene.ask(), (1, 0), "made later, asked first");
        let mut kernel: NftTable<F> = open_again(second());
        assert_eq!(scene.ask(), (0, 1), "in second place, the rival decides");
        assert!(!kernel.keep_first(false).expect("the chains"), "nothing to keep");
        let listing = list(name::<F>());
        assert!(!listing.contains("stand-in"), "{listing}");
        check_loads(&listing);
        assert_eq!(kernel.read().expect("rows").len(), 3, "it was not made anew for that");
        drop(kernel);
        assert_eq!(
            scene.ask(),
            (0, 1),
            "nobody keeps the table, and the rival still decides"
        );
        let again: NftTable<F> = open_again(second());
        assert_eq!(scene.ask(), (0, 1));
        run("nft", &["delete", "table", table, "rival"]);
        assert_eq!(
            scene.ask(),
            (1, 0),
            "what the rival has no rule for, these rules decide"
        );
        scene.rival::<F>(table);
        drop(again);
        let first: NftTable<F> = open_again(RuleSettings::default());
        assert_eq!(scene.ask(), (1, 0), "first again");
        drop(first);
    });
}

#[test]
fn in_second_place_the_rules_of_another_program_decide_also_when_nobody_keeps_the_table() {
    gives_way::<V4>("ip");
    gives_way::<V6>("ip6");
    gives_way::<V4>("inet");
}

#[test]
fn no_packet_is_missed_while_the_place_changes() {
    const TIMES: usize = 60;
    in_namespace(|| {
        let scene = Scene::new::<V4>();
        drop(Scene::kernel::<V4>());
        let (sent, arrived) = flooded(&scene, || {
            for n in 0..TIMES {
                let settings = if n % 2 == 0 { second() } else { RuleSettings::default() };
                drop(open_again::<V4>(settings));
            }
        });
        assert!(sent > TIMES, "{sent} packets");
        assert_eq!(arrived, (sent, 0));
    });
}

struct Over(AtomicBool);

/// Ends the flood, even if the test fails.
struct Ends<'a>(&'a Over);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

/// Sends packets one by one while `during` runs. Gives how many were sent, and how many arrived at each endpoint.
fn flooded(scene: &Scene, during: impl FnOnce()) -> (usize, (usize, usize)) {
    let over = Over(AtomicBool::new(false));
    std::thread::scope(|scope| {
        let flood = scope.spawn(|| {
            let (mut sent, mut arrived) = (0, (0, 0));
            while !over.0.load(Ordering::Relaxed) {
                scene.send();
                sent += 1;
                let (ours, theirs) = scene.arrived();
                arrived = (arrived.0 + ours, arrived.1 + theirs);
            }
            (sent, arrived)
        });
        let ends = Ends(&over);
        during();
        drop(ends);
        flood.join().expect("a flood")
    })
}

#[test]
fn no_packet_is_missed_while_chains_are_registered_anew() {
    const TIMES: usize = 60;
    in_namespace(|| {
        let scene = Scene::new::<V4>();
        let mut kernel = Scene::kernel::<V4>();
        let (sent, arrived) = flooded(&scene, || {
            for n in 0..TIMES {
                // This chain masquerades nothing and leads nowhere. That it exists is enough.
                feed(&format!(
                    "table ip rival-{n} {{\n chain out {{\n  type nat hook output priority -100\n }}\n}}\n"
                ));
                assert!(kernel.keep_first(false).expect("the chains"));
            }
        });
        assert!(sent > TIMES, "{sent} packets");
        assert_eq!(arrived, (sent, 0));
    });
}
