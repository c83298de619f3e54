//! Decodes objects from text. Only the fields that Tandem uses are kept, and they are parsed once into types that are
//! always valid. The code is pure, and both sources call it. If something inside an object is wrong, it becomes a
//! [`Notice`], and only that field is lost. If fields have the wrong types, the result is a [`DecodeError`], and only
//! that object is lost.

mod intern;
mod node;
mod notes;
mod ports;
pub(crate) mod protobuf;
mod raw;
mod service;
mod slice;
#[cfg(test)]
mod tests;
mod words;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use serde_path_to_error::Track;
use tandem_core::object::{ObjectKey, SlicePort, is_name};
use tandem_core::uid::Uid;

use crate::event::{Event, Notice, Object, ObjectKind};
use intern::Interner;
use notes::Notes;
pub(crate) use notes::shorten;
use protobuf::schema;
use raw::{Header, Meta, Text};
pub use words::Complaint;
pub(crate) use words::{field_path, printable};

/// Decodes objects as one node sees them.
#[derive(Debug)]
pub struct Decoder {
    node_name: Arc<str>,
    names: Mutex<Interner<str>>,
    slice_ports: Mutex<Interner<[SlicePort]>>,
}

/// The result of decoding one object's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The object.
    pub decoded: Decoded,
    /// The faults in it.
    pub notices: Vec<Notice>,
    /// `metadata.resourceVersion`
    pub version: Option<Box<str>>,
}

/// An object, or why Tandem does not use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// An object that Tandem programs.
    Apply(Object),
    /// An object that Tandem does not use.
    Ignore(ObjectKind, ObjectKey, Why),
}

/// Why Tandem does not use an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// A Service without a ClusterIP.
    Headless,
    /// A Service that is a name in DNS.
    ExternalName,
    /// `service.kubernetes.io/service-proxy-name`
    OtherProxy,
    /// `service.kubernetes.io/headless`
    HeadlessSlice,
    /// An EndpointSlice without `kubernetes.io/service-name`.
    NoService,
    /// An EndpointSlice of host names, or of an address type that Tandem does not know.
    AddressType,
    /// A Node that is not this node.
    OtherNode,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Headless => "no clusterIP",
            Self::ExternalName => "type ExternalName",
            Self::OtherProxy => "label service.kubernetes.io/service-proxy-name gives it to another proxy",
            Self::HeadlessSlice => "label service.kubernetes.io/headless",
            Self::NoService => "no label kubernetes.io/service-name",
            Self::AddressType => "addressType is neither IPv4 nor IPv6",
            Self::OtherNode => "another node",
        })
    }
}

/// An object that cannot be read because some field has the wrong type. The last good content stays.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {name}: {at}{what}", name = self.name(), at = self.at())]
pub struct DecodeError {
    /// The object's kind.
    pub kind: ObjectKind,
    /// The object, if at least its name could be read.
    pub key: Option<ObjectKey>,
    /// Its `metadata.uid`, if it could be read.
    pub uid: Option<Uid>,
    /// Why this could be any object. None if it could not. If the name is not a valid name, no such object was ever
    /// known, so this is none too.
    pub stranger: Option<Stranger>,
    /// Path of the field: `spec.ports[0].port`; empty if it is the whole object.
    pub field: Box<str>,
    /// The value, and what is wrong with it.
    pub what: Complaint,
}

/// Why a text could be any object, or no object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stranger {
    /// It says that it is of another kind.
    OtherKind,
    /// It has no name or namespace that can be read.
    Nameless,
}

impl DecodeError {
    /// The event that the object exists and cannot be read; none if not even its name can be read.
    pub(crate) fn into_event(self) -> Option<Event> {
        let notice = self.notice();
        Some(Event::Unreadable(self.kind, self.key?, notice))
    }

    /// The notice that stays for as long as the object is like this.
    pub fn notice(&self) -> Notice {
        let problem = &self.what.problem;
        Notice {
            field: self.field.to_string(),
            value: self.what.value.clone().unwrap_or_default(),
            problem: format!("{problem}; the object is not read, what was known of it before stays"),
            uid: self.uid,
        }
    }

    fn name(&self) -> String {
        self.key
            .as_ref()
            .map_or_else(|| "without a readable name".to_owned(), ToString::to_string)
    }

    fn at(&self) -> String {
        if self.field.is_empty() {
            String::new()
        } else {
            format!("{}: ", self.field)
        }
    }
}

impl Outcome {
    /// The event that a source sends.
    pub fn into_event(self) -> Event {
        match self.decoded {
            Decoded::Apply(object) => Event::Applied(object, self.notices),
            Decoded::Ignore(kind, key, _) => Event::Deleted(kind, key, self.notices),
        }
    }
}

impl Decoded {
    /// The object's kind.
    pub fn kind(&self) -> ObjectKind {
        match self {
            Self::Apply(object) => object.kind(),
            Self::Ignore(kind, ..) => *kind,
        }
    }

    /// The object's namespace and name.
    pub fn key(&self) -> ObjectKey {
        match self {
            Self::Apply(object) => object.key(),
            Self::Ignore(_, key, _) => key.clone(),
        }
    }
}

impl Decoder {
    /// Makes a decoder for the node with this name.
    pub fn new(node_name: &str) -> Self {
        Self {
            node_name: node_name.into(),
            names: Mutex::default(),
            slice_ports: Mutex::default(),
        }
    }

    /// Decodes one object of a known kind.
    pub fn decode<'de, D: Deserializer<'de>>(&self, kind: ObjectKind, text: D) -> Result<Outcome, D::Error> {
        match kind {
            ObjectKind::Service => self.convert(raw::Service::deserialize(text)?),
            ObjectKind::EndpointSlice => self.convert(raw::EndpointSlice::deserialize(text)?),
            ObjectKind::Node => self.convert(raw::Node::deserialize(text)?),
            ObjectKind::ServiceCidr => self.convert(raw::ServiceCidr::deserialize(text)?),
        }
        .map_err(D::Error::custom)
    }

    /// Decodes one object of a known kind from JSON.
    pub fn decode_json(&self, kind: ObjectKind, text: &str) -> Result<Outcome, DecodeError> {
        let first_try = self.decode(kind, &mut serde_json::Deserializer::from_str(text));
        // To follow the path costs an allocation per field, so this is done only after an error.
        first_try.or_else(|_| {
            let mut track = Track::new();
            let mut json = serde_json::Deserializer::from_str(text);
            self.decode(kind, serde_path_to_error::Deserializer::new(&mut json, &mut track))
                .map_err(|error| {
                    let header = Header::of(text);
                    let said = header.kind();
                    let said = said.as_ref().map_or("", Text::as_str);
                    self.unreadable(kind, said, header.meta().as_ref(), track, &error.to_string())
                })
        })
    }

    /// Decodes one object of a known kind from protobuf. `said` is the kind in its envelope; empty if it has none.
    pub(crate) fn decode_protobuf(&self, kind: ObjectKind, said: &str, bytes: &[u8]) -> Result<Outcome, DecodeError> {
        let schema = match kind {
            ObjectKind::Service => schema::SERVICE,
            ObjectKind::EndpointSlice => schema::ENDPOINT_SLICE,
            ObjectKind::Node => schema::NODE,
            ObjectKind::ServiceCidr => schema::SERVICE_CIDR,
        };
        let object = protobuf::Object { schema, bytes };
        let meta = || Meta::of_protobuf(bytes);
        if !said.is_empty() && said != kind.name() {
            let problem = BadHead::Kind(shorten(said), kind).to_string();
            return Err(self.unreadable(kind, said, meta().as_ref(), Track::new(), &problem));
        }
        self.decode(kind, object).or_else(|_| {
            let mut track = Track::new();
            self.decode(kind, serde_path_to_error::Deserializer::new(object, &mut track))
                .map_err(|error| self.unreadable(kind, said, meta().as_ref(), track, &error.to_string()))
        })
    }

    /// The error for an object that cannot be decoded. `said` is the kind that it names, `meta` what can be read of its
    /// names.
    fn unreadable(
        &self,
        kind: ObjectKind,
        said: &str,
        meta: Option<&Meta<'_>>,
        track: Track,
        error: &str,
    ) -> DecodeError {
        let other = !said.is_empty() && said != kind.name();
        DecodeError {
            kind,
            key: meta.and_then(|meta| self.key(kind, meta).ok()),
            uid: meta.and_then(Meta::uid),
            stranger: match meta {
                _ if other => Some(Stranger::OtherKind),
                None => Some(Stranger::Nameless),
                Some(_) => None,
            },
            field: field_path(track).into(),
            what: Complaint::of(error),
        }
    }

    /// Namespace and name, if they can be read from a badly typed object.
    fn key(&self, kind: ObjectKind, meta: &Meta<'_>) -> Result<ObjectKey, BadHead> {
        let name = meta
            .name
            .as_ref()
            .map(Text::as_str)
            .filter(|name| !name.is_empty())
            .ok_or(BadHead::Missing)?;
        let namespace = match kind {
            ObjectKind::Service | ObjectKind::EndpointSlice => match &meta.namespace {
                Some(namespace) if !namespace.as_str().is_empty() => namespace.as_str(),
                _ => "default",
            },
            ObjectKind::Node | ObjectKind::ServiceCidr => "",
        };
        for (field, text) in [("name", name), ("namespace", namespace)] {
            if !is_name(text) {
                return Err(BadHead::Invalid(field, shorten(text)));
            }
        }
        // A slice's name is used for this slice alone. A Service's name is also in each of its slices, so it is shared.
        let name = if kind == ObjectKind::Service {
            self.intern(name)
        } else {
            name.into()
        };
        Ok(ObjectKey {
            namespace: self.intern(namespace),
            name,
        })
    }

    fn intern(&self, name: &str) -> Arc<str> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).shared(name)
    }

    /// The ports of a slice, shared with other slices that have the same.
    fn intern_ports(&self, ports: &[SlicePort]) -> Arc<[SlicePort]> {
        let mut known = self.slice_ports.lock().unwrap_or_else(PoisonError::into_inner);
        known.shared(ports)
    }

    fn convert<'a, R: Raw<'a>>(&self, raw: R) -> Result<Outcome, BadHead> {
        // Lists of one kind leave the kind out. An object of another kind would be read as an object without any field.
        let kind = raw.kind().map_or("", Text::as_str);
        if !kind.is_empty() && kind != R::KIND.name() {
            return Err(BadHead::Kind(shorten(kind), R::KIND));
        }
        let version = raw
            .meta()
            .and_then(|meta| meta.resource_version.as_ref())
            .map(|version| version.as_str().into());
        let key = self.key(R::KIND, raw.meta().unwrap_or(&Meta::default()))?;
        let mut notes = Notes::of(raw.meta().and_then(Meta::uid));
        let decoded = raw.decode(self, key, &mut notes);
        Ok(Outcome {
            decoded,
            notices: notes.into_vec(),
            version,
        })
    }
}

/// Why an object is not of its kind, or has no key.
#[derive(Debug, thiserror::Error)]
enum BadHead {
    #[error("kind is {0:?}, not {1}")]
    Kind(String, ObjectKind),
    #[error("metadata.name is missing")]
    Missing,
    #[error("metadata.{0}: {1:?} is not a name: letters, digits, - and . only, at most 253 of them")]
    Invalid(&'static str, String),
}

/// An object as the API writes it.
trait Raw<'a> {
    const KIND: ObjectKind;
    /// The kind that the object names, if it names one.
    fn kind(&self) -> Option<&Text<'a>>;
    fn meta(&self) -> Option<&Meta<'a>>;
    fn decode(self, decoder: &Decoder, key: ObjectKey, notes: &mut Notes) -> Decoded;
}
