//! The client: its sockets, and who answers each of them.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::place::Place;
use super::servers::PORT;
use crate::netns::Namespace;
use crate::stage::Ip;
use crate::topology::CLIENT;

/// So many datagrams are under way at the same time. More would not fit into the servers' sockets.
const AT_ONCE: usize = 200;
/// How long an answer may take.
const SOON: Duration = Duration::from_secs(2);
/// How often a datagram is sent again. A datagram may be lost for other reasons than Tandem.
const TRIES: usize = 3;
/// Each socket is a file.
const FILES: u64 = 150_000;
/// The first port of the sockets.
const FIRST: usize = 1100;

/// A flow of datagrams.
struct Datagrams {
    socket: UdpSocket,
    by: u8,
}

/// A connection. None if it has ended.
struct Connection {
    stream: Option<TcpStream>,
    by: u8,
}

/// All flows.
pub(super) struct Clients {
    namespace: Namespace,
    datagrams: Vec<Datagrams>,
    connections: Vec<Connection>,
    carried: u64,
    moved: u64,
    lost: u64,
}

impl Clients {
    pub(super) fn new(place: &Place) -> Result<Self> {
        crate::allow_so_many_open_files(FILES)?;
        Ok(Self {
            namespace: place.world.client.clone(),
            datagrams: Vec::new(),
            connections: Vec::new(),
            carried: 0,
            moved: 0,
            lost: 0,
        })
    }

    /// How many flows there are.
    pub(super) fn count(&self) -> u64 {
        (self.datagrams.len() + self.connections.len()) as u64
    }

    /// Flows that went on with their endpoint; those that moved; connections that ended.
    pub(super) fn counts(&self) -> (u64, u64, u64) {
        (self.carried, self.moved, self.lost)
    }

    /// Makes the flows, half of them of each family.
    pub(super) fn open(&mut self, place: &Place, datagrams: usize, connections: usize) -> Result<()> {
        // The first packets teach the node its neighbours. They are of flows that are not used any more.
        let warm = self.sockets(1, FIRST - 10, false)?;
        exchange(&warm.iter().collect::<Vec<_>>());
        let sockets = self.sockets(datagrams / 2, FIRST, false)?;
        let by = exchange(&sockets.iter().collect::<Vec<_>>());
        let all = sockets.into_iter().zip(by);
        let all = all.map(|(socket, by)| Some(Datagrams { socket, by: by? }));
        self.datagrams = all
            .collect::<Option<_>>()
            .context("a first datagram was not answered")?;
        for number in 0..connections {
            let to = SocketAddr::new(Place::frontend(Ip::BOTH[number % 2], false), PORT);
            let stream = self.namespace.run(|| TcpStream::connect_timeout(&to, SOON))?;
            let stream = stream.with_context(|| format!("connect to {to}"))?;
            stream.set_read_timeout(Some(Duration::from_secs(30)))?;
            stream.set_nodelay(true)?;
            let by = talk(&stream).with_context(|| format!("the first words to {to}"))?;
            self.connections.push(Connection {
                stream: Some(stream),
                by,
            });
        }
        let _ = place;
        Ok(())
    }

    /// So many sockets of each family, from this port on.
    fn sockets(&self, count: usize, first: usize, one: bool) -> Result<Vec<UdpSocket>> {
        self.namespace.run(|| {
            let mut sockets = Vec::new();
            for number in 0..count {
                for family in Ip::BOTH {
                    let port = u16::try_from(first + number).context("too many sockets for one address")?;
                    let own = SocketAddr::new(family.of(CLIENT), port);
                    let socket = UdpSocket::bind(own).with_context(|| format!("bind {own}"))?;
                    socket.connect((Place::frontend(family, one), PORT))?;
                    socket.set_read_timeout(Some(SOON))?;
                    sockets.push(socket);
                }
            }
            Ok(sockets)
        })?
    }

    /// Has every flow be answered by its own endpoint.
    pub(super) fn all_answer(&mut self, when: &str) -> Result<()> {
        let by = exchange(&self.datagrams.iter().map(|flow| &flow.socket).collect::<Vec<_>>());
        let mut wrong = Vec::new();
        for (flow, by) in self.datagrams.iter_mut().zip(by) {
            if by == Some(flow.by) {
                self.carried += 1;
                continue;
            }
            self.moved += 1;
            wrong.push(format!(
                "{:?}: {} before, now {by:?}",
                flow.socket.local_addr(),
                flow.by
            ));
            flow.by = by.unwrap_or(flow.by);
        }
        for connection in &mut self.connections {
            let Some(stream) = &connection.stream else { continue };
            match talk(stream) {
                Ok(by) if by == connection.by => self.carried += 1,
                other => {
                    self.lost += 1;
                    wrong.push(format!("a connection to {}: {other:?}", connection.by));
                    connection.stream = None;
                }
            }
        }
        wrong.truncate(5);
        ensure!(wrong.is_empty(), "{when}: {}", wrong.join("; "));
        Ok(())
    }

    /// Waits until flows are answered again.
    pub(super) fn wait_for_answers(&self, patience: Duration) -> Result<()> {
        let until = Instant::now() + patience;
        // One of each family tells of all: they have the same way.
        let some: Vec<&UdpSocket> = self.datagrams.iter().take(2).map(|flow| &flow.socket).collect();
        while exchange(&some).iter().any(Option::is_none) {
            ensure!(Instant::now() < until, "no flow is answered after {patience:?}");
        }
        Ok(())
    }

    /// Makes more flows to one endpoint than it has ports. All of them are answered.
    pub(super) fn crowd(&self, place: &Place) -> Result<()> {
        // The endpoint has flows of the other Service, too.
        let sockets = self.sockets(14_000, 51_200, true)?;
        let by = exchange(&sockets.iter().collect::<Vec<_>>());
        let silent = by.iter().filter(|by| by.is_none()).count();
        ensure!(silent == 0, "{silent} of {} flows are not answered", by.len());
        let _ = place;
        Ok(())
    }
}

/// Sends a datagram by each socket, and returns who answered.
fn exchange(sockets: &[&UdpSocket]) -> Vec<Option<u8>> {
    let mut by = vec![None; sockets.len()];
    for _ in 0..TRIES {
        let open: Vec<usize> = (0..sockets.len()).filter(|at| by[*at].is_none()).collect();
        let mut waiting = VecDeque::new();
        for at in open {
            // What is refused now is sent again later.
            let _ = sockets[at].send(&[1]);
            waiting.push_back(at);
            if waiting.len() >= AT_ONCE {
                let first = waiting.pop_front().unwrap_or(at);
                by[first] = answer(sockets[first]);
            }
        }
        for at in waiting {
            by[at] = answer(sockets[at]);
        }
    }
    by
}

fn answer(socket: &UdpSocket) -> Option<u8> {
    let mut buffer = [0; 4];
    let count = socket.recv(&mut buffer).ok()?;
    (count == 1).then_some(buffer[0])
}

fn talk(mut stream: &TcpStream) -> Result<u8> {
    let mut buffer = [0; 1];
    stream.write_all(&buffer)?;
    match stream.read_exact(&mut buffer) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Err(error).context("no answer"),
        read => Ok(read.map(|()| buffer[0])?),
    }
}
