//! What is watched, as a value: which objects to ask for, and how each becomes an event. Each part of the agent that
//! watches something has its own value, its own events and its own first list. None waits for another.

use std::fmt::Debug;

use serde_json::value::RawValue;

use super::instead::kind_of;
use super::wire::Versioned;
use crate::event::Reach;
use crate::source::decode::protobuf::reader::Fields;

/// Which objects to ask for, and at which path.
#[derive(Clone, Debug)]
pub struct Resource {
    /// `kind` of one object: `Service`
    pub kind: &'static str,
    /// `/api/v1/services`
    pub path: &'static str,
    /// A label selector; empty for none.
    pub labels: &'static str,
    /// A field selector; empty for none.
    pub fields: String,
    /// Servers may refuse the field selector. If one does, all objects are asked for.
    pub fields_may_fail: bool,
    /// Servers may not have the kind, or may not allow it to be read. Until it was listed once, it then counts as a
    /// kind without objects.
    pub optional: bool,
}

impl Resource {
    /// `kind` of a list.
    pub(super) fn list_kind(&self) -> String {
        format!("{}List", self.kind)
    }

    /// `apiVersion` of a list: the path without its first and last part.
    pub(super) fn api_version(&self) -> &'static str {
        let version = self.path.rsplit_once('/').map_or("", |(version, _)| version);
        let version = version.strip_prefix("/apis/").or_else(|| version.strip_prefix("/api/"));
        version.unwrap_or_default()
    }

    /// The resource as RBAC names it.
    pub(super) fn name(&self) -> &'static str {
        self.path.rsplit('/').next().unwrap_or_default()
    }
}

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A list names it.
    Listed,
    /// It is new or has changed.
    Applied,
    /// It was deleted, or no longer belongs to the objects that were asked for.
    Deleted,
}

/// An object as the server sent it.
#[derive(Clone, Copy, Debug)]
pub enum Encoded<'a> {
    /// Its text.
    Json(&'a RawValue),
    /// Its bytes. `kind` is what its envelope says; empty in a list.
    Protobuf {
        /// `kind` in the envelope.
        kind: &'a str,
        /// The object without its envelope.
        bytes: &'a [u8],
    },
}

impl Encoded<'_> {
    /// `metadata.resourceVersion`, also if the object cannot be read otherwise.
    pub fn version(&self) -> Option<String> {
        let version = match self {
            Self::Json(object) => {
                let versioned: Versioned = serde_json::from_str(object.get()).ok()?;
                versioned.metadata.resource_version
            }
            Self::Protobuf { bytes, .. } => {
                let version = Fields(Fields(bytes).find(1)?).find(6)?;
                std::str::from_utf8(version).ok()?.to_owned()
            }
        };
        Some(version).filter(|version| !version.is_empty())
    }

    /// The kind that it says it has.
    pub fn kind(&self) -> String {
        match self {
            Self::Json(object) => kind_of(object.get()),
            Self::Protobuf { kind, .. } => (*kind).to_owned(),
        }
    }
}

/// What was read from an object.
#[derive(Debug)]
pub struct ReadObject<E> {
    /// The event. None if nothing is known of the object, or if Tandem does not need it.
    pub event: Option<E>,
    /// Its version.
    pub version: Option<String>,
}

/// News about the list and the connection, beside objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListState {
    /// A list begins. When it ends, objects that it did not name are gone.
    Listing,
    /// The list is complete.
    Listed,
    /// Whether objects can be read.
    Reach(Reach),
}

/// The object is not of the kind that was asked for, so what holds it cannot be trusted. This says what it is, with an
/// article.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrongKind(pub String);

/// Something that is watched.
pub trait Watched: Debug + Send + Sync + 'static {
    /// The type of its events.
    type Event: Debug + Send;

    /// What to ask for.
    fn resource(&self) -> Resource;

    /// Reads an object.
    fn read(&self, change: Change, object: Encoded<'_>) -> Result<ReadObject<Self::Event>, WrongKind>;

    /// Makes an event from other news.
    fn tell(&self, told: ListState) -> Self::Event;
}
