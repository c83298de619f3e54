//! The body of a list's page, item by item. It may be silent only for a limited time.

use std::error::Error;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Bytes;
use serde_json::value::RawValue;
use tokio::time::timeout;

use super::failure::Failure;
use super::instead::broken;
use super::machine::Input;
use super::split::{Splitter, Wanted};
use super::watched::Encoded;
use super::wire::Encoding;

/// The items of a page as they arrive.
pub(super) struct Items<B> {
    body: B,
    wanted: Wanted,
    splitter: Splitter,
}

impl<B: hyper::body::Body<Data = Bytes, Error: Error + 'static> + Unpin> Items<B> {
    pub(super) fn new(body: B, encoding: Encoding, wanted: Wanted) -> Self {
        Self {
            body,
            splitter: Splitter::new(encoding, wanted.clone()),
            wanted,
        }
    }

    /// The next item, or the page without its items, or how the body broke off. No part of the body may take longer than
    /// `silence`.
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
            match timeout(silence, self.body.frame()).await {
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
