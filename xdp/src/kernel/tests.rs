//! The programs with real sockets, in a cgroup folder and a network namespace of the test.

use std::num::NonZeroU16;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::{fs, io};

use tandem_core::family::{V4, V6};
use tandem_core::id::ServiceId;
use tandem_core::plane::RuleSettings;
use tandem_core::row::{Class, Endpoint, Frontend, L4Address, Pick, Protocol, Row};

use super::{Sizes, Sockets, Who};
use crate::convert::Plane;
use crate::rows::Rows;

fn port(number: u16) -> NonZeroU16 {
    NonZeroU16::new(number).unwrap()
}

fn rows<F: Plane>(protocol: Protocol, frontend: F::Addr, endpoint: F::Addr, number: u16) -> Vec<Row<F>> {
    let service = ServiceId::plain(u32::from(number)).unwrap();
    let at = L4Address {
        addr: frontend,
        protocol,
        port: port(80),
    };
    vec![
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
}

const SCRIPT: &str = r#"
import socket, sys
out = []
for family, host, frontend in ((socket.AF_INET, "127.0.0.1", "10.96.0.1"), (socket.AF_INET6, "::1", "fd96::1"), (socket.AF_INET6, "::1", "::ffff:10.96.0.1")):
    listener = socket.socket(socket.AF_INET if "." in frontend else family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1" if "." in frontend else host, 8080)); listener.listen()
    client = socket.socket(family, socket.SOCK_STREAM)
    client.settimeout(2)
    client.connect((frontend, 80))
    out.append(client.getpeername()[0] + ":" + str(client.getpeername()[1]))
    client.close(); listener.close()
    server = socket.socket(socket.AF_INET if "." in frontend else family, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1" if "." in frontend else host, 8080))
    client = socket.socket(family, socket.SOCK_DGRAM)
    client.settimeout(2)
    client.sendto(b"x", (frontend, 80))
    data, peer = server.recvfrom(10)
    server.sendto(b"y", peer)
    data, sender = client.recvfrom(10)
    out.append(sender[0] + ":" + str(sender[1]))
    client.close(); server.close()
print(" ".join(out))
"#;

#[test]
fn a_socket_is_translated_once_and_shows_the_frontend() {
    let (mut sockets, v4, v6) = Sockets::open(&Sizes::default()).unwrap();
    let (mut v4, mut v6) = (Rows::<V4, _>::new(v4, false), Rows::<V6, _>::new(v6, false));
    let mut all = rows(Protocol::Tcp, [10, 96, 0, 1].into(), [127, 0, 0, 1].into(), 1);
    all.extend(rows::<V4>(
        Protocol::Udp,
        [10, 96, 0, 1].into(),
        [127, 0, 0, 1].into(),
        2,
    ));
    v4.renew(&RuleSettings::default(), &all).unwrap();
    let (frontend, endpoint) = ("fd96::1".parse().unwrap(), "::1".parse().unwrap());
    let mut all = rows(Protocol::Tcp, frontend, endpoint, 1);
    all.extend(rows::<V6>(Protocol::Udp, frontend, endpoint, 2));
    v6.renew(&RuleSettings::default(), &all).unwrap();
    let folder = PathBuf::from(format!("/sys/fs/cgroup/unified/tandem-xdp-{}", std::process::id()));
    fs::create_dir(&folder).unwrap();
    let pins = PathBuf::from(format!("/sys/fs/bpf/tandem-xdp-{}", std::process::id()));
    fs::create_dir(&pins).unwrap();
    sockets.set_node(cookie());
    sockets.attach(Who::Node, &folder, &pins).unwrap();
    let procs = folder.join("cgroup.procs");
    let mut python = Command::new("python3");
    python.args(["-c", SCRIPT]);
    #[expect(unsafe_code, reason = "the child enters the cgroup folder before it runs")]
    unsafe {
        python.pre_exec(move || fs::write(&procs, "0"))
    };
    let output = python.output().unwrap();
    println!("{}", String::from_utf8_lossy(&output.stdout));
    println!("{}", String::from_utf8_lossy(&output.stderr));
    println!("{:?}", sockets.left(tandem_core::family::IpFamily::V4));
    sockets.detach().unwrap();
    let _: io::Result<()> = fs::remove_dir(&folder);
    fs::remove_dir(&pins).unwrap();
    let expected = "10.96.0.1:80 10.96.0.1:80 fd96::1:80 fd96::1:80 ::ffff:10.96.0.1:80 ::ffff:10.96.0.1:80\n";
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
}

fn cookie() -> u64 {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    netns_cookie(&socket)
}

#[expect(unsafe_code, reason = "getsockopt")]
fn netns_cookie(socket: &std::net::UdpSocket) -> u64 {
    use std::os::fd::AsRawFd as _;
    const SO_NETNS_COOKIE: i32 = 71;
    let (mut value, mut len) = (0_u64, 8_u32);
    let done = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut value).cast(),
            &raw mut len,
        )
    };
    assert_eq!(done, 0);
    value
}
