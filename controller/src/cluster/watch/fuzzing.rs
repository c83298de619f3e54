//! For fuzzing: gives the body of a watch to the machine that reads watches. There is no server, and time does not
//! pass.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::body::{Body, Bytes, Frame};

use super::backoff::Jitter;
use super::failure::Failure;
use super::kinds::OfKind;
use super::lines::{Encoding, Lines};
use super::machine::{Input, Machine, Moment, Next};
use super::query::Timing;
use super::watched::Watched as _;
use crate::event::ObjectKind;
use crate::source::decode::Decoder;

/// A body that arrives in these pieces.
struct Pieces(std::vec::IntoIter<Bytes>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.next().map(|piece| Ok(Frame::data(piece))))
    }
}

/// What a fuzzer's body is: of which kind, how it is written, and whether it begins with a list.
#[derive(Clone, Copy, Debug)]
pub struct Given {
    /// The kind of its objects.
    pub kind: ObjectKind,
    /// Whether it is protobuf, or else JSON.
    pub protobuf: bool,
    /// Whether it begins with all objects that exist.
    pub lists: bool,
}

impl Given {
    /// Takes it from one byte.
    pub fn of(byte: u8, protobuf: bool) -> Self {
        let kinds = ObjectKind::ALL.len();
        Self {
            kind: ObjectKind::ALL[usize::from(byte) % kinds],
            protobuf,
            lists: (usize::from(byte) / kinds) % 2 == 1,
        }
    }
}

/// Reads a watch's body from these pieces, until the machine has read enough. If the body does not begin with a list, an
/// empty list comes before it. Returns the events.
pub async fn watch(decoder: Decoder, given: Given, pieces: Vec<Vec<u8>>) -> Vec<String> {
    let watched = OfKind::new(given.kind, "node-a", &Arc::new(decoder));
    let resource = watched.resource();
    let (list, version) = (resource.list_kind(), resource.api_version());
    let empty =
        format!(r#"{{"kind":"{list}","apiVersion":"{version}","metadata":{{"resourceVersion":"5"}},"items":[]}}"#);
    let at = Moment {
        now: Instant::now(),
        admitted: true,
    };
    let (mut machine, mut events) = (Machine::new(watched, Timing::default(), Jitter::seeded(0)), Vec::new());
    machine.step(Input::Time, at, &mut events);
    if !given.lists {
        let refused = Failure::Answer {
            code: 422,
            message: String::new(),
            retry_after: None,
        };
        machine.step(Input::Opened(Err(refused)), at, &mut events);
        machine.step(Input::Page(Ok(empty.as_bytes())), at, &mut events);
    }
    let mut next = machine.step(Input::Opened(Ok(())), at, &mut events);
    let pieces: Vec<Bytes> = pieces.into_iter().map(Bytes::from).collect();
    let encoding = if given.protobuf {
        Encoding::Protobuf
    } else {
        Encoding::Json
    };
    let mut lines = Lines::new(Pieces(pieces.into_iter()), encoding);
    while matches!(next, Next::Read(_)) {
        let input = lines.next(Duration::from_secs(1)).await;
        next = machine.step(input, at, &mut events);
    }
    events.iter().map(|event| format!("{event:?}")).collect()
}
