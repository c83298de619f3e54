//! Answers are shown to come from what was asked, also in the rare cases.

use super::*;

/// A UDP socket sends to two frontends, and only then reads the answers.
const TWO: &str = r#"
import socket, sys
family, host, first, second = FAMILY
server = socket.socket(family, socket.SOCK_DGRAM); server.bind((host, 8080)); server.settimeout(0.3)
client = socket.socket(family, socket.SOCK_DGRAM); client.settimeout(0.3)
def send(frontend):
    client.sendto(b"x", (frontend, 80))
    try: data, peer = server.recvfrom(10); server.sendto(b"y", peer); return "taken"
    except OSError: return "left"
def sender():
    try: return client.recvfrom(10)[1][0]
    except OSError: return "nobody"
print(send(first), send(second), send(second), send(first), sender(), sender(), sender())
"#;

#[test]
fn a_second_frontend_of_the_same_endpoint_is_left_so_that_no_answer_comes_from_the_other_one() {
    let place = Place::new();
    let (mut all4, mut all6) = (rows4(), rows6());
    let service = ServiceId::plain(3).unwrap();
    let other = rows::<V4>([10, 96, 0, 2].into(), [127, 0, 0, 1].into());
    all4.extend(other.into_iter().skip(3).map(|row| with(row, service)));
    let other = rows::<V6>("fd96::2".parse().unwrap(), net::Ipv6Addr::LOCALHOST);
    all6.extend(other.into_iter().skip(3).map(|row| with(row, service)));
    let (sockets, ..) = place.serve(&all4, &all6);
    run(Command::new("ip").args(["-n", &place.network, "route", "add", "fd96::/64", "dev", "lo"]));
    for (family, own, first, second) in [
        ("AF_INET", "127.0.0.1", "10.96.0.1", "10.96.0.2"),
        ("AF_INET", "127.0.0.1", "10.96.0.2", "10.96.0.1"),
        ("AF_INET6", "::1", "fd96::1", "fd96::2"),
    ] {
        let four = format!("(socket.{family}, '{own}', '{first}', '{second}')");
        let said = place.python(&TWO.replace("FAMILY", &four));
        assert_eq!(said, format!("taken left left taken {first} {first} nobody"));
    }
    assert_eq!(sockets.left(IpFamily::V4).unwrap(), [(Reason::SameEndpoint, 4)]);
    assert_eq!(sockets.left(IpFamily::V6).unwrap(), [(Reason::SameEndpoint, 2)]);
    sockets.remove().unwrap();
}

/// A UDP socket sends datagrams, some of which have a source of their own.
const SOURCES: &str = r#"
import socket, struct
for family, host, frontend in ((socket.AF_INET, "127.0.0.1", "10.96.0.1"), (socket.AF_INET6, "::1", "fd96::1")):
    server = socket.socket(family, socket.SOCK_DGRAM); server.bind((host, 8080)); server.settimeout(0.3)
    client = socket.socket(family, socket.SOCK_DGRAM)
    def send(source):
        if family == socket.AF_INET: data = (socket.IPPROTO_IP, 8, struct.pack("i4s4s", 0, socket.inet_pton(family, source), b"\\0" * 4))
        else: data = (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, socket.inet_pton(family, source) + struct.pack("i", 0))
        client.sendmsg([b"x"], [data], 0, (frontend, 80))
        try: server.recvfrom(10); return "taken"
        except OSError: return "left"
    none = "0.0.0.0" if family == socket.AF_INET else "::"
    print(send(none), send(host), send(none), end=" ")
"#;

#[test]
fn a_datagram_with_a_source_of_its_own_is_left() {
    let place = Place::new();
    let (sockets, ..) = place.serve(&rows4(), &rows6());
    run(Command::new("ip").args(["-n", &place.network, "route", "add", "fd96::/64", "dev", "lo"]));
    assert_eq!(place.python(SOURCES), "taken left taken taken left taken");
    for family in [IpFamily::V4, IpFamily::V6] {
        assert_eq!(sockets.left(family).unwrap(), [(Reason::Bound, 1)]);
    }
    sockets.remove().unwrap();
}

#[test]
fn a_link_that_somebody_detached_is_noticed_and_made_again() {
    let place = Place::new();
    let (sockets, ..) = place.serve(&rows4(), &[]);
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let folder = Folder::given(&place.cgroup, &mounts).unwrap();
    place.refuse_untranslated();
    for name in ["node_connect4", "recvmsg6"] {
        assert!(sockets.is_attached(Who::Node, &folder) && sockets.is_linked(Who::Node, &folder));
        let pin = place.pins.join(format!("v{}/links/{name}", tandem_xdp_layout::VERSION));
        run(Command::new("bpftool").args(["link", "detach", "pinned"]).arg(&pin));
        assert!(!sockets.is_attached(Who::Node, &folder) && !sockets.is_linked(Who::Node, &folder));
        assert_eq!(sockets.attach(Who::Node, &place.cgroup).unwrap(), Attached::Anew);
        assert_eq!(place.python(ASK4), "10.96.0.1:80");
    }
    sockets.remove().unwrap();
}
