//! Connections that stay open. A thread sends a number on each of them, again and again, and expects it back.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::Socket;

use super::site::{LONG_PORT, Site, WEB, server_place};
use crate::eventually;
use crate::topology::World;
use crate::traffic::Request;

/// How long a number may take. What nftables translates waits while there is no table, and is sent again later.
const PATIENCE: Duration = Duration::from_mins(1);
/// How soon a thread notices that it should stop.
const SOON: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 50_000_000,
};

/// The connections and their servers.
pub(super) struct Connections {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    echoes: Vec<JoinHandle<Result<()>>>,
}

/// One of them.
struct Open {
    name: String,
    socket: Socket,
    /// Whether the program in the kernel translated it, or else nftables.
    by_sockets: bool,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    stop_servers: AtomicBool,
    open: Mutex<Vec<Open>>,
    /// Only those that sockets took are used.
    only_sockets: AtomicBool,
    opened: AtomicU64,
    rounds: AtomicU64,
    lost: AtomicU64,
    news: Mutex<Vec<String>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Connections {
    /// Starts the servers and the thread that uses the connections.
    pub(super) fn start(world: &World) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let mut echoes = Vec::new();
        for name in WEB {
            let (pod, place) = server_place(world, name)?;
            let addresses = pod.addresses().map(|address| SocketAddr::new(address, LONG_PORT));
            let (ready, is_ready) = std::sync::mpsc::channel();
            let of_thread = Arc::clone(&shared);
            echoes.push(place.entrance().thread("echo", move || {
                let listeners = addresses.map(TcpListener::bind);
                let _ = ready.send(listeners.iter().all(Result::is_ok));
                if let [Ok(v4), Ok(v6)] = listeners {
                    echo(&[v4, v6], &of_thread.stop_servers);
                }
            })?);
            ensure!(
                is_ready.recv().unwrap_or(false),
                "{name} cannot listen on port {LONG_PORT}"
            );
        }
        let of_thread = Arc::clone(&shared);
        let user = thread::Builder::new()
            .name("connections".into())
            .spawn(move || use_all(&of_thread))
            .context("start a thread for connections")?;
        Ok(Self {
            shared,
            threads: vec![user],
            echoes,
        })
    }

    /// Opens so many, from the node and from the pod, over both families. `by_sockets`: sockets take them, and not nftables.
    pub(super) fn open(&self, site: &Site, count: usize, by_sockets: bool) -> Result<()> {
        let clients = site.clients()?;
        for number in 0..count {
            let (place, namespace) = &clients[number % clients.len()];
            let to = Site::long(number / clients.len());
            let socket = namespace
                .run(|| Request::tcp(to).timeout(PATIENCE).connect())?
                .with_context(|| format!("connect from {place} to {to}"))?;
            lock(&self.shared.open).push(Open {
                name: format!("from {place} to {to}"),
                socket,
                by_sockets,
            });
            self.shared.opened.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// How many were opened.
    pub(super) fn opened(&self) -> u64 {
        self.shared.opened.load(Ordering::Relaxed)
    }

    /// Waits until each of them was used twice more, at least once wholly after this call.
    pub(super) fn check(&self) -> Result<()> {
        let goal = self.shared.rounds.load(Ordering::Relaxed) + 2;
        let done = || (self.shared.rounds.load(Ordering::Relaxed) >= goal).then_some(());
        eventually(Duration::from_mins(2), done).context("the connections are not used any more")
    }

    /// From now on, all are used, or only those that sockets took. Returns once that is so.
    pub(super) fn use_only_sockets(&self, only: bool) -> Result<()> {
        self.shared.only_sockets.store(only, Ordering::Relaxed);
        self.check()
    }

    /// How many ended so far.
    pub(super) fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }

    pub(super) fn news(&self) -> Vec<String> {
        std::mem::take(&mut *lock(&self.shared.news))
    }

    /// Ends all threads. Returns how many connections ended before.
    pub(super) fn stop(self) -> Result<u64> {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread
                .join()
                .map_err(|_| anyhow!("the thread for connections panicked"))?;
        }
        self.shared.stop_servers.store(true, Ordering::Relaxed);
        for echo in self.echoes {
            echo.join().map_err(|_| anyhow!("a server panicked"))??;
        }
        Ok(self.shared.lost.load(Ordering::Relaxed))
    }
}

/// Uses one after the other until it should stop.
fn use_all(shared: &Shared) {
    let mut number = 0_u64;
    while !shared.stop.load(Ordering::Relaxed) {
        // Those that are opened meanwhile come to the others at the end of the round.
        let mut open = std::mem::take(&mut *lock(&shared.open));
        open.retain_mut(
            |Open {
                 name,
                 socket,
                 by_sockets,
             }| {
                if !*by_sockets && shared.only_sockets.load(Ordering::Relaxed) {
                    return true;
                }
                number += 1;
                match exchange(socket, number) {
                    Ok(()) => true,
                    Err(error) => {
                        shared.lost.fetch_add(1, Ordering::Relaxed);
                        lock(&shared.news).push(format!("a connection {name}: {error:#}"));
                        false
                    }
                }
            },
        );
        let mut now = lock(&shared.open);
        open.append(&mut now);
        *now = open;
        drop(now);
        shared.rounds.fetch_add(1, Ordering::Relaxed);
        thread::sleep(Duration::from_millis(20));
    }
}

fn exchange(socket: &mut Socket, number: u64) -> Result<()> {
    socket.write_all(&number.to_be_bytes())?;
    let mut answer = [0; 8];
    socket.read_exact(&mut answer)?;
    if answer != number.to_be_bytes() {
        bail!("another number came back");
    }
    Ok(())
}

/// Sends back what comes, on one thread for all connections.
fn echo(listeners: &[TcpListener; 2], stop: &AtomicBool) {
    let mut connections: Vec<TcpStream> = Vec::new();
    for listener in listeners {
        let _ = listener.set_nonblocking(true);
    }
    while !stop.load(Ordering::Relaxed) {
        let ears = listeners.iter().map(|ear| ear.as_fd());
        let fds = ears.chain(connections.iter().map(|connection| connection.as_fd()));
        let mut polled: Vec<PollFd> = fds.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
        if poll(&mut polled, Some(&SOON)).is_err() {
            continue; // a signal
        }
        let heard: Vec<bool> = polled.iter().map(|one| !one.revents().is_empty()).collect();
        let mut heard = heard.into_iter().skip(listeners.len());
        connections.retain_mut(|connection| !heard.next().unwrap_or(false) || send_back(connection).is_ok());
        for listener in listeners {
            while let Ok((connection, _)) = listener.accept() {
                let _ = connection.set_nonblocking(true);
                let _ = connection.set_nodelay(true);
                connections.push(connection);
            }
        }
    }
}

fn send_back(connection: &mut TcpStream) -> std::io::Result<()> {
    let mut bytes = [0; 256];
    match connection.read(&mut bytes) {
        Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
        Ok(length) => connection.write_all(&bytes[..length]),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
        Err(error) => Err(error),
    }
}
