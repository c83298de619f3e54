//! Reads objects in lists and in the lines of watches. Each must be of the kind that was asked for.

use super::failure::Failure;
use super::instead::{a, error_event, instead, other};
use super::protobuf;
use super::watched::{Change, Encoded, ReadObject, Watched, WrongKind};
use super::wire::{BookmarkObject, Line};
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
    match line.what {
        "BOOKMARK" => {
            let object = serde_json::from_str(line.object.get());
            bookmark(watched, object.unwrap_or_default())
        }
        "ERROR" => Err(error_event(line.object.get())),
        what => change(watched, what, Encoded::Json(line.object), listing),
    }
}

/// Reads one frame of a watch in protobuf, as [`line`] does.
pub(super) fn frame<W: Watched>(watched: &W, bytes: &[u8], listing: bool) -> Result<WatchLine<W::Event>, Failure> {
    let event = protobuf::event(bytes)?;
    let object = event.object;
    match event.what {
        "BOOKMARK" => bookmark(watched, protobuf::bookmark(&object)),
        "ERROR" => Err(match protobuf::status(&object) {
            Some(status) if status.code > 0 => Failure::status(status),
            _ => other(object.kind, object.api_version, "Status in an ERROR event"),
        }),
        what => {
            let (kind, bytes) = (object.kind, object.bytes);
            change(watched, what, Encoded::Protobuf { kind, bytes }, listing)
        }
    }
}

fn change<W: Watched>(
    watched: &W,
    what: &str,
    object: Encoded<'_>,
    listing: bool,
) -> Result<WatchLine<W::Event>, Failure> {
    let change = match what {
        "ADDED" if listing => Change::Listed,
        "ADDED" | "MODIFIED" => Change::Applied,
        "DELETED" => Change::Deleted,
        other => {
            let problem = format!("a watch event of type {:?}", printable(other));
            return Err(Failure::Garbage(problem));
        }
    };
    let reading = watched.read(change, object);
    let reading = reading.map_err(|strange| broken(&format!("watch event {what}"), &strange))?;
    Ok(WatchLine::Change(reading))
}

/// Reads a bookmark. One that ends a list must be of the kind that was asked for, as a list must.
fn bookmark<W: Watched>(watched: &W, bookmark: BookmarkObject) -> Result<WatchLine<W::Event>, Failure> {
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
    let wanted = (resource.kind, resource.api_version());
    if (bookmark.kind.as_str(), bookmark.api_version.as_str()) != wanted {
        let wanted = format!("{} of {}", wanted.0, wanted.1);
        return Err(other(&bookmark.kind, &bookmark.api_version, &wanted));
    }
    // In a request, 0 stands for any version. No store has it.
    if version == "0" {
        let problem = "the end of a list without metadata.resourceVersion".to_owned();
        return Err(Failure::Garbage(problem));
    }
    Ok(WatchLine::Listed(version))
}

/// Reads one object of a list.
pub(super) fn item<W: Watched>(watched: &W, object: Encoded<'_>) -> Result<Option<W::Event>, Failure> {
    let reading = watched.read(Change::Listed, object);
    let reading = reading.map_err(|strange| broken(&watched.resource().list_kind(), &strange))?;
    Ok(reading.event)
}

/// The failure of an object that is of another kind or has no name. Then the list or watch that holds it cannot be
/// trusted.
fn broken(holder: &str, strange: &WrongKind) -> Failure {
    Failure::Garbage(format!("{} with {}", a(holder), strange.0))
}
