//! The faults that Events are written about, and the names of these Events. Pure.
//!
//! Every node sees the same objects. A fault must have one Event, not one per node. So the Event's name is computed
//! from the object and the fault. All nodes ask for the same name, and the API server creates it once.

use std::collections::HashMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use tandem_core::object::ObjectKey;
use tandem_core::uid::Uid;

use crate::engine::Snapshot;
use crate::event::ObjectKind;
use crate::index::{Entry, Services};

/// The name of the controller that writes Events.
const CONTROLLER: &str = "tandem";
/// The largest size of an Event's note that the API server accepts, in bytes.
const NOTE: usize = 1024;
/// The largest size of the name of an instance that it accepts.
const INSTANCE: usize = 128;
/// How much of an object's name is used for its Event's name. That name may have 253 bytes, and ends in the fault's
/// number.
const NAME: usize = 200;
/// Nodes that host what the fault is about write within this number of milliseconds, each at a time of its own.
const NEAR: u64 = 10_000;
/// All other nodes write within this number of milliseconds, and mostly find that the Event exists. It is a multiple of
/// `NEAR`, so that a node's late time is never before its early one.
const FAR: u64 = 60 * NEAR;

/// A fault that the owner of an object should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub(super) kind: ObjectKind,
    pub(super) key: ObjectKey,
    uid: Option<Uid>,
    reason: &'static str,
    action: &'static str,
    note: String,
    /// Whether it is a fault of this node only, so that each node has an Event of its own.
    pub(super) own: bool,
}

impl Fault {
    /// A fault of this node only, about a Service.
    pub fn of_service(service: &ObjectKey, reason: &'static str, action: &'static str, note: String) -> Self {
        Self {
            kind: ObjectKind::Service,
            key: service.clone(),
            uid: None,
            reason,
            action,
            note,
            own: true,
        }
    }

    /// All present faults of objects, and what other programs do to this node's Services, by number.
    pub(super) fn all(snapshot: &Snapshot) -> HashMap<u64, Self> {
        let fault = |kind, key: &ObjectKey, uid, reason, action, note| Self {
            kind,
            key: key.clone(),
            uid,
            reason,
            action,
            note,
            own: false,
        };
        let notices = snapshot.notices.iter().flat_map(|((kind, key), notices)| {
            notices.iter().map(move |notice| {
                fault(
                    *kind,
                    key,
                    notice.uid,
                    "UnusableField",
                    "ReadObject",
                    notice.to_string(),
                )
            })
        });
        let families = [("IPv4", &snapshot.v4), ("IPv6", &snapshot.v6)];
        let aside = families.into_iter().flat_map(|(family, status)| {
            status.set_aside.iter().map(move |aside| {
                let note = format!("{family}: {}", aside.reason);
                let uid = uid_of(&snapshot.services, &aside.service);
                fault(
                    ObjectKind::Service,
                    &aside.service,
                    uid,
                    "NotProgrammed",
                    "ProgramService",
                    note,
                )
            })
        });
        let beside = snapshot.problems.iter().filter(|problem| problem.is_of_kube_proxy());
        let beside = beside.map(|problem| Self {
            own: true,
            ..fault(
                ObjectKind::Node,
                &ObjectKey::new("", snapshot.node_name.clone()),
                None,
                "KubeProxyRuns",
                "TakeOver",
                problem.to_string(),
            )
        });
        let all = notices.chain(aside).chain(beside);
        all.map(|fault| (fault.identity(), fault)).collect()
    }

    /// The number of the fault. It is the same on every node for the same object. If the object's uid is known, a later
    /// object of its name has another number.
    fn number(&self, uid: &str) -> u64 {
        let kind = self.kind.to_string();
        hash(&[&kind, &self.key.namespace, &self.key.name, self.reason, &self.note, uid])
    }

    /// The number that identifies it on this node from one snapshot to the next.
    pub(super) fn identity(&self) -> u64 {
        self.number(&self.uid.map(|uid| uid.to_string()).unwrap_or_default())
    }

    /// How long this node waits. With thousands of nodes, only a few write before the Event exists.
    pub(super) fn delay(&self, node: &str, near: bool) -> Duration {
        if self.own {
            return Duration::ZERO;
        }
        let turn = hash(&[node, &format!("{:x}", self.number(""))]);
        Duration::from_millis(turn % if near { NEAR } else { FAR })
    }

    /// Whether this node hosts what the fault is about: an endpoint of the Service, or the node itself.
    pub(super) fn near(&self, node: &str, services: &Services) -> bool {
        match self.kind {
            ObjectKind::Node => *self.key.name == *node,
            ObjectKind::Service => services.get(&self.key).is_some_and(|entry| hosts(entry)),
            ObjectKind::EndpointSlice => {
                let mut entries = services
                    .iter()
                    .filter(|(service, _)| service.namespace == self.key.namespace);
                entries.any(|(_, entry)| entry.slices.iter().any(|slice| slice.key == self.key) && hosts(entry))
            }
            ObjectKind::ServiceCidr => false,
        }
    }

    /// The uid with which `kubectl describe` finds the Event. For a node, this is its name, as kube-proxy and the
    /// kubelet write it.
    pub(super) fn regarded_uid(&self, services: &Services) -> Option<String> {
        if self.kind == ObjectKind::Node {
            return Some(self.key.name.to_string());
        }
        let known = self.uid.or_else(|| match self.kind {
            ObjectKind::Service => uid_of(services, &self.key),
            _ => None,
        });
        known.map(|uid| uid.to_string())
    }

    /// The Event about this fault.
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

/// The Event about the start on this node. kube-proxy writes one like this.
pub(super) fn birth(node: &str, now: Timestamp) -> Event {
    let uid = Some(node.to_owned());
    let mut event = event(ObjectKind::Node, &ObjectKey::new("", node), uid, node, now);
    let name = cut(node, NAME).trim_end_matches(['.', '-']);
    event.metadata.name = Some(format!("{name}.{:x}", now.as_nanosecond()));
    event.type_ = Some("Normal".to_owned());
    event.reason = Some("Starting".to_owned());
    event.action = Some("StartTandem".to_owned());
    event.note = Some(concat!("tandem ", env!("CARGO_PKG_VERSION")).to_owned());
    event
}

fn uid_of(services: &Services, service: &ObjectKey) -> Option<Uid> {
    services.get(service)?.service.as_ref()?.uid
}

/// Whether an endpoint of a Service is on this node, in any state.
fn hosts(entry: &Entry) -> bool {
    let mut endpoints = entry.slices.iter().flat_map(|slice| slice.endpoints.iter());
    endpoints.any(|endpoint| endpoint.local)
}

fn event(kind: ObjectKind, key: &ObjectKey, uid: Option<String>, node: &str, now: Timestamp) -> Event {
    let version = match kind {
        ObjectKind::Service | ObjectKind::Node => "v1",
        ObjectKind::EndpointSlice => "discovery.k8s.io/v1",
        ObjectKind::ServiceCidr => "networking.k8s.io/v1",
    };
    let namespace = Some(key.namespace.to_string()).filter(|namespace| !namespace.is_empty());
    Event {
        metadata: ObjectMeta {
            // Events about objects without a namespace are stored in this one.
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

/// The longest beginning of a text with at most this number of bytes that does not split a character.
fn cut(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

/// FNV-1a over several parts, with a separator between them. It is the same on every machine and in every version.
fn hash(parts: &[&str]) -> u64 {
    let bytes = parts.iter().flat_map(|part| part.bytes().chain([0]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::SetAside;
    use crate::index::Index;
    use crate::source::decode::Decoder;

    fn fault(name: &str, note: &str) -> Fault {
        Fault {
            kind: ObjectKind::EndpointSlice,
            key: ObjectKey::new("shop", name),
            uid: None,
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
        // This value must never change, because nodes of different versions must agree.
        assert_eq!(name(&bad, "node1", Some("u")), "web.66feea49ca42d30b");
        assert_ne!(name(&bad, "node1", Some("u")), name(&bad, "node1", Some("v")));
        assert_ne!(name(&bad, "node1", None), name(&fault("web", "worse"), "node1", None));
        let own = Fault { own: true, ..bad };
        assert_ne!(name(&own, "node1", None), name(&own, "node2", None));
    }

    #[test]
    fn near_nodes_take_their_turns_within_ten_seconds_and_all_others_within_ten_minutes() {
        let bad = fault("web", "bad");
        let delay = |node: u32, near| bad.delay(&format!("node{node}"), near);
        let delays = |near| (0..5000).map(|node| delay(node, near)).collect::<Vec<_>>();
        for (near, whole) in [(true, Duration::from_secs(10)), (false, Duration::from_mins(10))] {
            let delays = delays(near);
            assert!(delays.iter().all(|delay| *delay < whole));
            for fifth in 0..5_u8 {
                let begun = |delay: &&Duration| delay.as_millis() * 5 >= whole.as_millis() * u128::from(fifth);
                let left = delays.iter().filter(begun).count();
                assert!(
                    left.abs_diff(1000 * usize::from(5 - fifth)) < 200,
                    "{left} of 5000 after {fifth} fifths"
                );
            }
        }
        assert!(delays(true).iter().zip(delays(false)).all(|(near, far)| *near <= far));
    }

    #[test]
    fn a_node_is_near_to_services_that_have_an_endpoint_on_it_to_their_slices_and_to_itself() {
        let text = |service: &str, node: &str| {
            format!(
                r#"{{"metadata":{{"name":"{service}-1","namespace":"shop","uid":"0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9",
                "labels":{{"kubernetes.io/service-name":"{service}"}}}},"addressType":"IPv4",
                "endpoints":[{{"addresses":["10.0.0.1"],"nodeName":"{node}"}},{{"addresses":["239.1.2.3"]}}]}}"#
            )
        };
        let mut index = Index::default();
        for (service, node) in [("here", "node1"), ("there", "node2")] {
            let decoded = Decoder::new("node1").decode_json(ObjectKind::EndpointSlice, &text(service, node));
            index.apply(decoded.unwrap().into_event());
        }
        let near = |kind, name: &str| {
            let fault = Fault {
                kind,
                ..fault(name, "bad")
            };
            fault.near("node1", index.services())
        };
        assert!(
            near(ObjectKind::Service, "here")
                && near(ObjectKind::EndpointSlice, "here-1")
                && near(ObjectKind::Node, "node1")
        );
        assert!(
            !near(ObjectKind::Service, "there")
                && !near(ObjectKind::EndpointSlice, "there-1")
                && !near(ObjectKind::Node, "node2")
        );
        assert!(
            !near(ObjectKind::Service, "none")
                && !near(ObjectKind::EndpointSlice, "none")
                && !near(ObjectKind::ServiceCidr, "node1")
        );
    }

    #[test]
    fn a_fault_has_the_uid_that_its_object_was_read_with_and_a_node_its_name() {
        const UID: &str = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9";
        let good = format!(
            r#"{{"metadata":{{"name":"web","namespace":"shop","uid":"{UID}"}},"spec":{{"clusterIP":"10.0.0.1"}}}}"#
        );
        let slice = good.replace("\"spec\"", "\"addressType\":\"gopher\",\"spec\"").replace(
            "\"name\"",
            "\"labels\":{\"kubernetes.io/service-name\":\"web\"},\"name\"",
        );
        let decoder = Decoder::new("node1");
        let mut snapshot = Snapshot::empty(std::time::UNIX_EPOCH);
        let mut index = Index::default();
        index.apply(decoder.decode_json(ObjectKind::Service, &good).unwrap().into_event());
        index.apply(
            decoder
                .decode_json(ObjectKind::EndpointSlice, &slice)
                .unwrap()
                .into_event(),
        );
        let unreadable = good.replace("\"spec\":", "\"spec\":7,\"x\":");
        let unreadable = decoder.decode_json(ObjectKind::ServiceCidr, &unreadable).unwrap_err();
        index.apply(unreadable.into_event().unwrap());
        snapshot.services = index.services().clone();
        snapshot.notices = std::sync::Arc::clone(index.notices());
        snapshot.v6.set_aside.push(SetAside {
            service: ObjectKey::new("shop", "web"),
            reason: "too many".to_owned(),
        });
        let faults = Fault::all(&snapshot);
        let mut kinds: Vec<_> = faults.values().map(|fault| fault.kind).collect();
        kinds.sort();
        assert_eq!(
            kinds,
            [ObjectKind::Service, ObjectKind::EndpointSlice, ObjectKind::ServiceCidr]
        );
        let own = Fault::of_service(&ObjectKey::new("shop", "web"), "r", "a", String::new());
        for fault in faults.values().chain([&own]) {
            assert_eq!(
                fault.regarded_uid(&snapshot.services).as_deref(),
                Some(UID),
                "{fault:?}"
            );
        }
        let node = Fault {
            kind: ObjectKind::Node,
            ..own
        };
        assert_eq!(node.regarded_uid(&snapshot.services).as_deref(), Some("web"));
    }

    #[test]
    fn an_event_fits_what_the_api_server_takes() {
        let long = fault(&"a.".repeat(126), &"é".repeat(2000));
        let event = long.event(&"n".repeat(253), Some("u".to_owned()), Timestamp::UNIX_EPOCH);
        assert!(event.metadata.name.unwrap().len() <= 253);
        assert_eq!(event.note.unwrap().len(), NOTE);
        assert_eq!(event.reporting_instance.unwrap().len(), INSTANCE);
        assert_eq!(event.metadata.namespace.as_deref(), Some("shop"));
        let birth = birth("node1", Timestamp::UNIX_EPOCH);
        assert_eq!(birth.metadata.namespace.as_deref(), Some("default"));
        assert_eq!(birth.regarding.unwrap().namespace, None);
    }
}
