//! Decodes this node, and the ranges of ClusterIPs.

use std::collections::HashSet;

use ipnet::IpNet;
use tandem_core::addr::{Forbidden, Parsed, forbidden, parse_ip, parse_net};
use tandem_core::object::{Node, ObjectKey};

use super::notes::Notes;
use super::raw::{self, Meta, Text};
use super::{Decoded, Decoder, Raw, Why};
use crate::event::{Object, ObjectKind, ServiceCidr};

/// The taint that the cluster autoscaler gives a node before it removes it.
const DOWNSCALE_TAINT: &str = "ToBeDeletedByClusterAutoscaler";

impl<'a> Raw<'a> for raw::Node<'a> {
    const KIND: ObjectKind = ObjectKind::Node;

    fn kind(&self) -> Option<&Text<'a>> {
        self.kind.as_ref()
    }

    fn meta(&self) -> Option<&Meta<'a>> {
        self.metadata.as_ref()
    }

    fn decode(self, decoder: &Decoder, key: ObjectKey, notes: &mut Notes) -> Decoded {
        if key.name != decoder.node_name {
            return Decoded::Ignore(ObjectKind::Node, key, Why::OtherNode);
        }
        let addresses = self.status.and_then(|status| status.addresses).unwrap_or_default();
        let spec = self.spec.unwrap_or_default();
        let pod_cidrs = match (&spec.pod_cidrs, &spec.pod_cidr) {
            (Some(list), _) if !list.is_empty() => ranges(notes, "spec.podCIDRs", list),
            (_, Some(one)) if !one.as_str().is_empty() => ranges(notes, "spec.podCIDR", std::slice::from_ref(one)),
            _ => Vec::new(),
        };
        let meta = self.metadata.unwrap_or_default();
        let labels = meta.labels.unwrap_or_default();
        let zone = labels.zone.as_ref().map(Text::as_str).filter(|zone| !zone.is_empty());
        let tainted = spec.taints.iter().flatten().any(|taint| {
            let key = taint.key.as_ref().map(Text::as_str);
            key == Some(DOWNSCALE_TAINT)
        });
        Decoded::Apply(Object::Node(Node {
            name: key.name,
            addresses: node_addresses(notes, &addresses),
            pod_cidrs,
            zone: zone.map(|zone| decoder.intern(zone)),
            leaving: tainted || meta.deletion_timestamp.is_some(),
        }))
    }
}

/// The node's addresses, InternalIPs before ExternalIPs, as in kube-proxy.
fn node_addresses(notes: &mut Notes, list: &[raw::NodeAddress<'_>]) -> Vec<std::net::IpAddr> {
    let (mut kept, mut seen) = (Vec::new(), HashSet::new());
    for wanted in ["InternalIP", "ExternalIP"] {
        for (index, raw) in list.iter().enumerate() {
            if raw.kind.as_ref().map(Text::as_str) != Some(wanted) {
                continue;
            }
            let field = || format!("status.addresses[{index}].address");
            let text = raw.address.as_ref().map_or("", Text::as_str);
            let Parsed { value, unusual } = match parse_ip(text) {
                Ok(parsed) => parsed,
                Err(error) => {
                    notes.add(field(), text, format!("{error}; this address is left out"));
                    continue;
                }
            };
            // A node's address may be link-local, but none of the other forbidden kinds.
            if let Some(kind) = forbidden(value).filter(|kind| *kind != Forbidden::LinkLocal) {
                notes.add(
                    field(),
                    text,
                    format!("a node cannot have a {kind} address; this address is left out"),
                );
                continue;
            }
            if unusual {
                notes.add(field(), text, format!("not how an address is written; read as {value}"));
            }
            if seen.insert(value) {
                kept.push(value);
            }
        }
    }
    kept
}

impl<'a> Raw<'a> for raw::ServiceCidr<'a> {
    const KIND: ObjectKind = ObjectKind::ServiceCidr;

    fn kind(&self) -> Option<&Text<'a>> {
        self.kind.as_ref()
    }

    fn meta(&self) -> Option<&Meta<'a>> {
        self.metadata.as_ref()
    }

    fn decode(self, _decoder: &Decoder, key: ObjectKey, notes: &mut Notes) -> Decoded {
        let list = self.spec.and_then(|spec| spec.cidrs).unwrap_or_default();
        Decoded::Apply(Object::ServiceCidr(ServiceCidr {
            key,
            cidrs: ranges(notes, "spec.cidrs", &list),
        }))
    }
}

fn ranges(notes: &mut Notes, field: &str, list: &[Text<'_>]) -> Vec<IpNet> {
    let (mut kept, mut seen) = (Vec::new(), HashSet::new());
    for (index, text) in list.iter().enumerate() {
        let path = || {
            if field.ends_with('s') {
                format!("{field}[{index}]")
            } else {
                field.to_owned()
            }
        };
        match parse_net(text.as_str()) {
            Ok(Parsed { value, unusual }) => {
                if unusual {
                    notes.add(
                        path(),
                        text.as_str(),
                        format!("not how a range is written; read as {value}"),
                    );
                }
                if seen.insert(value) {
                    kept.push(value);
                }
            }
            Err(error) => notes.add(path(), text.as_str(), format!("{error}; this range is left out")),
        }
    }
    kept
}
