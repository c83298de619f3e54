//! Servers: each answers with its name and the source that it saw.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Socket, Type};

use super::{Protocol, sctp};
use crate::netns::Namespace;

/// How soon a server notices that it should stop.
const PATIENCE: Duration = Duration::from_millis(50);

/// A server in a namespace, until it is dropped. Its connections end with it.
///
/// Over TCP (and over SCTP if the kernel has it) it greets with `name address:port\n`, and then sends back everything
/// that it receives.
#[derive(Debug)]
pub struct Server {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
    address: SocketAddr,
}

enum Ear {
    Stream(Socket),
    Datagram(UdpSocket),
    Association(sctp::Listener),
}

impl Server {
    /// Starts it. It listens when this returns.
    pub fn start(namespace: &Namespace, name: &str, protocol: Protocol, address: SocketAddr) -> Result<Self> {
        let open = move || Ear::open(protocol, address);
        Self::start_with(namespace, name, address, open).with_context(|| format!("listen on {protocol} {address}"))
    }

    /// The same over MPTCP.
    pub fn start_mptcp(namespace: &Namespace, name: &str, address: SocketAddr) -> Result<Self> {
        let open = move || Ear::stream(socket2::Protocol::MPTCP, address);
        Self::start_with(namespace, name, address, open).with_context(|| format!("listen on MPTCP {address}"))
    }

    fn start_with(
        namespace: &Namespace,
        name: &str,
        address: SocketAddr,
        open: impl FnOnce() -> io::Result<Ear> + Send + 'static,
    ) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, name) = (Arc::clone(&stop), name.to_owned());
        let (ready, is_ready) = mpsc::channel();
        let thread = namespace.entrance().thread(&format!("server {name}"), move || {
            let ear = open();
            let _ = ready.send(ear.as_ref().map(|_| ()).map_err(ToString::to_string));
            if let Ok(ear) = ear {
                serve(&ear, &name, &stopped);
            }
        })?;
        match is_ready.recv() {
            Ok(Ok(())) => Ok(Self {
                stop,
                thread: Some(thread),
                address,
            }),
            Ok(Err(error)) => Err(anyhow!("{error}")),
            Err(_) => Err(anyhow!("the server did not start")),
        }
    }

    /// Starts one server for each protocol and address, like a pod that serves everything.
    pub fn start_all(
        namespace: &Namespace,
        name: &str,
        protocols: &[Protocol],
        addresses: &[SocketAddr],
    ) -> Result<Vec<Self>> {
        let pairs = protocols
            .iter()
            .flat_map(|protocol| addresses.iter().map(move |address| (*protocol, *address)));
        pairs
            .map(|(protocol, address)| {
                Self::start(namespace, name, protocol, address).with_context(|| format!("start server {name}"))
            })
            .collect()
    }

    /// The address on which it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Ear {
    fn open(protocol: Protocol, address: SocketAddr) -> io::Result<Self> {
        let kind = match protocol {
            Protocol::Tcp => socket2::Protocol::TCP,
            Protocol::Sctp if sctp::in_kernel() => sctp::PROTOCOL,
            Protocol::Sctp => return Ok(Self::Association(sctp::Listener::bind(address, PATIENCE)?)),
            Protocol::Udp => {
                let socket = one_family(address, Type::DGRAM, socket2::Protocol::UDP)?;
                socket.bind(&address.into())?;
                socket.set_read_timeout(Some(PATIENCE))?;
                return Ok(Self::Datagram(socket.into()));
            }
        };
        Self::stream(kind, address)
    }

    fn stream(kind: socket2::Protocol, address: SocketAddr) -> io::Result<Self> {
        let socket = one_family(address, Type::STREAM, kind)?;
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(1024)?;
        Ok(Self::Stream(socket))
    }
}

/// A socket of the address's family alone, so that a server can listen on both unspecified addresses.
fn one_family(address: SocketAddr, kind: Type, protocol: socket2::Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

fn serve(ear: &Ear, name: &str, stop: &Arc<AtomicBool>) {
    while !stop.load(Ordering::Relaxed) {
        let speak = |source: SocketAddr| format!("{name} {source}\n");
        let heard = match ear {
            Ear::Stream(listener) => accept(listener, speak, stop),
            Ear::Datagram(socket) => {
                let mut question = [0; 2048];
                socket
                    .recv_from(&mut question)
                    .and_then(|(_, source)| socket.send_to(speak(source).as_bytes(), source).map(drop))
            }
            Ear::Association(listener) => listener.answer(speak),
        };
        // Errors come from clients that went away. A broken listener must not use up a processor.
        if heard.is_err_and(|error| error.kind() != ErrorKind::WouldBlock) {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

fn accept(listener: &Socket, speak: impl Fn(SocketAddr) -> String, stop: &Arc<AtomicBool>) -> io::Result<()> {
    // A listener of MPTCP does not obey its timeout.
    let patience = Timespec::try_from(PATIENCE).map_err(io::Error::other)?;
    if poll(&mut [PollFd::new(listener, PollFlags::IN)], Some(&patience))? == 0 {
        return Err(ErrorKind::WouldBlock.into());
    }
    let (mut connection, source) = listener.accept()?;
    let source = source.as_socket().ok_or(ErrorKind::AddrNotAvailable)?;
    let stop = Arc::clone(stop);
    connection.set_read_timeout(Some(PATIENCE))?;
    connection.write_all(speak(source).as_bytes())?;
    // Most clients only read the greeting, and are gone before a thread for them would run.
    thread::Builder::new().spawn(move || {
        let mut bytes = [0; 4096];
        while !stop.load(Ordering::Relaxed) {
            match connection.read(&mut bytes) {
                Ok(0) => break,
                Ok(length) if connection.write_all(&bytes[..length]).is_ok() => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Ok(_) | Err(_) => break,
            }
        }
    })?;
    Ok(())
}
