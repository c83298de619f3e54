//! The client: its sockets, and who answers each of them.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::place::Place;
use super::servers::{PORT, PORTS};
use crate::netns::Namespace;
use crate::stage::Ip;
use crate::topology::CLIENT;

/// So many datagrams are under way at the same time. More would not fit into the servers' sockets.
const AT_ONCE: usize = 200;
/// How long an answer may take.
const SOON: Duration = Duration::from_secs(2);
/// How often a datagram is sent again. A datagram may be lost for other reasons than Tandem.
const TRIES: usize = 3;
/// The first port of the sockets.
const FIRST: usize = 1100;

/// A flow of datagrams: a socket has one to each port of the Service. Each socket is a file, and there may be few of them.
struct Datagrams {
    socket: usize,
    to: SocketAddr,
    by: Option<u8>,
}

/// A connection. None if it has ended.
struct Connection {
    stream: Option<TcpStream>,
    by: u8,
}

/// All flows.
pub(super) struct Clients {
    namespace: Namespace,
    sockets: Vec<UdpSocket>,
    datagrams: Vec<Datagrams>,
    connections: Vec<Connection>,
    carried: u64,
    moved: u64,
    lost: u64,
}

impl Clients {
    pub(super) fn new(place: &Place) -> Result<Self> {
        crate::allow_open_files()?;
        Ok(Self {
            namespace: place.world.client.clone(),
            sockets: Vec::new(),
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
    pub(super) fn open(&mut self, datagrams: usize, connections: usize) -> Result<()> {
        // The first packets teach the node its neighbours. They are of flows that are not used any more.
        let warm = self.bind(1, FIRST - 10)?;
        exchange(&warm, &mut flows(&warm, false)?);
        self.sockets = self.bind(datagrams / 2 / usize::from(PORTS), FIRST)?;
        self.datagrams = flows(&self.sockets, false)?;
        exchange(&self.sockets, &mut self.datagrams);
        let silent = self.datagrams.iter().filter(|flow| flow.by.is_none()).count();
        ensure!(silent == 0, "{silent} first datagrams were not answered");
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
        Ok(())
    }

    /// So many sockets of each family, from this port on.
    fn bind(&self, count: usize, first: usize) -> Result<Vec<UdpSocket>> {
        self.namespace.run(|| {
            let mut sockets = Vec::new();
            for number in 0..count {
                for family in Ip::BOTH {
                    let port = u16::try_from(first + number).context("too many sockets for one address")?;
                    let own = SocketAddr::new(family.of(CLIENT), port);
                    let socket = UdpSocket::bind(own).with_context(|| format!("bind {own}"))?;
                    socket.set_read_timeout(Some(SOON))?;
                    sockets.push(socket);
                }
            }
            Ok(sockets)
        })?
    }

    /// Has every flow be answered by its own endpoint.
    pub(super) fn all_answer(&mut self, when: &str) -> Result<()> {
        let before: Vec<Option<u8>> = self.datagrams.iter_mut().map(|flow| flow.by.take()).collect();
        exchange(&self.sockets, &mut self.datagrams);
        let mut wrong = Vec::new();
        for (flow, before) in self.datagrams.iter_mut().zip(before) {
            if flow.by == before {
                self.carried += 1;
                continue;
            }
            self.moved += 1;
            let own = self.sockets[flow.socket].local_addr();
            wrong.push(format!("{own:?} to {}: {before:?} before, now {:?}", flow.to, flow.by));
            flow.by = flow.by.or(before);
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
        let mut some = flows(&self.sockets[..2], false)?;
        some.truncate(2);
        loop {
            exchange(&self.sockets, &mut some);
            if some.iter().all(|flow| flow.by.is_some()) {
                return Ok(());
            }
            ensure!(Instant::now() < until, "no flow is answered after {patience:?}");
        }
    }

    /// Makes more flows to one endpoint than it has ports. All of them are answered.
    pub(super) fn crowd(&self) -> Result<()> {
        // The endpoint has flows of the other Service, too.
        let sockets = self.bind(700, FIRST + 5000)?;
        let mut flows = flows(&sockets, true)?;
        exchange(&sockets, &mut flows);
        let silent = flows.iter().filter(|flow| flow.by.is_none()).count();
        ensure!(silent == 0, "{silent} of {} flows are not answered", flows.len());
        Ok(())
    }
}

/// A flow of each socket to each port of the Service with all endpoints, or of the one with one. Those of one socket are far apart.
fn flows(sockets: &[UdpSocket], one: bool) -> Result<Vec<Datagrams>> {
    let mut flows = Vec::new();
    for port in PORT..PORT + PORTS {
        for (socket, own) in sockets.iter().enumerate() {
            let family = if own.local_addr()?.is_ipv4() { Ip::V4 } else { Ip::V6 };
            let to = SocketAddr::new(Place::frontend(family, one), port);
            flows.push(Datagrams { socket, to, by: None });
        }
    }
    Ok(flows)
}

/// Sends a datagram of each flow that nobody has answered yet, and notes who answers.
fn exchange(sockets: &[UdpSocket], flows: &mut [Datagrams]) {
    let at_once = AT_ONCE.min(sockets.len());
    for _ in 0..TRIES {
        let open: Vec<usize> = (0..flows.len()).filter(|at| flows[*at].by.is_none()).collect();
        for some in open.chunks(at_once) {
            for at in some {
                let flow = &flows[*at];
                // What is refused now is sent again later.
                let _ = sockets[flow.socket].send_to(&[1], flow.to);
            }
            for at in some {
                flows[*at].by = answer(&sockets[flows[*at].socket], flows[*at].to);
            }
        }
    }
}

/// Who answers a datagram to this frontend. An answer to an earlier one is none.
fn answer(socket: &UdpSocket, to: SocketAddr) -> Option<u8> {
    let mut buffer = [0; 4];
    loop {
        let (count, from) = socket.recv_from(&mut buffer).ok()?;
        if count == 1 && from == to {
            return Some(buffer[0]);
        }
    }
}

fn talk(mut stream: &TcpStream) -> Result<u8> {
    let mut buffer = [0; 1];
    stream.write_all(&buffer)?;
    match stream.read_exact(&mut buffer) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Err(error).context("no answer"),
        read => Ok(read.map(|()| buffer[0])?),
    }
}
