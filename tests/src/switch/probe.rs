//! Who answers a Service whose only endpoint changes between two pods, both of which always serve. From the moment at
//! which Tandem says that a change is programmed, only the new one may answer.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use rustix::process::setpriority_process;

use super::site::{NODE, Site};
use crate::conntrack;
use crate::netns::Namespace;
use crate::stage::Ip;
use crate::traffic::{Protocol, Request, any};

/// How long a connection may take. The machine is busy.
const PATIENCE: Duration = Duration::from_secs(10);
/// The same for a datagram. It is lost if its flow is cut meanwhile.
const PATIENCE_UDP: Duration = Duration::from_secs(3);
/// The time between two questions of a thread.
const REST: Duration = Duration::from_millis(1);
const NICE: i32 = 10;
/// How much later a socket that asked before may still be answered by its endpoint, if nftables may serve it. Its flow is cut a
/// moment after a change, and later on a busy machine.
const CUT: Duration = Duration::from_secs(5);

/// A thread that asks, and where it does.
type Asking = (&'static str, JoinHandle<Result<()>>);

/// All threads that ask.
pub(super) struct Probe {
    shared: Arc<Shared>,
    threads: Mutex<Vec<Asking>>,
}

struct Shared {
    node: Namespace,
    stop: AtomicBool,
    pause: AtomicBool,
    allowed: Mutex<Allowed>,
    asked: AtomicU64,
    stale: AtomicU64,
    failed: AtomicU64,
    news: Mutex<Vec<String>>,
}

/// Who may answer now.
#[derive(Clone, Copy, Default)]
struct Allowed {
    /// Rises with each change.
    epoch: u64,
    /// Both, if it is none. Else only this one, and since when.
    only: Option<(&'static str, Instant)>,
    /// Rises whenever it becomes certain, or uncertain, that sockets take every new UDP socket.
    turn: u64,
    /// Whether it is certain.
    taken: bool,
}

#[derive(Clone, Copy)]
enum Kind {
    /// A connection each time.
    Tcp,
    /// A socket for each datagram.
    Fresh,
    /// One socket for all datagrams.
    Kept,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Probe {
    /// Starts to ask. Either of the endpoints may answer.
    pub(super) fn start(site: &Site) -> Result<Self> {
        let probe = Self {
            shared: Arc::new(Shared {
                node: site.node()?.clone(),
                stop: AtomicBool::default(),
                pause: AtomicBool::default(),
                allowed: Mutex::default(),
                asked: AtomicU64::default(),
                stale: AtomicU64::default(),
                failed: AtomicU64::default(),
                news: Mutex::default(),
            }),
            threads: Mutex::default(),
        };
        probe.start_from(site, |_| true)?;
        Ok(probe)
    }

    fn start_from(&self, site: &Site, is_meant: impl Fn(&str) -> bool) -> Result<()> {
        for (place, namespace) in site.clients()? {
            if !is_meant(place) {
                continue;
            }
            for family in Ip::BOTH {
                for kind in [Kind::Tcp, Kind::Fresh, Kind::Kept] {
                    let (to, shared) = (Site::shift_address(family), Arc::clone(&self.shared));
                    let thread = namespace.entrance().thread("probe", move || {
                        let _ = setpriority_process(None, NICE); // of this thread
                        shared.ask(place, kind, to);
                    })?;
                    lock(&self.threads).push((place, thread));
                }
            }
        }
        Ok(())
    }

    /// From now on, either may answer.
    pub(super) fn either(&self) {
        let mut allowed = lock(&self.shared.allowed);
        (allowed.epoch, allowed.only) = (allowed.epoch + 1, None);
    }

    /// From now on, only this one may answer.
    pub(super) fn only(&self, name: &'static str) {
        let mut allowed = lock(&self.shared.allowed);
        (allowed.epoch, allowed.only) = (allowed.epoch + 1, Some((name, Instant::now())));
    }

    /// Whether it is certain from now on that sockets take every new UDP socket. Then the very next datagram after a change goes to
    /// the new endpoint.
    pub(super) fn taken(&self, taken: bool) {
        let mut allowed = lock(&self.shared.allowed);
        (allowed.turn, allowed.taken) = (allowed.turn + 1, taken);
    }

    /// Ends the threads in pods.
    pub(super) fn end_pods(&self) -> Result<()> {
        self.shared.pause.store(true, Ordering::Relaxed);
        let (pods, node) = std::mem::take(&mut *lock(&self.threads))
            .into_iter()
            .partition(|(place, _)| is_pod(place));
        *lock(&self.threads) = node;
        join(pods)?;
        self.shared.pause.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Starts them again.
    pub(super) fn start_pods(&self, site: &Site) -> Result<()> {
        self.start_from(site, is_pod)
    }

    /// Waits until so many more questions were answered.
    pub(super) fn wait_for(&self, more: u64) -> Result<()> {
        let now = || self.shared.asked.load(Ordering::Relaxed);
        let goal = now() + more;
        let asked = crate::eventually(Duration::from_mins(1), || (now() >= goal).then_some(()));
        asked.with_context(|| format!("{more} more questions were not answered"))
    }

    /// How many connections got no answer, although both endpoints always serve.
    pub(super) fn failed(&self) -> u64 {
        self.shared.failed.load(Ordering::Relaxed)
    }

    pub(super) fn stale(&self) -> u64 {
        self.shared.stale.load(Ordering::Relaxed)
    }

    pub(super) fn news(&self) -> Vec<String> {
        std::mem::take(&mut *lock(&self.shared.news))
    }

    /// Ends all. Returns how many questions were answered, and how many of them by an endpoint that was gone.
    pub(super) fn stop(self) -> Result<(u64, u64)> {
        self.shared.stop.store(true, Ordering::Relaxed);
        join(std::mem::take(&mut *lock(&self.threads)))?;
        Ok((self.shared.asked.load(Ordering::Relaxed), self.stale()))
    }
}

fn is_pod(place: &str) -> bool {
    place != NODE
}

fn join(threads: Vec<(&'static str, JoinHandle<Result<()>>)>) -> Result<()> {
    for (_, thread) in threads {
        thread.join().map_err(|_| anyhow!("a probe panicked"))??;
    }
    Ok(())
}

impl Shared {
    fn ask(&self, place: &str, kind: Kind, to: SocketAddr) {
        // One that nftables served once stays with it, so each turn has one of its own.
        let mut kept = None;
        let over = || self.stop.load(Ordering::Relaxed) || (is_pod(place) && self.pause.load(Ordering::Relaxed));
        while !over() {
            let (began, before) = (Instant::now(), *lock(&self.allowed));
            let mut own = None;
            let by = match kind {
                Kind::Tcp => answered(&Request::new(Protocol::Tcp, to).timeout(PATIENCE), &mut own),
                Kind::Fresh => answered(
                    &Request::new(Protocol::Udp, to).timeout(PATIENCE_UDP).unconnected(),
                    &mut own,
                ),
                Kind::Kept => {
                    let of_turn = kept.take().filter(|(turn, _)| *turn == before.turn);
                    kept = of_turn.or_else(|| match socket(to, before.turn) {
                        Ok(socket) => Some((before.turn, socket)),
                        Err(error) => {
                            self.failed.fetch_add(1, Ordering::Relaxed);
                            lock(&self.news).push(format!("a socket for {to} from {place}: {error}"));
                            None
                        }
                    });
                    own = kept.as_ref().and_then(|(_, socket)| socket.local_addr().ok());
                    kept.as_ref().and_then(|(_, socket)| datagram(socket, to))
                }
            };
            let after = *lock(&self.allowed);
            match (by, kind) {
                (Some(by), _) => self.judge(place, kind, to, (&by, own), began, before, after),
                (None, Kind::Tcp) => {
                    self.failed.fetch_add(1, Ordering::Relaxed);
                    lock(&self.news).push(format!("a connection from {place} to {to} was not answered"));
                }
                // Sockets lose none.
                (None, Kind::Kept)
                    if before.taken && (before.turn, before.epoch) == (after.turn, after.epoch) && !over() =>
                {
                    self.failed.fetch_add(1, Ordering::Relaxed);
                    lock(&self.news).push(format!(
                        "a datagram of an old socket from {place} to {to} was not answered"
                    ));
                }
                // Flows of nftables are cut when their endpoint goes, and answers that are under way with them.
                (None, Kind::Fresh | Kind::Kept) => {}
            }
            thread::sleep(REST);
        }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "everything that a judgement needs, from one place"
    )]
    fn judge(
        &self,
        place: &str,
        kind: Kind,
        to: SocketAddr,
        (by, own): (&str, Option<SocketAddr>),
        began: Instant,
        before: Allowed,
        after: Allowed,
    ) {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let Some((only, since)) = before.only.filter(|_| before.epoch == after.epoch) else {
            return;
        };
        let grace = match kind {
            Kind::Kept if !(before.taken && before.turn == after.turn) => CUT,
            Kind::Kept | Kind::Tcp | Kind::Fresh => Duration::ZERO,
        };
        if by != only && began > since + grace {
            self.stale.fetch_add(1, Ordering::Relaxed);
            let what = match kind {
                Kind::Tcp => "a connection",
                Kind::Fresh => "a datagram of a new socket",
                Kind::Kept => "a datagram of an old socket",
            };
            let late = began - since;
            lock(&self.news).push(format!(
                "{what} from {place} to {to}, {late:.1?} after {only} was alone: {by} answered; {}",
                self.taken_by(kind, to, own)
            ));
        }
    }

    /// Who translated it: nftables, if the kernel remembers a flow that nftables translated.
    fn taken_by(&self, kind: Kind, to: SocketAddr, own: Option<SocketAddr>) -> String {
        let protocol = match kind {
            Kind::Tcp => Protocol::Tcp,
            Kind::Fresh | Kind::Kept => Protocol::Udp,
        };
        let Some(port) = own.map(|own| own.port()) else {
            return "its own port is not known".to_owned();
        };
        match conntrack::of(&self.node, protocol) {
            Err(error) => format!("port {port}, flows were not read: {error:#}"),
            Ok(flows) => {
                let mut flows = flows.iter().filter(|flow| flow.from.port() == port && flow.to == to);
                match flows.next() {
                    Some(flow) => format!(
                        "port {port}, nftables took it: its flow {} ends at {}",
                        flow.id, flow.with
                    ),
                    None => format!("port {port}, sockets took it: there is no flow of nftables"),
                }
            }
        }
    }
}

/// Who answered. Notes the own address and port of the socket.
fn answered(request: &Request, own: &mut Option<SocketAddr>) -> Option<String> {
    Some(request.send_here_from(own).answer()?.by.clone())
}

/// A socket with a port that no other one of the run has. A port that a closed socket had may still be nftables'.
fn socket(to: SocketAddr, turn: u64) -> std::io::Result<UdpSocket> {
    let mut own = any(to);
    // None of these is given to sockets that ask for any, and none to a request: those begin at 10,000.
    let first = if to.is_ipv4() { 3000 } else { 6000 };
    own.set_port(first + u16::try_from(turn % 3000).unwrap_or_default());
    let socket = UdpSocket::bind(own)?;
    socket.set_read_timeout(Some(PATIENCE_UDP))?;
    Ok(socket)
}

fn datagram(socket: &UdpSocket, to: SocketAddr) -> Option<String> {
    socket.send_to(b"who are you?\n", to).ok()?;
    let mut answer = [0; 256];
    let (length, _) = socket.recv_from(&mut answer).ok()?;
    let text = String::from_utf8_lossy(&answer[..length]).into_owned();
    text.split(' ').next().map(str::to_owned)
}
