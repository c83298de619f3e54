//! What clients ask, over and over: how many answers a second they get.
//!
//! No TCP connection stays in `TIME_WAIT`, and each client waits for one answer before it asks again. So only the way to
//! the server counts.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use socket2::SockRef;
use tandem_core::row::Protocol;
use tandem_tests::netns::Namespace;

use crate::connections::{self, PATIENCE};

/// A kind of question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// A TCP connection, with one request and its answer.
    Request,
    /// A TCP connection that is made and reset. Nothing is sent.
    Connection,
    /// A datagram and its answer. A client sends some hundred of them with one socket that is not connected.
    Datagram,
}

/// How many datagrams a client sends with one socket.
const DATAGRAMS: u32 = 200;

const REQUEST: &[u8] = b"GET /ready HTTP/1.0\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok";

impl Question {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Request, Self::Connection, Self::Datagram];

    /// The beginning of its figures' names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Request => "rps",
            Self::Connection => "cps",
            Self::Datagram => "udp",
        }
    }

    /// The protocol that it is asked by.
    pub fn protocol(self) -> Protocol {
        match self {
            Self::Request | Self::Connection => Protocol::Tcp,
            Self::Datagram => Protocol::Udp,
        }
    }

    /// Starts servers at these addresses, for so many clients at a time. They answer as long as the process lives.
    pub fn serve(self, inside: &Namespace, addresses: &[SocketAddr], clients: usize) -> Result<()> {
        for address in addresses {
            match self {
                Self::Connection => connections::serve(inside, *address, clients)?,
                Self::Request => serve_requests(inside, *address, clients)?,
                Self::Datagram => serve_datagrams(inside, *address, clients)?,
            }
        }
        Ok(())
    }

    /// How many answers a second so many clients get from these addresses. Each client is a thread, and chooses one of them by
    /// chance each time, as a proxy chooses an endpoint: two clients that meet at one server take longer than two that do not.
    pub fn per_second(self, from: &Namespace, to: &[SocketAddr], clients: usize, lasting: Duration) -> Result<f64> {
        let answers = AtomicU32::new(0);
        let choose = || fastrand::choice(to).context("nobody to ask");
        let client = |started: Instant| -> Result<()> {
            let count = || answers.fetch_add(1, Ordering::Relaxed);
            let ends = || started.elapsed() >= lasting;
            match self {
                // A socket that sends to a Service stays with one endpoint.
                Self::Datagram => {
                    while !ends() {
                        let to = choose()?;
                        let socket = datagrams(*to)?;
                        for _ in 0..DATAGRAMS {
                            ask(&socket, *to)?;
                            count();
                        }
                    }
                }
                Self::Request | Self::Connection => {
                    let one = if self == Self::Request {
                        request
                    } else {
                        connections::connect
                    };
                    while !ends() {
                        one(*choose()?)?;
                        count();
                    }
                }
            }
            Ok(())
        };
        // To enter the namespace takes some time, which does not count.
        let took = from.run(|| -> Result<Duration> {
            let started = Instant::now();
            std::thread::scope(|scope| {
                let client = &client;
                let clients: Vec<_> = (0..clients).map(|_| scope.spawn(move || client(started))).collect();
                clients
                    .into_iter()
                    .try_for_each(|client| client.join().map_err(|_| anyhow!("a client panicked"))?)
            })?;
            Ok(started.elapsed())
        })??;
        let answers = answers.into_inner();
        ensure!(answers > 0, "nothing was answered");
        Ok(f64::from(answers) / took.as_secs_f64())
    }
}

/// Answers one request of each connection, and waits for its end.
fn serve_requests(inside: &Namespace, address: SocketAddr, clients: usize) -> Result<()> {
    let what = || format!("listen on {address}");
    let listener = inside.run(|| TcpListener::bind(address))?.with_context(what)?;
    // While one client's connection ends, that client may make its next one.
    for _ in 0..2 * clients {
        let listener = listener.try_clone().with_context(what)?;
        connections::start(move || {
            while let Ok((mut connection, _)) = listener.accept() {
                let mut request = [0; 256];
                while connection.read(&mut request).is_ok_and(|bytes| bytes > 0) {
                    if connection.write_all(ANSWER).is_err() {
                        break;
                    }
                }
            }
        })?;
    }
    Ok(())
}

/// Sends each datagram back.
fn serve_datagrams(inside: &Namespace, address: SocketAddr, clients: usize) -> Result<()> {
    let what = || format!("bind {address}");
    let socket = inside.run(|| UdpSocket::bind(address))?.with_context(what)?;
    for _ in 0..clients {
        let socket = socket.try_clone().with_context(what)?;
        connections::start(move || {
            let mut datagram = [0; 256];
            loop {
                // An error tells of an earlier answer that did not arrive.
                if let Ok((bytes, from)) = socket.recv_from(&mut datagram) {
                    let _ = socket.send_to(&datagram[..bytes], from);
                }
            }
        })?;
    }
    Ok(())
}

/// Connects, sends a request, and reads the answer. Then it resets the connection.
fn request(address: SocketAddr) -> Result<()> {
    let what = || format!("ask {address}");
    let mut connection = TcpStream::connect_timeout(&address, PATIENCE).with_context(what)?;
    SockRef::from(&connection)
        .set_linger(Some(Duration::ZERO))
        .with_context(what)?;
    connection.write_all(REQUEST).with_context(what)?;
    let mut answer = [0; ANSWER.len()];
    connection.read_exact(&mut answer).with_context(what)?;
    ensure!(answer == ANSWER, "{address} gave another answer");
    Ok(())
}

/// A socket that sends datagrams to addresses of this family.
fn datagrams(to: SocketAddr) -> Result<UdpSocket> {
    let any: IpAddr = match to {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).context("make a UDP socket")?;
    socket.set_read_timeout(Some(PATIENCE)).context("set a timeout")?;
    Ok(socket)
}

/// Sends a datagram, and waits for the answer, which must come from where it was sent to.
fn ask(socket: &UdpSocket, to: SocketAddr) -> Result<()> {
    let what = || format!("ask {to}");
    socket.send_to(REQUEST, to).with_context(what)?;
    let mut answer = [0; 256];
    loop {
        match socket.recv_from(&mut answer) {
            Ok((bytes, from)) => {
                ensure!(from == to && answer[..bytes] == *REQUEST, "{from} answers for {to}");
                return Ok(());
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error).with_context(what),
        }
    }
}
