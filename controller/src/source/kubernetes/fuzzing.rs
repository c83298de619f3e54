//! The body of a watch to what becomes of its lines, without a server and a clock that matters.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame};

use super::lines::Lines;
use super::objects::{self, Told};
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
        seen.push(match objects::line(decoder, kind, line) {
            Ok(Told::Bookmark(version)) => format!("bookmark {version:?}"),
            Ok(Told::Change(Some(event), version)) => format!("{event:?} {version:?}"),
            Ok(Told::Change(None, version)) => format!("nobody knows what {version:?}"),
            Err(failure) => {
                seen.push(failure.reason("watch", "objects"));
                return seen;
            }
        });
    }
}
