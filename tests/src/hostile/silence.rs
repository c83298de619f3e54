//! Connections to a node's health checks that say nothing, too little, or do not listen: a load balancer's probe must be
//! answered all the same.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};

use super::Outcome;
use crate::manifests::Policy;
use crate::netns::Namespace;
use crate::stage::{Stage, bare_service, slices};
use crate::traffic::Protocol;

const HEALTHZ: u16 = 10_256;
const NODE_PORT: u16 = 32_123;
/// What a load balancer waits for at most.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long it may take until all connections stand.
const BUILD_UP: Duration = Duration::from_secs(10);

/// How the health checks are besieged.
#[derive(Clone, Copy, Debug)]
pub struct Siege {
    /// Connections to each port at the same time.
    pub connections: usize,
    /// How often each address is probed.
    pub probes: u32,
}

/// What a connection does that wants to stay.
#[derive(Clone, Copy, Debug)]
enum Manner {
    /// Says nothing.
    Silent,
    /// Begins a request and never ends it.
    Unfinished,
    /// Sends a header, one letter a turn.
    Slow,
    /// Asks properly and keeps the connection.
    Kept,
    /// Asks again and again and reads no answer.
    Deaf,
}

const MANNERS: [Manner; 5] = [
    Manner::Silent,
    Manner::Unfinished,
    Manner::Slow,
    Manner::Kept,
    Manner::Deaf,
];

/// Besieges the node's own health check and one of a Service, and probes both meanwhile.
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
    // In peace they answer.
    for (to, path) in targets {
        probe(stage.client(), to, path).with_context(|| format!("{path} of {to} is not answered in peace"))?;
    }
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
                if let Err(error) = probe(stage.client(), to, path) {
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

/// Asks as a load balancer does; an error if no good answer comes in time.
fn probe(from: &Namespace, to: SocketAddr, path: &str) -> Result<()> {
    let answer = from.run(|| -> std::io::Result<String> {
        let deadline = Instant::now() + PATIENCE;
        let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: lb.example\r\nConnection: close\r\n\r\n")?;
        let (mut text, mut part) = (Vec::new(), [0; 2048]);
        loop {
            let rest = deadline.saturating_duration_since(Instant::now());
            stream.set_read_timeout(Some(rest.max(Duration::from_millis(1))))?;
            match stream.read(&mut part)? {
                0 => return Ok(String::from_utf8_lossy(&text).into_owned()),
                length => text.extend(&part[..length]),
            }
        }
    })??;
    let status = answer.lines().next().unwrap_or_default().to_owned();
    anyhow::ensure!(status.starts_with("HTTP/1.1 200"), "answered with {status:?}");
    Ok(())
}

/// Connections that stay, and come again when they are closed.
struct Besiegers {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<Result<Result<()>>>,
}

impl Besiegers {
    /// Returns when all of them stand, or have tried for a while.
    fn start(from: &Namespace, to: SocketAddr, count: usize) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, (ready, is_ready)) = (Arc::clone(&stop), std::sync::mpsc::channel());
        let thread = from.entrance().thread("besiegers", move || -> Result<()> {
            let mut connections: Vec<(Manner, Option<TcpStream>, usize)> =
                (0..count).map(|n| (MANNERS[n % MANNERS.len()], None, 0)).collect();
            let began = Instant::now();
            while !stopped.load(Ordering::Relaxed) {
                let mut stand = 0;
                for (manner, connection, turn) in &mut connections {
                    if stopped.load(Ordering::Relaxed) {
                        break;
                    }
                    if connection.is_none() {
                        *connection = connect(to);
                        *turn = 0;
                    }
                    if let Some(stream) = connection {
                        stand += 1;
                        if pester(*manner, stream, *turn).is_err() {
                            *connection = None;
                        }
                        *turn += 1;
                    }
                }
                if stand == count || began.elapsed() > BUILD_UP {
                    let _ = ready.send(());
                }
                thread::sleep(Duration::from_millis(50));
            }
            Ok(())
        })?;
        let _ = is_ready.recv_timeout(BUILD_UP * 3);
        Ok(Self { stop, thread })
    }

    fn end(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("a besieger panicked"))??
    }
}

/// A connection; none if it is not taken soon.
fn connect(to: SocketAddr) -> Option<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, Duration::from_millis(200)).ok()?;
    stream.set_nonblocking(true).ok()?;
    Some(stream)
}

/// What a connection does in its turn; an error if it was closed.
fn pester(manner: Manner, stream: &mut TcpStream, turn: usize) -> std::io::Result<()> {
    const REQUEST: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: lb.example\r\n";
    let waits = |result: std::io::Result<usize>| match result {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(1),
        result => result,
    };
    match manner {
        Manner::Silent => {}
        Manner::Unfinished if turn == 0 => drop(waits(stream.write(REQUEST))?),
        Manner::Slow if turn == 0 => drop(waits(stream.write(&[REQUEST, b"X-Slow: "].concat()))?),
        Manner::Slow if turn.is_multiple_of(10) => drop(waits(stream.write(b"x"))?),
        Manner::Kept if turn == 0 => drop(waits(stream.write(&[REQUEST, b"\r\n"].concat()))?),
        Manner::Deaf => {
            return waits(stream.write(&[REQUEST, b"\r\n"].concat().repeat(4))).map(drop);
        }
        _ => {}
    }
    match waits(stream.read(&mut [0; 1024]))? {
        0 => Err(ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}
