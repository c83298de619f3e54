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
use super::lines::Lines;
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

/// Lists nothing, then reads a watch's body from these pieces, until the machine has read enough. Returns the events.
pub async fn watch(decoder: Decoder, kind: ObjectKind, pieces: Vec<Vec<u8>>) -> Vec<String> {
    let watched = OfKind::new(kind, "node-a", &Arc::new(decoder));
    let resource = watched.resource();
    let (list, version) = (resource.list_kind(), resource.api_version());
    let empty =
        format!(r#"{{"kind":"{list}","apiVersion":"{version}","metadata":{{"resourceVersion":"5"}},"items":[]}}"#);
    let at = Moment {
        now: Instant::now(),
        admitted: true,
    };
    let (mut machine, mut events) = (Machine::new(watched, Timing::default(), Jitter::seeded(0)), Vec::new());
    let refused = Failure::Answer {
        code: 422,
        message: String::new(),
        retry_after: None,
    };
    let beginning = [
        Input::Time,
        Input::Opened(Err(refused)),
        Input::Page(Ok(empty.as_bytes())),
    ];
    for input in beginning {
        machine.step(input, at, &mut events);
    }
    let mut next = machine.step(Input::Opened(Ok(())), at, &mut events);
    let pieces: Vec<Bytes> = pieces.into_iter().map(Bytes::from).collect();
    let mut lines = Lines::new(Pieces(pieces.into_iter()));
    while matches!(next, Next::Read(_)) {
        let input = lines.next(Duration::from_secs(1)).await;
        next = machine.step(input, at, &mut events);
    }
    events.iter().map(|event| format!("{event:?}")).collect()
}
