//! Objects out of their text: trimmed to what Tandem uses, parsed once into types that cannot be wrong. Pure; both sources
//! call it. What is wrong inside an object becomes a [`Notice`] and costs that field alone; an object whose fields have
//! the wrong types is a [`DecodeError`] and costs that object alone.

mod intern;
mod node;
mod notes;
mod ports;
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
use tandem_core::object::{ObjectKey, is_name};
use tandem_core::uid::Uid;

use crate::event::{Event, Kind, Notice, Object};
use intern::Interner;
use notes::Notes;
pub(crate) use notes::shorten;
use raw::{Header, Meta, Text};
pub use words::Complaint;
pub(crate) use words::{field_path, printable};

/// Decodes objects as one node sees them.
#[derive(Debug)]
pub struct Decoder {
    node_name: Arc<str>,
    names: Mutex<Interner>,
}

/// What came out of one object's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The object.
    pub decoded: Decoded,
    /// What is wrong with it.
    pub notices: Vec<Notice>,
    /// `metadata.resourceVersion`
    pub version: Option<Box<str>>,
}

/// An object, or the reason why it is none of Tandem's business.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// Tandem programs it.
    Apply(Object),
    /// Tandem has nothing to do with it.
    Ignore(Kind, ObjectKey, Why),
}

/// Why an object is none of Tandem's business.
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
    /// Not this node.
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

/// An object that cannot be read: some field has the wrong type. What was known of it stays.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {name}: {at}{what}", name = self.name(), at = self.at())]
pub struct DecodeError {
    /// The object's kind.
    pub kind: Kind,
    /// The object, if at least its name could be read.
    pub key: Option<ObjectKey>,
    /// Its `metadata.uid`, likewise.
    pub uid: Option<Uid>,
    /// Why it could be any object. A name that is none is of an object that was never known, and no reason.
    pub stranger: Option<Stranger>,
    /// Path of the field: `spec.ports[0].port`; empty where it is the whole object.
    pub field: Box<str>,
    /// What is there, and what is wrong with it.
    pub what: Complaint,
}

/// Why something could be any object, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stranger {
    /// It says that it is of another kind.
    OtherKind,
    /// It has no name or namespace that can be read.
    Nameless,
}

impl DecodeError {
    /// That the object is there and cannot be read; none where not even its name can.
    pub(crate) fn into_event(self) -> Option<Event> {
        let notice = self.notice();
        Some(Event::Unreadable(self.kind, self.key?, notice))
    }

    /// What is said of the object as long as it is like this.
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
    /// As a source yields it.
    pub fn into_event(self) -> Event {
        match self.decoded {
            Decoded::Apply(object) => Event::Applied(object, self.notices),
            Decoded::Ignore(kind, key, _) => Event::Deleted(kind, key, self.notices),
        }
    }
}

impl Decoded {
    /// The object's kind.
    pub fn kind(&self) -> Kind {
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
    /// Decodes for the node of this name.
    pub fn new(node_name: &str) -> Self {
        Self {
            node_name: node_name.into(),
            names: Mutex::default(),
        }
    }

    /// Decodes one object of a known kind.
    pub fn decode<'de, D: Deserializer<'de>>(&self, kind: Kind, text: D) -> Result<Outcome, D::Error> {
        match kind {
            Kind::Service => self.convert(raw::Service::deserialize(text)?),
            Kind::EndpointSlice => self.convert(raw::EndpointSlice::deserialize(text)?),
            Kind::Node => self.convert(raw::Node::deserialize(text)?),
            Kind::ServiceCidr => self.convert(raw::ServiceCidr::deserialize(text)?),
        }
        .map_err(D::Error::custom)
    }

    /// Decodes one object of a known kind out of JSON.
    pub fn decode_json(&self, kind: Kind, text: &str) -> Result<Outcome, DecodeError> {
        let first_try = self.decode(kind, &mut serde_json::Deserializer::from_str(text));
        // Following the path costs an allocation per field, so only those pay who need it.
        first_try.or_else(|_| {
            let mut track = serde_path_to_error::Track::new();
            let mut json = serde_json::Deserializer::from_str(text);
            self.decode(kind, serde_path_to_error::Deserializer::new(&mut json, &mut track))
                .map_err(|error| {
                    let header = Header::of(text);
                    let meta = header.meta();
                    let said = header
                        .kind()
                        .filter(|said| !said.as_str().is_empty() && said.as_str() != kind.name());
                    DecodeError {
                        kind,
                        key: meta.as_ref().and_then(|meta| self.key(kind, meta).ok()),
                        uid: meta.as_ref().and_then(Meta::uid),
                        stranger: match (said, &meta) {
                            (Some(_), _) => Some(Stranger::OtherKind),
                            (None, None) => Some(Stranger::Nameless),
                            (None, Some(_)) => None,
                        },
                        field: field_path(track).into(),
                        what: Complaint::of(&error.to_string()),
                    }
                })
        })
    }

    /// Namespace and name, as far as a badly typed object has them.
    fn key(&self, kind: Kind, meta: &Meta<'_>) -> Result<ObjectKey, BadHead> {
        let name = meta
            .name
            .as_ref()
            .map(Text::as_str)
            .filter(|name| !name.is_empty())
            .ok_or(BadHead::Missing)?;
        let namespace = match kind {
            Kind::Service | Kind::EndpointSlice => match &meta.namespace {
                Some(namespace) if !namespace.as_str().is_empty() => namespace.as_str(),
                _ => "default",
            },
            Kind::Node | Kind::ServiceCidr => "",
        };
        for (field, text) in [("name", name), ("namespace", namespace)] {
            if !is_name(text) {
                return Err(BadHead::Invalid(field, shorten(text)));
            }
        }
        // Slices' names are their own; a Service's name is in each of its slices.
        let name = if kind == Kind::Service {
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
        self.names.lock().unwrap_or_else(PoisonError::into_inner).name(name)
    }

    fn convert<'a, R: Raw<'a>>(&self, raw: R) -> Result<Outcome, BadHead> {
        // Lists of one kind leave it out. One that is another would be read as an object without anything in it.
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

/// Why an object is none of its kind, or has no key.
#[derive(Debug, thiserror::Error)]
enum BadHead {
    #[error("kind is {0:?}, not {1}")]
    Kind(String, Kind),
    #[error("metadata.name is missing")]
    Missing,
    #[error("metadata.{0}: {1:?} is not a name: letters, digits, - and . only, at most 253 of them")]
    Invalid(&'static str, String),
}

/// An object as the API writes it.
trait Raw<'a> {
    const KIND: Kind;
    /// What it says it is, where it says so.
    fn kind(&self) -> Option<&Text<'a>>;
    fn meta(&self) -> Option<&Meta<'a>>;
    fn decode(self, decoder: &Decoder, key: ObjectKey, notes: &mut Notes) -> Decoded;
}
