//! What is watched, as a value: where it is asked for, and what becomes of each object. A part of the agent that watches
//! something has a value, a stream of events and a first list of its own; none waits for another's.

use std::fmt::Debug;

use serde_json::value::RawValue;

use crate::event::Reach;

/// Where objects are asked for, and which of them.
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
    /// Servers may refuse the field selector. All objects are asked for then.
    pub fields_may_fail: bool,
    /// Servers may lack the kind, or not let it be read. Until it was listed once, it then counts as one without objects.
    pub optional: bool,
}

impl Resource {
    /// `kind` of a list.
    pub(super) fn list_kind(&self) -> String {
        format!("{}List", self.kind)
    }

    /// `apiVersion` of a list: the path without its ends.
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

/// What became of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A list names it.
    Listed,
    /// It came, or is another.
    Applied,
    /// It went, or is none of those that were asked for any more.
    Deleted,
}

/// What an object tells.
#[derive(Debug)]
pub struct ReadObject<E> {
    /// None if nothing can be known of it, or if it is nobody's business.
    pub event: Option<E>,
    /// Its version.
    pub version: Option<String>,
}

/// What is told beside objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListState {
    /// A list begins: objects that it does not name are gone when it ends.
    Listing,
    /// The list is complete.
    Listed,
    /// Objects can be read, or cannot.
    Reach(Reach),
}

/// Not an object of the kind that was asked for: what holds it is not to be believed. In words, with an article.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrongKind(pub String);

/// Something that is watched.
pub trait Watched: Debug + Send + Sync + 'static {
    /// What it tells.
    type Event: Debug + Send;

    /// Where it is asked for.
    fn resource(&self) -> Resource;

    /// What an object tells.
    fn read(&self, change: Change, object: &RawValue) -> Result<ReadObject<Self::Event>, WrongKind>;

    /// What else is told, as an event.
    fn tell(&self, told: ListState) -> Self::Event;
}
