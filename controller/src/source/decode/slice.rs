//! EndpointSlices. A cluster has many, so names and ports are shared, and endpoints are packed.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use tandem_core::addr::{ParseError, Parsed, parse_endpoint};
use tandem_core::family::IpFamily;
use tandem_core::object::{Conditions, EndpointSlice, Endpoints, Hints, NodeHint, ObjectKey, SliceEndpoint, SlicePort};

use super::notes::{Notes, Tally};
use super::raw::{self, Meta, Text};
use super::{Decoded, Decoder, Raw, Why, ports};
use crate::event::{Object, ObjectKind};

impl<'a> Raw<'a> for raw::EndpointSlice<'a> {
    const KIND: ObjectKind = ObjectKind::EndpointSlice;

    fn kind(&self) -> Option<&Text<'a>> {
        self.kind.as_ref()
    }

    fn meta(&self) -> Option<&Meta<'a>> {
        self.metadata.as_ref()
    }

    fn decode(self, decoder: &Decoder, key: ObjectKey, notes: &mut Notes) -> Decoded {
        let labels = self.metadata.and_then(|meta| meta.labels).unwrap_or_default();
        let ignore = |key, why| Decoded::Ignore(ObjectKind::EndpointSlice, key, why);
        if labels.proxy_name.is_some() {
            return ignore(key, Why::OtherProxy);
        }
        if labels.headless.is_some() {
            return ignore(key, Why::HeadlessSlice);
        }
        let Some(service) = labels.service_name.filter(|name| !name.as_str().is_empty()) else {
            return ignore(key, Why::NoService);
        };
        let family = match self.address_type.as_ref().map_or("", Text::as_str) {
            "IPv4" => IpFamily::V4,
            "IPv6" => IpFamily::V6,
            other => {
                if other != "FQDN" {
                    notes.add(
                        "addressType",
                        other,
                        "not an address type (IPv4, IPv6, FQDN); the slice is ignored",
                    );
                }
                return ignore(key, Why::AddressType);
            }
        };
        let (endpoints, hints) = endpoints(decoder, notes, family, &self.endpoints.unwrap_or_default());
        Decoded::Apply(Object::EndpointSlice(EndpointSlice {
            service: decoder.intern(service.as_str()),
            family,
            ports: slice_ports(decoder, notes, &self.ports.unwrap_or_default()),
            endpoints,
            hints,
            key,
        }))
    }
}

fn slice_ports(decoder: &Decoder, notes: &mut Notes, list: &[raw::SlicePort<'_>]) -> Arc<[SlicePort]> {
    let mut kept: Vec<SlicePort> = Vec::with_capacity(list.len());
    let mut names = HashSet::new();
    for (index, raw) in list.iter().enumerate() {
        let protocol = ports::protocol(notes, "ports", index, raw.protocol.as_ref());
        let port = ports::port(notes, "ports", index, raw.port);
        let (Some(protocol), Some(port)) = (protocol, port) else {
            continue;
        };
        let name = raw.name.as_ref().map_or("", Text::as_str);
        if !names.insert((protocol, name)) {
            ports::duplicate(notes, "ports", index, name, "name and protocol");
            continue;
        }
        kept.push(SlicePort {
            name: decoder.intern(name),
            protocol,
            port,
        });
    }
    decoder.intern_ports(&kept)
}

/// The faults that endpoints of one slice may have. Each fault is reported once, however many endpoints have it.
#[derive(Default)]
struct Faults {
    missing: Tally,
    unreadable: Tally,
    forbidden: Tally,
    family: Tally,
    unusual: Tally,
}

fn endpoints(
    decoder: &Decoder,
    notes: &mut Notes,
    family: IpFamily,
    list: &[raw::Endpoint<'_>],
) -> (Endpoints, Box<[Hints]>) {
    let mut faults = Faults::default();
    let mut kept = Vec::with_capacity(list.len());
    let mut hinted = Vec::new();
    for (index, raw) in list.iter().enumerate() {
        let text = raw.addresses.as_ref().and_then(|addresses| addresses.0.as_ref());
        let Some(addr) = faults.address(family, index, text) else {
            continue;
        };
        let conditions = raw.conditions.unwrap_or_default();
        if let Some(hints) = raw.hints.as_ref().map(|hints| hints_of(decoder, hints)) {
            hinted.resize_with(kept.len(), Hints::default);
            hinted.push(hints);
        }
        kept.push(SliceEndpoint {
            addr,
            conditions: Conditions {
                ready: conditions.ready.unwrap_or(true),
                serving: conditions.serving.unwrap_or(true),
                terminating: conditions.terminating.unwrap_or(false),
            },
            local: raw
                .node_name
                .as_ref()
                .is_some_and(|name| name.as_str() == &*decoder.node_name),
        });
    }
    faults.finish(notes);
    if hinted.iter().all(|hints| *hints == Hints::default()) {
        hinted.clear();
    } else {
        hinted.resize_with(kept.len(), Hints::default);
    }
    (Endpoints::from(&*kept), hinted.into())
}

fn hints_of(decoder: &Decoder, raw: &raw::Hints<'_>) -> Hints {
    fn names<'h>(list: Option<&'h Vec<raw::Hint<'_>>>) -> impl Iterator<Item = &'h str> + Clone {
        let names = list.into_iter().flatten().filter_map(|hint| hint.name.as_ref());
        names.map(Text::as_str).filter(|name| !name.is_empty())
    }
    let mut nodes = names(raw.for_nodes.as_ref());
    Hints {
        zones: names(raw.for_zones.as_ref()).map(|zone| decoder.intern(zone)).collect(),
        nodes: match nodes.next() {
            None => NodeHint::None,
            Some(first) if first == &*decoder.node_name || nodes.any(|name| name == &*decoder.node_name) => {
                NodeHint::Here
            }
            Some(_) => NodeHint::Elsewhere,
        },
    }
}

impl Faults {
    fn address(&mut self, family: IpFamily, index: usize, text: Option<&Text<'_>>) -> Option<IpAddr> {
        let Some(text) = text.map(Text::as_str) else {
            self.missing.add(index, "", "no address");
            return None;
        };
        match parse_endpoint(text) {
            Ok(Parsed { value, .. }) if IpFamily::of(value) != family => {
                self.family.add(
                    index,
                    text,
                    format_args!("not an {family} address, which addressType promises"),
                );
                None
            }
            Ok(Parsed { value, unusual }) => {
                if unusual {
                    self.unusual.add(index, text, "not how an address is written");
                }
                Some(value)
            }
            Err(error @ ParseError::Forbidden(_)) => {
                self.forbidden.add(index, text, error);
                None
            }
            Err(error) => {
                self.unreadable.add(index, text, error);
                None
            }
        }
    }

    fn finish(self, notes: &mut Notes) {
        let left_out = "this endpoint is left out";
        self.missing.finish(notes, "endpoints", ".addresses", left_out);
        for tally in [self.unreadable, self.forbidden, self.family] {
            tally.finish(notes, "endpoints", ".addresses[0]", left_out);
        }
        self.unusual
            .finish(notes, "endpoints", ".addresses[0]", "read as decimal IPv4");
    }
}
