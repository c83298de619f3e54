//! Reads objects in lists and in the lines of watches. Each must be of the kind that was asked for.

use serde_json::value::RawValue;

use super::failure::Failure;
use super::instead::{a, error_event, instead};
use super::watched::{Change, ReadObject, Watched, WrongKind};
use super::wire::{BookmarkObject, Line, Versioned};
use crate::source::decode::printable;

/// What a line of a watch says.
pub(super) enum WatchLine<E> {
    /// An object changed. The next watch begins after its version.
    Change(ReadObject<E>),
    /// Nothing changed up to this version.
    Bookmark(String),
    /// All objects of this version were sent, one by one.
    Listed(String),
}

/// Reads one line of a watch. `listing` says whether it sends all objects that exist.
pub(super) fn line<W: Watched>(watched: &W, text: &[u8], listing: bool) -> Result<WatchLine<W::Event>, Failure> {
    let line: Line<'_> = serde_json::from_slice(text).map_err(|_| instead(text, "watch event", None))?;
    let change = match line.what {
        "ADDED" if listing => Change::Listed,
        "ADDED" | "MODIFIED" => Change::Applied,
        "DELETED" => Change::Deleted,
        "BOOKMARK" => return bookmark(watched, line.object),
        "ERROR" => return Err(error_event(line.object.get())),
        other => {
            let problem = format!("a watch event of type {:?}", printable(other));
            return Err(Failure::Garbage(problem));
        }
    };
    let reading = watched.read(change, line.object);
    let reading = reading.map_err(|strange| broken(&format!("watch event {}", line.what), &strange))?;
    Ok(WatchLine::Change(reading))
}

/// Reads a bookmark. One that ends a list must be of the kind that was asked for, as a list must.
fn bookmark<W: Watched>(watched: &W, object: &RawValue) -> Result<WatchLine<W::Event>, Failure> {
    let bookmark: BookmarkObject = serde_json::from_str(object.get()).unwrap_or_default();
    let version = bookmark.metadata.resource_version;
    if version.is_empty() {
        let problem = "a bookmark without metadata.resourceVersion".to_owned();
        return Err(Failure::Garbage(problem));
    }
    let annotations = bookmark.metadata.annotations.unwrap_or_default();
    if annotations.initial_events_end.as_deref() != Some("true") {
        return Ok(WatchLine::Bookmark(version));
    }
    let resource = watched.resource();
    let (kind, group) = (resource.kind, resource.api_version());
    if (bookmark.kind.as_str(), bookmark.api_version.as_str()) != (kind, group) {
        return Err(instead(object.get().as_bytes(), &format!("{kind} of {group}"), None));
    }
    // In a request, 0 stands for any version. No store has it.
    if version == "0" {
        let problem = "the end of a list without metadata.resourceVersion".to_owned();
        return Err(Failure::Garbage(problem));
    }
    Ok(WatchLine::Listed(version))
}

/// Reads one object of a list.
pub(super) fn item<W: Watched>(watched: &W, object: &RawValue) -> Result<Option<W::Event>, Failure> {
    let reading = watched.read(Change::Listed, object);
    let reading = reading.map_err(|strange| broken(&watched.resource().list_kind(), &strange))?;
    Ok(reading.event)
}

/// The failure of an object that is of another kind or has no name. Then the list or watch that holds it cannot be
/// trusted.
fn broken(holder: &str, strange: &WrongKind) -> Failure {
    Failure::Garbage(format!("{} with {}", a(holder), strange.0))
}

pub(super) fn version_of(object: &RawValue) -> Option<String> {
    let versioned: Versioned = serde_json::from_str(object.get()).ok()?;
    Some(versioned.metadata.resource_version).filter(|version| !version.is_empty())
}
