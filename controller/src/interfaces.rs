//! The addresses of this node's interfaces. They are followed through rtnetlink, and the engine is told if they change.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use tandem_core::node::InterfaceName;
use tokio::sync::mpsc::Sender;

use crate::event::{Event, NodeFact};
use crate::net::{Address, Addresses, Group, Link, Links, Monitor, NetError, News, Object, Rtnetlink};

/// The wait after a failure to read.
const AGAIN: Duration = Duration::from_secs(1);

/// The addresses, and a subscription. The subscription is made before the first reading, so no change is missed in
/// between.
#[derive(Debug)]
pub struct Interfaces {
    kernel: Rtnetlink,
    changes: Monitor,
    /// The names of the links at the last reading.
    names: HashMap<u32, Option<InterfaceName>>,
}

/// The addresses at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Sorted, without duplicates.
    pub addresses: Vec<IpAddr>,
    /// Sorted, each with the interface that has it.
    pub named: Vec<(IpAddr, InterfaceName)>,
}

impl Found {
    /// The events for the engine.
    pub fn into_events(self) -> [Event; 2] {
        [
            Event::Interfaces(self.addresses),
            Event::NodeFact(NodeFact::Addresses(self.named)),
        ]
    }
}

impl Interfaces {
    /// Subscribes to changes in this thread's network namespace. It works only inside a tokio runtime.
    pub fn open() -> Result<Self, NetError> {
        Ok(Self {
            changes: Monitor::open(&[Group::Links, Group::Addresses])?,
            kernel: Rtnetlink::open()?,
            names: HashMap::new(),
        })
    }

    /// Reads the present addresses.
    pub fn read(&mut self) -> Result<Found, NetError> {
        let links = self.kernel.list::<Link>(&Links)?;
        self.names = links.into_iter().map(|link| (link.index, link.name)).collect();
        let addresses = self.kernel.list::<Address>(&Addresses::default())?;
        Ok(named(&self.names, &addresses))
    }

    /// Follows changes until the engine is gone. `known` is what the engine knows already.
    pub async fn follow(self, known: Found, events: Sender<Event>) {
        follow(self, known, events).await;
    }
}

/// A source of addresses and of news that they may have changed.
trait Source {
    fn read(&mut self) -> Result<Found, NetError>;
    /// Returns when the addresses may have changed.
    async fn changed(&mut self) -> Result<(), NetError>;
}

impl Source for Interfaces {
    fn read(&mut self) -> Result<Found, NetError> {
        Self::read(self)
    }

    async fn changed(&mut self) -> Result<(), NetError> {
        loop {
            let news = self.changes.next().await?;
            if news.iter().any(|news| may_matter(news, &self.names)) {
                return Ok(());
            }
        }
    }
}

/// Whether a change may concern the addresses. Most news about links does not: it is about carriers, counters and pods.
fn may_matter(news: &News, names: &HashMap<u32, Option<InterfaceName>>) -> bool {
    match news {
        News::Come(Object::Link(link)) => names.get(&link.index) != Some(&link.name),
        _ => true,
    }
}

fn named(names: &HashMap<u32, Option<InterfaceName>>, found: &[Address]) -> Found {
    let mut addresses: Vec<IpAddr> = found.iter().map(|found| found.address.addr()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    // A link may have gone or come meanwhile. The next news says so.
    let pairs = found
        .iter()
        .filter_map(|found| Some((found.address.addr(), (*names.get(&found.link)?)?)));
    let mut pairs: Vec<_> = pairs.collect();
    pairs.sort_unstable_by_key(|(address, name)| (*address, *name.padded()));
    Found {
        addresses,
        named: pairs,
    }
}

/// Reads the addresses, reports changes, and waits for news, until nobody listens any more. If reading fails, it is
/// repeated soon, because no other news may come for a long time.
async fn follow(mut source: impl Source, mut known: Found, events: Sender<Event>) {
    let mut complaint = None;
    loop {
        match source.read() {
            Ok(found) => {
                complaint = None;
                if found != known {
                    known.clone_from(&found);
                    for event in found.into_events() {
                        if events.send(event).await.is_err() {
                            return;
                        }
                    }
                }
            }
            Err(error) => {
                let error = error.to_string();
                if complaint.as_ref() != Some(&error) {
                    tracing::warn!("{error}; the addresses known last are used");
                }
                complaint = Some(error);
                tokio::time::sleep(AGAIN).await;
                continue;
            }
        }
        tokio::select! {
            changed = source.changed() => if let Err(error) = changed {
                tracing::warn!("addresses of this node: {error}");
                tokio::time::sleep(AGAIN).await;
            },
            () = events.closed() => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::io;

    use tokio::sync::mpsc::channel;
    use tokio::time::Instant;

    use super::*;
    use crate::net::Listed as _;

    fn found(n: u8) -> Found {
        Found {
            addresses: vec![IpAddr::from([192, 0, 2, n])],
            named: Vec::new(),
        }
    }

    /// Gives these answers in order, and then nothing more. Every change comes at once.
    struct Script(VecDeque<Result<Found, NetError>>);

    impl Source for Script {
        fn read(&mut self) -> Result<Found, NetError> {
            self.0.pop_front().unwrap()
        }

        async fn changed(&mut self) -> Result<(), NetError> {
            if self.0.is_empty() {
                std::future::pending::<()>().await;
            }
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_that_could_not_be_read_are_read_again_without_another_change() {
        let lost = || {
            let source = io::Error::from(io::ErrorKind::Other);
            Err(NetError::Read {
                what: Address::NAME,
                source,
            })
        };
        let script = [Ok(found(1)), lost(), lost(), Ok(found(2)), Ok(found(2)), Ok(found(3))];
        let (events, mut told) = channel(16);
        let start = Instant::now();
        tokio::spawn(follow(Script(script.into()), Found::default(), events));
        let mut heard = Vec::new();
        while heard.len() < 3 {
            if let Some(Event::Interfaces(addresses)) = told.recv().await {
                heard.push((addresses, start.elapsed()));
            }
        }
        let expected = [(1, 0), (2, 2), (3, 2)];
        let expected = expected.map(|(n, waits)| (found(n).addresses, AGAIN * waits));
        assert_eq!(heard, expected);
    }

    #[test]
    fn a_link_matters_only_if_its_name_is_new() {
        let name = InterfaceName::parse("eth0").ok();
        let link = |index, name| {
            News::Come(Object::Link(Link {
                index,
                name,
                ..Link::default()
            }))
        };
        let names = HashMap::from([(2, name)]);
        assert!(!may_matter(&link(2, name), &names));
        assert!(may_matter(&link(2, InterfaceName::parse("lan0").ok()), &names));
        assert!(may_matter(&link(3, name), &names));
        assert!(may_matter(&News::Lost, &names));
    }
}
