//! The protobuf around objects: a list, a watch's event, a failure's Status. Each is read as a whole, so bytes that are
//! cut off or follow each other wrongly are noticed here. Objects stay bytes until the decoder reads them.

use serde::Deserialize as _;

use super::failure::Failure;
use super::instead::{a, other, words};
use super::watched::Encoded;
use super::wire::{BookmarkObject, PageMeta, Status};
use crate::source::decode::protobuf::Object;
use crate::source::decode::protobuf::reader::{Fields, NoMessage, Value};
use crate::source::decode::protobuf::schema::{BOOKMARK, LIST_META, Message, STATUS};

/// The first bytes of an object that stands alone.
pub(super) const MAGIC: &[u8] = b"k8s\0";

/// An object in its envelope (`runtime.Unknown`).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Envelope<'a> {
    pub(super) api_version: &'a str,
    pub(super) kind: &'a str,
    pub(super) bytes: &'a [u8],
}

/// A watch event.
pub(super) struct Event<'a> {
    pub(super) what: &'a str,
    pub(super) object: Envelope<'a>,
}

/// A list.
pub(super) struct List<'a> {
    pub(super) meta: PageMeta,
    pub(super) items: Vec<Encoded<'a>>,
}

/// Gives the fields of a message to `take`.
fn each<'a>(bytes: &'a [u8], mut take: impl FnMut(u32, &'a [u8])) -> Result<(), NoMessage> {
    let mut fields = Fields(bytes);
    while let Some((number, value)) = fields.next()? {
        if let Value::Bytes(value) = value {
            take(number, value);
        }
    }
    Ok(())
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or("(no text)")
}

/// Reads an envelope. The result is none if the bytes do not begin like one.
pub(super) fn envelope(bytes: &[u8]) -> Result<Option<Envelope<'_>>, NoMessage> {
    let Some(bytes) = bytes.strip_prefix(MAGIC) else {
        return Ok(None);
    };
    let (mut envelope, mut of) = (Envelope::default(), &[][..]);
    each(bytes, |number, value| match number {
        1 => of = value,
        2 => envelope.bytes = value,
        _ => {}
    })?;
    each(of, |number, value| match number {
        1 => envelope.api_version = text(value),
        2 => envelope.kind = text(value),
        _ => {}
    })?;
    Ok(Some(envelope))
}

/// Reads the event in a frame of a watch.
pub(super) fn event(frame: &[u8]) -> Result<Event<'_>, Failure> {
    let (mut what, mut raw) = ("", &[][..]);
    let read = each(frame, |number, value| match number {
        1 => what = text(value),
        2 => raw = value,
        _ => {}
    });
    let mut object = &[][..];
    let read = read.and_then(|()| {
        each(raw, |number, value| {
            if number == 1 {
                object = value;
            }
        })
    });
    let object = read.and_then(|()| envelope(object));
    match object {
        Ok(Some(object)) => Ok(Event { what, object }),
        Ok(None) => Err(no("a watch event in protobuf", frame)),
        Err(error) => Err(Failure::Garbage(format!("a broken watch event: {error}"))),
    }
}

/// Reads a body that must be a list of this kind.
pub(super) fn list<'a>(body: &'a [u8], kind: &str, api_version: &str) -> Result<List<'a>, Failure> {
    let wanted = format!("{kind} of {api_version}");
    let broken = |error: &dyn std::fmt::Display| Failure::Garbage(format!("a broken {kind}: {error}"));
    let envelope = match envelope(body) {
        Ok(Some(envelope)) => envelope,
        Ok(None) => return Err(no(&a(&wanted), body)),
        Err(error) => return Err(broken(&error)),
    };
    if (envelope.kind, envelope.api_version) != (kind, api_version) {
        return Err(match status(&envelope) {
            Some(status) if status.code >= 400 => Failure::status(status),
            _ => other(envelope.kind, envelope.api_version, &wanted),
        });
    }
    let (mut meta, mut items) = (&[][..], Vec::new());
    each(envelope.bytes, |number, bytes| match number {
        1 => meta = bytes,
        2 => items.push(Encoded::Protobuf { kind: "", bytes }),
        _ => {}
    })
    .map_err(|error| broken(&error))?;
    let meta = PageMeta::deserialize(object(LIST_META, meta)).map_err(|error| broken(&error))?;
    Ok(List { meta, items })
}

/// Reads the object of a bookmark.
pub(super) fn bookmark(envelope: &Envelope<'_>) -> BookmarkObject {
    let read = BookmarkObject::deserialize(object(BOOKMARK, envelope.bytes));
    BookmarkObject {
        kind: envelope.kind.to_owned(),
        api_version: envelope.api_version.to_owned(),
        ..read.unwrap_or_default()
    }
}

/// Reads a Status, if the envelope holds one.
pub(super) fn status(envelope: &Envelope<'_>) -> Option<Status> {
    (envelope.kind == "Status").then(|| Status::deserialize(object(STATUS, envelope.bytes)).ok())?
}

/// Reads a body that is a Status.
pub(super) fn status_in(body: &[u8]) -> Option<Status> {
    status(&envelope(body).ok()??)
}

/// The failure of bytes that are no object in protobuf.
fn no(wanted: &str, bytes: &[u8]) -> Failure {
    let came = match bytes.first() {
        None => "nothing".to_owned(),
        Some(b'{') => "JSON that is announced as protobuf".to_owned(),
        Some(_) => words(&bytes[..bytes.len().min(200)]),
    };
    Failure::Garbage(format!("{came} instead of {wanted}"))
}

fn object<'a>(schema: &'static Message, bytes: &'a [u8]) -> Object<'a> {
    Object { schema, bytes }
}
