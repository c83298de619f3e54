//! Programs in pods that do what nobody expects. What they are answered with Tandem's programs is what they are answered without
//! them, by a kernel whose nftables serves the same Services.

use std::thread::sleep;
use std::time::{Duration, Instant};

use aya::maps::{Array, Map, MapData};

use super::*;

/// How many sockets are made (`many` makes a million), and how many of them are there at a time.
const WHICH: &str = "TANDEM_TEST_SOCKETS";
const SOCKETS: usize = 100_000;
const AT_A_TIME: usize = 10_000;

/// Calls with all kinds of odd arguments. Prints what each was answered, in words that are the same for whoever answers.
const ODD: &str = r#"
import ctypes, errno, os, socket, struct, sys, threading, array
libc = ctypes.CDLL(None, use_errno=True)
V4, V6, TCP, UDP = socket.AF_INET, socket.AF_INET6, socket.SOCK_STREAM, socket.SOCK_DGRAM
FRONTEND4, FRONTEND6, MAPPED = "10.96.0.1", "fd96::1", "::ffff:10.96.0.1"
def said(result):
    return "ok" if result >= 0 else errno.errorcode.get(ctypes.get_errno(), "?")
def address(family, host, port):
    if family == V4: return struct.pack("=H", V4) + struct.pack("!H", port) + socket.inet_aton(host) + bytes(8)
    return struct.pack("=H", V6) + struct.pack("!HI", port, 0) + socket.inet_pton(V6, host) + bytes(4)
def connect(sock, raw, length): return said(libc.connect(sock.fileno(), raw, length))
def sendto(sock, raw, length, data=b"x"): return said(libc.sendto(sock.fileno(), data, len(data), socket.MSG_DONTWAIT, raw, length))
def with_family(raw, family): return struct.pack("=H", family) + raw[2:]
def echo(sock):
    while True:
        try: data, peer = sock.recvfrom(100); sock.sendto(data, peer)
        except OSError: pass
def accept(sock):
    while True: sock.accept()[0].close()
for family, host in ((V4, "10.0.0.1"), (V6, "fd00::1")):
    server = socket.socket(family, UDP); server.bind((host, 8080)); threading.Thread(target=echo, args=(server,), daemon=True).start()
    listener = socket.socket(family, TCP); listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); listener.bind((host, 8080)); listener.listen(4096)
    threading.Thread(target=accept, args=(listener,), daemon=True).start()
kinds = [(V4, FRONTEND4), (V6, FRONTEND6), (V6, MAPPED)]
def raws(family, host):
    own = address(family, host, 80)
    yield "own", own
    for other in (0, 1, 2, 10, 16, 17, 38, 40, 255, 65535): yield "family %d" % other, with_family(own, other)
    yield "zeros", bytes(28)
    yield "no port", address(family, host, 0)
    if family == V6:
        yield "of IPv4", address(V4, FRONTEND4, 80) + bytes(12)
        yield "flow and scope", own[:4] + b"\xff" * 4 + own[8:24] + b"\x01\0\0\0"
        yield "any", address(V6, "::", 80)
        yield "of zeros, mapped", address(V6, "::ffff:0.0.0.0", 80)
    else: yield "any", address(V4, "0.0.0.0", 80)
for family, host in kinds:
    for kind in (TCP, UDP):
        for name, raw in raws(family, host):
            for length in (0, 1, 2, 3, 7, 8, 15, 16, 17, 23, 24, 27, 28, 29, 127, 128, 129, -1, 2**31 - 1):
                raw_ = raw.ljust(200, b"\0")
                with socket.socket(family, kind) as sock:
                    sock.setblocking(False)
                    print("connect", int(family), int(kind), host, name, length, connect(sock, raw_, length))
                if kind == TCP: continue
                with socket.socket(family, kind) as sock:
                    print("sendto", int(family), host, name, length, sendto(sock, raw_, length))
        with socket.socket(family, kind) as sock:
            sock.setblocking(False)
            print("no address", connect(sock, None, 16), connect(sock, 1, 28), sendto(sock, 1, 28), sendto(sock, None, 28))
def peer(sock):
    try: return sock.getpeername()[:2]
    except OSError as error: return errno.errorcode[error.errno]
def ask(sock, to):
    sock.settimeout(3)
    sock.sendto(b"y", to)
    return sock.recvfrom(10)[1][:2]
for family, host in kinds:
    to = (host, 80)
    own = address(family, host, 80)
    # connected, dissolved, connected once more
    for kind in (TCP, UDP):
        sock = socket.socket(family, kind); sock.settimeout(3)
        for _ in range(100):
            sock.connect(to)
            here = peer(sock)
            dissolved = connect(sock, with_family(own, 0), 16)
            if (here, dissolved, peer(sock)) != (to, "ok", "ENOTCONN"): print("dissolve", kind, here, dissolved, peer(sock))
        print("dissolved", connect(sock, own, len(own)) in ("ok", "EINPROGRESS"), peer(sock))
    sock = socket.socket(family, TCP); sock.settimeout(3)
    sock.connect(to)
    print("twice", connect(sock, own, len(own)), connect(sock, address(family, host, 81), len(own)), peer(sock))
    # unconnected, connected, unconnected
    sock = socket.socket(family, UDP)
    for _ in range(20):
        if ask(sock, to) != to: print("asked")
        sock.connect(to)
        sock.send(b"z")
        if sock.recv(10) != b"z" or peer(sock) != to: print("connected", peer(sock))
        print(sendto(sock, address(family, host, 81), len(own)), end=" ")
        connect(sock, with_family(own, 0), 16)
    print(ask(sock, to), peer(sock))
    # an IPv4 address on a socket for IPv6, and only for IPv6
    if family == V6:
        for only in (0, 1):
            sock = socket.socket(V6, UDP); sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
            sock.setblocking(False)
            print("only", only, sendto(sock, address(V4, FRONTEND4, 80), 16), sendto(sock, address(V6, MAPPED, 80), 28), connect(sock, address(V4, FRONTEND4, 80), 16))
    # children of a program use its sockets
    tcp, udp = socket.create_connection(to), socket.socket(family, UDP)
    ask(udp, to)
    ends = os.pipe()
    children = []
    for _ in range(8):
        child = os.fork()
        if not child:
            answers = (tcp.getpeername()[:2] == to, ask(udp, to) == to if _ == 0 else True)
            os.write(ends[1], b"y" if all(answers) else b"n")
            os._exit(0)
        children.append(child)
    for child in children: os.waitpid(child, 0)
    print("children", os.read(ends[0], 100))
    # a program in another folder and another network gets sockets, and uses them there
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    sockets = [tcp, udp, socket.socket(family, TCP), socket.socket(family, UDP)]
    child = os.fork()
    if not child:
        with open(sys.argv[1], "w") as procs: procs.write("0")
        with open(sys.argv[2]) as network: assert libc.setns(network.fileno(), 0x40000000) == 0
        data, passed, _, _ = right.recvmsg(1, socket.CMSG_SPACE(16))
        passed = array.array("i", passed[0][2])
        tcp_, udp_, fresh, datagrams = [socket.socket(fileno=fd) for fd in passed]
        fresh.settimeout(3); fresh.connect(to)
        own = socket.socket(family, TCP); own.settimeout(3)
        print("passed", peer(tcp_), peer(fresh), ask(udp_, to), ask(datagrams, to), flush=True)
        for sock in (socket.socket(family, UDP), own): print("elsewhere", connect(sock, address(family, host, 80), len(address(family, host, 80))), flush=True)
        os._exit(0)
    sys.stdout.flush()
    socket.send_fds(left, [b"x"], [sock.fileno() for sock in sockets])
    print("child", os.waitpid(child, 0)[1])
# many connect at once
def storm(count):
    made = 0
    for _ in range(count):
        for family, host in kinds:
            with socket.socket(family, TCP) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                sock.settimeout(10)
                sock.connect((host, 80))
                made += sock.getpeername()[:2] == (host, 80)
    return made
sys.stdout.flush()
children = []
for _ in range(4):
    child = os.fork()
    if not child: os._exit(0 if storm(150) == 450 else 1)
    children.append(child)
print("storm", [os.waitpid(child, 0)[1] for child in children])
"#;

/// What nftables would have: the frontends lead to the endpoints.
const NFTABLES: &str = "\
add table ip t; add chain ip t c { type nat hook output priority -100; }; \
add rule ip t c ip daddr 10.96.0.1 meta l4proto { tcp, udp } th dport 80 dnat to 10.0.0.1:8080; \
add table ip6 t; add chain ip6 t c { type nat hook output priority -100; }; \
add rule ip6 t c ip6 daddr fd96::1 meta l4proto { tcp, udp } th dport 80 dnat to [fd00::1]:8080";

/// Endpoints with addresses of their own, and nftables that serves them.
fn serve(place: &Place) {
    for address in ["10.0.0.1/32", "fd00::1/128"] {
        run(Command::new("ip").args(["-n", &place.network, "address", "add", address, "dev", "lo"]));
    }
    run(Command::new("ip").args(["-n", &place.network, "route", "add", "fd96::/64", "dev", "lo"]));
    run(Command::new("ip").args(["netns", "exec", &place.network, "nft", NFTABLES]));
}

fn programs(place: &Place) -> Opened {
    let (sockets, mut v4, mut v6) = place.open();
    let rows6 = rows("fd96::1".parse().unwrap(), "fd00::1".parse().unwrap());
    v4.renew(
        &RuleSettings::default(),
        &rows([10, 96, 0, 1].into(), [10, 0, 0, 1].into()),
    )
    .unwrap();
    v6.renew(&RuleSettings::default(), &rows6).unwrap();
    sockets.set_node(place.cookie());
    sockets.set_pods(&Folder {
        path: place.below("kubepods"),
        id: fs::metadata(place.cgroup.join("kubepods")).unwrap().ino(),
        level: 2,
    });
    sockets.attach(Who::Node, &place.cgroup).unwrap();
    sockets.attach(Who::Pods, &place.cgroup.join("kubepods")).unwrap();
    (sockets, v4, v6)
}

/// How many connections the programs of a family have taken.
fn taken(place: &Place, name: &str) -> u64 {
    let pin = place.pins.join(format!("v{}/maps/{name}", tandem_xdp_layout::VERSION));
    let counts: Array<_, u64> = Map::from_map_data(MapData::from_pin(pin).unwrap())
        .unwrap()
        .try_into()
        .unwrap();
    (0..10).map(|at| counts.get(&at, 0).unwrap()).sum()
}

#[test]
fn hostile_programs_are_answered_as_by_a_kernel_without_the_programs() {
    let (node, place, elsewhere) = (Place::new(), Place::new(), Place::new());
    serve(&place);
    let (pod, other) = (node.below("kubepods/pod"), node.below("other"));
    let ask = || {
        let mut python = command(&place.network, &pod, ODD);
        python
            .arg(other.join("cgroup.procs"))
            .arg(format!("/run/netns/{}", elsewhere.network));
        let output = python.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        said
    };
    let without = ask();
    // The pod is in a network of its own, and the node's programs are above it.
    let (sockets, ..) = programs(&node);
    let with = ask();
    let differ: Vec<_> = without
        .lines()
        .zip(with.lines())
        .filter(|(without, with)| without != with)
        .collect();
    assert!(
        differ.is_empty(),
        "{} differ: {:#?}",
        differ.len(),
        &differ[..differ.len().min(20)]
    );
    assert_eq!(without.lines().count(), with.lines().count());
    println!("answers: {}", with.lines().count());
    assert!(
        with.lines().count() > 2_000 && with.contains("storm [0, 0, 0, 0]"),
        "{with}"
    );
    // The programs have taken what they can take.
    let taken = ["TAKEN4", "TAKEN6"].map(|name| taken(&node, name));
    assert!(taken.iter().all(|taken| *taken > 500), "{taken:?}");
    sockets.remove().unwrap();
}

/// Makes sockets that each ask both frontends, with some of them at a time, and prints how many were made.
const MANY: &str = r#"
import resource, socket, sys
total, at_a_time = int(sys.argv[1]), int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_NOFILE, (at_a_time + 100, at_a_time + 100))
servers = []
for family, host in ((socket.AF_INET, "10.0.0.1"), (socket.AF_INET6, "fd00::1")):
    server = socket.socket(family, socket.SOCK_DGRAM); server.bind((host, 8080)); servers.append(server)
made, there = 0, []
while made < total:
    there = []
    for _ in range(at_a_time):
        one = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        one.sendto(b"x", ("::ffff:10.96.0.1", 80)); one.sendto(b"x", ("fd96::1", 80))
        there.append(one); made += 1
print(made)
"#;

/// The memory of all maps that are pinned, in bytes.
fn memory_of_maps(place: &Place) -> u64 {
    let maps = place.pins.join(format!("v{}/maps", tandem_xdp_layout::VERSION));
    let bytes = fs::read_dir(maps).unwrap().map(|map| {
        let output = Command::new("bpftool")
            .args(["-j", "map", "show", "pinned"])
            .arg(map.unwrap().path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let bytes = said.split_once("\"bytes_memlock\":").unwrap().1;
        bytes
            .split(|c: char| !c.is_ascii_digit())
            .next()
            .unwrap()
            .parse::<u64>()
            .unwrap()
    });
    bytes.sum()
}

/// The kernel's memory that it cannot give back at once, in kB.
fn memory_of_kernel() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("SUnreclaim:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn very_many_sockets_cost_no_memory_once_they_are_closed() {
    let place = Place::new();
    for address in ["10.0.0.1/32", "fd00::1/128"] {
        run(Command::new("ip").args(["-n", &place.network, "address", "add", address, "dev", "lo"]));
    }
    let (sockets, ..) = programs(&place);
    let total = if std::env::var(WHICH).is_ok_and(|which| which == "many") {
        10 * SOCKETS
    } else {
        SOCKETS
    };
    let (maps, kernel) = (memory_of_maps(&place), memory_of_kernel());
    let mut python = command(&place.network, &place.cgroup, MANY);
    let output = python
        .args([total, AT_A_TIME].map(|number| number.to_string()))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), total.to_string());
    assert_eq!(["TAKEN4", "TAKEN6"].map(|name| taken(&place, name)), [total as u64; 2]);
    assert_eq!(memory_of_maps(&place), maps);
    // What a socket remembers has more than 200 bytes. The kernel frees it some time after the socket is closed.
    let most = kernel + 200 * SOCKETS as u64 / 1024;
    let end = Instant::now() + Duration::from_mins(1);
    while memory_of_kernel() > most && Instant::now() < end {
        sleep(Duration::from_millis(200));
    }
    let now = memory_of_kernel();
    assert!(now <= most, "{kernel} kB before, {now} kB after {total} sockets");
    sockets.remove().unwrap();
}
