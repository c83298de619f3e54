//! Bodies of answers: a list's page as a whole, a watch line by line, each with a limit to how long it may be silent.

use std::error::Error;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Bytes;
use kube::client::Body;
use tokio::time::timeout;

use super::failure::Failure;
use super::machine::Input;

/// No event is longer than what etcd stores (1.5 MB) with room to spare; more is not an API server.
const LONGEST_LINE: usize = 16 << 20;
/// No page is longer than this.
const LONGEST_PAGE: usize = 512 << 20;
/// Enough of a body that is none to tell what it is.
const BEGINNING: usize = 4 << 10;

/// The lines of a body as they arrive.
pub(super) struct Lines<B> {
    body: B,
    /// Bytes read, of which those before `start` were given out.
    buffer: Vec<u8>,
    start: usize,
    /// How far the buffer was searched for the end of a line.
    searched: usize,
}

impl<B: hyper::body::Body<Data = Bytes, Error: Error + 'static> + Unpin> Lines<B> {
    pub(super) fn new(body: B) -> Self {
        Self {
            body,
            buffer: Vec::new(),
            start: 0,
            searched: 0,
        }
    }

    /// The next line, or how the body ended: nothing for so long is an end, too. Safe to cancel.
    pub(super) async fn next(&mut self, silence: Duration) -> Input<'_> {
        loop {
            if let Some(at) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') {
                let (from, to) = (self.start, self.searched + at);
                self.start = to + 1;
                self.searched = self.start;
                return Input::Line(&self.buffer[from..to]);
            }
            // Only an unfinished line is left: move it to the front, and give back what one large object took.
            self.buffer.drain(..self.start);
            self.start = 0;
            if self.buffer.is_empty() && self.buffer.capacity() > 1 << 20 {
                self.buffer = Vec::new();
            }
            self.searched = self.buffer.len();
            match timeout(silence, self.body.frame()).await {
                Err(_) => return Input::Broken(Failure::Silence(silence)),
                // What is left without an end of line was cut off; the watch is taken up again before it.
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

/// The beginning of a body, as far as it comes in time.
pub(super) async fn beginning(mut body: Body, time: Duration) -> Vec<u8> {
    let mut bytes = Vec::new();
    let read = async {
        while bytes.len() < BEGINNING
            && let Some(Ok(frame)) = body.frame().await
        {
            bytes.extend_from_slice(&frame.into_data().unwrap_or_default());
        }
    };
    // Less than all of it will do.
    let _ = timeout(time, read).await;
    bytes
}

/// A whole body.
pub(super) async fn whole(mut body: Body, silence: Duration) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    loop {
        match timeout(silence, body.frame()).await {
            Err(_) => return Err(Failure::Silence(silence)),
            Ok(None) => return Ok(bytes),
            Ok(Some(Err(error))) => return Err(Failure::transport(&error)),
            Ok(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    bytes.extend_from_slice(&data);
                }
                if bytes.len() > LONGEST_PAGE {
                    return Err(Failure::Garbage("a page longer than 512 MiB".to_owned()));
                }
            }
        }
    }
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
            let mut lines = Lines::new(Pieces(pieces.into_iter()));
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
}
