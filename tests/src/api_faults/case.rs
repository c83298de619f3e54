//! One case: how the server speaks, which fault it has, and where. A case has a name, by which it can be run again.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context as _, Result, bail};

use super::fault::Fault;
pub use crate::way::{Encoding, Http, Lists, Way};

/// A kind of objects that Tandem watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Services.
    Service,
    /// EndpointSlices.
    EndpointSlice,
    /// The node.
    Node,
    /// The ranges of ClusterIPs.
    ServiceCidr,
}

/// The part of an answer that has the fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// The first list of a Tandem that starts over standing tables.
    List,
    /// The watch of a Tandem that has listed everything.
    Watch,
}

/// Whether Tandem must name a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// Exactly once.
    Must,
    /// At most once. It may look like something that servers do.
    May,
    /// Never. It is something that servers do.
    Never,
}

/// One case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    /// How the server speaks.
    pub way: Way,
    /// The part of an answer that has the fault.
    pub phase: Phase,
    /// The kind whose answer has the fault.
    pub kind: Kind,
    /// What goes wrong.
    pub fault: Fault,
    /// How many bytes or frames are before it.
    pub at: usize,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Service, Self::EndpointSlice, Self::Node, Self::ServiceCidr];

    /// Its name in an object's field `kind`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::Node => "Node",
            Self::ServiceCidr => "ServiceCIDR",
        }
    }

    /// Its path at the API server.
    pub fn path(self) -> &'static str {
        match self {
            Self::Service => "/api/v1/services",
            Self::EndpointSlice => "/apis/discovery.k8s.io/v1/endpointslices",
            Self::Node => "/api/v1/nodes",
            Self::ServiceCidr => "/apis/networking.k8s.io/v1/servicecidrs",
        }
    }

    /// Another kind.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Service => Self::EndpointSlice,
            Self::EndpointSlice => Self::Service,
            Self::Node => Self::ServiceCidr,
            Self::ServiceCidr => Self::Node,
        }
    }
}

impl Case {
    /// Whether Tandem must name the fault.
    pub fn naming(&self) -> Naming {
        use Fault as F;
        let in_list = self.phase == Phase::List;
        match self.fault {
            F::Nothing | F::PauseRest | F::Late | F::Twice => Naming::Never,
            F::Swap if in_list => Naming::Never,
            F::Zero if self.way.encoding == Encoding::Json => Naming::Never,
            // Servers end watches as they like.
            F::End | F::GoAway | F::PauseEnd | F::Longer | F::Empty if !in_list => Naming::May,
            // Servers expire versions. If the answer to a request for a stream is 4xx, the server does not stream lists.
            // A lie cannot be noticed.
            F::Error410 | F::Answer403 | F::Answer410 | F::Lie => Naming::May,
            _ => Naming::Must,
        }
    }

    /// Whether it takes half a minute or more. Tandem waits that long for the next piece of a list. After a second end of
    /// a list, it trusts the watch again only when something arrives, which may be the next bookmark.
    pub fn is_long(&self) -> bool {
        matches!(self.fault, Fault::Silence | Fault::EndTwice)
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phase = if self.phase == Phase::List { "list" } else { "watch" };
        let (way, kind, fault, at) = (self.way, self.kind.name(), self.fault.name(), self.at);
        write!(f, "{way}/{phase}/{kind}/{fault}/{at}")
    }
}

/// The one of these whose word is `word`.
fn one_of<T: Copy>(word: &str, all: impl IntoIterator<Item = (&'static str, T)>) -> Result<T> {
    let mut all = all.into_iter();
    let found = all.find(|(name, _)| *name == word);
    found
        .map(|(_, value)| value)
        .with_context(|| format!("{word:?} in the name of a case"))
}

impl FromStr for Case {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let words: Vec<&str> = text.split('/').collect();
        let [way, phase, kind, fault, at] = words[..] else {
            bail!("{text:?} is not the name of a case");
        };
        Ok(Self {
            way: way.parse()?,
            phase: one_of(phase, [("list", Phase::List), ("watch", Phase::Watch)])?,
            kind: one_of(kind, Kind::ALL.map(|kind| (kind.name(), kind)))?,
            fault: one_of(fault, Fault::ALL.iter().map(|fault| (fault.name(), *fault)))?,
            at: at.parse().with_context(|| format!("the number in {text:?}"))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_is_found_again_by_its_name() -> Result<()> {
        for (number, fault) in Fault::ALL.iter().enumerate() {
            for way in Way::all() {
                let case = Case {
                    way,
                    phase: Phase::Watch,
                    kind: Kind::ALL[number % 4],
                    fault: *fault,
                    at: number,
                };
                assert_eq!(case.to_string().parse::<Case>()?, case, "{case}");
            }
        }
        assert!("stream,protobuf,http2/list/Service/rest/1".parse::<Case>().is_err());
        Ok(())
    }
}
