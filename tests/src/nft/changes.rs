//! The elements that were written into Tandem's tables, as the kernel reports them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::io::Errno;

use super::TABLE;
use crate::addresses::Ip;
use crate::netns::Namespace;
use crate::notices::{Notice, Notices};

/// `NFPROTO_IPV4`
const IPV4: u8 = 2;

/// Listens in a namespace.
#[derive(Debug)]
pub struct Changes(Notices);

/// How many elements were added to and deleted from each set, by family.
pub type Counts = BTreeMap<(Ip, String), usize>;

impl Changes {
    /// Starts to listen.
    pub fn listen(node: &Namespace) -> Result<Self> {
        let notices = node.run(Notices::open)??;
        Ok(Self(notices.with_timeout(Duration::from_millis(100))?))
    }

    /// Counts the elements that were written until an element with the bytes `last` is added. That element does not
    /// count. Neither does an element that contains the address `except`.
    pub fn until(&mut self, last: &[u8], except: IpAddr) -> Result<Counts> {
        let IpAddr::V4(except) = except else {
            bail!("only IPv4 marks an end")
        };
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut counts = Counts::new();
        while Instant::now() < deadline {
            let notices = match self.0.next() {
                Ok(notices) => notices,
                Err(Errno::AGAIN | Errno::INTR) => continue,
                Err(error) => return Err(error).context("read from nftables"),
            };
            for notice in notices {
                let element = match notice {
                    Notice::Added(element) if element.contains(last) => return Ok(counts),
                    Notice::Added(element) | Notice::Removed(element) => element,
                    Notice::Dropped(_) | Notice::Generation | Notice::Other => continue,
                };
                if element.table() == Some(TABLE) && !element.contains(&except.octets()) {
                    let family = if element.family == IPV4 { Ip::V4 } else { Ip::V6 };
                    let set = element.set().unwrap_or_default().to_owned();
                    *counts.entry((family, set)).or_default() += 1;
                }
            }
        }
        bail!("the last element was never written; before it: {counts:?}")
    }
}
