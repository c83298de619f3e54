//! Several threads use one UDP socket at the same time. The kernel's lock of the socket keeps its programs apart.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use super::*;

/// How many threads send, each to a frontend of its own.
const SENDERS: u8 = 4;
const SOCKETS: usize = 50;
/// How often each thread sends on each socket, and how many datagrams at once: as many as wait in the socket without a loss.
const ROUNDS: usize = 10;
const DATAGRAMS: usize = 40;
/// Set for the program that sends: this test once more, in the cgroup folder and the network.
const SENDS: &str = "TANDEM_TEST_SENDS";
/// The test below.
const TEST: &str = "kernel::tests::threads::\
                    whoever_sends_on_one_udp_socket_at_the_same_time_every_answer_is_from_the_frontend_that_was_asked";

fn frontend(number: u8) -> SocketAddr {
    ([10, 96, 0, number], 80).into()
}

/// An endpoint that answers with its number.
fn serve(number: u8) {
    let server = UdpSocket::bind(SocketAddr::from(([127, 0, 0, number], 8080))).unwrap();
    thread::spawn(move || {
        let mut asked = [0];
        while let Ok((_, peer)) = server.recv_from(&mut asked) {
            server.send_to(&[asked[0], number], peer).unwrap();
        }
    });
}

/// Has all threads send on one socket, to one frontend each, and compares every answer. One socket after the other.
fn hammer() {
    (1..=SENDERS).for_each(serve);
    let sockets = (0..SOCKETS).map(|_| UdpSocket::bind("0.0.0.0:0").unwrap());
    let sockets: Vec<UdpSocket> = sockets.collect();
    let begin = Barrier::new(SENDERS.into());
    let (sockets, begin) = (&sockets, &begin);
    let send = |number: u8| {
        let mut wrong = Vec::new();
        for (at, socket) in sockets.iter().enumerate() {
            socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
            begin.wait();
            for _ in 0..ROUNDS {
                for _ in 0..DATAGRAMS {
                    socket.send_to(&[number], frontend(number)).unwrap();
                }
                // They may be the answers to another thread. Each thread takes as many as it asked for.
                for _ in 0..DATAGRAMS {
                    let mut answer = [0; 2];
                    match socket.recv_from(&mut answer) {
                        Ok((2, source)) if source == frontend(answer[0]) && answer[1] == answer[0] => {}
                        other => wrong.push(format!("socket {at}: {answer:?} {other:?}")),
                    }
                }
            }
        }
        wrong
    };
    let wrong: Vec<String> = thread::scope(|scope| {
        let threads: Vec<_> = (1..=SENDERS).map(|number| scope.spawn(move || send(number))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert!(
        wrong.is_empty(),
        "{} answers are wrong: {:?}",
        wrong.len(),
        &wrong[..wrong.len().min(5)]
    );
}

#[test]
fn whoever_sends_on_one_udp_socket_at_the_same_time_every_answer_is_from_the_frontend_that_was_asked() {
    if std::env::var_os(SENDS).is_some() {
        return hammer();
    }
    let place = Place::new();
    let (sockets, mut v4, _) = place.open();
    let services = (1..=SENDERS).flat_map(|number| {
        let own = rows::<V4>([10, 96, 0, number].into(), [127, 0, 0, number].into());
        let id = ServiceId::plain(number.into()).unwrap();
        own.into_iter().skip(3).map(move |row| with(row, id))
    });
    let services: Vec<_> = services.collect();
    v4.renew(&RuleSettings::default(), &services).unwrap();
    sockets.set_node(place.cookie());
    sockets.attach(Who::Node, &place.cgroup).unwrap();
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.args(["--exact", TEST]).env(SENDS, "yes");
    inside(&place.network, &place.cgroup, &again);
    assert_eq!(sockets.left(IpFamily::V4).unwrap(), []);
    let taken = (1..=SENDERS).map(|number| sockets.taken(IpFamily::V4, ServiceId::plain(number.into()).unwrap())[0]);
    assert_eq!(taken.collect::<Vec<_>>(), [SOCKETS as u64; SENDERS as usize]);
    sockets.remove().unwrap();
}
