//! Reads single events of a watch, for benchmarks.

use std::sync::Arc;

use super::kinds::OfKind;
use super::objects::{self, WatchLine};
use crate::event::{Event, ObjectKind};
use crate::source::decode::Decoder;

/// Reads the events of a watch of one kind.
#[derive(Debug)]
pub struct Events(OfKind);

impl Events {
    /// As a node reads them.
    pub fn of(kind: ObjectKind, node_name: &str) -> Self {
        Self(OfKind::new(kind, node_name, &Arc::new(Decoder::new(node_name))))
    }

    /// The event in a line of JSON; none if it says nothing about an object that Tandem needs.
    pub fn line(&self, line: &[u8]) -> Option<Event> {
        Self::event(objects::line(&self.0, line, false).ok()?)
    }

    /// The event in a frame of protobuf, without the frame's length.
    pub fn frame(&self, frame: &[u8]) -> Option<Event> {
        Self::event(objects::frame(&self.0, frame, false).ok()?)
    }

    fn event(line: WatchLine<Event>) -> Option<Event> {
        match line {
            WatchLine::Change(read) => read.event,
            WatchLine::Bookmark(_) | WatchLine::Listed(_) => None,
        }
    }
}
