//! Traffic that never stops: new connections, datagrams and connections that stay, from nodes, from a Pod and from
//! outside, in both families.

use std::fmt::{self, Display, Formatter};
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use anyhow::Result;

use crate::netns::Namespace;
use crate::traffic::{Protocol, Repeat, Request, Stream};

/// How long a request may wait for its answer. A step is judged only after so long a time has passed.
const TIMEOUT: Duration = Duration::from_secs(2);
/// The time between two messages on a connection that stays.
const MESSAGES: Duration = Duration::from_millis(20);

/// Where requests are sent from and to.
#[derive(Clone, Debug)]
pub(super) struct Way {
    /// In words.
    pub(super) name: String,
    pub(super) from: Namespace,
    pub(super) protocol: Protocol,
    pub(super) to: SocketAddr,
    /// Whether a connection stays open beside the new ones.
    pub(super) keeps: bool,
}

/// All traffic.
#[derive(Debug)]
pub(super) struct Load {
    ways: Vec<Going>,
    /// What was lost before, by connections that were opened anew since then.
    before: Figures,
}

/// One way with its traffic.
#[derive(Debug)]
struct Going {
    way: Way,
    new: Repeat,
    kept: Option<Stream>,
    told: u64,
}

/// What one way lost.
#[derive(Clone, Debug)]
pub(super) struct Loss {
    /// The way, and how.
    name: String,
    /// Connections, datagrams, and connections that should have stayed.
    pub(super) count: u64,
}

impl Display for Loss {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} lost", self.name, self.count)
    }
}

/// What went over all ways.
#[derive(Clone, Debug, Default)]
pub(super) struct Figures {
    /// Connections and datagrams, and messages on connections that stay.
    pub(super) connections: u64,
    pub(super) messages: u64,
    pub(super) lost: u64,
}

impl Load {
    /// Starts it. Each way sends a request once in `interval`.
    pub(super) fn start(ways: Vec<Way>, interval: Duration) -> Result<Self> {
        let mut going = Vec::new();
        for way in ways {
            let request = Request::new(way.protocol, way.to).timeout(TIMEOUT).interval(interval);
            let new = request.repeat(&way.from)?;
            let kept = way.keep()?;
            going.push(Going {
                way,
                new,
                kept,
                told: 0,
            });
        }
        Ok(Self {
            ways: going,
            before: Figures::default(),
        })
    }

    /// What was lost since the last call, each with its way. It waits until everything that was sent has its outcome.
    pub(super) fn lost(&mut self) -> Result<Vec<Loss>> {
        thread::sleep(TIMEOUT + Duration::from_millis(100));
        let mut lost = Vec::new();
        for going in &mut self.ways {
            let all = going.new.lost();
            if all > going.told {
                let (name, count) = (going.way.name.clone(), all - going.told);
                lost.push(Loss { name, count });
            }
            going.told = all;
            if let Some(kept) = going.kept.take_if(|kept| kept.is_over()) {
                let report = kept.stop()?;
                self.before.messages += report.sent;
                self.before.lost += 1;
                let name = format!("{}: its kept connection ({report})", going.way.name);
                lost.push(Loss { name, count: 1 });
                going.kept = going.way.keep()?;
            }
        }
        Ok(lost)
    }

    /// Ends it.
    pub(super) fn stop(self) -> Result<(Figures, Vec<String>)> {
        let (mut figures, mut outcomes) = (self.before, Vec::new());
        for going in self.ways {
            let tally = going.new.stop()?;
            figures.connections += tally.sent();
            figures.lost += tally.lost();
            let failures = tally.failures.iter().take(3);
            outcomes.extend(failures.map(|(at, outcome)| format!("{} at {at:.1?}: {outcome:?}", going.way.name)));
            if let Some(kept) = going.kept {
                let report = kept.stop()?;
                figures.connections += 1;
                figures.messages += report.sent;
                if !report.is_whole() {
                    figures.lost += 1;
                    outcomes.push(format!("{}: its kept connection: {report}", going.way.name));
                }
            }
        }
        Ok((figures, outcomes))
    }
}

impl Way {
    fn keep(&self) -> Result<Option<Stream>> {
        let request = Request::new(self.protocol, self.to).timeout(TIMEOUT).interval(MESSAGES);
        self.keeps.then(|| request.stream(&self.from)).transpose()
    }
}
