//! Reads objects in lists and in the lines of watches. Each must be of the kind that was asked for.

use serde_json::value::RawValue;

use super::failure::Failure;
use super::instead::{a, error_event, instead};
use super::watched::{Change, ReadObject, Watched, WrongKind};
use super::wire::{Line, Versioned};
use crate::source::decode::printable;

/// What a line of a watch says.
pub(super) enum WatchLine<E> {
    /// An object changed. The next watch begins after its version.
    Change(ReadObject<E>),
    /// Nothing changed up to this version.
    Bookmark(String),
}

/// Reads one line of a watch.
pub(super) fn line<W: Watched>(watched: &W, text: &[u8]) -> Result<WatchLine<W::Event>, Failure> {
    let line: Line<'_> = serde_json::from_slice(text).map_err(|_| instead(text, "watch event", None))?;
    let change = match line.what {
        "ADDED" | "MODIFIED" => Change::Applied,
        "DELETED" => Change::Deleted,
        "BOOKMARK" => {
            return match version_of(line.object) {
                Some(version) => Ok(WatchLine::Bookmark(version)),
                None => Err(Failure::Garbage(
                    "a bookmark without metadata.resourceVersion".to_owned(),
                )),
            };
        }
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
