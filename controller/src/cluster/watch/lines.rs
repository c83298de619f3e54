//! The body of a watch, line by line or frame by frame. It may be silent only for a limited time.

use std::error::Error;
use std::ops::Range;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Bytes;
use kube::client::Body;
use tokio::time::{Instant, timeout, timeout_at};

use super::failure::Failure;
use super::machine::Input;
use super::wire::Encoding;

/// No event is longer than this. etcd stores at most 1.5 MB, so whatever sends a longer line is not an API server.
const LONGEST_LINE: usize = 16 << 20;

/// The lines or frames of a body as they arrive.
pub(super) struct Lines<B> {
    body: B,
    encoding: Encoding,
    /// The bytes that were read. Those before `start` were given out.
    buffer: Vec<u8>,
    start: usize,
    /// How far the buffer was searched for the end of a line.
    searched: usize,
}

impl<B: hyper::body::Body<Data = Bytes, Error: Error + 'static> + Unpin> Lines<B> {
    pub(super) fn new(body: B, encoding: Encoding) -> Self {
        Self {
            body,
            encoding,
            buffer: Vec::new(),
            start: 0,
            searched: 0,
        }
    }

    /// Where the next line or frame is in the buffer, if all of it has arrived, and where the one after it begins.
    fn find(&self) -> Result<Option<(Range<usize>, usize)>, Failure> {
        if self.encoding == Encoding::Json {
            let end = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n');
            let end = end.map(|at| self.searched + at);
            return Ok(end.map(|end| (self.start..end, end + 1)));
        }
        let Some((length, rest)) = self.buffer[self.start..].split_first_chunk::<4>() else {
            return Ok(None);
        };
        let size = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        if length[0] == b'{' {
            return Err(Failure::Garbage("JSON that is announced as protobuf".to_owned()));
        }
        if size > LONGEST_LINE {
            return Err(Failure::Garbage(format!(
                "an event of {size} bytes, which is more than 16 MiB"
            )));
        }
        let from = self.start + length.len();
        Ok((size <= rest.len()).then(|| (from..from + size, from + size)))
    }

    /// The next line or frame, or how the body ended. If it has not arrived within the time `silence`, that ends the body too.
    /// This function is cancel-safe.
    pub(super) async fn next(&mut self, silence: Duration) -> Input<'_> {
        // A server that sends a line byte by byte has no more time than another one.
        let deadline = Instant::now() + silence;
        loop {
            match self.find() {
                Ok(Some((found, next))) => {
                    (self.start, self.searched) = (next, next);
                    let found = &self.buffer[found];
                    return match self.encoding {
                        Encoding::Json => Input::Line(found),
                        Encoding::Protobuf => Input::Frame(found),
                    };
                }
                Ok(None) => {}
                Err(failure) => return Input::Broken(failure),
            }
            // Only an unfinished line or frame is left. It moves to the front, and the memory of a large object is given back.
            self.buffer.drain(..self.start);
            self.start = 0;
            if self.buffer.is_empty() && self.buffer.capacity() > 1 << 20 {
                self.buffer = Vec::new();
            }
            self.searched = self.buffer.len();
            match timeout_at(deadline, self.body.frame()).await {
                Err(_) => return Input::Broken(Failure::Silence(silence)),
                // A rest without an end of line was cut off. The next watch begins before it.
                Ok(None) => return Input::End(&self.buffer),
                Ok(Some(Err(error))) => return Input::Broken(Failure::transport(&error)),
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                    if self.buffer.len() > LONGEST_LINE {
                        return Input::Broken(Failure::Garbage("an event longer than 16 MiB".to_owned()));
                    }
                }
            }
        }
    }
}

/// The beginning of a body, at least `most` bytes if there are as many, as far as it arrives within this time.
pub(super) async fn beginning(mut body: Body, most: usize, time: Duration) -> Vec<u8> {
    let mut bytes = Vec::new();
    let read = async {
        while bytes.len() < most
            && let Some(Ok(frame)) = body.frame().await
        {
            bytes.extend_from_slice(&frame.into_data().unwrap_or_default());
        }
    };
    // If only a part arrived in time, that part is enough.
    let _ = timeout(time, read).await;
    bytes
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use hyper::body::Frame;

    use super::*;

    /// A body that arrives in these pieces.
    struct Pieces(std::vec::IntoIter<&'static str>);

    impl hyper::body::Body for Pieces {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(
                self.0
                    .next()
                    .map(|piece| Ok(Frame::data(Bytes::from_static(piece.as_bytes())))),
            )
        }
    }

    #[tokio::test]
    async fn lines_come_out_whole_however_they_arrive() {
        for pieces in [
            vec!["a\nbc\n"],
            vec!["a", "\nb", "c", "\n"],
            vec!["", "a\nb", "c\nunfinished"],
        ] {
            let mut lines = Lines::new(Pieces(pieces.into_iter()), Encoding::Json);
            let mut seen = Vec::new();
            let rest = loop {
                match lines.next(Duration::from_secs(1)).await {
                    Input::Line(line) => seen.push(String::from_utf8(line.to_vec()).unwrap()),
                    Input::End(rest) => break rest.to_vec(),
                    other => panic!("{other:?}"),
                }
            };
            assert_eq!(seen, ["a", "bc"]);
            assert!(rest.is_empty() || rest == b"unfinished", "{rest:?}");
        }
    }

    #[tokio::test]
    async fn frames_come_out_whole_however_they_arrive() {
        for pieces in [
            vec!["\0\0\0\u{1}a\0\0\0\u{2}b\n"],
            vec!["\0\0", "\0\u{1}", "a", "\0\0\0\u{2}b", "\n"],
            vec!["\0\0\0\u{1}a\0\0\0\u{2}b\n\0\0\0\u{9}cut"],
        ] {
            let mut lines = Lines::new(Pieces(pieces.into_iter()), Encoding::Protobuf);
            let mut seen = Vec::new();
            let rest = loop {
                match lines.next(Duration::from_secs(1)).await {
                    Input::Frame(frame) => seen.push(String::from_utf8(frame.to_vec()).unwrap()),
                    Input::End(rest) => break rest.to_vec(),
                    other => panic!("{other:?}"),
                }
            };
            assert_eq!(seen, ["a", "b\n"]);
            assert!(rest.is_empty() || rest == b"\0\0\0\x09cut", "{rest:?}");
        }
    }

    #[tokio::test]
    async fn lengths_that_lie_are_named() {
        for (piece, words) in [
            ("{\"type\":\"ADDED\"}\n", "JSON that is announced as protobuf"),
            (
                "\u{7f}\u{7f}\u{7f}\u{7f}",
                "an event of 2139062143 bytes, which is more than 16 MiB",
            ),
        ] {
            let mut lines = Lines::new(Pieces(vec![piece].into_iter()), Encoding::Protobuf);
            let Input::Broken(failure) = lines.next(Duration::from_secs(1)).await else {
                panic!("{piece}")
            };
            assert_eq!(failure, Failure::Garbage(words.to_owned()));
        }
    }
}
