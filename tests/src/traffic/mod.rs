//! Real clients and servers inside namespaces, TCP, UDP and SCTP, both families, without external tools.
//!
//! ```no_run
//! # use tandem_tests::{netns::Namespace, traffic::{Protocol, Request, Server}};
//! # fn main() -> anyhow::Result<()> {
//! # let (pod, client) = (Namespace::new("pod")?, Namespace::new("client")?);
//! let _web = Server::start(&pod, "web-1", Protocol::Tcp, "10.244.1.10:8080".parse()?)?;
//! let outcome = Request::tcp("10.96.0.10:80".parse()?).send(&client)?;
//! assert_eq!(outcome.answered_by(), Some("web-1"));
//! # Ok(())
//! # }
//! ```
//!
//! A [`Server`] answers every request with its name and the source address that it saw. [`Request::send`] sends one
//! request and returns how it ended. [`Request::repeat`] sends requests in the background and counts. [`Stream`] keeps
//! one connection busy with numbered messages. If the kernel has no SCTP, [`sctp`] opens associations over raw sockets:
//! packets, connection tracking and translation are the real ones.

mod background;
mod client;
pub(crate) mod page;
pub mod sctp;
mod server;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::str::FromStr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context as _;

use crate::patience;

pub use background::{Repeat, Stream, StreamReport};
pub use server::Server;

/// The transport of a request.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Protocol {
    /// One connection; the server speaks first.
    Tcp,
    /// One datagram each way.
    Udp,
    /// One association.
    Sctp,
}

/// One request from a namespace to an address.
#[derive(Clone, Debug)]
pub struct Request {
    protocol: Protocol,
    to: SocketAddr,
    from: Option<SocketAddr>,
    timeout: Duration,
    interval: Duration,
    size: Option<usize>,
    unconnected: bool,
    own_packets: bool,
    kept: Option<Arc<OnceLock<UdpSocket>>>,
}

/// How a request ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// A server answered.
    Answered(Answer),
    /// Refused at once: a TCP reset, ICMP port unreachable or an SCTP abort.
    Refused {
        /// How long it took.
        after: Duration,
    },
    /// No answer of any kind.
    TimedOut {
        /// How long the client waited.
        after: Duration,
    },
    /// An established connection was reset or closed before the answer.
    Reset {
        /// How long it took.
        after: Duration,
    },
    /// There was no route, or an ICMP error said so.
    Unreachable {
        /// How long it took.
        after: Duration,
    },
    /// The request could not be sent.
    Failed(String),
}

/// Whether this is a tenth of the time after which a lost packet is sent again; half of it on a machine that is slow.
fn is_at_once(after: Duration) -> bool {
    after < patience(Duration::from_millis(100)).min(Duration::from_millis(500))
}

/// A server's answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Answer {
    /// The server's name.
    pub by: String,
    /// The client's address as the server saw it.
    pub source: SocketAddr,
    /// The time from the first packet to the answer.
    pub elapsed: Duration,
}

/// The results of many requests.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Requests answered, by server.
    pub answered: BTreeMap<String, u64>,
    /// Requests that were not answered, by kind: `refused`, `timed out`, …
    pub failed: BTreeMap<&'static str, u64>,
    /// The first hundred failures, each with its time since the start.
    pub failures: Vec<(Duration, Outcome)>,
    /// The longest time of an answer.
    pub slowest: Duration,
}

impl Request {
    /// A request that waits two seconds for its answer.
    pub fn new(protocol: Protocol, to: SocketAddr) -> Self {
        Self {
            protocol,
            to,
            from: None,
            timeout: patience(Duration::from_secs(2)),
            interval: Duration::from_millis(1),
            size: None,
            unconnected: false,
            own_packets: false,
            kept: None,
        }
    }

    /// A request over TCP.
    pub fn tcp(to: SocketAddr) -> Self {
        Self::new(Protocol::Tcp, to)
    }

    /// A request over UDP.
    pub fn udp(to: SocketAddr) -> Self {
        Self::new(Protocol::Udp, to)
    }

    /// A request over SCTP.
    pub fn sctp(to: SocketAddr) -> Self {
        Self::new(Protocol::Sctp, to)
    }

    /// Sends from this address instead of the one that the route gives.
    #[must_use]
    pub fn from(self, source: IpAddr) -> Self {
        self.from_port(SocketAddr::new(source, 0))
    }

    /// Sends from this address and port.
    #[must_use]
    pub fn from_port(mut self, source: SocketAddr) -> Self {
        self.from = Some(source);
        self
    }

    /// Sets the longest time to wait.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets the time between two requests of [`Request::repeat`]; 1 ms by default, 0 for none.
    #[must_use]
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// Sends this number of bytes, and accepts no shorter answer. This is for servers that send back as much as they
    /// got. Over TCP, the client then sends first.
    #[must_use]
    pub fn size(mut self, size: usize) -> Self {
        self.size = Some(size);
        self
    }

    /// Over UDP, the same on a socket that earlier requests were sent on, too. The first one makes it.
    #[must_use]
    pub fn unconnected_on(mut self, socket: Arc<OnceLock<UdpSocket>>) -> Self {
        self.kept = Some(socket);
        self.unconnected()
    }

    /// Over SCTP, makes the packets itself, also if the kernel has SCTP. The kernel's sockets tell of no ICMP error before their
    /// time is over.
    #[must_use]
    pub fn own_packets(mut self, own: bool) -> Self {
        self.own_packets = own;
        self
    }

    /// Over UDP, sends on a socket that is not connected, and takes an answer only from the address that was asked. Such a
    /// socket is not told of ICMP errors.
    #[must_use]
    pub fn unconnected(mut self) -> Self {
        self.unconnected = true;
        self
    }
}

impl Outcome {
    /// The answer, if there was one.
    pub fn answer(&self) -> Option<&Answer> {
        match self {
            Self::Answered(answer) => Some(answer),
            _ => None,
        }
    }

    /// The server that answered.
    pub fn answered_by(&self) -> Option<&str> {
        self.answer().map(|answer| answer.by.as_str())
    }

    /// The client's address as the server saw it.
    pub fn source(&self) -> Option<IpAddr> {
        self.answer().map(|answer| answer.source.ip())
    }

    /// Whether it was refused long before a lost packet is sent again.
    pub fn refused_at_once(&self) -> bool {
        matches!(self, Self::Refused { after } if is_at_once(*after))
    }

    /// Whether an error of any kind came at once. If a host's own datagram is rejected on its way out, the call that
    /// sends it already returns an error, before the ICMP error comes.
    pub fn failed_at_once(&self) -> bool {
        matches!(self, Self::Refused { after } | Self::Unreachable { after } if is_at_once(*after))
    }

    /// Whether nothing came back.
    pub fn timed_out(&self) -> bool {
        matches!(self, Self::TimedOut { .. })
    }

    /// The kind in a word or two, as counted by [`Tally`].
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Answered(_) => "answered",
            Self::Failed(_) => "failed",
            Self::Refused { .. } => "refused",
            Self::Reset { .. } => "reset",
            Self::TimedOut { .. } => "timed out",
            Self::Unreachable { .. } => "unreachable",
        }
    }

    pub(crate) fn from_error(error: &io::Error, after: Duration) -> Self {
        use io::ErrorKind as Kind;
        match error.kind() {
            Kind::BrokenPipe | Kind::ConnectionAborted | Kind::ConnectionReset | Kind::UnexpectedEof => {
                Self::Reset { after }
            }
            Kind::ConnectionRefused => Self::Refused { after },
            Kind::HostUnreachable | Kind::NetworkUnreachable | Kind::PermissionDenied => Self::Unreachable { after },
            Kind::TimedOut | Kind::WouldBlock => Self::TimedOut { after },
            _ => Self::Failed(error.to_string()),
        }
    }
}

impl Answer {
    /// Reads what a server writes: `name address:port`.
    pub(crate) fn parse(line: &str, elapsed: Duration) -> anyhow::Result<Self> {
        let (by, source) = line
            .trim_end()
            .rsplit_once(' ')
            .with_context(|| format!("not an answer: {line:?}"))?;
        let source = source.parse().with_context(|| format!("not an answer: {line:?}"))?;
        Ok(Self {
            by: by.to_owned(),
            source,
            elapsed,
        })
    }
}

impl Tally {
    /// How many requests were sent.
    pub fn sent(&self) -> u64 {
        self.answered.values().sum::<u64>() + self.failed.values().sum::<u64>()
    }

    /// How many were not answered.
    pub fn lost(&self) -> u64 {
        self.failed.values().sum()
    }

    /// Adds the results of others.
    pub fn merge(&mut self, other: Self) {
        for (by, count) in other.answered {
            *self.answered.entry(by).or_default() += count;
        }
        for (kind, count) in other.failed {
            *self.failed.entry(kind).or_default() += count;
        }
        self.failures.extend(other.failures);
        self.slowest = self.slowest.max(other.slowest);
    }

    fn add(&mut self, began: Duration, outcome: Outcome) {
        if let Outcome::Answered(answer) = outcome {
            self.slowest = self.slowest.max(answer.elapsed);
            *self.answered.entry(answer.by).or_default() += 1;
        } else {
            *self.failed.entry(outcome.kind()).or_default() += 1;
            if self.failures.len() < 100 {
                self.failures.push((began, outcome));
            }
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        })
    }
}

impl FromStr for Protocol {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> anyhow::Result<Self> {
        match name {
            "TCP" => Ok(Self::Tcp),
            "UDP" => Ok(Self::Udp),
            "SCTP" => Ok(Self::Sctp),
            _ => anyhow::bail!("not a protocol: {name:?}"),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered(Answer { by, source, elapsed }) => {
                write!(formatter, "{by} answered, saw {} ({elapsed:.1?})", source.ip())
            }
            Self::Refused { after }
            | Self::Reset { after }
            | Self::TimedOut { after }
            | Self::Unreachable { after } => write!(formatter, "{} ({after:.1?})", self.kind()),
            Self::Failed(reason) => write!(formatter, "failed: {reason}"),
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} sent, slowest {:.1?}", self.sent(), self.slowest)?;
        for (name, count) in &self.answered {
            write!(formatter, ", {name}: {count}")?;
        }
        for (kind, count) in &self.failed {
            write!(formatter, ", {kind}: {count}")?;
        }
        for (began, outcome) in self.failures.iter().take(5) {
            write!(formatter, "; at {began:.1?}: {outcome}")?;
        }
        Ok(())
    }
}

/// Any address of the family, any port.
pub(crate) fn any(like: SocketAddr) -> SocketAddr {
    let address = match like {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    SocketAddr::new(address, 0)
}
