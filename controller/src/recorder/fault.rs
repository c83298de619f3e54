//! What Events are written about, and what they are called. Pure.
//!
//! Every node sees the same objects. So that a fault has one Event and not one per node, its name follows from the object
//! and the fault: all nodes ask for the same name, and the API server makes it once.

use std::collections::HashMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use tandem_core::object::ObjectKey;

use crate::engine::Snapshot;
use crate::event::Kind;

/// Who writes Events.
const CONTROLLER: &str = "tandem";
/// What the API server takes in an Event's note, in bytes.
const NOTE: usize = 1024;
/// What it takes as the name of an instance.
const INSTANCE: usize = 128;
/// What is kept of an object's name in its Event's name, which has 253 and ends in the fault's number.
const NAME: usize = 200;
/// Nodes that see the same fault at the same time write about it within this time, in an order of their own.
const SPREAD: u64 = 10_000;

/// Something that the owner of an object should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub(super) kind: Kind,
    pub(super) key: ObjectKey,
    reason: &'static str,
    action: &'static str,
    note: String,
    /// Whether it is this node's alone, so that each node's is an Event of its own.
    pub(super) own: bool,
}

impl Fault {
    /// One of this node alone, about a Service.
    pub fn of_service(service: &ObjectKey, reason: &'static str, action: &'static str, note: String) -> Self {
        Self {
            kind: Kind::Service,
            key: service.clone(),
            reason,
            action,
            note,
            own: true,
        }
    }

    /// Everything that is wrong with objects as they are now, by number.
    pub(super) fn all(snapshot: &Snapshot) -> HashMap<u64, Self> {
        let fault = |kind, key: &ObjectKey, reason, action, note| Self {
            kind,
            key: key.clone(),
            reason,
            action,
            note,
            own: false,
        };
        let notices = snapshot.notices.iter().flat_map(|((kind, key), notices)| {
            notices
                .iter()
                .map(move |notice| fault(*kind, key, "UnusableField", "ReadObject", notice.to_string()))
        });
        let families = [("IPv4", &snapshot.v4), ("IPv6", &snapshot.v6)];
        let aside = families.into_iter().flat_map(|(family, status)| {
            status.set_aside.iter().map(move |aside| {
                let note = format!("{family}: {}", aside.reason);
                fault(Kind::Service, &aside.service, "NotProgrammed", "ProgramService", note)
            })
        });
        notices.chain(aside).map(|fault| (fault.number(""), fault)).collect()
    }

    /// The same on every node, for the same object (where its uid is known: this one, not a later one of its name).
    fn number(&self, uid: &str) -> u64 {
        let kind = self.kind.to_string();
        hash(&[&kind, &self.key.namespace, &self.key.name, self.reason, &self.note, uid])
    }

    /// How long this node waits, so that with thousands of nodes most find the Event there and few collide.
    pub(super) fn delay(&self, node: &str) -> Duration {
        if self.own {
            return Duration::ZERO;
        }
        Duration::from_millis(hash(&[node, &format!("{:x}", self.number(""))]) % SPREAD)
    }

    /// The Event that tells of it.
    pub(super) fn event(&self, node: &str, uid: Option<String>, now: Timestamp) -> Event {
        let number = self.number(uid.as_deref().unwrap_or_default());
        let number = if self.own {
            hash(&[node, &format!("{number:x}")])
        } else {
            number
        };
        let mut event = event(self.kind, &self.key, uid, node, now);
        let name = cut(&self.key.name, NAME).trim_end_matches(['.', '-']);
        event.metadata.name = Some(format!("{name}.{number:016x}"));
        event.type_ = Some("Warning".to_owned());
        event.reason = Some(self.reason.to_owned());
        event.action = Some(self.action.to_owned());
        event.note = Some(cut(&self.note, NOTE).to_owned());
        event
    }
}

/// What kube-proxy writes about its node when it starts.
pub(super) fn birth(node: &str, uid: Option<String>, now: Timestamp) -> Event {
    let mut event = event(Kind::Node, &ObjectKey::new("", node), uid, node, now);
    let name = cut(node, NAME).trim_end_matches(['.', '-']);
    event.metadata.name = Some(format!("{name}.{:x}", now.as_nanosecond()));
    event.type_ = Some("Normal".to_owned());
    event.reason = Some("Starting".to_owned());
    event.action = Some("StartTandem".to_owned());
    event.note = Some(concat!("tandem ", env!("CARGO_PKG_VERSION")).to_owned());
    event
}

fn event(kind: Kind, key: &ObjectKey, uid: Option<String>, node: &str, now: Timestamp) -> Event {
    let version = match kind {
        Kind::Service | Kind::Node => "v1",
        Kind::EndpointSlice => "discovery.k8s.io/v1",
        Kind::ServiceCidr => "networking.k8s.io/v1",
    };
    let namespace = Some(key.namespace.to_string()).filter(|namespace| !namespace.is_empty());
    Event {
        metadata: ObjectMeta {
            // Events of objects without a namespace are kept in this one.
            namespace: Some(namespace.clone().unwrap_or_else(|| "default".to_owned())),
            ..ObjectMeta::default()
        },
        regarding: Some(ObjectReference {
            api_version: Some(version.to_owned()),
            kind: Some(kind.to_string()),
            name: Some(key.name.to_string()),
            namespace,
            uid,
            ..ObjectReference::default()
        }),
        event_time: Some(MicroTime(now)),
        reporting_controller: Some(CONTROLLER.to_owned()),
        reporting_instance: Some(cut(&format!("{CONTROLLER}-{node}"), INSTANCE).to_owned()),
        ..Event::default()
    }
}

/// The longest beginning of so many bytes that ends between two characters.
fn cut(text: &str, most: usize) -> &str {
    let end = (0..=most.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or_default()]
}

/// FNV-1a over parts that are kept apart: the same on every machine and in every version.
fn hash(parts: &[&str]) -> u64 {
    let bytes = parts.iter().flat_map(|part| part.bytes().chain([0]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(name: &str, note: &str) -> Fault {
        Fault {
            kind: Kind::EndpointSlice,
            key: ObjectKey::new("shop", name),
            reason: "UnusableField",
            action: "ReadObject",
            note: note.to_owned(),
            own: false,
        }
    }

    fn name(fault: &Fault, node: &str, uid: Option<&str>) -> String {
        let event = fault.event(node, uid.map(str::to_owned), Timestamp::UNIX_EPOCH);
        event.metadata.name.unwrap()
    }

    #[test]
    fn all_nodes_call_the_event_of_a_fault_the_same_and_no_other_fault_so() {
        let bad = fault("web", "bad");
        assert_eq!(name(&bad, "node1", Some("u")), name(&bad, "node2", Some("u")));
        // Held here because nodes of different versions must agree.
        assert_eq!(name(&bad, "node1", Some("u")), "web.66feea49ca42d30b");
        assert_ne!(name(&bad, "node1", Some("u")), name(&bad, "node1", Some("v")));
        assert_ne!(name(&bad, "node1", None), name(&fault("web", "worse"), "node1", None));
        let own = Fault { own: true, ..bad };
        assert_ne!(name(&own, "node1", None), name(&own, "node2", None));
    }

    #[test]
    fn nodes_take_their_turns() {
        let bad = fault("web", "bad");
        let delays: Vec<_> = (0..100).map(|node| bad.delay(&format!("node{node}"))).collect();
        let early = delays.iter().filter(|delay| **delay < Duration::from_secs(2)).count();
        assert!((5..40).contains(&early), "{early} of 100 in the first fifth");
        assert!(delays.iter().all(|delay| *delay < Duration::from_secs(10)));
    }

    #[test]
    fn an_event_fits_what_the_api_server_takes() {
        let long = fault(&"a.".repeat(126), &"é".repeat(2000));
        let event = long.event(&"n".repeat(253), Some("u".to_owned()), Timestamp::UNIX_EPOCH);
        assert!(event.metadata.name.unwrap().len() <= 253);
        assert_eq!(event.note.unwrap().len(), NOTE);
        assert_eq!(event.reporting_instance.unwrap().len(), INSTANCE);
        assert_eq!(event.metadata.namespace.as_deref(), Some("shop"));
        let birth = birth("node1", None, Timestamp::UNIX_EPOCH);
        assert_eq!(birth.metadata.namespace.as_deref(), Some("default"));
        assert_eq!(birth.regarding.unwrap().namespace, None);
    }
}
