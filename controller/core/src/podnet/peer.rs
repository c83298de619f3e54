//! A Node as the pod network uses it. What is wrong with a Node costs what it concerns, and is named.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::annotation::{BadDevice, Device};
use super::mac::Mac;
use super::said::{FAMILIES, NodeSaid, PerFamily, names};
use crate::addr::{self, Forbidden};
use crate::family::{Families, IpFamily};

/// Who is older: the Node that was made first, then the first by name. Nodes of manifests have no time, and come last.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Age {
    untimed: bool,
    created: i64,
    /// The Node's name.
    pub name: Arc<str>,
}

/// A device of a peer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vtep {
    /// Its address on the link layer.
    pub mac: Mac,
    /// The node's address at which it is reached.
    pub address: IpAddr,
}

/// A Node as it is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its name, and its place among those that claim the same.
    pub age: Age,
    /// The range of its pods.
    pub pods: PerFamily<Option<IpNet>>,
    /// Its devices, by the family of their underlay.
    pub vteps: PerFamily<Option<Vtep>>,
    /// Its addresses of the type InternalIP.
    pub addresses: Vec<IpAddr>,
    /// Over which families it takes pods of the other family, too.
    pub carries: Families,
}

/// What is wrong with a Node. Its first field says where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// It takes no part: nobody manages its range.
    NoManager(Option<Box<str>>),
    /// It has another backend.
    OtherBackend(Option<Box<str>>),
    /// It has no range yet.
    NoRange,
    /// A range cannot be used.
    Range(Box<str>, BadRange),
    /// A device is not described as it should be.
    Device(IpFamily, BadDevice),
    /// A device is of another network.
    OtherVni(IpFamily, u32, u32),
    /// It says nothing of the device's address.
    NoAddress(IpFamily),
    /// The address cannot be used.
    Address(IpFamily, Box<str>, BadAddress),
    /// `carries` has a word that is no family.
    Carries(Box<str>),
}

/// Why a range is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadRange {
    /// It is no range.
    Form,
    /// It has bits behind its length.
    HostBits,
    /// It is for all addresses, or is one that no pod may have.
    NoPods,
    /// The Node has one of that family already.
    Second(IpFamily),
}

/// Why a device's address is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadAddress {
    /// It is no address.
    Form,
    /// It is of the other family.
    Family,
    /// It is one that no packet is sent to.
    Forbidden(Forbidden),
    /// It is this node's own: each packet to it would come back, again and again.
    Own,
}

/// What decides how a Node is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// The number of the network.
    pub vni: u32,
    /// This node's own addresses.
    pub own: Vec<IpAddr>,
}

impl Peer {
    /// Reads what a Node says. Whatever is wrong is left out, and named.
    pub fn read(said: &NodeSaid, reading: &Reading) -> (Self, Vec<Problem>) {
        let mut problems = Vec::new();
        let mut peer = Self {
            age: Age::of(said),
            pods: ranges(said, &mut problems),
            vteps: PerFamily::default(),
            addresses: said
                .addresses
                .iter()
                .copied()
                .filter(|addr| addr::forbidden(*addr).is_none())
                .collect(),
            carries: Families::NONE,
        };
        let annotations = &said.annotations;
        if annotations.manager.as_deref() != Some("true") {
            problems.push(Problem::NoManager(annotations.manager.clone()));
        } else if annotations.backend.as_deref() != Some("vxlan") {
            problems.push(Problem::OtherBackend(annotations.backend.clone()));
        } else {
            for family in FAMILIES {
                match vtep(said, family, reading) {
                    Ok(vtep) => *peer.vteps.of_mut(family) = vtep,
                    Err(problem) => problems.push(problem),
                }
            }
            peer.carries = carries(annotations.carries.as_deref(), &mut problems);
        }
        (peer, problems)
    }
}

impl Age {
    /// That of a Node.
    pub fn of(said: &NodeSaid) -> Self {
        Self {
            untimed: said.created.is_none(),
            created: said.created.unwrap_or_default(),
            name: Arc::clone(&said.name),
        }
    }
}

fn ranges(said: &NodeSaid, problems: &mut Vec<Problem>) -> PerFamily<Option<IpNet>> {
    let mut ranges = PerFamily::default();
    for text in &said.pod_cidrs {
        let mut read = || {
            let range = range(text)?;
            let family = IpFamily::of(range.addr());
            let place: &mut Option<IpNet> = ranges.of_mut(family);
            if place.is_some() {
                return Err(BadRange::Second(family));
            }
            *place = Some(range);
            Ok(())
        };
        if let Err(why) = read() {
            problems.push(Problem::Range(text.clone(), why));
        }
    }
    if said.pod_cidrs.is_empty() {
        problems.push(Problem::NoRange);
    }
    ranges
}

fn range(text: &str) -> Result<IpNet, BadRange> {
    let net = addr::parse_net(text).map_err(|_| BadRange::Form)?.value;
    let written = text.trim().split('/').next().unwrap_or_default();
    if addr::parse_ip(written).is_ok_and(|parsed| parsed.value != net.addr()) {
        return Err(BadRange::HostBits);
    }
    // The first address is that of the node's device. A range of one address has no pods.
    let has_pods = net.prefix_len() > 0 && net.prefix_len() < net.max_prefix_len();
    if has_pods && addr::forbidden(net.addr()).is_none() {
        Ok(net)
    } else {
        Err(BadRange::NoPods)
    }
}

/// The device of a family; none if the Node says nothing of one.
fn vtep(said: &NodeSaid, family: IpFamily, reading: &Reading) -> Result<Option<Vtep>, Problem> {
    let Some(text) = said.annotations.device.of(family) else {
        return Ok(None);
    };
    // flannel writes the word `null` for a family that it does not serve.
    if text.trim() == "null" {
        return Ok(None);
    }
    let device = Device::read(text).map_err(|why| Problem::Device(family, why))?;
    if device.vni != reading.vni {
        return Err(Problem::OtherVni(family, device.vni, reading.vni));
    }
    let text = said
        .annotations
        .public
        .of(family)
        .as_ref()
        .ok_or(Problem::NoAddress(family))?;
    match address(text, family, &reading.own) {
        Ok(address) => Ok(Some(Vtep {
            mac: device.mac,
            address,
        })),
        Err(why) => Err(Problem::Address(family, text.clone(), why)),
    }
}

fn address(text: &str, family: IpFamily, own: &[IpAddr]) -> Result<IpAddr, BadAddress> {
    let address = addr::parse_ip(text).map_err(|_| BadAddress::Form)?.value;
    if IpFamily::of(address) != family {
        Err(BadAddress::Family)
    } else if let Some(kind) = addr::forbidden(address) {
        Err(BadAddress::Forbidden(kind))
    } else if own.contains(&address) {
        Err(BadAddress::Own)
    } else {
        Ok(address)
    }
}

/// Families by name, with commas between them.
fn carries(text: Option<&str>, problems: &mut Vec<Problem>) -> Families {
    let mut carries = Families::NONE;
    for word in text
        .unwrap_or_default()
        .split(',')
        .map(str::trim)
        .filter(|word| !word.is_empty())
    {
        match word {
            "ipv4" => carries.v4 = true,
            "ipv6" => carries.v6 = true,
            _ => problems.push(Problem::Carries(word.into())),
        }
    }
    carries
}

/// It in one sentence, with the field, the value and what happens instead. The caller names the Node.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let said = |value: &Option<Box<str>>| {
            value
                .as_deref()
                .map_or("not set".to_owned(), |text| format!("{text:?}"))
        };
        match self {
            Self::NoManager(value) => write!(
                f,
                "annotation kube-subnet-manager is {}, and must be \"true\": its pods are not reached",
                said(value)
            ),
            Self::OtherBackend(value) => write!(
                f,
                "annotation backend-type is {}, and must be \"vxlan\": its pods are not reached",
                said(value)
            ),
            Self::NoRange => write!(
                f,
                "spec.podCIDRs is empty: its pods are not reached until it has a range"
            ),
            Self::Range(text, why) => write!(f, "spec.podCIDRs {text:?}: {why}: pods of this range are not reached"),
            Self::Device(family, why) => write!(
                f,
                "annotation {}: {why}: it is not reached by VXLAN over {family}",
                names::device(*family)
            ),
            Self::OtherVni(family, theirs, own) => write!(
                f,
                "annotation {}: VNI is {theirs}, and this node's is {own}: it is not reached by VXLAN over {family}",
                names::device(*family)
            ),
            Self::NoAddress(family) => write!(
                f,
                "annotation {} is not set: it is not reached by VXLAN over {family}",
                names::public(*family)
            ),
            Self::Address(family, text, why) => write!(
                f,
                "annotation {} is {text:?}, {why}: it is not reached by VXLAN over {family}",
                names::public(*family)
            ),
            Self::Carries(word) => write!(
                f,
                "annotation {}: {word:?} is no family (ipv4, ipv6): the word has no effect",
                super::said::CARRIES
            ),
        }
    }
}

impl fmt::Display for BadRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Form => f.write_str("not a range in CIDR notation"),
            Self::HostBits => f.write_str("it has bits behind its length"),
            Self::NoPods => f.write_str("no range that pods can have"),
            Self::Second(family) => write!(f, "the Node has a range of {family} already"),
        }
    }
}

impl fmt::Display for BadAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Form => f.write_str("which is no IP address"),
            Self::Family => f.write_str("which is of the other family"),
            Self::Forbidden(kind) => write!(f, "and {kind} addresses are never sent to"),
            Self::Own => f.write_str("which is this node's own"),
        }
    }
}

#[cfg(test)]
mod tests;
