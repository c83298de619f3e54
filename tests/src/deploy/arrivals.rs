//! When each change of the endpoints is in a node's kernel.
//!
//! Each change has a number: the port of the endpoints of one port of the Service. In the kernel, it stands behind the
//! endpoint's address, in an element that its transaction adds. So this notices that change, and no other one.

use std::net::IpAddr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::io::Errno;

use crate::netns::Namespace;
use crate::notices::{Notice, Notices};

/// Below this, a port is not the number of a change.
pub(super) const FIRST: u16 = 10_000;

/// A change that is in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Arrival {
    pub(super) at: Instant,
    /// 0 for IPv4, 1 for IPv6.
    pub(super) family: usize,
    pub(super) number: u16,
}

/// The changes that arrive at one node from now on.
#[derive(Debug)]
pub(super) struct Arrivals(Receiver<Arrival>);

impl Arrivals {
    /// Starts to note them, on a thread that ends with the process, or with the first change after this was dropped.
    pub(super) fn watch(namespace: &Namespace, endpoints: &[IpAddr]) -> Result<Self> {
        let mut notices = namespace.run(Notices::open)??;
        let (sender, arrivals) = channel();
        let endpoints: Vec<(usize, Vec<u8>)> = endpoints.iter().copied().map(bytes).collect();
        let listen = move || {
            loop {
                let received = notices.next();
                let at = Instant::now();
                let notices = match received {
                    Ok(notices) => notices,
                    Err(Errno::NOBUFS | Errno::INTR) => continue, // a later change says that the lost ones are there too
                    Err(_) => return,
                };
                for notice in notices {
                    let Notice::Added(element) = notice else { continue };
                    for (family, address) in &endpoints {
                        let number = element.port_behind(address);
                        let Some(number) = number.filter(|number| *number >= FIRST) else {
                            continue;
                        };
                        let arrival = Arrival {
                            at,
                            family: *family,
                            number,
                        };
                        if sender.send(arrival).is_err() {
                            return;
                        }
                    }
                }
            }
        };
        namespace.entrance().thread("arrivals", listen)?;
        Ok(Self(arrivals))
    }

    /// Every arrival until the changes with these numbers, one of each family, are there too. What takes longer than
    /// `patience` is not in it.
    pub(super) fn until(&self, last: [Option<u16>; 2], patience: Duration) -> Result<Vec<Arrival>> {
        let deadline = Instant::now() + patience;
        let mut arrivals = Vec::new();
        let mut missing = last;
        while missing != [None, None] {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.0.recv_timeout(left) {
                Ok(arrival) => {
                    arrivals.push(arrival);
                    let missing = &mut missing[arrival.family];
                    *missing = missing.filter(|number| *number > arrival.number);
                }
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(RecvTimeoutError::Disconnected).context("nothing listens");
                }
            }
        }
        Ok(arrivals)
    }
}

/// An address as it stands in the kernel's elements, and its family.
fn bytes(address: IpAddr) -> (usize, Vec<u8>) {
    match address {
        IpAddr::V4(address) => (0, address.octets().to_vec()),
        IpAddr::V6(address) => (1, address.octets().to_vec()),
    }
}

/// How long a change took until it, or a later one, was there. None if neither ever was.
pub(super) fn took(number: u16, family: usize, answered: Instant, arrivals: &[Arrival]) -> Option<Duration> {
    let there = arrivals
        .iter()
        .filter(|arrival| arrival.family == family && arrival.number >= number);
    let first = there.map(|arrival| arrival.at).min()?;
    Some(first.saturating_duration_since(answered))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_took_until_it_or_a_later_one_of_its_family_was_there() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let arrival = |family, number, milliseconds| Arrival {
            at: at(milliseconds),
            family,
            number,
        };
        let arrivals = [arrival(0, 10_002, 30), arrival(1, 10_009, 5), arrival(0, 10_004, 50)];
        let took = |number, family| took(number, family, at(10), &arrivals);
        assert_eq!(took(10_002, 0), Some(Duration::from_millis(20)));
        assert_eq!(took(10_003, 0), Some(Duration::from_millis(40)));
        assert_eq!(took(10_005, 0), None);
        assert_eq!(
            took(10_001, 1),
            Some(Duration::ZERO),
            "the kernel may have it before the API server's answer is here"
        );
    }
}
