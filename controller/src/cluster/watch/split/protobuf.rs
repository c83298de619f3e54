//! A list in protobuf: four bytes, then the envelope (`runtime.Unknown`), in which the list is one field. The items are
//! fields of the list. They are taken out, and the lengths around them are written anew.

use std::ops::Range;

use prost::encoding::{WireType, encode_varint};

use super::{LONGEST_ITEM, Wanted};
use crate::cluster::watch::failure::Failure;
use crate::cluster::watch::instead::a;
use crate::cluster::watch::protobuf::{MAGIC, envelope};
use crate::source::decode::protobuf::reader::Fields;

/// The field of an envelope that holds the object.
const OBJECT: u64 = 2;
/// The field of a list that holds an item.
const ITEM: u64 = 2;
/// The field of a list that holds its metadata, and the field of these that holds the version.
const META: u32 = 1;
const VERSION: u32 = 2;

#[derive(Debug)]
pub(super) struct Protobuf {
    wanted: Wanted,
    place: Place,
    /// The envelope without the items that were given out.
    shell: Vec<u8>,
    /// The same of the list in it.
    list: Vec<u8>,
    /// Whether items may have been given out.
    split: bool,
    /// Whether the list has said that it has a wanted version.
    versioned: bool,
}

/// Where the next byte belongs.
#[derive(Clone, Copy, Debug, Default)]
enum Place {
    /// Before the envelope.
    #[default]
    Start,
    /// Between two fields of the envelope.
    Envelope,
    /// Between two fields of the list, which has this many bytes more.
    List(usize),
    /// In a list of which this many bytes are copied: a field is broken, or its version is not a wanted one.
    KeptList(usize),
    /// Behind something wrong, or in a list that did not say that it is the wanted one. All of it is copied.
    Rest,
}

/// A field, as far as it has arrived.
enum Field {
    /// Not even its length has arrived.
    Unfinished,
    /// It is none.
    Broken,
    /// Its number, whether it has bytes, how many bytes stand before its value, and how long the value is.
    Whole {
        number: u64,
        bytes: bool,
        before: usize,
        length: usize,
    },
}

/// A number at the beginning of these bytes and its length; none if its end has not arrived.
fn number(bytes: &[u8]) -> Result<Option<(u64, usize)>, ()> {
    let mut number = 0_u64;
    for (index, byte) in bytes.iter().enumerate().take(10) {
        // The tenth byte has room for one bit.
        if index == 9 && *byte > 1 {
            return Err(());
        }
        number |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(Some((number, index + 1)));
        }
    }
    if bytes.len() < 10 { Ok(None) } else { Err(()) }
}

fn field(bytes: &[u8]) -> Field {
    let (key, before) = match number(bytes) {
        Ok(Some(read)) => read,
        Ok(None) => return Field::Unfinished,
        Err(()) => return Field::Broken,
    };
    let whole = |length| Field::Whole {
        number: key >> 3,
        bytes: false,
        before,
        length,
    };
    match WireType::try_from(key & 7) {
        Ok(WireType::SixtyFourBit) => whole(8),
        Ok(WireType::ThirtyTwoBit) => whole(4),
        Ok(kind @ (WireType::Varint | WireType::LengthDelimited)) => match number(&bytes[before..]) {
            Ok(Some((_, length))) if kind == WireType::Varint => whole(length),
            Ok(Some((value, length))) => Field::Whole {
                number: key >> 3,
                bytes: true,
                before: before + length,
                length: usize::try_from(value).unwrap_or(usize::MAX),
            },
            Ok(None) => Field::Unfinished,
            Err(()) => Field::Broken,
        },
        Ok(WireType::StartGroup | WireType::EndGroup) | Err(_) => Field::Broken,
    }
}

impl Protobuf {
    pub(super) fn new(wanted: Wanted) -> Self {
        Self {
            wanted,
            place: Place::default(),
            shell: Vec::new(),
            list: Vec::new(),
            split: false,
            versioned: false,
        }
    }

    /// Where the next item is in these bytes, and how many bytes are done with.
    pub(super) fn find(&mut self, bytes: &[u8]) -> Result<(Option<Range<usize>>, usize), Failure> {
        let mut at = 0;
        loop {
            let rest = &bytes[at..];
            let done = match self.place {
                Place::Start => self.start(rest),
                Place::Envelope => self.envelope(rest)?,
                Place::List(0) | Place::KeptList(0) => {
                    self.close();
                    Some(0)
                }
                Place::List(left) => match field(&rest[..rest.len().min(left)]) {
                    Field::Unfinished if rest.len() < left => None,
                    Field::Unfinished | Field::Broken => {
                        self.place = Place::KeptList(left);
                        Some(0)
                    }
                    Field::Whole { before, length, .. } if before.saturating_add(length) > left => {
                        self.place = Place::KeptList(left);
                        Some(0)
                    }
                    Field::Whole { length, .. } if length > LONGEST_ITEM => return Err(too_long(length)),
                    Field::Whole { before, length, .. } if before + length > rest.len() => None,
                    Field::Whole {
                        number,
                        bytes,
                        before,
                        length,
                    } => {
                        let (end, item) = (before + length, bytes && number == ITEM);
                        if item && !self.is_wanted() {
                            self.place = Place::KeptList(left);
                            continue;
                        }
                        self.place = Place::List(left - end);
                        if item {
                            return Ok((Some(at + before..at + end), at + end));
                        }
                        self.list.extend_from_slice(&rest[..end]);
                        Some(end)
                    }
                },
                Place::KeptList(left) => {
                    let taken = &rest[..rest.len().min(left)];
                    self.list.extend_from_slice(taken);
                    self.place = Place::KeptList(left - taken.len());
                    (!taken.is_empty()).then_some(taken.len())
                }
                Place::Rest => {
                    self.shell.extend_from_slice(rest);
                    return Ok((None, bytes.len()));
                }
            };
            match done {
                Some(done) => at += done,
                None => return Ok((None, at)),
            }
        }
    }

    fn start(&mut self, bytes: &[u8]) -> Option<usize> {
        let length = bytes.len().min(MAGIC.len());
        if bytes[..length] != MAGIC[..length] {
            self.place = Place::Rest;
            return Some(0);
        }
        if length < MAGIC.len() {
            return None;
        }
        self.shell.extend_from_slice(MAGIC);
        self.place = Place::Envelope;
        Some(length)
    }

    /// Takes the next field of the envelope. Returns its length, or none if it has not arrived.
    fn envelope(&mut self, bytes: &[u8]) -> Result<Option<usize>, Failure> {
        match field(bytes) {
            Field::Unfinished => Ok(None),
            Field::Broken => {
                self.place = Place::Rest;
                Ok(Some(0))
            }
            Field::Whole {
                number: OBJECT,
                bytes: true,
                before,
                length,
            } => {
                if self.split {
                    let problem = format!("{} with another one in its envelope", a(&self.wanted.kind));
                    return Err(Failure::Garbage(problem));
                }
                let known = envelope(&self.shell).ok().flatten();
                if !known.is_some_and(|known| self.wanted.is(known.kind, known.api_version)) {
                    self.place = Place::Rest;
                    return Ok(Some(0));
                }
                (self.split, self.place) = (true, Place::List(length));
                Ok(Some(before))
            }
            Field::Whole { length, .. } if length > LONGEST_ITEM => Err(too_long(length)),
            Field::Whole { before, length, .. } if before + length > bytes.len() => Ok(None),
            Field::Whole { before, length, .. } => {
                self.shell.extend_from_slice(&bytes[..before + length]);
                Ok(Some(before + length))
            }
        }
    }

    /// Whether what has come of the list says that it has a wanted version. Later items need not be asked.
    fn is_wanted(&mut self) -> bool {
        if !self.versioned {
            let meta = Fields(&self.list).find(META);
            let version = meta.and_then(|meta| Fields(meta).find(VERSION)).unwrap_or_default();
            let version = std::str::from_utf8(version).unwrap_or_default();
            self.versioned = self.wanted.versions.allow(version);
        }
        self.versioned
    }

    /// The list ends. What is left of it becomes a field of the envelope again.
    fn close(&mut self) {
        encode_varint((OBJECT << 3) | WireType::LengthDelimited as u64, &mut self.shell);
        encode_varint(u64::try_from(self.list.len()).unwrap_or(u64::MAX), &mut self.shell);
        self.shell.append(&mut self.list);
        self.place = Place::Envelope;
    }

    /// All bytes have arrived, and these are left.
    pub(super) fn end(&mut self, rest: &[u8]) -> Result<&[u8], Failure> {
        if let Place::List(missing) | Place::KeptList(missing) = self.place {
            let (kind, missing) = (&self.wanted.kind, missing.saturating_sub(rest.len()));
            let problem = format!("a broken {kind}: no protobuf: {missing} bytes of it did not come");
            return Err(Failure::Garbage(problem));
        }
        self.shell.extend_from_slice(rest);
        Ok(&self.shell)
    }
}

fn too_long(length: usize) -> Failure {
    Failure::Garbage(format!("an object of {length} bytes, which is more than 16 MiB"))
}
