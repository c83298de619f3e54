//! The body of a watch to what becomes of its lines, without a server and a clock that matters.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame};

use super::failure::Failure;
use super::lines::Lines;
use super::wire::{Line, Versioned};
use crate::event::Kind;
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

/// Reads a watch's body that arrives in these pieces; gives what each line was, and what ended the watch.
pub async fn watch(decoder: &Decoder, kind: Kind, pieces: Vec<Vec<u8>>) -> Vec<String> {
    let pieces: Vec<Bytes> = pieces.into_iter().map(Bytes::from).collect();
    let mut lines = Lines::new(Pieces(pieces.into_iter()));
    let mut seen = Vec::new();
    loop {
        let line = match lines.next(Duration::from_secs(1)).await {
            Ok(Some([])) => continue,
            Ok(Some(line)) => line,
            Ok(None) => return seen,
            Err(failure) => {
                seen.push(failure.reason("watch", "objects"));
                return seen;
            }
        };
        let line: Line<'_> = match serde_json::from_slice(line) {
            Ok(line) => line,
            Err(error) => {
                seen.push(error.to_string());
                return seen;
            }
        };
        let version = || serde_json::from_str::<Versioned>(line.object.get()).unwrap_or_default();
        seen.push(match line.what {
            "BOOKMARK" => format!("bookmark {:?}", version().metadata.resource_version),
            "ERROR" => Failure::event(line.object.get()).reason("watch", "objects"),
            what => match decoder.decode_json(kind, line.object.get()) {
                Ok(outcome) => format!("{what} {}", outcome.decoded.key()),
                Err(error) => format!("{error} {:?}", version().metadata.resource_version),
            },
        });
    }
}
