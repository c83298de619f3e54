//! Packets whose source MAC says what XDP chose, from a client in a namespace of its own, through a node's, to endpoints in
//! a third one. No XDP runs: the client's device gets the MAC. Needs root and nft. MUST NOT test anything that a listing
//! shows.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::fill::fill;
use crate::rows::{addr, any, at, endpoint, frontend, plain, port, service, sticky};
use crate::support::{Network, in_namespace, run, until};
use tandem_core::family::{Family, IpFamily, V4, V6};
use tandem_core::id::ServiceId;
use tandem_core::plane::{Ahead, DataPlane, Delta, RuleSettings, XDP_PORTS, chosen};
use tandem_core::row::{Class, Pick, Protocol, Row};
use tandem_nft::{NftTable, unremembered};

/// The MAC of a client for which nothing was chosen.
const NOTHING: [u8; 6] = [0x02, 0, 0, 0, 0, 0x02];
/// How many endpoints each list has.
const ENDPOINTS: u16 = 3;
static NEXT_PORT: AtomicU32 = AtomicU32::new(0);
const BOTH: [Protocol; 2] = [Protocol::Tcp, Protocol::Udp];

/// A node between a client and endpoints. The node's namespace is this thread's.
struct Scene<F: Family> {
    kernel: NftTable<F>,
    client: Network,
    pods: Network,
    tcp: Vec<TcpListener>,
    udp: Vec<UdpSocket>,
}

fn any_list<F: Family>() -> IpAddr {
    addr::<F>("203.0.113.7", "2001:db8:113::7").into()
}

fn sticky_list<F: Family>() -> IpAddr {
    addr::<F>("203.0.113.8", "2001:db8:113::8").into()
}

/// A ClusterIP whose only endpoint is the first one.
fn first_alone<F: Family>() -> IpAddr {
    addr::<F>("10.96.0.1", "fd00:96::1").into()
}

fn pod<F: Family>(n: u16) -> F::Addr {
    addr::<F>(&format!("10.244.0.{n}"), &format!("fd00:244::{n:x}"))
}

/// Sends a datagram from a port of its own. With a port that was used before, it would belong to the flow of before.
fn udp_from(source: IpAddr, to: SocketAddr) {
    let port = NEXT_PORT.fetch_add(1, Ordering::Relaxed) % 50_000 + 10_000;
    let port = u16::try_from(port).expect("a port");
    let socket = UdpSocket::bind(SocketAddr::new(source, port)).expect("a client");
    socket.send_to(b"?", to).expect("a packet");
}

fn text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

fn rows<F: Family>() -> Vec<Row<F>> {
    let in_list = |service: ServiceId, slot, n| Row::Endpoint {
        service,
        slot,
        endpoint: endpoint(pod::<F>(n), 80),
    };
    let id = |n| sticky(0).endpoint(n).expect("sticky");
    let stick = Pick::Sticky {
        count: port(ENDPOINTS),
        seconds: 10_800,
    };
    let mut rows = vec![
        service(plain(1), any(ENDPOINTS), "shop/any:http"),
        service(sticky(0), stick, "shop/sticky:http"),
        service(plain(2), any(1), "shop/first:http"),
        in_list(plain(2), 0, 1),
        Row::LocalEndpoint { addr: pod::<F>(1) },
    ];
    for n in 1..=ENDPOINTS {
        rows.push(in_list(plain(1), n - 1, n));
        rows.push(Row::EndpointId {
            id: id(n),
            endpoint: endpoint(pod::<F>(n), 80),
        });
        rows.push(Row::StickyEndpoint {
            service: sticky(0),
            slot: n - 1,
            id: id(n),
        });
    }
    for protocol in BOTH {
        for (class, addr, list) in [
            (Class::External, any_list::<F>(), plain(1)),
            (Class::External, sticky_list::<F>(), sticky(0)),
            (Class::Cluster, first_alone::<F>(), plain(2)),
        ] {
            let addr = F::addr(addr).expect("of this family");
            rows.push(frontend(class, at(addr, protocol, 80), list, "shop/x:http"));
        }
    }
    rows
}

impl<F: Family> Scene<F> {
    fn new(ahead: Ahead) -> Self {
        let v4 = F::FAMILY == IpFamily::V4;
        let (client, pods) = (Network::new(), Network::new());
        let ip = |line: String| run("ip", &line.split(' ').collect::<Vec<_>>());
        let net = if v4 { "-4" } else { "-6" };
        for (here, there) in [("out", &client), ("in", &pods)] {
            ip(format!(
                "link add {here} type veth peer name eth0 netns {}",
                there.path()
            ));
            ip(format!("link set {here} up"));
        }
        let nodad = if v4 { "" } else { " nodad" };
        let give = |text: &str, device: &str| ip(format!("addr add {text} dev {device}{nodad}"));
        let [node_out, client_addr, node_in] = if v4 {
            ["198.51.100.1", "198.51.100.2", "10.244.0.254"]
        } else {
            ["2001:db8:51::1", "2001:db8:51::2", "fd00:244::fe"]
        };
        let width = if v4 { 24 } else { 64 };
        give(&format!("{node_out}/{width}"), "out");
        give(&format!("{node_in}/{width}"), "in");
        for forwarding in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            std::fs::write(format!("/proc/sys/net/{forwarding}"), "1").expect(forwarding);
        }
        client.within(|| {
            ip("link set eth0 up".to_owned());
            give(&format!("{client_addr}/{width}"), "eth0");
            ip(format!("{net} route add default via {node_out}"));
        });
        let (tcp, udp) = pods.within(|| {
            ip("link set eth0 up".to_owned());
            let addrs = (1..=ENDPOINTS).map(pod::<F>);
            let servers = addrs.map(|addr| {
                give(&format!("{addr}/{width}"), "eth0");
                let at = SocketAddr::new(addr.into(), 80);
                let (tcp, udp) = (TcpListener::bind(at).expect("TCP"), UdpSocket::bind(at).expect("UDP"));
                tcp.set_nonblocking(true).expect("nonblocking");
                udp.set_nonblocking(true).expect("nonblocking");
                (tcp, udp)
            });
            let servers = servers.unzip();
            ip(format!("{net} route add default via {node_in}"));
            servers
        });
        // The node itself asks Services too.
        ip(format!("{net} route add default via {client_addr}"));
        let settings = RuleSettings {
            ahead,
            ..RuleSettings::default()
        };
        let mut kernel = NftTable::open(settings).expect("a table");
        let delta = Delta {
            added: rows::<F>(),
            ..Delta::default()
        };
        kernel.apply(&delta).expect("rows");
        let scene = Self {
            kernel,
            client,
            pods,
            tcp,
            udp,
        };
        scene.say(NOTHING);
        scene
    }

    /// Gives the client's device a MAC. The node knows it at once.
    fn say(&self, mac: [u8; 6]) {
        let mac = text(mac);
        self.client
            .within(|| run("ip", &["link", "set", "eth0", "address", &mac]));
        let client = if F::FAMILY == IpFamily::V4 {
            "198.51.100.2"
        } else {
            "2001:db8:51::2"
        };
        let known = [
            "neigh",
            "replace",
            client,
            "lladdr",
            &mac,
            "dev",
            "out",
            "nud",
            "permanent",
        ];
        run("ip", &known);
    }

    /// The client's packets carry a choice from now on.
    fn choose(&self, slot: u16) {
        self.say(chosen(slot));
    }

    /// Opens a connection from this network. Gives which endpoint got it (from 1), and from which port it seems to come.
    fn flow_from(
        &self,
        network: Option<&Network>,
        source: Option<IpAddr>,
        to: IpAddr,
        protocol: Protocol,
    ) -> (u16, u16) {
        let to = SocketAddr::new(to, 80);
        let open = || {
            if protocol == Protocol::Tcp {
                drop(TcpStream::connect_timeout(&to, Duration::from_secs(2)).expect("connected"));
            } else {
                let any = if to.is_ipv4() { "0.0.0.0" } else { "::" };
                udp_from(source.unwrap_or_else(|| any.parse().expect("an address")), to);
            }
        };
        match network {
            Some(network) => network.within(open),
            None => open(),
        }
        let mut found = None;
        until(|| {
            found = (1..).zip(self.tcp.iter().zip(&self.udp)).find_map(|(n, (tcp, udp))| {
                let from = match protocol {
                    Protocol::Tcp => tcp.accept().map(|(_, from)| from),
                    _ => udp.recv_from(&mut [0]).map(|(_, from)| from),
                };
                match from {
                    Ok(from) => Some((n, from.port())),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => None,
                    Err(error) => panic!("{error}"),
                }
            });
            found.is_some()
        });
        found.expect("arrived")
    }

    fn flow(&self, to: IpAddr, protocol: Protocol) -> (u16, u16) {
        self.flow_from(Some(&self.client), None, to, protocol)
    }

    /// The endpoints that so many new connections of the client reach.
    fn reaches(&self, to: IpAddr, protocol: Protocol, flows: usize) -> BTreeSet<u16> {
        (0..flows).map(|_| self.flow(to, protocol).0).collect()
    }
}

fn choices<F: Family>() {
    in_namespace(|| {
        let mut scene = Scene::<F>::new(Ahead::Xdp);
        for protocol in BOTH {
            for slot in 0..ENDPOINTS {
                scene.choose(slot);
                assert_eq!(
                    scene.reaches(any_list::<F>(), protocol, 12),
                    BTreeSet::from([slot + 1]),
                    "{protocol:?}"
                );
            }
        }
        let far = Row::Endpoint {
            service: plain(1),
            slot: 300,
            endpoint: endpoint(pod::<F>(2), 80),
        };
        let delta = Delta {
            added: vec![far],
            ..Delta::default()
        };
        scene.kernel.apply(&delta).expect("a row");
        scene.choose(300);
        assert_eq!(scene.reaches(any_list::<F>(), Protocol::Tcp, 12), BTreeSet::from([2]));
    });
}

#[test]
fn each_flow_reaches_the_slot_that_xdp_chose() {
    choices::<V4>();
    choices::<V6>();
}

fn no_choice<F: Family>() {
    in_namespace(|| {
        let scene = Scene::<F>::new(Ahead::Xdp);
        for protocol in BOTH {
            for mac in [
                NOTHING,
                chosen(ENDPOINTS),
                chosen(u16::MAX),
                [0x02, b't', b'a', b'o', 1, 0],
            ] {
                scene.say(mac);
                assert_eq!(scene.reaches(any_list::<F>(), protocol, 60).len(), 3, "{mac:x?}");
            }
            // A list of one endpoint asks for no choice.
            scene.choose(1);
            assert_eq!(scene.reaches(first_alone::<F>(), protocol, 3), BTreeSet::from([1]));
            // The node's own packets came in by no device.
            let own = (0..60).map(|_| scene.flow_from(None, None, any_list::<F>(), protocol).0);
            assert_eq!(own.collect::<BTreeSet<_>>().len(), 3);
            let own = (0..3).map(|_| scene.flow_from(None, None, sticky_list::<F>(), protocol).0);
            assert_eq!(own.collect::<BTreeSet<_>>().len(), 1);
        }
    });
}

#[test]
fn without_a_choice_or_with_a_slot_that_is_not_there_the_rules_choose() {
    no_choice::<V4>();
    no_choice::<V6>();
}

#[test]
fn a_client_without_xdp_chooses_nothing() {
    in_namespace(|| {
        let scene = Scene::<V4>::new(Ahead::Nobody);
        scene.choose(1);
        assert_eq!(scene.reaches(any_list::<V4>(), Protocol::Udp, 60).len(), 3);
    });
}

fn affinity<F: Family>() {
    in_namespace(|| {
        let scene = Scene::<F>::new(Ahead::Xdp);
        let list = sticky_list::<F>();
        let reaches = |protocol| scene.reaches(list, protocol, 6);
        for protocol in BOTH {
            // A client is remembered anew with the same endpoint after a second.
            std::thread::sleep(Duration::from_millis(1200));
            for slot in [2, 0, 1] {
                let endpoint = BTreeSet::from([slot + 1]);
                scene.choose(slot);
                assert_eq!(reaches(protocol), endpoint, "chosen, whatever is remembered");
                scene.say(NOTHING);
                assert_eq!(reaches(protocol), endpoint, "remembered");
                scene.choose(ENDPOINTS);
                assert_eq!(
                    reaches(protocol),
                    endpoint,
                    "remembered, because that slot is not there"
                );
            }
        }
        assert_eq!(unremembered::<F>().expect("read"), Some(0));
    });
}

#[test]
fn a_client_stays_with_the_endpoint_that_xdp_chose_last() {
    affinity::<V4>();
    affinity::<V6>();
}

#[test]
fn when_no_more_clients_can_be_remembered_choices_are_followed_and_counted() {
    in_namespace(|| {
        run("nft", &["add", "table", "ip", "tandem"]); // without an owner, so that this test may fill its map
        let scene = Scene::<V4>::new(Ahead::Xdp);
        for service in 1..=16 {
            fill::<V4>(sticky(service), 0..16_384);
        }
        for slot in 0..ENDPOINTS {
            scene.choose(slot);
            assert_eq!(
                scene.reaches(sticky_list::<V4>(), Protocol::Udp, 4),
                BTreeSet::from([slot + 1])
            );
        }
        assert_eq!(unremembered::<V4>().expect("read"), Some(12));
    });
}

#[test]
fn a_flood_of_choices_leaves_room_for_the_clients_of_others() {
    in_namespace(|| {
        run("nft", &["add", "table", "ip", "tandem"]); // without an owner, so that this test may fill its map
        let scene = Scene::<V4>::new(Ahead::Xdp);
        run("ip", &["route", "add", "10.1.0.0/16", "via", "198.51.100.2"]);
        scene
            .client
            .within(|| run("ip", &["route", "add", "local", "10.1.0.0/16", "dev", "lo"]));
        // There is room for all clients of this Service and for 4,000 more.
        for service in 1..=14 {
            fill::<V4>(sticky(service), 0..16_384);
        }
        fill::<V4>(sticky(15), 0..12_384);
        let to = SocketAddr::new(sticky_list::<V4>(), 80);
        for slot in [1, 2, 1] {
            scene.choose(slot);
            let one = Ipv4Addr::new(198, 51, 100, 2);
            let many = (0..12_000).map(|n| Ipv4Addr::from_bits(Ipv4Addr::new(10, 1, 0, 1).to_bits() + n));
            let sources: Vec<IpAddr> = (0..2000).map(|_| one).chain(many).map(IpAddr::from).collect();
            scene
                .client
                .within(|| sources.iter().for_each(|source| udp_from(*source, to)));
        }
        assert_eq!(unremembered::<V4>().expect("read"), Some(0));
    });
}

const FREE_PORTS: RangeInclusive<u16> = 1024..=*XDP_PORTS.start() - 1;

fn masqueraded<F: Family>(ahead: Ahead) -> Vec<u16> {
    in_namespace(|| {
        let scene = Scene::<F>::new(ahead);
        let mut ports = Vec::new();
        for protocol in BOTH {
            ports.extend((0..100).map(|_| scene.flow(any_list::<F>(), protocol).1));
        }
        // The first endpoint reaches itself.
        let own = Some(pod::<F>(1).into());
        ports.extend((0..100).map(|_| {
            scene
                .flow_from(Some(&scene.pods), own, first_alone::<F>(), Protocol::Udp)
                .1
        }));
        ports
    })
}

#[test]
fn masquerading_uses_no_port_of_xdp() {
    for ports in [masqueraded::<V4>(Ahead::Xdp), masqueraded::<V6>(Ahead::Xdp)] {
        assert!(ports.iter().all(|port| FREE_PORTS.contains(port)), "{ports:?}");
    }
    let without = masqueraded::<V4>(Ahead::Nobody);
    for flows in without.chunks(100) {
        assert!(flows.iter().any(|port| XDP_PORTS.contains(port)), "{flows:?}");
    }
}
