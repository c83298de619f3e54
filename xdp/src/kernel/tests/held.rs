//! UDP sockets that nftables serves stay with it.

use std::collections::HashSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use tandem_core::plane::{Cause, Follower};
use tandem_xdp_layout::HeldKey;

use super::*;
use crate::convert::held_key;
use crate::kernel::{Found, Held};

/// A UDP socket with the port 4000 sends to each frontend, once to each letter of the argument. Nobody but the endpoint answers.
const SEND: &str = r#"
import socket
def answered(frontend, port):
    family = socket.AF_INET6 if ":" in frontend else socket.AF_INET
    server = socket.socket(family, socket.SOCK_DGRAM); server.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 8080)); server.settimeout(0.3)
    client = socket.socket(family, socket.SOCK_DGRAM); client.bind(("", port)); client.settimeout(2)
    client.sendto(b"x", (frontend, 80))
    try: server.recvfrom(10); return "taken"
    except OSError: return "left"
    finally: server.close(); client.close()
print(answered("FRONTEND", 4000), answered("FRONTEND", 4001), answered("FRONTEND", 0))
"#;

/// The flows that a test says are tracked, or why they cannot be read.
type Tracked = Arc<Mutex<Result<Vec<HeldKey<Address4>>, String>>>;

/// Has the maps read the flows from a test. Returns them, and what is held.
fn tracked(v4: &mut Rows<V4, KernelMaps<Address4>>, first: &[(u8, u16)]) -> (Tracked, Held<Address4>) {
    let flows: Tracked = Arc::new(Mutex::new(Ok(keys(first))));
    let read = Arc::clone(&flows);
    v4.store_mut()
        .hold_by(move || read.lock().unwrap().clone().map_err(Cause::from));
    (flows, v4.store().held())
}

/// Flows to 10.96.0.N:80, of sockets with these ports.
fn keys(flows: &[(u8, u16)]) -> Vec<HeldKey<Address4>> {
    let key = |(addr, own): &(u8, u16)| held_key::<V4>([10, 96, 0, *addr].into(), 80, *own);
    flows.iter().map(key).collect()
}

fn send(place: &Place) -> String {
    place.python(&SEND.replace("FRONTEND", "10.96.0.1"))
}

#[test]
fn a_udp_socket_that_nftables_serves_stays_with_it_until_it_is_released_and_others_are_taken() {
    let place = Place::new();
    let (sockets, mut v4, _) = place.open();
    let rules = RuleSettings::default();
    sockets.set_node(place.cookie());
    sockets.attach(Who::Node, &place.cgroup).unwrap();
    // The second flow goes to no frontend.
    let (flows, held) = tracked(&mut v4, &[(1, 4000), (9, 4001)]);
    v4.renew(&rules, &rows4()).unwrap();
    assert_eq!(held.now().flows, keys(&[(1, 4000)]).into_iter().collect::<HashSet<_>>());
    assert_eq!(send(&place), "left taken taken");
    assert_eq!(sockets.left(IpFamily::V4).unwrap(), [(Reason::Held, 1)]);
    // A change leaves it so, and so does a run that finds the family on.
    *flows.lock().unwrap() = Err("nobody asks".to_owned());
    v4.renew(&rules, &rows4()).unwrap();
    drop((sockets, v4));
    let [switch, _] = Found::look(&place.pins).unwrap().switches(false).unwrap();
    assert!(Follower::<V4>::fits(&switch, &rules));
    let (sockets, mut v4, _) = place.open();
    let (flows, held) = tracked(&mut v4, &[(1, 4001)]);
    v4.renew(&rules, &rows4()).unwrap();
    assert_eq!(v4.store().writes(), 0);
    assert_eq!(sockets.attach(Who::Node, &place.cgroup).unwrap(), Attached::Adopted);
    assert_eq!((send(&place), held.count()), ("left taken taken".to_owned(), 1));
    // Once its flow is gone, its next datagram is taken, and programs ask no more.
    let now = held.now();
    assert_eq!(held.release(&now, |_| false).unwrap(), 1);
    assert_eq!(send(&place), "left taken taken");
    assert_eq!(held.release(&now, |_| true).unwrap(), 0);
    assert_eq!(send(&place), "taken taken taken");
    // Off and on: nftables serves others now. What was read before releases none of them.
    v4.switch_off();
    assert_eq!(send(&place), "left left left");
    v4.renew(&rules, &rows4()).unwrap();
    assert_eq!(held.release(&now, |_| true).unwrap(), 1);
    assert_eq!(send(&place), "taken left taken");
    // If the flows cannot be read, the family stays off, and says why.
    v4.switch_off();
    *flows.lock().unwrap() = Err("no conntrack".to_owned());
    let error = v4.renew(&rules, &rows4()).unwrap_err();
    let cause = std::error::Error::source(&error).unwrap();
    assert_eq!(cause.to_string(), "read which UDP sockets nftables serves");
    assert_eq!(cause.source().unwrap().to_string(), "no conntrack");
    assert_eq!(send(&place), "left left left");
    sockets.remove().unwrap();
}

#[test]
fn a_socket_that_sends_to_two_frontends_is_held_for_one_of_them_alone() {
    let place = Place::new();
    let (sockets, mut v4, _) = place.open();
    let mut all = rows4();
    let other = rows::<V4>([10, 96, 0, 2].into(), [127, 0, 0, 2].into());
    all.extend(
        other
            .into_iter()
            .skip(3)
            .map(|row| with(row, ServiceId::plain(3).unwrap())),
    );
    let (_, held) = tracked(&mut v4, &[(2, 4000)]);
    v4.renew(&RuleSettings::default(), &all).unwrap();
    sockets.set_node(place.cookie());
    sockets.attach(Who::Node, &place.cgroup).unwrap();
    let script = r#"
import socket
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); server.bind(("", 8080)); server.settimeout(0.3)
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); client.bind(("", 4000)); client.settimeout(2)
for frontend in "10.96.0.2", "10.96.0.1", "10.96.0.2", "10.96.0.1":
    client.sendto(b"x", (frontend, 80))
    try: server.recvfrom(10); print("taken", end=" ")
    except OSError: print("left", end=" ")
"#;
    assert_eq!(place.python(script), "left taken left taken");
    held.release(&held.now(), |_| true).unwrap();
    assert_eq!(place.python(script), "taken taken taken taken");
    sockets.remove().unwrap();
}

#[test]
fn a_socket_that_has_its_endpoint_is_held_too_if_nftables_served_it_while_the_family_was_off() {
    let place = Place::new();
    let (sockets, mut v4, _) = place.open();
    let (flows, held) = tracked(&mut v4, &[]);
    v4.renew(&RuleSettings::default(), &rows4()).unwrap();
    sockets.set_node(place.cookie());
    sockets.attach(Who::Node, &place.cgroup).unwrap();
    let script = r#"
import socket, sys
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); server.bind(("127.0.0.1", 8080)); server.settimeout(0.3)
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); client.bind(("", 4000))
for line in sys.stdin:
    client.sendto(b"x", ("10.96.0.1", 80))
    try: server.recvfrom(10); print("taken", flush=True)
    except OSError: print("left", flush=True)
"#;
    let mut client = command(&place.network, &place.cgroup, script);
    let mut client = client.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut ask, mut said) = (
        client.stdin.take().unwrap(),
        BufReader::new(client.stdout.take().unwrap()),
    );
    let mut send = || {
        ask.write_all(b"\n").unwrap();
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        line.trim().to_owned()
    };
    assert_eq!(send(), "taken");
    v4.switch_off();
    assert_eq!(send(), "left");
    *flows.lock().unwrap() = Ok(keys(&[(1, 4000)]));
    v4.renew(&RuleSettings::default(), &rows4()).unwrap();
    assert_eq!(send(), "left");
    held.release(&held.now(), |_| true).unwrap();
    assert_eq!(send(), "taken");
    drop(ask);
    client.wait().unwrap();
    sockets.remove().unwrap();
}

#[test]
fn sockets_that_nftables_serves_stay_with_it_if_programs_are_attached_while_the_family_is_on() {
    let place = Place::new();
    let (sockets, mut v4, _) = place.open();
    let held = v4.store().held();
    v4.renew(&RuleSettings::default(), &rows4()).unwrap();
    sockets.set_node(place.cookie());
    let (folder, mounts) = (&place.cgroup, fs::read_to_string("/proc/self/mountinfo").unwrap());
    let folder = Folder::given(folder, &mounts).unwrap();
    assert!(!sockets.is_linked(Who::Node, &folder));
    // More than there is room for.
    let flow = |own| held_key::<V4>([10, 96, 0, 1].into(), 80, own);
    let many: HashSet<_> = (4000..30_000).filter(|own| *own != 4001).map(flow).collect();
    sockets.hold(&held, &many).unwrap();
    sockets.hold(&held, &keys(&[(1, 4000)]).into_iter().collect()).unwrap();
    sockets.attach(Who::Node, &place.cgroup).unwrap();
    assert_eq!(send(&place), "left taken taken");
    assert_eq!(held.release(&held.now(), |_| true).unwrap(), 0);
    assert_eq!(send(&place), "taken taken taken");
    sockets.remove().unwrap();
}

#[test]
fn whatever_is_tracked_is_held_however_much_it_is() {
    let place = Place::new();
    let (sockets, mut v4, _) = place.open();
    let (_, held) = tracked(&mut v4, &[]);
    v4.store_mut().hold_by(|| {
        let flow = |own| held_key::<V4>([10, 96, 0, 1].into(), 80, own);
        Ok((1..20_001).map(flow).collect())
    });
    v4.renew(&RuleSettings::default(), &rows4()).unwrap();
    assert_eq!(held.count(), 20_000);
    sockets.set_node(place.cookie());
    sockets.attach(Who::Node, &place.cgroup).unwrap();
    assert_eq!(send(&place), "left left taken");
    let maps = sockets.maps().unwrap();
    let map = maps.iter().find(|map| map.name == "HELD4").unwrap();
    assert_eq!((map.used, map.room), (Some(20_000), Some(32_768)));
    sockets.remove().unwrap();
}

#[test]
fn a_socket_of_ipv6_is_held_too() {
    let place = Place::new();
    let (sockets, _, mut v6) = place.open();
    let frontend = "fd96::1".parse().unwrap();
    v6.store_mut()
        .hold_by(move || Ok(vec![held_key::<V6>(frontend, 80, 4000)]));
    v6.renew(&RuleSettings::default(), &rows6()).unwrap();
    sockets.set_node(place.cookie());
    sockets.attach(Who::Node, &place.cgroup).unwrap();
    let script = SEND.replace("FRONTEND", "fd96::1");
    run(Command::new("ip").args(["-n", &place.network, "route", "add", "fd96::/64", "dev", "lo"]));
    assert_eq!(place.python(&script), "left taken taken");
    assert_eq!(sockets.left(IpFamily::V6).unwrap(), [(Reason::Held, 1)]);
    sockets.remove().unwrap();
}
