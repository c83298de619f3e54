//! Requests without a pause: TCP, and UDP on sockets that are not connected, over both families, from the node and from a
//! pod, to a ClusterIP and to a nodePort.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockWriteGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use rustix::process::setpriority_process;

use super::site::{NODE, Site};
use crate::netns::Namespace;
use crate::stage::Ip;
use crate::traffic::{Protocol, Request, any};

/// How long a request may take. A datagram that is lost is not sent again, and one on a busy machine may only be late.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many datagrams are sent on a socket before another one is made.
const ON_ONE_SOCKET: usize = 50;
/// The agent must get its share of the processors.
const NICE: i32 = 10;
/// So many failures are told in words.
const TOLD: usize = 20;

/// All loops.
pub(super) struct Load {
    shared: Arc<Shared>,
    threads: Mutex<Vec<(String, JoinHandle<Result<()>>)>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    pause: AtomicBool,
    sent: AtomicU64,
    failed: AtomicU64,
    news: Mutex<Vec<String>>,
    /// Read while a datagram and its answer are under way.
    flight: RwLock<()>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Load {
    /// Starts all loops.
    pub(super) fn start(site: &Site) -> Result<Self> {
        let load = Self {
            shared: Arc::default(),
            threads: Mutex::default(),
        };
        for (place, namespace) in site.clients()? {
            load.start_from(site, place, &namespace)?;
        }
        Ok(load)
    }

    fn start_from(&self, site: &Site, place: &'static str, namespace: &Namespace) -> Result<()> {
        for family in Ip::BOTH {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                let targets = site.web(family)?;
                let shared = Arc::clone(&self.shared);
                let run = move || {
                    let _ = setpriority_process(None, NICE); // of this thread
                    match protocol {
                        Protocol::Udp => datagrams(place, &targets, &shared),
                        Protocol::Tcp | Protocol::Sctp => connections(place, &targets, &shared),
                    }
                };
                let thread = namespace.entrance().thread("load", run)?;
                lock(&self.threads).push((place.to_owned(), thread));
            }
        }
        Ok(())
    }

    /// Ends the loops of pods, which are in folders below kubelet's.
    pub(super) fn end_pods(&self) -> Result<()> {
        self.shared.pause.store(true, Ordering::Relaxed);
        let (pods, node) = std::mem::take(&mut *lock(&self.threads))
            .into_iter()
            .partition(|(place, _)| place != NODE);
        *lock(&self.threads) = node;
        join(pods)?;
        self.shared.pause.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Starts them again.
    pub(super) fn start_pods(&self, site: &Site) -> Result<()> {
        for (place, namespace) in site.clients()? {
            if place != NODE {
                self.start_from(site, place, &namespace)?;
            }
        }
        Ok(())
    }

    /// How many requests were sent, and how many of them failed.
    pub(super) fn counts(&self) -> (u64, u64) {
        let of = |number: &AtomicU64| number.load(Ordering::Relaxed);
        (of(&self.shared.sent), of(&self.shared.failed))
    }

    /// Waits until no datagram and no answer is under way. None is sent until the guard is dropped.
    pub(super) fn rest(&self) -> RwLockWriteGuard<'_, ()> {
        self.shared.flight.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until so many more were sent.
    pub(super) fn wait_for(&self, more: u64) -> Result<()> {
        let goal = self.counts().0 + more;
        let sent = crate::eventually(Duration::from_mins(1), || (self.counts().0 >= goal).then_some(()));
        sent.with_context(|| format!("{more} more requests were not sent"))
    }

    pub(super) fn news(&self) -> Vec<String> {
        std::mem::take(&mut *lock(&self.shared.news))
    }

    /// Ends all loops. Returns the counts.
    pub(super) fn stop(self) -> Result<(u64, u64)> {
        self.shared.stop.store(true, Ordering::Relaxed);
        join(std::mem::take(&mut *lock(&self.threads)))?;
        Ok(self.counts())
    }
}

fn join(threads: Vec<(String, JoinHandle<Result<()>>)>) -> Result<()> {
    for (_, thread) in threads {
        thread.join().map_err(|_| anyhow!("a loop of requests panicked"))??;
    }
    Ok(())
}

impl Shared {
    fn is_over(&self, place: &str) -> bool {
        self.stop.load(Ordering::Relaxed) || place != NODE && self.pause.load(Ordering::Relaxed)
    }

    fn count(&self, failure: Option<String>) {
        self.sent.fetch_add(1, Ordering::Relaxed);
        if let Some(what) = failure {
            self.failed.fetch_add(1, Ordering::Relaxed);
            let mut news = lock(&self.news);
            if news.len() < TOLD {
                news.push(what);
            }
        }
    }
}

fn connections(place: &str, targets: &[SocketAddr], shared: &Shared) {
    while !shared.is_over(place) {
        for to in targets {
            let outcome = Request::tcp(*to).timeout(PATIENCE).send_here();
            let failure = outcome.answer().is_none();
            shared.count(failure.then(|| format!("TCP from {place} to {to}: {outcome}")));
        }
    }
}

fn datagrams(place: &str, targets: &[SocketAddr], shared: &Shared) {
    while !shared.is_over(place) {
        for to in targets {
            let ask = || {
                let socket = UdpSocket::bind(any(*to))?;
                socket.set_read_timeout(Some(PATIENCE))?;
                for number in 0..ON_ONE_SOCKET {
                    let flight = shared.flight.read();
                    let began = Instant::now();
                    let failure = exchange(&socket, *to).err();
                    drop(flight);
                    let ended = failure.is_some() || shared.is_over(place);
                    shared.count(failure.map(|error| {
                        let took = began.elapsed();
                        format!("datagram {number} from {place} to {to}: {error} ({took:.1?})")
                    }));
                    if ended {
                        break;
                    }
                }
                io::Result::Ok(())
            };
            if let Err(error) = ask() {
                shared.count(Some(format!("a UDP socket of {place}: {error}")));
            }
        }
    }
}

/// Sends a datagram and waits for its answer, which must come from where it was sent to.
fn exchange(socket: &UdpSocket, to: SocketAddr) -> io::Result<()> {
    socket.send_to(b"who are you?\n", to)?;
    let mut answer = [0; 256];
    let (_, from) = socket.recv_from(&mut answer)?;
    if from != to {
        return Err(io::Error::other(format!("an answer from {from}")));
    }
    Ok(())
}
