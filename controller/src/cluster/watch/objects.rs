//! Objects in lists and in the lines of watches: what they tell, if they are of the kind that was asked for.

use serde_json::value::RawValue;

use super::failure::Failure;
use super::instead::{a, instead, kind_of};
use super::wire::{Line, Versioned};
use crate::event::{Event, Kind};
use crate::source::decode::{DecodeError, Decoded, Decoder, Outcome, Stranger, printable};

/// What a line of a watch tells.
#[expect(clippy::large_enum_variant, reason = "almost all are changes, and none is kept")]
pub(super) enum Told {
    /// An object changed; the next watch begins after this version. No event where nothing can be known of the object.
    Change(Option<Event>, Option<String>),
    /// Nothing changed up to this version.
    Bookmark(String),
}

/// Reads one line of a watch.
pub(super) fn line(decoder: &Decoder, kind: Kind, text: &[u8]) -> Result<Told, Failure> {
    let line: Line<'_> = serde_json::from_slice(text).map_err(|_| instead(text, "watch event", None))?;
    match line.what {
        "ADDED" | "MODIFIED" | "DELETED" => {
            let (event, version) = changed(decoder, kind, &line)?;
            Ok(Told::Change(event, version))
        }
        "BOOKMARK" => match version_of(line.object) {
            Some(version) => Ok(Told::Bookmark(version)),
            None => Err(Failure::Garbage(
                "a bookmark without metadata.resourceVersion".to_owned(),
            )),
        },
        "ERROR" => Err(Failure::event(line.object.get())),
        other => Err(Failure::Garbage(format!(
            "a watch event of type {:?}",
            printable(other)
        ))),
    }
}

fn changed(
    decoder: &Decoder,
    kind: Kind,
    Line { what, object }: &Line<'_>,
) -> Result<(Option<Event>, Option<String>), Failure> {
    match read(decoder, kind, object, &format!("watch event {what}"))? {
        Ok(outcome) => {
            let version = outcome.version.as_deref().map(str::to_owned);
            let event = match *what {
                "DELETED" => Event::Deleted(kind, outcome.decoded.key(), Vec::new()),
                _ => outcome.into_event(),
            };
            Ok((Some(event), version))
        }
        Err(error) => {
            let event = match (*what, &error.key) {
                ("DELETED", Some(key)) => Some(Event::Deleted(kind, key.clone(), Vec::new())),
                _ => unreadable(error),
            };
            Ok((event, version_of(object)))
        }
    }
}

/// Reads one object of a list. What is not Tandem's business is no event here: the list does not name it.
pub(super) fn item(decoder: &Decoder, kind: Kind, object: &RawValue) -> Result<Option<Event>, Failure> {
    Ok(match read(decoder, kind, object, &format!("{kind}List"))? {
        Ok(outcome) => match outcome.decoded {
            Decoded::Ignore(_, _, _) if outcome.notices.is_empty() => None,
            _ => Some(outcome.into_event()),
        },
        Err(error) => unreadable(error),
    })
}

/// Decodes an object. One that is of another kind, or has no name, could be any: what holds it is not to be believed.
fn read(
    decoder: &Decoder,
    kind: Kind,
    object: &RawValue,
    holder: &str,
) -> Result<Result<Outcome, DecodeError>, Failure> {
    let error = match decoder.decode_json(kind, object.get()) {
        Ok(outcome) => return Ok(Ok(outcome)),
        Err(error) => error,
    };
    let stranger = match &error.stranger {
        Some(Stranger::OtherKind) => a(&kind_of(object.get())),
        Some(Stranger::Nameless) => format!("{} without a readable name", a(kind.name())),
        None => return Ok(Err(error)),
    };
    Err(Failure::Garbage(format!("{} with {stranger}", a(holder))))
}

fn unreadable(error: DecodeError) -> Option<Event> {
    tracing::error!("{error}; what was known of it stays");
    error.into_event()
}

fn version_of(object: &RawValue) -> Option<String> {
    let versioned: Versioned = serde_json::from_str(object.get()).ok()?;
    Some(versioned.metadata.resource_version).filter(|version| !version.is_empty())
}
