//! The kinds of objects that the engine needs, and how each object becomes an event.

use std::sync::Arc;

use super::instead::a;
use super::watched::{Change, Encoded, ListState, ReadObject, Resource, Watched, WrongKind};
use crate::event::{Event, ObjectKind};
use crate::source::decode::{DecodeError, Decoded, Decoder, Stranger};

/// Objects of one kind, as the engine needs them on this node.
#[derive(Clone, Debug)]
pub(super) struct OfKind {
    kind: ObjectKind,
    node_name: Arc<str>,
    decoder: Arc<Decoder>,
}

impl OfKind {
    pub(super) fn new(kind: ObjectKind, node_name: &str, decoder: &Arc<Decoder>) -> Self {
        Self {
            kind,
            node_name: node_name.into(),
            decoder: Arc::clone(decoder),
        }
    }

    /// Objects as a node of this name watches them, with a new decoder.
    #[cfg(test)]
    pub(super) fn sample(kind: ObjectKind, node_name: &str) -> Self {
        Self::new(kind, node_name, &Arc::new(Decoder::new(node_name)))
    }

    fn unreadable(error: DecodeError) -> Option<Event> {
        tracing::error!("{error}; what was known of it stays");
        error.into_event()
    }
}

impl Watched for OfKind {
    type Event = Event;

    fn resource(&self) -> Resource {
        // Slices carry the labels of their Service. So this label also excludes slices that belong to another proxy.
        let (path, labels, fields) = match self.kind {
            ObjectKind::Service => (
                "/api/v1/services",
                "!service.kubernetes.io/service-proxy-name",
                "spec.clusterIP!=None".to_owned(),
            ),
            ObjectKind::EndpointSlice => (
                "/apis/discovery.k8s.io/v1/endpointslices",
                "!service.kubernetes.io/headless,!service.kubernetes.io/service-proxy-name",
                String::new(),
            ),
            ObjectKind::Node => ("/api/v1/nodes", "", format!("metadata.name={}", self.node_name)),
            ObjectKind::ServiceCidr => ("/apis/networking.k8s.io/v1/servicecidrs", "", String::new()),
        };
        Resource {
            kind: self.kind.name(),
            path,
            labels,
            fields,
            // Servers before 1.25 refuse the field selector of Services. Without it, decoding ignores what it would
            // have excluded.
            fields_may_fail: self.kind == ObjectKind::Service,
            // Servers before 1.31 do not have the kind. The only effect is that packets to unassigned ClusterIPs are
            // not discarded.
            optional: self.kind == ObjectKind::ServiceCidr,
        }
    }

    fn read(&self, change: Change, object: Encoded<'_>) -> Result<ReadObject<Event>, WrongKind> {
        let outcome = match object {
            Encoded::Json(text) => self.decoder.decode_json(self.kind, text.get()),
            Encoded::Protobuf { kind, bytes } => self.decoder.decode_protobuf(self.kind, kind, bytes),
        };
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(error) => {
                match &error.stranger {
                    Some(Stranger::OtherKind) => return Err(WrongKind(a(&object.kind()))),
                    Some(Stranger::Nameless) => {
                        return Err(WrongKind(format!("{} without a readable name", a(self.kind.name()))));
                    }
                    None => {}
                }
                let event = match (change, &error.key) {
                    (Change::Deleted, Some(key)) => Some(Event::Deleted(self.kind, key.clone(), Vec::new())),
                    _ => Self::unreadable(error),
                };
                return Ok(ReadObject {
                    event,
                    version: object.version(),
                });
            }
        };
        let version = outcome.version.as_deref().map(str::to_owned);
        let event = match change {
            Change::Deleted => Some(Event::Deleted(self.kind, outcome.decoded.key(), Vec::new())),
            // Tandem does not need this object. No event is necessary: the list counts as one that does not name the
            // object.
            Change::Listed if matches!(outcome.decoded, Decoded::Ignore(..)) && outcome.notices.is_empty() => None,
            Change::Listed | Change::Applied => Some(outcome.into_event()),
        };
        Ok(ReadObject { event, version })
    }

    fn tell(&self, told: ListState) -> Event {
        match told {
            ListState::Listing => Event::Listing(self.kind),
            ListState::Listed => Event::Listed(self.kind),
            ListState::Reach(reach) => Event::Reach(self.kind, reach),
        }
    }
}
