//! Connections to a node's health checks that send nothing or too little, or that read nothing. A load balancer's probe
//! must be answered nevertheless.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use socket2::{Domain, Socket, Type};

use super::Outcome;
use crate::manifests::Policy;
use crate::netns::Namespace;
use crate::stage::{Stage, bare_service, slices};
use crate::traffic::{Protocol, page};

const HEALTHZ: u16 = 10_256;
const NODE_PORT: u16 = 32_123;

/// How often a connection may act.
const TURNS_A_SECOND: usize = 20;
const TURN: Duration = Duration::from_millis(50);

/// How the health checks are attacked.
#[derive(Clone, Copy, Debug)]
pub struct Siege {
    /// Connections to each port at the same time.
    pub connections: usize,
    /// How often each address is probed.
    pub probes: u32,
}

/// What a connection does to stay open.
#[derive(Clone, Copy, Debug)]
enum Manner {
    /// Sends nothing.
    Silent,
    /// Begins a request and never ends it.
    Unfinished,
    /// Sends a header, one letter a second.
    Slow,
    /// Sends complete requests and keeps the connection.
    Kept,
    /// Sends five hundred requests and reads no answer.
    Deaf,
}

const MANNERS: [Manner; 5] = [
    Manner::Silent,
    Manner::Unfinished,
    Manner::Slow,
    Manner::Kept,
    Manner::Deaf,
];

/// Attacks the node's own health check and one of a Service, and probes both meanwhile.
pub fn healthz_under_flood(sieges: &[Siege], mut tell: impl FnMut(&Siege, Duration, u32)) -> Result<Outcome> {
    let service = bare_service("edge", 10)
        .port("tcp", Protocol::Tcp, 80, 8080)
        .load_balancer(&["203.0.113.10"])
        .external_policy(Policy::Local)
        .spec("healthCheckNodePort", NODE_PORT);
    let mut objects = vec![service.build()];
    objects.extend(slices("edge", &["web-1"]));
    let stage = Stage::new(&objects)?;
    let node: IpAddr = stage.world.nodes[0].v4.into();
    let targets = [(HEALTHZ, "/healthz"), (HEALTHZ, "/livez"), (NODE_PORT, "/")];
    let targets = targets.map(|(port, path)| (SocketAddr::new(node, port), path));
    // Before the attack, they answer.
    for (to, path) in targets {
        page::probe(stage.client(), to, path).with_context(|| format!("{path} of {to} is not answered in peace"))?;
    }
    crate::allow_open_files()?;
    let mut failures = Vec::new();
    for siege in sieges {
        let ports = [HEALTHZ, NODE_PORT].map(|port| SocketAddr::new(node, port));
        let besiegers = ports
            .map(|to| Besiegers::start(stage.client(), to, siege.connections))
            .into_iter()
            .collect::<Result<Vec<_>>>()?;
        let (mut slowest, mut failed) = (Duration::ZERO, 0);
        for _ in 0..siege.probes {
            for (to, path) in targets {
                let began = Instant::now();
                if let Err(error) = page::probe(stage.client(), to, path) {
                    failed += 1;
                    failures.push(format!("{path} of {to} beside {}: {error:#}", siege.connections));
                }
                slowest = slowest.max(began.elapsed());
            }
            thread::sleep(Duration::from_millis(100));
        }
        tell(siege, slowest, failed);
        besiegers.into_iter().try_for_each(Besiegers::end)?;
    }
    Ok(match failures.first() {
        None => Outcome::Good,
        Some(first) => Outcome::Bad(format!("{} probes were not answered; {first}", failures.len())),
    })
}

/// Connections that stay, and are opened again when they are closed.
struct Besiegers {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<Result<Result<()>>>,
}

/// One connection.
struct Besieger {
    manner: Manner,
    stream: Option<TcpStream>,
    /// How often it has acted.
    turn: usize,
    /// How many turns it waits before it is opened again.
    rest: usize,
}

impl Besiegers {
    /// Starts them. Returns when all of them have connected once.
    fn start(from: &Namespace, to: SocketAddr, count: usize) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, (ready, is_ready)) = (Arc::clone(&stop), channel());
        let thread = from.entrance().thread("besiegers", move || -> Result<()> {
            let besieger = |number: usize| Besieger {
                manner: MANNERS[number % MANNERS.len()],
                stream: None,
                turn: 0,
                rest: 0,
            };
            let mut all: Vec<Besieger> = (0..count).map(besieger).collect();
            while !stopped.load(Ordering::Relaxed) {
                all.iter_mut().try_for_each(|besieger| besieger.go_on(to))?;
                let _ = ready.send(()); // only the first message has a receiver
                thread::sleep(TURN);
            }
            Ok(())
        })?;
        if is_ready.recv().is_err() {
            thread.join().map_err(|_| anyhow!("a besieger panicked"))???;
            bail!("the siege of {to} has ended");
        }
        // After this time, the servers have read what they sent first.
        thread::sleep(Duration::from_millis(500));
        Ok(Self { stop, thread })
    }

    fn end(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("a besieger panicked"))??
    }
}

impl Besieger {
    fn go_on(&mut self, to: SocketAddr) -> Result<()> {
        match &mut self.stream {
            None if self.rest > 0 => self.rest -= 1,
            None => {
                self.stream = Some(begin_to_connect(to, self.manner)?);
                self.turn = 0;
            }
            Some(stream) => match pester(self.manner, stream, self.turn) {
                Ok(()) => self.turn += 1,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {}
                Err(_) => (self.stream, self.rest) = (None, TURNS_A_SECOND),
            },
        }
        Ok(())
    }
}

/// Does not wait until the connection is established, because a server that accepts none would delay all others.
fn begin_to_connect(to: SocketAddr, manner: Manner) -> Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM.nonblocking(), None).context("make a socket")?;
    if let Manner::Deaf = manner {
        // With a small buffer, what it does not read soon fills the path.
        socket.set_recv_buffer_size(4096).context("make a small buffer")?;
    }
    match socket.connect(&to.into()) {
        Err(error) if error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {
            Err(error).with_context(|| format!("connect to {to}"))
        }
        _ => Ok(socket.into()),
    }
}

/// What a connection does in its turn. The error says that it was closed, or is not established yet.
fn pester(manner: Manner, stream: &mut TcpStream, turn: usize) -> io::Result<()> {
    const REQUEST: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: lb.example\r\n";
    let whole = [REQUEST, b"\r\n"].concat();
    let words = match manner {
        Manner::Unfinished if turn == 0 => REQUEST.to_vec(),
        Manner::Slow if turn == 0 => [REQUEST, b"X-Slow: "].concat(),
        Manner::Slow if turn.is_multiple_of(TURNS_A_SECOND) => b"x".to_vec(),
        Manner::Kept if turn == 0 => whole,
        Manner::Deaf if turn == 0 => whole.repeat(500),
        _ => Vec::new(),
    };
    if !words.is_empty() {
        match stream.write(&words) {
            // It has sent as much as the other side accepts, which is its aim.
            Err(error) if error.kind() == ErrorKind::WouldBlock && turn > 0 => {}
            written => drop(written?),
        }
    }
    if let Manner::Deaf = manner {
        // This shows whether it was closed, without reading.
        return stream.take_error()?.map_or(Ok(()), Err);
    }
    match stream.read(&mut [0; 1024]) {
        Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
        Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
        _ => Ok(()),
    }
}
