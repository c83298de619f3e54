//! A list in JSON. The scanner knows only strings, escapes and brackets. It takes the elements of `items` out of the text,
//! and copies everything else. Each element and the rest are then parsed, so text that is no JSON is noticed there. If
//! the scanner itself meets something wrong between the elements, it copies it in such a way that the parser stumbles
//! over it too.

use std::ops::Range;

use super::Wanted;
use crate::cluster::watch::wire::Page;

#[derive(Debug)]
pub(super) struct Json {
    wanted: Wanted,
    /// The text without the elements that were given out.
    shell: Vec<u8>,
    place: Place,
    /// How far the bytes that were left were scanned.
    scanned: usize,
    /// Open brackets around the place, and whether it is inside a string.
    nesting: Nesting,
    name: Name,
    /// Where the last string began in the shell.
    string: usize,
}

/// Where the next byte belongs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// Around the items.
    #[default]
    Around,
    /// Before an element, or before the end of the items. After a comma, an element must follow.
    Before { comma: bool },
    /// Inside an element.
    Inside(Nesting),
    /// After an element.
    After,
    /// Behind something wrong, or in a list that did not say that it is the wanted one. All of it is copied.
    Rest,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Nesting {
    depth: usize,
    string: bool,
    escaped: bool,
}

/// Whether the field `items` of the list itself was named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Name {
    #[default]
    Other,
    Items,
    /// The colon behind it was there too.
    ItemsAre,
}

impl Nesting {
    /// Takes a byte.
    fn take(&mut self, byte: u8) {
        if self.string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.string = false,
                _ => {}
            }
            return;
        }
        match byte {
            b'"' => self.string = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
    }

    fn is_outside(self) -> bool {
        self.depth == 0 && !self.string
    }
}

impl Json {
    pub(super) fn new(wanted: Wanted) -> Self {
        Self {
            wanted,
            shell: Vec::new(),
            place: Place::default(),
            scanned: 0,
            nesting: Nesting::default(),
            name: Name::default(),
            string: 0,
        }
    }

    /// Where the next element is in these bytes, and how many bytes are done with.
    pub(super) fn find(&mut self, bytes: &[u8]) -> (Option<Range<usize>>, usize) {
        // Bytes before the element that is not finished are done with.
        let mut from = 0;
        let mut at = self.scanned;
        while let Some(byte) = bytes.get(at).copied() {
            match self.place {
                Place::Around => self.around(byte),
                Place::Rest => {
                    self.shell.extend_from_slice(&bytes[at..]);
                    self.scanned = 0;
                    return (None, bytes.len());
                }
                Place::Before { .. } | Place::After if is_blank(byte) => {}
                Place::Before { comma } => match byte {
                    b']' if !comma => self.close(),
                    b',' | b']' => self.stumble(if comma { b"null," } else { b"" }, byte),
                    _ => {
                        from = at;
                        let mut nesting = Nesting::default();
                        nesting.take(byte);
                        self.place = Place::Inside(nesting);
                    }
                },
                Place::After => match byte {
                    b',' => self.place = Place::Before { comma: true },
                    b']' => self.close(),
                    _ => self.stumble(b"null ", byte),
                },
                Place::Inside(mut nesting) => {
                    let plain = nesting.is_outside();
                    if plain && (is_blank(byte) || matches!(byte, b',' | b']')) {
                        // A number or a word ends before this byte.
                        (self.place, self.scanned) = (Place::After, 0);
                        return (Some(from..at), at);
                    }
                    nesting.take(byte);
                    if !plain && nesting.is_outside() {
                        (self.place, self.scanned) = (Place::After, 0);
                        return (Some(from..at + 1), at + 1);
                    }
                    self.place = Place::Inside(nesting);
                }
            }
            at += 1;
        }
        if matches!(self.place, Place::Inside(_)) {
            self.scanned = at - from;
            return (None, from);
        }
        self.scanned = 0;
        (None, bytes.len())
    }

    /// Takes a byte around the items.
    fn around(&mut self, byte: u8) {
        let was = self.nesting;
        self.nesting.take(byte);
        self.shell.push(byte);
        if was.string || is_blank(byte) {
            if was.string && !self.nesting.string && was.depth == 1 && self.shell[self.string..] == *b"\"items\"" {
                self.name = Name::Items;
            }
            return;
        }
        self.name = match (self.name, byte) {
            (Name::Items, b':') => Name::ItemsAre,
            (Name::ItemsAre, b'[') => {
                self.place = if self.is_wanted() {
                    Place::Before { comma: false }
                } else {
                    Place::Rest
                };
                Name::Other
            }
            _ => Name::Other,
        };
        if byte == b'"' {
            self.string = self.shell.len() - 1;
        }
    }

    /// Whether what has come before the items says that the list is the wanted one.
    fn is_wanted(&self) -> bool {
        let text = [self.shell.as_slice(), b"]}"].concat();
        let head: Result<Page<'_>, _> = serde_json::from_slice(&text);
        head.is_ok_and(|head| {
            let version = &head.metadata.resource_version;
            self.wanted.is(&head.kind, &head.api_version) && self.wanted.versions.allow(version)
        })
    }

    fn close(&mut self) {
        self.place = Place::Around;
        self.around(b']');
    }

    fn stumble(&mut self, before: &[u8], byte: u8) {
        self.shell.extend_from_slice(before);
        self.shell.push(byte);
        self.place = Place::Rest;
    }

    /// All bytes have arrived, and these are left.
    pub(super) fn end(&mut self, rest: &[u8]) -> &[u8] {
        self.shell.extend_from_slice(rest);
        &self.shell
    }
}

/// White space as JSON has it.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}
