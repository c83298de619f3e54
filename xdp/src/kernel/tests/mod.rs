//! The programs with real sockets, in a cgroup folder and a network namespace of the test. Needs root.

mod answers;
mod bad;
mod counts;
mod devices;
mod faults;
mod held;
mod hostile;
mod left_behind;
mod packets;
mod sparse;
mod threads;

use std::num::NonZeroU16;
use std::os::unix::fs::MetadataExt as _;
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

use super::{Attached, Folder, KernelMaps, PinError, Pins, Sizes, Sockets, Who};
use crate::convert::Plane;
use crate::rows::Rows;

/// Folders of one test, which go with it.
struct Place {
    /// A network namespace.
    network: String,
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
        let name = format!(
            "tandem-test-{}-{}",
            std::process::id(),
            NUMBER.fetch_add(1, Ordering::Relaxed)
        );
        let mount = std::env::temp_dir().join(&name);
        let place = Self {
            cgroup: cgroups().join(&name),
            pins: mount.join("pins"),
            mount,
            network: name,
        };
        for folder in [&place.cgroup, &place.mount] {
            fs::create_dir(folder).unwrap();
        }
        run(Command::new("mount").args(["-t", "bpf", "bpf"]).arg(&place.mount));
        run(Command::new("ip").args(["netns", "add", &place.network]));
        run(Command::new("ip").args(["-n", &place.network, "link", "set", "lo", "up"]));
        // What is not translated has somewhere to go, and nobody there answers.
        run(Command::new("ip").args(["-n", &place.network, "route", "add", "10.96.0.0/12", "dev", "lo"]));
        place
    }

    fn open(&self) -> Opened {
        let pins = Pins::open(&self.pins).unwrap_or_else(|error| panic!("{error}: {error:?}"));
        let (sockets, v4, v6) =
            Sockets::open(&Sizes::default(), pins).unwrap_or_else(|error| panic!("{error}: {error:?}"));
        (sockets, Rows::new(v4, false), Rows::new(v6, false))
    }

    /// Everything at work for the node, with these rows.
    fn serve(&self, rows4: &[Row<V4>], rows6: &[Row<V6>]) -> Opened {
        let (sockets, mut v4, mut v6) = self.open();
        v4.renew(&RuleSettings::default(), rows4).unwrap();
        v6.renew(&RuleSettings::default(), rows6).unwrap();
        sockets.set_node(self.cookie());
        sockets.attach(Who::Node, &self.cgroup).unwrap();
        (sockets, v4, v6)
    }

    /// The cookie of the network namespace.
    fn cookie(&self) -> u64 {
        let script =
            "import socket; print(int.from_bytes(socket.socket().getsockopt(socket.SOL_SOCKET, 71, 8), 'little'))";
        self.python(script).parse().unwrap()
    }

    /// Has Python run a script, as a program in the cgroup folder and the network namespace. Returns what it printed.
    fn python(&self, script: &str) -> String {
        python(&self.network, &self.cgroup, script)
    }

    /// From now on, what is not translated has no way, which the kernel says at once.
    fn refuse_untranslated(&self) {
        let to = ["route", "replace", "unreachable", "10.96.0.0/12"];
        run(Command::new("ip").args(["-n", &self.network]).args(to));
    }

    /// A folder below the cgroup folder, which goes with this.
    fn below(&self, name: &str) -> PathBuf {
        let folder = self.cgroup.join(name);
        fs::create_dir_all(&folder).unwrap();
        folder
    }
}

/// Has Python run a script in this network namespace and cgroup folder. Returns what it printed.
fn python(network: &str, cgroup: &Path, script: &str) -> String {
    inside(network, cgroup, Command::new("python3").args(["-c", script]))
}

/// Runs a program in this network namespace and cgroup folder. Returns what it printed.
fn inside(network: &str, cgroup: &Path, program: &Command) -> String {
    let output = enter(network, cgroup, program).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    assert!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    said
}

/// Python with a script, in this network namespace and cgroup folder.
fn command(network: &str, cgroup: &Path, script: &str) -> Command {
    enter(network, cgroup, Command::new("python3").args(["-c", script]))
}

/// A program in this network namespace and cgroup folder.
fn enter(network: &str, cgroup: &Path, program: &Command) -> Command {
    let procs = cgroup.join("cgroup.procs");
    // `ip netns exec` would hide the cgroup folders.
    let mut command = Command::new("nsenter");
    command
        .arg(format!("--net=/run/netns/{network}"))
        .arg("--")
        .arg(program.get_program());
    command.args(program.get_args());
    for (name, value) in program.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    #[expect(unsafe_code, reason = "the child enters the cgroup folder before it runs")]
    // SAFETY: it only opens and writes a file.
    unsafe {
        command.pre_exec(move || fs::write(&procs, "0"))
    };
    command
}

impl Drop for Place {
    fn drop(&mut self) {
        for folder in ["kubepods/pod", "kubepods", "other"] {
            let _: io::Result<()> = fs::remove_dir(self.cgroup.join(folder));
        }
        // A test that failed must not fail once more here.
        let _ = Command::new("ip").args(["netns", "delete", &self.network]).status();
        let _ = Command::new("umount").arg(&self.mount).status();
        let _: [io::Result<()>; 2] = [&self.mount, &self.cgroup].map(fs::remove_dir);
    }
}

type Opened = (Sockets, Rows<V4, KernelMaps<Address4>>, Rows<V6, KernelMaps<Address6>>);

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

/// Asks one address by TCP.
const ASK4: &str = r#"
import socket
listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("127.0.0.1", 8080)); listener.listen()
client = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
client.settimeout(2)
client.connect(("10.96.0.1", 80))
print("%s:%d" % client.getpeername()[:2])
"#;

/// Asks an address to which nobody answers if it is not translated.
const REFUSED: &str = r#"
import socket
client = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
client.settimeout(0.3)
try: client.connect(("10.96.0.1", 80))
except OSError as error: print(error)
else: print("connected")
"#;

/// What it prints if the call was not translated and has no way ([`Place::refuse_untranslated`]). If it was translated, nobody listens at
/// the endpoint, and the kernel says so.
const UNTRANSLATED: &str = "[Errno 113] No route to host";

const ANSWERS: &str = "10.96.0.1:80 10.96.0.1:80 fd96::1:80 fd96::1:80 ::ffff:10.96.0.1:80 ::ffff:10.96.0.1:80";

/// Says whether a UDP socket that is connected, also if it names an address, a bound TCP socket, a UDP socket with a source, and one that asks for nothing of a Service's are left alone.
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
def both():
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); client.connect(("10.96.0.1", 80)); client.sendto(b"x", ("10.96.0.1", 80))
def source():
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); client.bind(("127.0.0.1", 0)); client.sendto(b"x", ("10.96.0.1", 80))
def other():
    client = socket.socket(socket.AF_INET, socket.SOCK_STREAM); client.settimeout(0.3); client.connect(("127.0.0.1", 1))
print(fails(udp), fails(bound), fails(both), fails(source), fails(other))
"#;

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
    let (sockets, mut v4, mut v6) = place.open();
    v4.renew(&RuleSettings::default(), &rows4()).unwrap();
    v6.renew(&RuleSettings::default(), &rows6()).unwrap();
    sockets.set_node(place.cookie());
    assert_eq!(sockets.attach(Who::Node, &place.cgroup).unwrap(), Attached::Anew);
    assert_eq!(place.python(ASK), ANSWERS);
    assert_eq!(sockets.left(IpFamily::V4).unwrap(), []);
    sockets.remove().unwrap();
}

#[test]
fn what_a_socket_cannot_have_is_left_alone_and_counted() {
    let place = Place::new();
    let (sockets, mut v4, _) = place.open();
    v4.renew(&RuleSettings::default(), &rows4()).unwrap();
    sockets.set_node(place.cookie());
    sockets.attach(Who::Node, &place.cgroup).unwrap();
    let said = place.python(LEFT);
    assert!(
        said.starts_with("answered ") && said.ends_with(" ConnectionRefusedError"),
        "{said}"
    );
    assert!(!said.starts_with("answered answered"), "{said}");
    let left = sockets.left(IpFamily::V4).unwrap();
    assert_eq!(left, [(Reason::ConnectedUdp, 3), (Reason::Bound, 2)]);
    sockets.remove().unwrap();
}

#[test]
fn the_next_run_adopts_what_it_finds_and_writes_nothing() {
    let place = Place::new();
    let (sockets, mut v4, mut v6) = place.open();
    v4.renew(&RuleSettings::default(), &rows4()).unwrap();
    v6.renew(&RuleSettings::default(), &rows6()).unwrap();
    sockets.set_node(place.cookie());
    sockets.attach(Who::Node, &place.cgroup).unwrap();
    drop((sockets, v4, v6));
    // Nobody is there, and programs go on.
    assert_eq!(place.python(ASK), ANSWERS);
    let (sockets, mut v4, mut v6) = place.open();
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
    sockets.set_node(other.cookie());
    assert_eq!(sockets.attach(Who::Node, &other.cgroup).unwrap(), Attached::Anew);
    assert_eq!(other.python(ASK), ANSWERS);
    // In the first folder nothing is attached any more.
    sockets.set_node(place.cookie());
    assert_eq!(place.python(REFUSED), "timed out");
    sockets.remove().unwrap();
    let error = Pins::open(Path::new("/tmp/tandem-test-pins")).unwrap_err();
    assert!(matches!(error, PinError::NotBpf(_)), "{error}");
}

#[test]
fn pods_are_told_by_their_folder_and_the_node_by_its_network() {
    let (node, pod) = (Place::new(), Place::new());
    let (sockets, mut v4, _) = node.open();
    v4.renew(&RuleSettings::default(), &rows4()).unwrap();
    let (kubelets, container) = (node.below("kubepods/pod"), node.below("other"));
    sockets.set_node(node.cookie());
    sockets.set_pods(&Folder {
        path: node.cgroup.join("kubepods"),
        id: fs::metadata(node.cgroup.join("kubepods")).unwrap().ino(),
        level: 2,
    });
    sockets.attach(Who::Node, &node.cgroup).unwrap();
    let nobody = ASK4.replace("settimeout(2)", "settimeout(0.3)");
    let asks = |network: &str, folder: &Path| {
        let script = format!(
            "try:\n{}\nexcept OSError: print('no answer')",
            nobody.replace('\n', "\n  ")
        );
        python(network, folder, &script)
    };
    // Only the node's programs are there: a pod is nobody's yet, but a pod in the node's network is the node's.
    assert_eq!(asks(&pod.network, &kubelets), "no answer");
    assert_eq!(asks(&node.network, &kubelets), "10.96.0.1:80");
    assert_eq!(sockets.left(IpFamily::V4).unwrap(), []);
    sockets.attach(Who::Pods, &node.cgroup.join("kubepods")).unwrap();
    assert_eq!(asks(&pod.network, &kubelets), "10.96.0.1:80");
    assert_eq!(asks(&node.network, &kubelets), "10.96.0.1:80");
    // A container that is no pod's is left alone, and counted.
    assert_eq!(asks(&pod.network, &container), "no answer");
    assert_eq!(sockets.left(IpFamily::V4).unwrap(), [(Reason::NoPod, 1)]);
    sockets.remove().unwrap();
}

#[test]
fn a_full_map_is_replaced_by_a_larger_one_while_programs_run() {
    let place = Place::new();
    let sizes = Sizes {
        frontends: 4,
        words: [16, 16],
    };
    let (sockets, v4, _) = Sockets::open(&sizes, Pins::open(&place.pins).unwrap()).unwrap();
    let mut v4: Rows<V4, _> = Rows::new(v4, false);
    v4.renew(&RuleSettings::default(), &rows4()).unwrap();
    sockets.set_node(place.cookie());
    sockets.attach(Who::Node, &place.cgroup).unwrap();
    assert_eq!(place.python(ASK4), "10.96.0.1:80");
    // Each Service has a ClusterIP of its own, and a list of one endpoint.
    let mut all = rows4();
    for number in 10..60 {
        let service = ServiceId::plain(number).unwrap();
        let own = rows::<V4>([10, 96, 1, u8::try_from(number).unwrap()].into(), [127, 0, 0, 1].into());
        let own: Vec<_> = own.into_iter().take(3).map(|row| with(row, service)).collect();
        let delta = tandem_core::plane::Delta {
            added: own.clone(),
            ..Default::default()
        };
        v4.follow(&delta).unwrap();
        all.extend(own);
    }
    assert_eq!(v4.left().len(), 0);
    assert_eq!(v4.frontends(), 52);
    assert!(v4.fill().1 > 16);
    assert_eq!(place.python(ASK4), "10.96.0.1:80");
    assert_eq!(place.python(&ASK4.replace("10.96.0.1", "10.96.1.59")), "10.96.1.59:80");
    drop((sockets, v4));
    // The next run finds the larger ones.
    let (sockets, v4, _) = Sockets::open(&sizes, Pins::open(&place.pins).unwrap()).unwrap();
    let mut v4: Rows<V4, _> = Rows::new(v4, false);
    assert_eq!(sockets.attach(Who::Node, &place.cgroup).unwrap(), Attached::Adopted);
    v4.renew(&RuleSettings::default(), &all).unwrap();
    assert_eq!((v4.store().writes(), v4.frontends()), (0, 52));
    sockets.remove().unwrap();
}

fn with<F: Plane>(row: Row<F>, to: ServiceId) -> Row<F> {
    match row {
        Row::Frontend { frontend, label, .. } => Row::Frontend {
            frontend,
            service: to,
            label,
        },
        Row::Service { pick, label, .. } => Row::Service {
            service: to,
            pick,
            label,
        },
        Row::Endpoint { slot, endpoint, .. } => Row::Endpoint {
            service: to,
            slot,
            endpoint,
        },
        other => other,
    }
}

#[test]
fn a_map_that_cannot_grow_is_named_with_its_size_and_the_kernels_reason() {
    let place = Place::new();
    let sizes = Sizes {
        frontends: 2,
        words: [16, 16],
    };
    let (sockets, v4, _) = Sockets::open(&sizes, Pins::open(&place.pins).unwrap()).unwrap();
    let mut v4: Rows<V4, _> = Rows::new(v4, false);
    v4.renew(&RuleSettings::default(), &rows4()).unwrap();
    sockets.set_node(place.cookie());
    sockets.attach(Who::Node, &place.cgroup).unwrap();
    // With a pin missing, no program can be loaded with the maps of those that run.
    fs::remove_file(place.pins.join(format!("v{}/maps/LEFT", tandem_xdp_layout::VERSION))).unwrap();
    let mut all = rows4();
    let own = rows::<V4>([10, 96, 1, 1].into(), [127, 0, 0, 1].into());
    let service = ServiceId::plain(7).unwrap();
    all.extend(own.into_iter().take(3).map(|row| with(row, service)));
    v4.renew(&RuleSettings::default(), &all).unwrap();
    let left: Vec<_> = v4.left().iter().map(|(id, why)| (*id, why.to_string())).collect();
    let why = "there is no room for its frontends: FRONTENDS4 has room for 2 and takes no more: No such file or directory (os error 2)";
    assert_eq!(left, [(service, why.to_owned())]);
    // All others are served as before.
    assert_eq!(place.python(ASK4), "10.96.0.1:80");
    sockets.remove().unwrap();
}
