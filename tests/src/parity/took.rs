//! Who translated a flow in Tandem's world, by the connection tracking of the sender's node: the first destination of an
//! entry is the frontend if nftables translated, and the endpoint if the socket itself did. XDP leaves no entry, and gives the flow a
//! port that nobody else does.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use anyhow::Result;

use super::answer::Answer;
use super::side::Side;
use super::twins::NODES;
use crate::conntrack::{self, Entry};
use crate::node::Pod;
use crate::traffic::Protocol;

/// Who translated.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Took {
    /// Every request by its own socket.
    Sockets,
    /// At least one of the requests by nftables.
    Nftables,
    /// At least one of the requests by XDP, on the node where it came in. Those to endpoints on that node are nftables'.
    Xdp,
}

/// The first port that XDP gives to its flows. nftables gives none of them.
const XDP_PORTS: u16 = 49_152;

/// A flow, as far as connection tracking shows it.
#[derive(Debug)]
pub(super) struct Trail<'a> {
    /// The nodes on which its packets can be seen first.
    pub(super) nodes: Vec<u8>,
    pub(super) protocol: Protocol,
    pub(super) to: SocketAddr,
    /// The sender's own addresses.
    pub(super) sender: &'a [IpAddr],
    /// Whether the sender is a node, which has more addresses.
    pub(super) from_node: bool,
    /// Whether the sender is outside of the cluster.
    pub(super) from_outside: bool,
    /// The name with which the sender itself answers, if it is a pod.
    pub(super) itself: Option<&'a str>,
}

/// The connection tracking of some nodes, at one moment.
#[derive(Debug)]
pub(super) struct Tracks {
    of_nodes: BTreeMap<u8, Vec<(Protocol, Entry)>>,
    pods: Vec<IpAddr>,
}

impl Tracks {
    /// Reads it on the nodes of these flows.
    pub(super) fn read<'a>(side: &Side, trails: impl Iterator<Item = &'a Trail<'a>>) -> Result<Self> {
        let mut of_nodes = BTreeMap::new();
        for node in trails.flat_map(|trail| trail.nodes.iter().copied()) {
            if let std::collections::btree_map::Entry::Vacant(unread) = of_nodes.entry(node) {
                unread.insert(conntrack::all(&side.node(node)?.namespace)?);
            }
        }
        let pods = side.pods().flat_map(Pod::addresses).collect();
        Ok(Self { of_nodes, pods })
    }

    /// Who translated the requests that were answered; none if nobody did, or if none was answered.
    pub(super) fn took(&self, trail: &Trail, answer: &Answer) -> Option<Took> {
        if trail.from_outside {
            // A port alone does not tell: clients have such ports, too.
            let by_xdp = |seen: &SocketAddr| seen.port() >= XDP_PORTS && !trail.sender.contains(&seen.ip());
            if answer.seen.iter().any(by_xdp) {
                return Some(Took::Xdp);
            }
        }
        let (mut untouched, mut elsewhere) = (false, false);
        for entry in self.entries(trail, answer) {
            if entry.to != trail.to {
                elsewhere = true;
            } else if entry.with != trail.to {
                return Some(Took::Nftables);
            } else {
                untouched = true;
            }
        }
        // What a pod sends to itself never leaves it.
        let inside = !elsewhere
            && !trail.sender.contains(&trail.to.ip())
            && trail.itself.is_some_and(|itself| answer.only() == Some(itself));
        (!untouched && (elsewhere || inside)).then_some(Took::Sockets)
    }

    /// What the requests left.
    fn entries<'a>(&'a self, trail: &'a Trail, answer: &'a Answer) -> impl Iterator<Item = &'a Entry> {
        let of_nodes = trail.nodes.iter().filter_map(|node| self.of_nodes.get(node)).flatten();
        let of_protocol = of_nodes.filter(|(protocol, _)| *protocol == trail.protocol);
        of_protocol.map(|(_, entry)| entry).filter(move |entry| {
            // An association by packets of its own does not tell its port.
            if answer.own.is_empty() {
                return trail.protocol == Protocol::Sctp && !answer.by.is_empty() && entry.to == trail.to;
            }
            answer.own.iter().any(|own| self.is_from(entry.from, *own, trail))
        })
    }

    fn is_from(&self, from: SocketAddr, own: SocketAddr, trail: &Trail) -> bool {
        let address = if !own.ip().is_unspecified() {
            from.ip() == own.ip()
        } else if trail.from_node {
            !self.pods.contains(&from.ip())
        } else {
            trail.sender.contains(&from.ip())
        };
        address && from.port() == own.port()
    }
}

/// The nodes on which the packets of a client outside can enter.
pub(super) fn every_node() -> Vec<u8> {
    (1..=NODES).collect()
}

impl fmt::Display for Took {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Sockets => "sockets",
            Self::Nftables => "nftables",
            Self::Xdp => "xdp",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::traffic::{Answer as Reply, Outcome};

    const FRONTEND: &str = "10.96.0.1:80";
    const ENDPOINT: &str = "10.244.1.5:8080";
    const OWN: &str = "10.244.1.9:1000";

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn took(entries: &[[&str; 3]], to: &str, own: &str, by: &str) -> Option<Took> {
        let entries = entries.iter().map(|[from, to, with]| {
            let (from, to, with) = (at(from), at(to), at(with));
            (Protocol::Tcp, Entry { from, to, with, id: 0 })
        });
        let tracks = Tracks {
            of_nodes: BTreeMap::from([(1, entries.collect())]),
            pods: Vec::new(),
        };
        let trail = Trail {
            nodes: vec![1],
            protocol: Protocol::Tcp,
            to: at(to),
            sender: &[at(OWN).ip()],
            from_node: false,
            from_outside: false,
            itself: Some("me"),
        };
        let mut answer = Answer::default();
        let reply = Reply {
            by: by.to_owned(),
            source: at(OWN),
            elapsed: Duration::ZERO,
        };
        answer.add(&Outcome::Answered(reply), Some(at(own)));
        tracks.took(&trail, &answer)
    }

    #[test]
    fn the_first_destination_of_an_entry_tells_who_translated() {
        assert_eq!(
            took(&[[OWN, FRONTEND, ENDPOINT]], FRONTEND, OWN, "web"),
            Some(Took::Nftables)
        );
        assert_eq!(
            took(&[[OWN, ENDPOINT, ENDPOINT]], FRONTEND, OWN, "web"),
            Some(Took::Sockets)
        );
        // Of a socket that is bound to no address, the sender's entries count.
        assert_eq!(
            took(&[[OWN, ENDPOINT, ENDPOINT]], FRONTEND, "0.0.0.0:1000", "web"),
            Some(Took::Sockets)
        );
        assert_eq!(took(&[[OWN, ENDPOINT, ENDPOINT]], ENDPOINT, OWN, "web"), None);
        assert_eq!(
            took(&[["10.244.1.8:1000", ENDPOINT, ENDPOINT]], FRONTEND, OWN, "web"),
            None
        );
    }

    #[test]
    fn what_a_pod_sends_to_itself_leaves_no_entry_if_its_socket_translated() {
        assert_eq!(took(&[], FRONTEND, OWN, "me"), Some(Took::Sockets));
        assert_eq!(took(&[], FRONTEND, OWN, "web"), None);
        assert_eq!(took(&[], OWN, OWN, "me"), None);
        assert_eq!(
            took(&[[OWN, FRONTEND, ENDPOINT]], FRONTEND, OWN, "me"),
            Some(Took::Nftables)
        );
    }

    #[test]
    fn a_flow_from_outside_is_xdps_if_an_endpoint_saw_one_of_its_ports() {
        let outside = |source: &str, entries: Vec<(Protocol, Entry)>| {
            let tracks = Tracks {
                of_nodes: BTreeMap::from([(1, entries)]),
                pods: Vec::new(),
            };
            let trail = Trail {
                nodes: vec![1],
                protocol: Protocol::Tcp,
                to: at(FRONTEND),
                sender: &[at(OWN).ip()],
                from_node: false,
                from_outside: true,
                itself: None,
            };
            let mut answer = Answer::default();
            let reply = Reply {
                by: "web".to_owned(),
                source: at(source),
                elapsed: Duration::ZERO,
            };
            answer.add(&Outcome::Answered(reply), Some(at(OWN)));
            tracks.took(&trail, &answer)
        };
        let (from, to, with) = (at(OWN), at(FRONTEND), at(ENDPOINT));
        let entry = (Protocol::Tcp, Entry { from, to, with, id: 0 });
        assert_eq!(outside("192.0.2.11:50000", Vec::new()), Some(Took::Xdp));
        assert_eq!(outside("192.0.2.11:40000", Vec::new()), None);
        assert_eq!(outside("192.0.2.11:40000", vec![entry]), Some(Took::Nftables));
        // The client's own address, with a port that is like XDP's.
        assert_eq!(outside("10.244.1.9:50000", vec![entry]), Some(Took::Nftables));
    }
}
