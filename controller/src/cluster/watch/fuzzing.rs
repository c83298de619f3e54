//! For fuzzing: gives the body of a list or of a watch to the machine that reads them. There is no server, and time does
//! not pass.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::body::{Body, Bytes, Frame};

use super::backoff::Jitter;
use super::items::Items;
use super::kinds::OfKind;
use super::lines::Lines;
use super::machine::{Input, Machine, Moment, Next};
use super::query::Timing;
use super::split::Wanted;
use super::wire::Encoding;
use crate::event::{Event, ObjectKind};
use crate::source::decode::Decoder;
use crate::ways::{Lists, Ways};

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

    /// Takes a list's from one byte.
    pub fn of_list(byte: u8) -> Self {
        let kinds = ObjectKind::ALL.len();
        Self::of(byte, (usize::from(byte) / kinds) % 2 == 1)
    }
}

/// A machine that has asked for its list, and its events.
struct Bench {
    machine: Machine<OfKind>,
    events: Vec<Event>,
    at: Moment,
}

impl Bench {
    fn new(decoder: Decoder, kind: ObjectKind, lists: Lists) -> Self {
        let watched = OfKind::new(kind, "node-a", &Arc::new(decoder));
        let ways = Ways {
            lists,
            ..Ways::default()
        };
        let mut bench = Self {
            machine: Machine::new(watched, &ways, Timing::default(), Jitter::seeded(0)),
            events: Vec::new(),
            at: Moment {
                now: Instant::now(),
                admitted: true,
            },
        };
        bench.step(Input::Time);
        bench
    }

    fn step(&mut self, input: Input<'_>) -> Next {
        self.machine.step(input, self.at, &mut self.events)
    }

    fn events(self) -> Vec<String> {
        self.events.iter().map(|event| format!("{event:?}")).collect()
    }
}

fn body(given: Given, pieces: Vec<Vec<u8>>) -> (Pieces, Encoding) {
    let pieces: Vec<Bytes> = pieces.into_iter().map(Bytes::from).collect();
    let encoding = if given.protobuf {
        Encoding::Protobuf
    } else {
        Encoding::Json
    };
    (Pieces(pieces.into_iter()), encoding)
}

/// Reads a watch's body from these pieces, until the machine has read enough. If the body does not begin with a list, an
/// empty list comes before it. Returns the events.
pub async fn watch(decoder: Decoder, given: Given, pieces: Vec<Vec<u8>>) -> Vec<String> {
    let lists = if given.lists { Lists::Stream } else { Lists::Cache };
    let mut bench = Bench::new(decoder, given.kind, lists);
    if !given.lists {
        let Wanted { kind, api_version, .. } = bench.machine.wanted();
        let empty = format!(
            r#"{{"kind":"{kind}","apiVersion":"{api_version}","metadata":{{"resourceVersion":"5"}},"items":[]}}"#
        );
        bench.step(Input::Page(empty.as_bytes()));
    }
    let mut next = bench.step(Input::Opened(Ok(())));
    let (body, encoding) = body(given, pieces);
    let mut lines = Lines::new(body, encoding);
    while matches!(next, Next::Read(_)) {
        next = bench.step(lines.next(Duration::from_secs(1)).await);
    }
    bench.events()
}

/// Reads the body of a list's only page from these pieces. Returns the events.
pub async fn list(decoder: Decoder, given: Given, pieces: Vec<Vec<u8>>) -> Vec<String> {
    let mut bench = Bench::new(decoder, given.kind, Lists::Cache);
    let mut next = bench.step(Input::Opened(Ok(())));
    let (body, encoding) = body(given, pieces);
    let mut items = Items::new(body, encoding, bench.machine.wanted());
    while matches!(next, Next::Read(_)) {
        next = bench.step(items.next(Duration::from_secs(1)).await);
    }
    bench.events()
}
