//! The programs with real sockets, in a cgroup folder of the test. Needs root.

use std::num::NonZeroU16;
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::{fs, io, net};

use tandem_core::family::{IpFamily, V4, V6};
use tandem_core::id::ServiceId;
use tandem_core::plane::RuleSettings;
use tandem_core::row::{Class, Endpoint, Frontend, L4Address, Pick, Protocol, Row};
use tandem_xdp_layout::{Address4, Address6, Reason};

use super::{Attached, KernelMaps, PinError, Pins, Sizes, Sockets, Who};
use crate::convert::Plane;
use crate::rows::Rows;

/// Folders of one test, which go with it.
struct Place {
    cgroup: PathBuf,
    /// A BPF file system. What is pinned in it goes with it.
    mount: PathBuf,
    pins: PathBuf,
}

fn run(command: &mut Command) {
    let status = command.status().unwrap();
    assert!(status.success(), "{command:?}: {status}");
}

impl Place {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("tandem-test-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let mount = std::env::temp_dir().join(&name);
        let place = Self {
            cgroup: cgroups().join(&name),
            pins: mount.join("pins"),
            mount,
        };
        for folder in [&place.cgroup, &place.mount] {
            fs::create_dir(folder).unwrap();
        }
        run(Command::new("mount").args(["-t", "bpf", "bpf"]).arg(&place.mount));
        place
    }

    fn open(&self) -> Opened {
        let pins = Pins::open(&self.pins).unwrap_or_else(|error| panic!("{error}: {error:?}"));
        let (sockets, v4, v6) = Sockets::open(&Sizes::default(), pins).unwrap_or_else(|error| panic!("{error}: {error:?}"));
        (sockets, Rows::new(v4, false), Rows::new(v6, false))
    }

    /// Has Python run a script, as a program in the cgroup folder. Returns what it printed.
    fn python(&self, script: &str) -> String {
        let procs = self.cgroup.join("cgroup.procs");
        let mut python = Command::new("python3");
        python.args(["-c", script]);
        #[expect(unsafe_code, reason = "the child enters the cgroup folder before it runs")]
        // SAFETY: it only opens and writes a file.
        unsafe {
            python.pre_exec(move || fs::write(&procs, "0"))
        };
        let output = python.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // A test that failed must not fail once more here.
        let _ = Command::new("umount").arg(&self.mount).status();
        let _: [io::Result<()>; 2] = [&self.mount, &self.cgroup].map(fs::remove_dir);
    }
}

type Opened = (
    Sockets,
    Rows<V4, KernelMaps<Address4>>,
    Rows<V6, KernelMaps<Address6>>,
);

/// The topmost folder of the cgroup v2 hierarchy.
fn cgroups() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let mount = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"));
    mount.and_then(|line| line.split(' ').nth(1)).unwrap().into()
}

fn port(number: u16) -> NonZeroU16 {
    NonZeroU16::new(number).unwrap()
}

/// A ClusterIP with one endpoint, for TCP and UDP.
fn rows<F: Plane>(frontend: F::Addr, endpoint: F::Addr) -> Vec<Row<F>> {
    let service = |number, protocol| {
        let service = ServiceId::plain(number).unwrap();
        let at = L4Address {
            addr: frontend,
            protocol,
            port: port(80),
        };
        [
            Row::Endpoint {
                service,
                slot: 0,
                endpoint: Endpoint {
                    addr: endpoint,
                    port: port(8080),
                },
            },
            Row::Service {
                service,
                pick: Pick::Any { count: port(1) },
                label: "a/b".into(),
            },
            Row::Frontend {
                frontend: Frontend::Address {
                    class: Class::Cluster,
                    at,
                },
                service,
                label: "a/b".into(),
            },
        ]
    };
    [service(1, Protocol::Tcp), service(2, Protocol::Udp)].concat()
}

fn rows4() -> Vec<Row<V4>> {
    rows([10, 96, 0, 1].into(), [127, 0, 0, 1].into())
}

fn rows6() -> Vec<Row<V6>> {
    rows("fd96::1".parse().unwrap(), net::Ipv6Addr::LOCALHOST)
}

/// Asks each address by TCP and UDP, and prints what the sockets say about who answered.
const ASK: &str = r#"
import socket
out = []
for family, host, frontend in ((socket.AF_INET, "127.0.0.1", "10.96.0.1"), (socket.AF_INET6, "::1", "fd96::1"), (socket.AF_INET6, "127.0.0.1", "::ffff:10.96.0.1")):
    own = socket.AF_INET if "." in host else socket.AF_INET6
    listener = socket.socket(own, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, 8080)); listener.listen()
    client = socket.socket(family, socket.SOCK_STREAM)
    client.settimeout(2)
    client.connect((frontend, 80))
    out.append("%s:%d" % client.getpeername()[:2])
    client.close(); listener.close()
    server = socket.socket(own, socket.SOCK_DGRAM)
    server.bind((host, 8080))
    client = socket.socket(family, socket.SOCK_DGRAM)
    client.settimeout(2)
    client.sendto(b"x", (frontend, 80))
    data, peer = server.recvfrom(10)
    server.sendto(b"y", peer)
    data, sender = client.recvfrom(10)
    out.append("%s:%d" % sender[:2])
    client.close(); server.close()
print(" ".join(out))
"#;

const ANSWERS: &str = "10.96.0.1:80 10.96.0.1:80 fd96::1:80 fd96::1:80 ::ffff:10.96.0.1:80 ::ffff:10.96.0.1:80";

/// Says whether a UDP socket that is connected, a bound TCP socket, and one that asks for nothing of a Service's are left alone.
const LEFT: &str = r#"
import socket
def fails(make):
    try: make()
    except OSError as error: return type(error).__name__
    return "answered"
def udp():
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); client.connect(("10.96.0.1", 80)); assert client.getpeername() == ("10.96.0.1", 80)
def bound():
    client = socket.socket(socket.AF_INET, socket.SOCK_STREAM); client.settimeout(0.3); client.bind(("127.0.0.1", 0)); client.connect(("10.96.0.1", 80))
def other():
    client = socket.socket(socket.AF_INET, socket.SOCK_STREAM); client.settimeout(0.3); client.connect(("127.0.0.1", 1))
print(fails(udp), fails(bound), fails(other))
"#;

/// The cookie of this network namespace.
fn cookie() -> u64 {
    const SO_NETNS_COOKIE: i32 = 71;
    let socket = net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let (mut value, mut len) = (0_u64, 8_u32);
    #[expect(unsafe_code, reason = "getsockopt")]
    // SAFETY: the value has the length that is given.
    let done = unsafe {
        let (level, value) = (libc::SOL_SOCKET, (&raw mut value).cast());
        libc::getsockopt(socket.as_raw_fd(), level, SO_NETNS_COOKIE, value, &raw mut len)
    };
    assert_eq!(done, 0);
    value
}

#[test]
fn the_kernel_takes_every_program() {
    let place = Place::new();
    let (sockets, _, _) = place.open();
    let verified = sockets.verified();
    assert_eq!(verified.len(), 12, "{verified:?}");
    let sum: u32 = verified.iter().map(|(_, count)| count).sum();
    println!("verified_instructions: {sum} {verified:?}");
}

#[test]
fn a_socket_is_translated_once_and_shows_the_frontend() {
    let place = Place::new();
    let (mut sockets, mut v4, mut v6) = place.open();
    v4.renew(&RuleSettings::default(), &rows4()).unwrap();
    v6.renew(&RuleSettings::default(), &rows6()).unwrap();
    sockets.set_node(cookie());
    assert_eq!(sockets.attach(Who::Node, &place.cgroup).unwrap(), Attached::Anew);
    assert_eq!(place.python(ASK), ANSWERS);
    assert_eq!(sockets.left(IpFamily::V4).unwrap(), []);
    sockets.remove().unwrap();
}

#[test]
fn what_a_socket_cannot_have_is_left_alone_and_counted() {
    let place = Place::new();
    let (mut sockets, mut v4, _) = place.open();
    v4.renew(&RuleSettings::default(), &rows4()).unwrap();
    sockets.set_node(cookie());
    sockets.attach(Who::Node, &place.cgroup).unwrap();
    let said = place.python(LEFT);
    assert!(said.starts_with("answered ") && said.ends_with(" ConnectionRefusedError"), "{said}");
    assert!(!said.contains("answered answered"), "{said}");
    let left = sockets.left(IpFamily::V4).unwrap();
    assert_eq!(left, [(Reason::ConnectedUdp, 1), (Reason::Bound, 1)]);
    sockets.remove().unwrap();
}

#[test]
fn the_next_run_adopts_what_it_finds_and_writes_nothing() {
    let place = Place::new();
    let (mut sockets, mut v4, mut v6) = place.open();
    v4.renew(&RuleSettings::default(), &rows4()).unwrap();
    v6.renew(&RuleSettings::default(), &rows6()).unwrap();
    sockets.set_node(cookie());
    sockets.attach(Who::Node, &place.cgroup).unwrap();
    drop((sockets, v4, v6));
    // Nobody is there, and programs go on.
    assert_eq!(place.python(ASK), ANSWERS);
    let (mut sockets, mut v4, mut v6) = place.open();
    assert_eq!(place.python(ASK), ANSWERS);
    assert_eq!(sockets.attach(Who::Node, &place.cgroup).unwrap(), Attached::Adopted);
    assert_eq!(place.python(ASK), ANSWERS);
    v4.renew(&RuleSettings::default(), &rows4()).unwrap();
    v6.renew(&RuleSettings::default(), &rows6()).unwrap();
    assert_eq!((v4.frontends(), v6.frontends()), (2, 2));
    assert_eq!((v4.store().writes(), v6.store().writes()), (0, 0));
    assert_eq!(place.python(ASK), ANSWERS);
    // Another folder takes the place of the first one.
    let other = Place::new();
    assert_eq!(sockets.attach(Who::Node, &other.cgroup).unwrap(), Attached::Anew);
    assert_eq!(other.python(ASK), ANSWERS);
    sockets.remove().unwrap();
    let error = Pins::open(Path::new("/tmp/tandem-test-pins")).unwrap_err();
    assert!(matches!(error, PinError::NotBpf(_)), "{error}");
}

#[test]
fn the_pins_of_a_newer_layout_are_left_alone() {
    let place = Place::new();
    let newer = place.pins.join("v999");
    fs::create_dir_all(&newer).unwrap();
    let error = Pins::open(&place.pins).unwrap_err();
    assert!(error.to_string().contains("v999"), "{error}");
    assert!(newer.is_dir());
    fs::remove_dir(&newer).unwrap();
    fs::remove_dir(&place.pins).unwrap();
}
