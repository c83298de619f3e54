//! Splits a list into its items while its bytes arrive, so that no whole list is in memory. What is around the
//! items is kept. In the end it is read as a list without items, by the code that reads any page.
//!
//! No item is given out before the list has said that it is of the kind and of a version that were asked for. API servers
//! write that first. If a list says something else, or says it later, the list is kept whole.

mod json;
mod protobuf;
#[cfg(test)]
mod tests;

use std::ops::Range;

use super::failure::Failure;
use super::versions::Versions;
use super::watched::Resource;
use super::wire::Encoding;
use json::Json;
use protobuf::Protobuf;

/// No object is longer than this. etcd stores at most 1.5 MB.
const LONGEST_ITEM: usize = 16 << 20;
/// No page of a list is longer than this.
const LONGEST_PAGE: usize = 512 << 20;

/// The list that was asked for: its `kind` and `apiVersion`, and which versions it may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) kind: String,
    pub(super) api_version: &'static str,
    pub(super) versions: Versions,
}

impl Wanted {
    pub(super) fn of(resource: &Resource) -> Self {
        Self {
            kind: resource.list_kind(),
            api_version: resource.api_version(),
            versions: Versions::Any,
        }
    }

    fn is(&self, kind: &str, api_version: &str) -> bool {
        self.kind == kind && self.api_version == api_version
    }
}

/// The bytes of a page, as far as they have arrived.
#[derive(Debug)]
pub(super) struct Splitter {
    /// The bytes that were not given out. Those before `start` were.
    buffer: Vec<u8>,
    start: usize,
    /// How many bytes have arrived.
    arrived: usize,
    form: Form,
}

#[derive(Debug)]
enum Form {
    Json(Json),
    Protobuf(Protobuf),
}

impl Splitter {
    pub(super) fn new(encoding: Encoding, wanted: Wanted) -> Self {
        Self {
            buffer: Vec::new(),
            start: 0,
            arrived: 0,
            form: match encoding {
                Encoding::Json => Form::Json(Json::new(wanted)),
                Encoding::Protobuf => Form::Protobuf(Protobuf::new(wanted)),
            },
        }
    }

    pub(super) fn encoding(&self) -> Encoding {
        match self.form {
            Form::Json(_) => Encoding::Json,
            Form::Protobuf(_) => Encoding::Protobuf,
        }
    }

    /// Takes the next bytes.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.arrived = self.arrived.saturating_add(bytes.len());
        if self.arrived > LONGEST_PAGE {
            return Err(Failure::Garbage("a page longer than 512 MiB".to_owned()));
        }
        // Only an unfinished item is left. It moves to the front, and the memory of a large one is given back.
        self.buffer.drain(..self.start);
        self.start = 0;
        if self.buffer.is_empty() && self.buffer.capacity() > 1 << 20 {
            self.buffer = Vec::new();
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// Where the next item is in the buffer, if all of it has arrived.
    pub(super) fn find(&mut self) -> Result<Option<Range<usize>>, Failure> {
        let rest = &self.buffer[self.start..];
        let (found, used) = match &mut self.form {
            Form::Json(json) => json.find(rest),
            Form::Protobuf(protobuf) => protobuf.find(rest)?,
        };
        let found = found.map(|found| self.start + found.start..self.start + found.end);
        self.start += used;
        if self.buffer.len() - self.start > LONGEST_ITEM {
            return Err(Failure::Garbage("an object longer than 16 MiB".to_owned()));
        }
        Ok(found)
    }

    /// The bytes of an item that was found.
    pub(super) fn item(&self, found: Range<usize>) -> &[u8] {
        &self.buffer[found]
    }

    /// All bytes have arrived. The result is the page without the items that were given out. If the bytes were cut off,
    /// it is no page either.
    pub(super) fn end(&mut self) -> Result<&[u8], Failure> {
        let rest = &self.buffer[self.start..];
        match &mut self.form {
            Form::Json(json) => Ok(json.end(rest)),
            Form::Protobuf(protobuf) => protobuf.end(rest),
        }
    }
}
