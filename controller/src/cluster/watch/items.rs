//! The body of a list's page, item by item. It may be silent only for a limited time.

use std::error::Error;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Bytes;
use serde_json::value::RawValue;
use tokio::time::{Instant, timeout_at};

use super::failure::Failure;
use super::instead::broken;
use super::machine::Input;
use super::split::{Splitter, Wanted};
use super::watched::Encoded;
use super::wire::Encoding;

/// No page of a list takes longer than this, even if some of it arrives all the time. A watch does not last longer either.
const LONGEST: Duration = Duration::from_mins(10);

/// The items of a page as they arrive.
pub(super) struct Items<B> {
    body: B,
    /// The page must have ended by then.
    end: Instant,
    wanted: Wanted,
    splitter: Splitter,
}

impl<B: hyper::body::Body<Data = Bytes, Error: Error + 'static> + Unpin> Items<B> {
    pub(super) fn new(body: B, encoding: Encoding, wanted: Wanted) -> Self {
        Self {
            body,
            end: Instant::now() + LONGEST,
            splitter: Splitter::new(encoding, wanted.clone()),
            wanted,
        }
    }

    /// The next item, or the page without its items, or how the body broke off. No part of the body may take longer than
    /// `silence`, and the whole body not longer than [`LONGEST`].
    pub(super) async fn next(&mut self, silence: Duration) -> Input<'_> {
        loop {
            match self.splitter.find() {
                Ok(Some(found)) => {
                    let bytes = self.splitter.item(found);
                    return match self.splitter.encoding() {
                        Encoding::Protobuf => Input::Item(Encoded::Protobuf { kind: "", bytes }),
                        Encoding::Json => match serde_json::from_slice::<&RawValue>(bytes) {
                            Ok(object) => Input::Item(Encoded::Json(object)),
                            Err(error) => Input::Broken(broken(&error, &self.wanted.kind)),
                        },
                    };
                }
                Ok(None) => {}
                Err(failure) => return Input::Broken(failure),
            }
            let silent = Instant::now() + silence;
            match timeout_at(silent.min(self.end), self.body.frame()).await {
                Err(_) if silent > self.end => {
                    let time = LONGEST.as_secs();
                    return Input::Broken(Failure::Garbage(format!("a list that had no end after {time} s")));
                }
                Err(_) => return Input::Broken(Failure::Silence(silence)),
                Ok(None) => break,
                Ok(Some(Err(error))) => return Input::Broken(Failure::transport(&error)),
                Ok(Some(Ok(frame))) => {
                    if let Err(failure) = self.splitter.feed(&frame.into_data().unwrap_or_default()) {
                        return Input::Broken(failure);
                    }
                }
            }
        }
        let encoding = self.splitter.encoding();
        match self.splitter.end() {
            Ok(page) if encoding == Encoding::Json => Input::Page(page),
            Ok(page) => Input::ProtobufPage(page),
            Err(failure) => Input::Broken(failure),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll, ready};

    use hyper::body::Frame;
    use tokio::time::Sleep;

    use super::*;
    use crate::cluster::watch::kinds::OfKind;
    use crate::cluster::watch::watched::Watched as _;
    use crate::event::ObjectKind;

    const EVERY: Duration = Duration::from_secs(20);

    /// A body of which one byte comes from time to time.
    struct Drips(Pin<Box<Sleep>>);

    impl hyper::body::Body for Drips {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            ready!(self.0.as_mut().poll(context));
            self.0.as_mut().reset(Instant::now() + EVERY);
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b" ")))))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_that_only_drips_ends_as_one_without_an_end() {
        let body = Drips(Box::pin(tokio::time::sleep(EVERY)));
        let wanted = Wanted::of(&OfKind::sample(ObjectKind::Service, "a").resource());
        let mut items = Items::new(body, Encoding::Json, wanted);
        let began = Instant::now();
        let Input::Broken(failure) = items.next(Duration::from_secs(30)).await else {
            panic!("a list that only drips has no item and no end");
        };
        assert_eq!(
            failure,
            Failure::Garbage("a list that had no end after 600 s".to_owned())
        );
        assert_eq!(began.elapsed(), LONGEST);
    }
}
