//! What has to come out of a case: kube-proxy's rules, and which sockets are taken.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::Result;

use crate::addresses::Ip;
use crate::manifests::Policy;
use crate::traffic::Protocol;

use super::ask::{Bound, Way};
use super::services::{self, Spec};
use super::services::{HOST, node_address};
use super::site::{Asker, Site};
use super::variant::Variant;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Front {
    ClusterIp,
    ExternalIp,
    LoadBalancer,
    NodePort,
    Loopback,
    /// No frontend: the endpoint of this name itself.
    Direct(&'static str),
    /// The nodePort on the other node's address.
    OtherNode,
    /// A port that the ClusterIP does not have.
    UnknownPort,
    /// The nodePort on an address of this node that takes none.
    OtherAddress,
}

/// How the address is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    V4,
    V6,
    /// An IPv4 address in an IPv6 socket.
    Mapped,
}

/// Who translated a connection, by the first node's connection tracking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Took {
    /// The socket: the endpoint is the destination from the beginning.
    Sockets,
    /// nftables: the frontend is the destination, and the endpoint answers.
    Nftables,
    /// Nobody on this node.
    Nobody,
    /// No packet passed the node, or none was let through.
    Unseen,
}

/// Which plane has to take a case.
enum Plane {
    Socket,
    /// The reason is the one that a program counts, if a program sees it.
    Rules(Option<&'static str>),
}

/// How it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Answered,
    /// Refused at once.
    Refused,
    /// An error at once: the kernel refuses a node's own datagram already where it is sent.
    Error,
    Silent,
    /// Accepted and then ended, by the relay for loopback addresses.
    Reset,
}

/// Which sources the endpoint may see.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// As without a Service.
    Direct,
    /// The asker's own.
    Own,
    /// An address by which this node masquerades.
    Masqueraded(u8),
}

/// What is expected.
#[derive(Clone, Debug)]
pub(super) struct Expected {
    pub(super) end: End,
    pub(super) by: Vec<&'static str>,
    pub(super) took: Took,
    /// Which source is seen if another endpoint than the asker answers, and if it answers itself.
    pub(super) source: [Source; 2],
    /// Whether `getpeername` shows the endpoint.
    pub(super) bare_peer: bool,
    /// The reason that is counted, if a program leaves it.
    pub(super) reason: Option<&'static str>,
}

/// One question to a Service.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    pub(super) asker: Asker,
    pub(super) service: Spec,
    pub(super) front: Front,
    pub(super) form: Form,
    pub(super) way: Way,
    pub(super) bound: BoundTo,
}

/// What a socket is bound to; the address follows from the asker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BoundTo {
    Nothing,
    Device,
    Address,
    Port,
}

impl Form {
    pub(super) const ALL: [Self; 3] = [Self::V4, Self::V6, Self::Mapped];

    pub(super) fn family(self) -> Ip {
        match self {
            Self::V4 | Self::Mapped => Ip::V4,
            Self::V6 => Ip::V6,
        }
    }

    /// The address as this form has it.
    pub(super) fn write(self, at: SocketAddr) -> SocketAddr {
        SocketAddr::new(self.write_ip(at.ip()), at.port())
    }

    pub(super) fn write_ip(self, address: IpAddr) -> IpAddr {
        match (self, address) {
            (Self::Mapped, IpAddr::V4(v4)) => v4.to_ipv6_mapped().into(),
            _ => address,
        }
    }
}

impl Front {
    /// Whether a policy for external traffic applies.
    fn is_external(self) -> bool {
        matches!(
            self,
            Self::ExternalIp | Self::LoadBalancer | Self::NodePort | Self::Loopback
        )
    }

    /// The address of a Service, in the family's own form.
    pub(super) fn address(self, service: &Spec, family: Ip) -> SocketAddr {
        let at = |address: IpAddr, port: u16| SocketAddr::new(address, port);
        match self {
            Self::ClusterIp => at(family.cluster_ip(service.number), 80),
            Self::UnknownPort => at(family.cluster_ip(service.number), 79),
            Self::ExternalIp => at(family.external_ip(service.number), 80),
            Self::LoadBalancer => at(family.external_ip(service.load_balancer()), 80),
            Self::NodePort => at(node_address(1, family), service.node_port()),
            Self::OtherNode => at(node_address(2, family), service.node_port()),
            Self::OtherAddress => {
                let gateway: [IpAddr; 2] = [
                    Ipv4Addr::new(10, 244, 1, 1).into(),
                    Ipv6Addr::new(0xfd00, 0x10, 0x244, 1, 0, 0, 0, 1).into(),
                ];
                at(family.of(gateway), service.node_port())
            }
            Self::Loopback => {
                let loopback: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
                at(family.of(loopback), service.node_port())
            }
            Self::Direct(name) => services::endpoint(name, family),
        }
    }
}

impl fmt::Display for Front {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::ClusterIp => "the ClusterIP",
            Self::ExternalIp => "the externalIP",
            Self::LoadBalancer => "the LoadBalancer address",
            Self::NodePort => "the nodePort",
            Self::Loopback => "the nodePort on loopback",
            Self::Direct(name) => return write!(formatter, "the endpoint {name}"),
            Self::OtherNode => "another node's nodePort",
            Self::UnknownPort => "an unknown port of the ClusterIP",
            Self::OtherAddress => "the nodePort on an address that takes none",
        })
    }
}

impl fmt::Display for Case {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (asker, front, service, way) = (self.asker.title(), self.front, self.service.name, self.way);
        let form = match self.form {
            Form::V4 => "IPv4",
            Form::V6 => "IPv6",
            Form::Mapped => "mapped IPv4",
        };
        let bound = match self.bound {
            BoundTo::Nothing => "",
            BoundTo::Device => ", bound to a device",
            BoundTo::Address => ", bound to an address",
            BoundTo::Port => ", bound to a port",
        };
        write!(formatter, "{asker} asks {front} of {service} by {way}, {form}{bound}")
    }
}

impl Case {
    /// The address that the program names.
    pub(super) fn to(&self) -> SocketAddr {
        self.form.write(self.front.address(&self.service, self.form.family()))
    }

    /// What the socket is bound to, on this site.
    pub(super) fn bound_to(&self, site: &Site) -> Result<Bound> {
        Ok(match self.bound {
            BoundTo::Nothing => Bound::Nothing,
            BoundTo::Port => Bound::Port,
            BoundTo::Device => Bound::Device("eth0"),
            BoundTo::Address => {
                let own = site.own_address(self.asker, self.form.family())?;
                Bound::Address(self.form.write_ip(own))
            }
        })
    }

    /// What has to come out under these settings.
    pub(super) fn expected(&self, variant: Variant) -> Expected {
        match self.front {
            Front::Direct(name) => Expected {
                end: End::Answered,
                by: vec![name],
                // What a pod asks itself never leaves it.
                took: if self.asker.endpoint() == Some(name) {
                    Took::Unseen
                } else {
                    Took::Nobody
                },
                source: [Source::Direct, Source::Direct],
                bare_peer: true,
                reason: None,
            },
            Front::OtherNode => self.by_other_node(),
            Front::OtherAddress => self.refused_by_nobody(),
            Front::Loopback if !self.asker.is_in_node_network() || variant != Variant::Loopback => {
                self.refused_by_nobody()
            }
            Front::Loopback => self.loopback(),
            Front::UnknownPort => self.failed(true, None),
            Front::ClusterIp | Front::ExternalIp | Front::LoadBalancer | Front::NodePort => self.translated(variant),
        }
    }

    /// Who answers on this node.
    fn list(&self, variant: Variant) -> Vec<&'static str> {
        let nobody_is_a_pod = variant == Variant::DetectsNobody && !self.asker.is_in_node_network();
        let local = if self.front.is_external() {
            self.service.external == Policy::Local && nobody_is_a_pod
        } else {
            self.service.internal == Policy::Local
        };
        if local {
            self.service.local(1)
        } else {
            self.service.all()
        }
    }

    fn translated(&self, variant: Variant) -> Expected {
        let restricted = self.front == Front::LoadBalancer && !self.service.ranges.is_empty();
        let by = self.list(variant);
        let (taken, reason) = match self.plane(variant, restricted, &by) {
            Plane::Socket => (true, None),
            Plane::Rules(reason) => (false, reason),
        };
        if by.is_empty() {
            return self.failed(self.service.all().is_empty(), reason);
        }
        if restricted && self.service.name == services::DENIED.name {
            return self.failed(false, reason);
        }
        let masqueraded = match self.front {
            _ if self.asker.is_in_node_network() => true,
            Front::ClusterIp => variant == Variant::MasqueradeAll,
            _ => self.service.external == Policy::Cluster,
        };
        // What stays on the node itself is not masqueraded.
        let masqueraded = masqueraded && by != [HOST];
        let by_rules = if masqueraded {
            Source::Masqueraded(1)
        } else {
            Source::Own
        };
        Expected {
            end: End::Answered,
            by,
            took: if taken { Took::Sockets } else { Took::Nftables },
            source: if taken {
                [Source::Direct, Source::Direct]
            } else {
                // The rules masquerade whoever reaches itself.
                [by_rules, Source::Masqueraded(1)]
            },
            bare_peer: taken && self.way == Way::Mptcp,
            reason,
        }
    }

    /// Who takes it.
    fn plane(&self, variant: Variant, restricted: bool, by: &[&str]) -> Plane {
        let is_pod = !self.asker.is_in_node_network();
        // No program sees it.
        let on = if is_pod {
            variant.takes_pods()
        } else {
            variant.takes_node()
        };
        let seen = match self.asker {
            Asker::Root => variant == Variant::RootFolder,
            _ => on,
        };
        if !seen || self.way == Way::Sctp {
            return Plane::Rules(None);
        }
        let reason = if self.asker == Asker::Container {
            "container that is no pod"
        } else if self.way == Way::ConnectedUdp {
            "connected UDP"
        } else if self.way.protocol() == Protocol::Udp && self.bound == BoundTo::Address {
            "bound to an address or port"
        } else if is_pod && self.front == Front::ClusterIp && variant == Variant::MasqueradeAll {
            "masqueradeAll"
        } else if restricted {
            "source ranges"
        } else if self.asker == Asker::Root {
            "process in the topmost cgroup folder (kernel threads)"
        } else if self.bound == BoundTo::Device {
            "bound to a device"
        } else if by.is_empty() {
            if self.service.all().is_empty() {
                "refused: no endpoint"
            } else {
                "discarded: no endpoint on this node"
            }
        } else if self.way.protocol() == Protocol::Tcp && self.bound != BoundTo::Nothing {
            "bound to an address or port"
        } else {
            return Plane::Socket;
        };
        Plane::Rules(Some(reason))
    }

    /// Refused, or dropped, by nftables.
    fn failed(&self, refused: bool, reason: Option<&'static str>) -> Expected {
        let udp = self.way.protocol() != Protocol::Tcp;
        let node = self.asker.is_in_node_network();
        let end = match (refused, udp) {
            (_, true) if node => End::Error,
            (true, false) => End::Refused,
            // An ICMP error is told only to a socket that has a peer.
            (true, true) if self.way.has_peer() => End::Refused,
            _ => End::Silent,
        };
        Self::no_answer(end, Took::Unseen, reason)
    }

    /// Nobody translates it, and nobody listens there.
    fn refused_by_nobody(&self) -> Expected {
        self.refused_elsewhere(self.front == Front::Loopback && !self.asker.is_in_node_network())
    }

    /// Refused by who is asked, inside the asker's own network or not.
    fn refused_elsewhere(&self, inside: bool) -> Expected {
        let end = if self.way.connects() { End::Refused } else { End::Silent };
        // Connection tracking forgets a TCP connection that is refused.
        let took = if inside || self.way.protocol() == Protocol::Tcp {
            Took::Unseen
        } else {
            Took::Nobody
        };
        Self::no_answer(end, took, None)
    }

    fn no_answer(end: End, took: Took, reason: Option<&'static str>) -> Expected {
        Expected {
            end,
            by: Vec::new(),
            took,
            source: [Source::Direct, Source::Direct],
            bare_peer: false,
            reason,
        }
    }

    /// The nodePort on loopback where it is served: TCP, by sockets or else by the relay.
    fn loopback(&self) -> Expected {
        if self.way.protocol() != Protocol::Tcp {
            return self.refused_by_nobody();
        }
        let by = self.service.all();
        let taken = self.asker != Asker::Root && !by.is_empty();
        if by.is_empty() {
            return Self::no_answer(End::Reset, Took::Nobody, Some("refused: no endpoint"));
        }
        Expected {
            end: End::Answered,
            by,
            took: if taken { Took::Sockets } else { Took::Nobody },
            source: if taken {
                [Source::Direct, Source::Direct]
            } else {
                [Source::Masqueraded(1), Source::Masqueraded(1)]
            },
            bare_peer: taken && self.way == Way::Mptcp,
            reason: None,
        }
    }

    /// The other node's nftables decide by what they see.
    fn by_other_node(&self) -> Expected {
        let is_pod = !self.asker.is_in_node_network();
        let local = self.service.external == Policy::Local && !is_pod;
        let by = if local {
            self.service.local(2)
        } else {
            self.service.all()
        };
        if by.is_empty() {
            return self.refused_elsewhere(false);
        }
        let source = match self.service.external {
            Policy::Cluster => Source::Masqueraded(2),
            Policy::Local => Source::Own,
        };
        Expected {
            end: End::Answered,
            by,
            took: Took::Nobody,
            source: [source.clone(), source],
            bare_peer: false,
            reason: None,
        }
    }
}

impl Source {
    /// The addresses that it means.
    pub(super) fn addresses(&self, site: &Site, asker: Asker, by: &str, family: Ip) -> Result<BTreeSet<IpAddr>> {
        Ok(match self {
            Self::Direct => site.direct_source(asker, by, family).into_iter().collect(),
            Self::Own => [site.own_address(asker, family)?].into(),
            Self::Masqueraded(node) => site.masquerades(*node, family)?.into(),
        })
    }
}

/// The address of an endpoint of this name, as a socket of this form has it.
pub(super) fn endpoint_at(name: &str, form: Form) -> SocketAddr {
    form.write(services::endpoint(name, form.family()))
}
