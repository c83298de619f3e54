//! Decodes what the kernel lists into rows. Used when rows are read back. Pure bytes, no I/O. It trusts nothing: an
//! element that is not exactly a row is handed back as foreign.

use std::collections::{HashMap, HashSet};
use std::ffi::CStr;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ipnet::IpNet;
use netlink_bindings::nftables::VerdictCode;
use tandem_core::family::Family;
use tandem_core::id::{PICK_BITS, ServiceId};
use tandem_core::row::{Class, Frontend, Label, Row};

use crate::elements::element::{ForeignElement, RANGE_END};
use crate::elements::key::{Keys, keys_of};
use crate::elements::parts::Parts;
use crate::elements::sets::Set;
use crate::elements::udata;
use crate::picks::chains::{PickNumber, PicksByNumber};
use crate::wire::attr::element::{DATA, EXPR, FLAGS, KEY, KEY_END, USERDATA};
use crate::wire::attr::elements::ELEMENTS;
use crate::wire::attr::{self, LIST_ELEM};
use crate::wire::{attribute, attributes, message_attributes};

/// What a set holds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SetContent<F: Family> {
    pub(crate) rows: Vec<Row<F>>,
    pub(crate) foreign: Vec<ForeignElement>,
}

impl<F: Family> SetContent<F> {
    /// Whether an element was listed twice. If one was, another one was left out.
    pub(crate) fn repeats_itself(&self) -> bool {
        let (mut rows, mut foreign) = (HashSet::with_capacity(self.rows.len()), HashSet::new());
        let first = |row| match keys_of::<F>(row) {
            Keys::One(key) | Keys::Range(key, _) | Keys::Until(key, _) => key,
        };
        self.rows.iter().any(|row| !rows.insert(first(row)))
            || self
                .foreign
                .iter()
                .any(|element| !foreign.insert((&element.key, element.range_end)))
    }
}

/// Gathers the answers to a listing of one set.
#[derive(Debug)]
pub(crate) struct SetReader<'w, F: Family> {
    set: Set,
    picks: &'w PicksByNumber,
    found: SetContent<F>,
    /// Starts and ends of ranges. The kernel lists each as an element.
    bounds: Vec<(Vec<u8>, bool)>,
}

/// One element as it is listed.
#[derive(Debug, Default)]
struct Element<'a> {
    key: &'a [u8],
    key_end: Option<&'a [u8]>,
    value: &'a [u8],
    jump: Option<&'a str>,
    range_end: bool,
    comment: &'a str,
    /// How many packets came to it, if it counts them.
    packets: Option<u64>,
}

impl<'w, F: Family> SetReader<'w, F> {
    /// `picks`: the picks that the numbers in `services` stand for.
    pub(crate) fn new(set: Set, picks: &'w PicksByNumber) -> Self {
        Self {
            set,
            picks,
            found: SetContent {
                rows: Vec::new(),
                foreign: Vec::new(),
            },
            bounds: Vec::new(),
        }
    }

    /// Takes one message of the answer, without netlink's header.
    pub(crate) fn message(&mut self, body: &[u8]) {
        for element in listed(body) {
            self.element(&element);
        }
    }

    fn element(&mut self, element: &Element<'_>) {
        if matches!(self.set, Set::ServiceCidrs | Set::LocalPods) {
            return self.bounds.push((element.key.to_vec(), element.range_end));
        }
        match row(self.set, element, self.picks) {
            Some(row) => self.found.rows.push(row),
            None => self.found.foreign.push(ForeignElement {
                set: self.set,
                key: element.key.to_vec(),
                key_end: element.key_end.map(<[u8]>::to_vec),
                range_end: element.range_end,
            }),
        }
    }

    /// Everything that the set holds.
    pub(crate) fn finish(mut self) -> SetContent<F> {
        // At the same address, an end sorts before a start: one range ends where the next one begins.
        self.bounds
            .sort_by(|(a, a_ends), (b, b_ends)| a.cmp(b).then(b_ends.cmp(a_ends)));
        let mut bounds = std::mem::take(&mut self.bounds).into_iter().peekable();
        while let Some((key, range_end)) = bounds.next() {
            if range_end {
                // nft begins the address space with an end that belongs to no range.
                if key.iter().any(|byte| *byte != 0) {
                    self.foreign_bound(key, true);
                }
                continue;
            }
            let end = bounds.next_if(|(_, ends)| *ends).map(|(end, _)| end);
            match range::<F>(&key, end.as_deref()) {
                Some(net) if self.set == Set::ServiceCidrs => self.found.rows.push(Row::ServiceCidr { net }),
                Some(net) => self.found.rows.push(Row::LocalPods { net }),
                None => {
                    self.foreign_bound(key, false);
                    if let Some(end) = end {
                        self.foreign_bound(end, true);
                    }
                }
            }
        }
        self.found
    }

    fn foreign_bound(&mut self, key: Vec<u8>, range_end: bool) {
        self.found.foreign.push(ForeignElement {
            set: self.set,
            key,
            key_end: None,
            range_end,
        });
    }
}

/// Takes one message of a listing of `picks`: the chain that each number leads to. The name is empty if the element
/// leads to no chain.
pub(crate) fn picks(found: &mut HashMap<PickNumber, String>, body: &[u8]) {
    for element in listed(body) {
        let number = Parts(element.key).number().unwrap_or_default();
        found.insert(number, element.jump.unwrap_or_default().to_owned());
    }
}

/// How many connections went to a Service port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceCount {
    /// The port's id.
    pub service: ServiceId,
    /// Its name: `namespace/name:port`, cut to 127 bytes.
    pub label: Label,
    /// Connections since the port was programmed, over all its lists of endpoints.
    pub connections: u64,
}

/// Takes one message of a listing of `services`: what was counted at each list. The lists of a port have one number but for a bit.
pub(crate) fn service_counts(found: &mut HashMap<ServiceId, ServiceCount>, body: &[u8]) {
    for element in listed(body) {
        let Some(service) = Parts(element.key).service() else {
            continue;
        };
        let service = service.all();
        let count = found.entry(service).or_insert_with(|| ServiceCount {
            service,
            label: Arc::from(element.comment),
            connections: 0,
        });
        count.connections += element.packets.unwrap_or_default();
    }
}

/// The elements in one message of a listing.
fn listed(body: &[u8]) -> impl Iterator<Item = Element<'_>> {
    let list = attribute(message_attributes(body), ELEMENTS).unwrap_or_default();
    attributes(list)
        .filter(|(kind, _)| *kind == LIST_ELEM)
        .map(|(_, element)| Element::parse(element))
}

impl<'a> Element<'a> {
    fn parse(bytes: &'a [u8]) -> Self {
        let mut element = Self::default();
        for (kind, bytes) in attributes(bytes) {
            match kind {
                KEY => element.key = value(bytes),
                KEY_END => element.key_end = Some(value(bytes)),
                DATA => (element.value, element.jump) = (value(bytes), jump(bytes)),
                FLAGS => element.range_end = bytes.try_into().map_or(0, u32::from_be_bytes) & RANGE_END != 0,
                USERDATA => element.comment = udata::comment(bytes),
                EXPR => element.packets = packets(bytes),
                _ => {}
            }
        }
        element
    }
}

fn value(data: &[u8]) -> &[u8] {
    attribute(data, attr::data::VALUE).unwrap_or_default()
}

/// The count of a counter.
fn packets(expression: &[u8]) -> Option<u64> {
    let counter = attribute(expression, attr::expr::DATA)?;
    let bytes = attribute(counter, attr::counter::PACKETS)?;
    bytes.try_into().ok().map(u64::from_be_bytes)
}

fn jump(data: &[u8]) -> Option<&str> {
    const JUMP: u32 = VerdictCode::Jump as u32;
    let verdict = attribute(data, attr::data::VERDICT)?;
    (attribute(verdict, attr::verdict::CODE)? == JUMP.to_be_bytes()).then_some(())?;
    CStr::from_bytes_with_nul(attribute(verdict, attr::verdict::CHAIN)?)
        .ok()?
        .to_str()
        .ok()
}

/// The row that an element of this set is, if it is one.
fn row<F: Family>(set: Set, element: &Element<'_>, picks: &PicksByNumber) -> Option<Row<F>> {
    let mut key = Parts(element.key);
    let mut value = Parts(element.value);
    let label = || Arc::from(element.comment);
    let row = match set {
        Set::ClusterFrontends | Set::ExternalFrontends => {
            let class = if set == Set::ClusterFrontends {
                Class::Cluster
            } else {
                Class::External
            };
            let frontend = Frontend::Address {
                class,
                at: key.socket()?,
            };
            Row::Frontend {
                frontend,
                service: value.service()?,
                label: label(),
            }
        }
        Set::NodePorts => {
            let frontend = Frontend::NodePort {
                protocol: key.protocol()?,
                port: key.port()?,
            };
            Row::Frontend {
                frontend,
                service: value.service()?,
                label: label(),
            }
        }
        Set::Services => {
            let (service, noted) = (key.service()?, value.number()?);
            (noted & !PICK_BITS == service.raw()).then_some(())?;
            let pick = *picks.get(&(noted & PICK_BITS))?;
            Row::Service {
                service,
                pick,
                label: label(),
            }
        }
        Set::Endpoints => Row::Endpoint {
            service: key.service()?,
            slot: key.slot()?,
            endpoint: value.endpoint::<F>()?,
        },
        Set::StickyEndpoints => Row::StickyEndpoint {
            service: key.service()?,
            slot: key.slot()?,
            id: value.endpoint_id()?,
        },
        Set::EndpointIds => Row::EndpointId {
            id: key.endpoint_id()?,
            endpoint: value.endpoint::<F>()?,
        },
        Set::ClusterIps => Row::ClusterIp { addr: key.addr::<F>()? },
        Set::NodeAddresses => Row::NodeAddress { addr: key.addr::<F>()? },
        Set::Hairpin => {
            let (from, to) = (key.addr::<F>()?, key.addr::<F>()?);
            (from == to).then_some(Row::LocalEndpoint { addr: from })?
        }
        Set::RestrictedFrontends => Row::Restricted { at: key.socket()? },
        Set::AllowedSources => {
            let mut last = Parts(element.key_end.unwrap_or(element.key));
            let at = key.socket()?;
            (last.socket::<F>()? == at).then_some(())?;
            let source = net::<F>(key.addr::<F>()?.into(), last.addr::<F>()?.into())?;
            last.end()?;
            Row::AllowedSource { at, source }
        }
        Set::Picks | Set::Affinity | Set::Priorities | Set::ServiceCidrs | Set::LocalPods => return None,
    };
    key.end()?;
    value.end()?;
    Some(row)
}

fn range<F: Family>(first: &[u8], end: Option<&[u8]>) -> Option<F::Net> {
    let addr = |bytes| {
        let mut parts = Parts(bytes);
        let addr = parts.addr::<F>()?;
        parts.end().map(|()| addr.into())
    };
    let first: IpAddr = addr(first)?;
    let last = match (end, first) {
        (Some(end), _) => match addr(end)? {
            IpAddr::V4(end) => IpAddr::V4(end.to_bits().checked_sub(1)?.into()),
            IpAddr::V6(end) => IpAddr::V6(end.to_bits().checked_sub(1)?.into()),
        },
        (None, IpAddr::V4(_)) => IpAddr::V4(Ipv4Addr::BROADCAST),
        (None, IpAddr::V6(_)) => IpAddr::V6(u128::MAX.into()),
    };
    net::<F>(first, last)
}

/// The network from exactly the first address to exactly the last, if there is one.
fn net<F: Family>(first: IpAddr, last: IpAddr) -> Option<F::Net> {
    let differing = match (first, last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => 32 - (first.to_bits() ^ last.to_bits()).leading_zeros(),
        (IpAddr::V6(first), IpAddr::V6(last)) => 128 - (first.to_bits() ^ last.to_bits()).leading_zeros(),
        _ => return None,
    };
    let width = if first.is_ipv4() { 32 } else { 128 };
    let net = IpNet::new(first, u8::try_from(width - differing).ok()?).ok()?;
    (net.network() == first && net.broadcast() == last).then_some(())?;
    F::net(net)
}
