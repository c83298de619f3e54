//! A pod's servers. They all run on one thread, because there are many pods in two worlds. They can change their name
//! when the pod does.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::setpriority_process;
use socket2::{Domain, Socket, Type};

use crate::fleet::{OTHER, TARGET};
use crate::netns::Namespace;
use crate::traffic::sctp;

/// How soon a thread notices that it should stop.
const PATIENCE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};
/// How long reading a packet may take after it was announced.
const MOMENT: Duration = Duration::from_millis(20);
/// The TCP port of the server that reads everything that a client sends, and sends back as much.
const BULK: u16 = 7070;
/// The largest datagram in bytes. A socket's buffer must hold those of many clients.
pub(super) const LARGEST_UDP: usize = 9000;
/// The largest number of bytes from a client that is read to its end.
pub(super) const LARGEST_TCP: usize = 1 << 20;
/// How long such a client may keep all others waiting.
const PAUSE: Duration = Duration::from_millis(500);

/// Servers on these addresses: TCP, UDP and SCTP, ports [`TARGET`] and [`OTHER`]. Dropping this ends them.
#[derive(Debug)]
pub(crate) struct Responder {
    name: Arc<Mutex<String>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

enum Ear {
    Stream(Socket),
    Bulk(Socket),
    Datagram(UdpSocket),
    Association(sctp::Listener),
}

impl Responder {
    /// Starts them. They listen when this returns.
    pub(crate) fn start(namespace: &Namespace, addresses: [IpAddr; 2]) -> Result<Self> {
        Self::start_nice(namespace, addresses, 0)
    }

    /// The same with a lower priority for the processor.
    pub(super) fn start_nice(namespace: &Namespace, addresses: [IpAddr; 2], nice: i32) -> Result<Self> {
        let (name, stop) = (Arc::new(Mutex::new(String::new())), Arc::new(AtomicBool::new(false)));
        let (named, stopped) = (Arc::clone(&name), Arc::clone(&stop));
        let (ready, is_ready) = mpsc::channel();
        let thread = namespace
            .entrance()
            .thread("responder", move || match ears(addresses) {
                Ok(ears) => {
                    let _ = setpriority_process(None, nice); // of this thread
                    let _ = ready.send(Ok(()));
                    serve(&ears, &named, &stopped);
                }
                Err(error) => drop(ready.send(Err(error))),
            })?;
        let started = is_ready.recv().map_err(|_| anyhow!("did not start"));
        started
            .and_then(|listening| listening)
            .with_context(|| format!("servers at {addresses:?}"))?;
        Ok(Self {
            name,
            stop,
            thread: Some(thread),
        })
    }

    /// Sets the name with which they answer from now on.
    pub(crate) fn rename(&self, name: &str) {
        name.clone_into(&mut self.name.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Asks them to stop, without waiting for it.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn ears(addresses: [IpAddr; 2]) -> Result<Vec<(u16, Ear)>> {
    let mut ears = Vec::new();
    for address in addresses {
        for port in [TARGET, OTHER] {
            let address = SocketAddr::new(address, port);
            let datagram = UdpSocket::bind(address).context("listen on UDP")?;
            datagram.set_nonblocking(true)?;
            ears.push((port, Ear::Datagram(datagram)));
            ears.push((
                port,
                Ear::Stream(listen(address, socket2::Protocol::TCP).context("listen on TCP")?),
            ));
            let association = if sctp::in_kernel() {
                listen(address, sctp::PROTOCOL).map(Ear::Stream)
            } else {
                sctp::Listener::bind(address, MOMENT).map(Ear::Association)
            };
            ears.push((port, association.context("listen on SCTP")?));
        }
        let bulk = listen(SocketAddr::new(address, BULK), socket2::Protocol::TCP);
        ears.push((BULK, Ear::Bulk(bulk.context("listen on TCP")?)));
    }
    Ok(ears)
}

fn listen(address: SocketAddr, protocol: socket2::Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(protocol))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(1024)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn serve(ears: &[(u16, Ear)], name: &Mutex<String>, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let mut polled: Vec<PollFd> = ears
            .iter()
            .map(|(_, ear)| PollFd::from_borrowed_fd(ear.as_fd(), PollFlags::IN))
            .collect();
        if poll(&mut polled, Some(&PATIENCE)).is_err() {
            continue; // a signal
        }
        let heard: Vec<bool> = polled.iter().map(|one| !one.revents().is_empty()).collect();
        for ((port, ear), _) in ears.iter().zip(heard).filter(|(_, heard)| *heard) {
            let name = name.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let suffix = if *port == OTHER { "-other" } else { "" };
            let speak = |source: SocketAddr| format!("{name}{suffix} {source}\n");
            // Errors come from clients that went away.
            let _ = ear.answer(speak);
        }
    }
}

impl Ear {
    /// Answers all requests that wait.
    fn answer(&self, speak: impl Fn(SocketAddr) -> String) -> io::Result<()> {
        match self {
            Self::Stream(listener) => loop {
                let (mut connection, source) = listener.accept()?;
                let source = source.as_socket().ok_or(ErrorKind::AddrNotAvailable)?;
                let _ = connection.write_all(speak(source).as_bytes());
            },
            Self::Bulk(listener) => loop {
                let (connection, source) = listener.accept()?;
                let source = source.as_socket().ok_or(ErrorKind::AddrNotAvailable)?;
                let _ = echo(&connection, speak(source));
            },
            Self::Datagram(socket) => loop {
                let mut question = [0; LARGEST_UDP];
                let (length, source) = socket.recv_from(&mut question)?;
                let _ = socket.send_to(&padded(speak(source), length), source);
            },
            Self::Association(listener) => listener.answer(speak),
        }
    }
}

/// Reads everything and sends back as much.
fn echo(mut connection: &Socket, answer: String) -> io::Result<()> {
    connection.set_read_timeout(Some(PAUSE))?;
    connection.set_write_timeout(Some(PAUSE))?;
    let mut question = Vec::new();
    connection.take(LARGEST_TCP as u64).read_to_end(&mut question)?;
    connection.write_all(&padded(answer, question.len()))
}

/// The answer, filled with blanks to the length of the question.
fn padded(answer: String, length: usize) -> Vec<u8> {
    let mut bytes = answer.into_bytes();
    bytes.resize(length.max(bytes.len()), b'\n');
    bytes
}

impl AsFd for Ear {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Stream(socket) | Self::Bulk(socket) => socket.as_fd(),
            Self::Datagram(socket) => socket.as_fd(),
            Self::Association(listener) => listener.as_fd(),
        }
    }
}
