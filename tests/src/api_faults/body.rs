//! Passes the body of an answer on, frame by frame, and brings the fault into it.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::{Body, Bytes, Frame};
use tokio::sync::Notify;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::{Instant, sleep, sleep_until};

use super::case::{Encoding, Kind, Phase};
use super::fault::Fault;
use super::frames::{Frames, ends_a_list, error_event, is_a_bookmark, with_wrong_length};
use super::session::Session;

/// How long a pause lasts.
const PAUSE: Duration = Duration::from_millis(1500);
/// The time after which what was sent before a fault has left. A reset would take it back.
const FLUSH: Duration = Duration::from_millis(40);
const HTML: &[u8] = b"<html><body>502 Bad Gateway</body></html>\n";

/// The error that makes the server reset a stream.
#[derive(Debug)]
pub(super) struct Cut;

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cut by the test")
    }
}

impl std::error::Error for Cut {}

/// A body whose bytes come from a channel. It ends when the channel does.
pub(super) struct Passed(Receiver<Result<Bytes, Cut>>);

impl Body for Passed {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        self.0
            .poll_recv(context)
            .map(|next| next.map(|bytes| bytes.map(Frame::data)))
    }
}

/// A body of these bytes.
pub(super) fn whole(bytes: impl Into<Bytes>) -> Passed {
    let (sender, receiver) = channel(1);
    let _ = sender.try_send(Ok(bytes.into()));
    Passed(receiver)
}

/// The connection that carries an answer.
#[derive(Debug, Default)]
pub(super) struct Carrier {
    /// Ends it without a word.
    pub(super) cut: Notify,
    /// Says that it ends soon.
    pub(super) go_away: Notify,
}

/// The way of one body.
pub(super) struct Passage {
    pub(super) session: Arc<Session>,
    pub(super) carrier: Arc<Carrier>,
    pub(super) kind: Kind,
    pub(super) encoding: Encoding,
    pub(super) phase: Phase,
}

/// The receiver is gone, or the body has ended.
struct Ended;

struct Way {
    passage: Passage,
    to: Sender<Result<Bytes, Cut>>,
    /// A frame that waits for the one behind it.
    held: Option<Vec<u8>>,
    /// When the body ends, if a length was wrong. The client may wait for bytes that belong to no frame.
    end: Option<Instant>,
}

impl Passage {
    /// Passes a watch on.
    pub(super) fn watch<B>(self, from: B) -> Passed
    where
        B: Body<Data = Bytes, Error: Send> + Send + Unpin + 'static,
    {
        let (to, receiver) = channel(16);
        tokio::spawn(async move {
            let way = Way::new(self, to);
            let _ = way.follow(from).await;
        });
        Passed(receiver)
    }

    /// Passes a page on.
    pub(super) fn page(self, body: Vec<u8>) -> Passed {
        let (to, receiver) = channel(16);
        tokio::spawn(async move {
            let mut way = Way::new(self, to);
            let _ = way.pass(body).await;
        });
        Passed(receiver)
    }
}

impl Way {
    fn new(passage: Passage, to: Sender<Result<Bytes, Cut>>) -> Self {
        Self {
            passage,
            to,
            held: None,
            end: None,
        }
    }

    async fn follow<B: Body<Data = Bytes> + Unpin>(mut self, mut from: B) -> Result<(), Ended> {
        let session = Arc::clone(&self.passage.session);
        let mut frames = Frames::new(self.passage.encoding);
        loop {
            let mine = self.passage.kind == session.case.kind;
            let next = tokio::select! {
                next = from.frame() => next,
                () = session.end.notified(), if mine => return Ok(()),
                () = self.to.closed() => return Ok(()),
                () = sleep_until(self.end.unwrap_or_else(Instant::now)), if self.end.is_some() => return Ok(()),
            };
            match next {
                None => return Ok(()),
                Some(Err(_)) => return self.reset().await,
                Some(Ok(frame)) => frames.push(&frame.into_data().unwrap_or_default()),
            }
            while let Some(frame) = frames.next() {
                let last = self.passage.phase == Phase::List && ends_a_list(&frame);
                self.pass(frame).await?;
                if last {
                    self.passage.phase = Phase::Watch;
                }
            }
        }
    }

    /// Passes a frame on, or a page.
    async fn pass(&mut self, frame: Vec<u8>) -> Result<(), Ended> {
        let passage = &self.passage;
        if passage.phase == Phase::Watch && is_a_bookmark(&frame, passage.encoding) {
            return self.send(frame).await;
        }
        let struck = passage.session.passes(passage.kind, passage.phase, frame.len());
        if let Some(before) = struck {
            return self.strike(frame, before).await;
        }
        let held = self.held.take();
        self.send(frame).await?;
        if let Some(held) = held {
            self.send(held).await?;
            self.passage.session.over();
        }
        Ok(())
    }

    async fn strike(&mut self, frame: Vec<u8>, before: usize) -> Result<(), Ended> {
        let fault = self.passage.session.case.fault;
        if fault == Fault::Swap {
            self.held = Some(frame); // the fault is over when the next frame has come
            return Ok(());
        }
        let struck = self.strike_at(fault, frame, before).await;
        self.passage.session.over();
        struck
    }

    async fn strike_at(&mut self, fault: Fault, frame: Vec<u8>, before: usize) -> Result<(), Ended> {
        let encoding = self.passage.encoding;
        let rest = frame[before..].to_vec();
        if before > 0 {
            self.send(frame[..before].to_vec()).await?;
        }
        match fault {
            Fault::Reset => self.reset().await,
            Fault::Break => {
                sleep(FLUSH).await;
                self.passage.carrier.cut.notify_one();
                // If the body ended now, its end might still be sent.
                self.to.closed().await;
                Err(Ended)
            }
            Fault::End => Err(Ended),
            Fault::GoAway => {
                self.passage.carrier.go_away.notify_one();
                sleep(FLUSH).await;
                Err(Ended)
            }
            Fault::PauseRest => {
                sleep(PAUSE).await;
                self.send(rest).await
            }
            Fault::PauseReset => {
                sleep(PAUSE).await;
                self.reset().await
            }
            Fault::PauseEnd => {
                sleep(PAUSE).await;
                Err(Ended)
            }
            Fault::Silence => {
                self.to.closed().await;
                Err(Ended)
            }
            Fault::Twice | Fault::EndTwice => {
                self.send(frame.clone()).await?;
                self.send(frame).await
            }
            Fault::Longer | Fault::Shorter => {
                self.end = Some(Instant::now() + PAUSE);
                self.send(with_wrong_length(&frame, encoding, fault == Fault::Longer))
                    .await
            }
            Fault::Huge => self.send(b"\x7f\xff\xff\xff".to_vec()).await,
            Fault::Zero => {
                let nothing: &[u8] = if encoding == Encoding::Json { b"\n" } else { &[0; 4] };
                self.send(nothing.to_vec()).await?;
                self.send(frame).await
            }
            Fault::Html => self.last(HTML.to_vec()).await,
            Fault::OtherEncoding => {
                let other = match encoding {
                    Encoding::Protobuf => error_event(Encoding::Json, 500),
                    Encoding::Json => [error_event(Encoding::Protobuf, 500), b"\n".to_vec()].concat(),
                };
                self.last(other).await
            }
            Fault::Error401 => self.last(error_event(encoding, 401)).await,
            Fault::Error410 => self.last(error_event(encoding, 410)).await,
            Fault::Error429 => self.last(error_event(encoding, 429)).await,
            Fault::Error500 => self.last(error_event(encoding, 500)).await,
            Fault::Error503 => self.last(error_event(encoding, 503)).await,
            // A lie leaves the frame out. All others are no faults of a body.
            _ => Ok(()),
        }
    }

    /// Sends these bytes and ends the body.
    async fn last(&mut self, bytes: Vec<u8>) -> Result<(), Ended> {
        self.send(bytes).await?;
        Err(Ended)
    }

    async fn reset(&mut self) -> Result<(), Ended> {
        sleep(FLUSH).await;
        let _ = self.to.send(Err(Cut)).await;
        Err(Ended)
    }

    async fn send(&mut self, bytes: Vec<u8>) -> Result<(), Ended> {
        self.to.send(Ok(bytes.into())).await.map_err(|_| Ended)
    }
}
