//! Every field of both kinds of file and every flag, in tables: what type it has, what it is where it is not set, and what
//! Tandem does with it. Files are checked against them, warnings and `tandem config explain` are read out of them, and so
//! are the tables of docs/configuration.md.

mod check;
pub(super) mod flags;
mod gates;
pub(super) mod kube_proxy;
pub(super) mod tandem;
mod unused;

pub(super) use check::{check, nearest, words};
pub(super) use gates::is_known as is_known_gate;
pub use unused::{Unused, Why};

/// A kind of file.
#[derive(Debug)]
pub struct Schema {
    /// `kind`
    pub kind: &'static str,
    /// `apiVersion`
    pub version: &'static str,
    /// What it is for.
    pub about: &'static str,
    /// Its fields, sections before what is in them.
    pub fields: &'static [Field],
    /// Fields that may be there and are not read.
    pub unused: &'static [Unused],
}

/// Both kinds.
pub static SCHEMAS: [&Schema; 2] = [&kube_proxy::SCHEMA, &tandem::SCHEMA];

/// One field.
#[derive(Debug)]
pub struct Field {
    /// Its path: `conntrack.maxPerCore`.
    pub path: &'static str,
    /// What may stand there.
    pub kind: FieldKind,
    /// What it is where it is not set.
    pub default: Default,
    /// What Tandem does with it.
    pub fate: Fate,
    /// What it means.
    pub about: &'static str,
}

impl Field {
    /// What it is where it is not set, for people; none where that is no value.
    pub fn default_text(&self) -> Option<&'static str> {
        self.default
            .text()
            .or((self.kind == FieldKind::Boolean).then_some("false"))
    }
}

/// What may stand in a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldKind {
    /// `true` or `false`.
    Boolean,
    /// A 32-bit integer.
    Integer,
    /// An integer of 32 bits that is not negative.
    Unsigned,
    /// A number.
    Number,
    /// Text.
    Text,
    /// A duration of zero or more, as Go writes it.
    Duration,
    /// The same, or nanoseconds.
    DurationOrNanoseconds,
    /// A number of bytes, as a `resource.Quantity`.
    Quantity,
    /// A list of texts.
    Texts,
    /// Names, each with `true` or `false`.
    Switches,
    /// A section: its fields are listed after it.
    Section,
    /// A list of sections.
    Sections,
}

impl FieldKind {
    /// As kubectl explain names types.
    pub fn name(self) -> &'static str {
        match self {
            Self::Boolean => "boolean",
            Self::Integer | Self::Unsigned => "integer",
            Self::Number => "number",
            Self::Text => "string",
            Self::Duration | Self::DurationOrNanoseconds => "Duration",
            Self::Quantity => "Quantity",
            Self::Texts => "[]string",
            Self::Switches => "map[string]boolean",
            Self::Section => "Object",
            Self::Sections => "[]Object",
        }
    }
}

/// What a field is where it is not set, as kube-proxy's own types have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Default {
    /// Nothing: false, zero, the empty text or list.
    Nothing,
    /// This, where the field is not there or null. Zero is a value.
    Unset(&'static str),
    /// This, also where the field is zero or empty.
    Empty(&'static str),
}

impl Default {
    /// The text of it.
    pub fn text(self) -> Option<&'static str> {
        match self {
            Self::Nothing => None,
            Self::Unset(text) | Self::Empty(text) => Some(text),
        }
    }
}

/// What Tandem does with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// What it says is done; a change in the file takes effect so.
    Honoured(Change),
    /// It has no effect, for this reason.
    Ignored(&'static str),
    /// It holds others, which have fates of their own.
    Section,
}

/// When a change of a field takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// While Tandem runs.
    Live,
    /// When Tandem is started again.
    Restart,
}

impl Schema {
    /// The field with this path; inside a list of sections, indices do not count.
    pub fn field(&self, path: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.path == path)
    }

    /// The field with this path that may be there and is not read.
    pub fn unused(&self, path: &str) -> Option<&'static Unused> {
        self.unused.iter().find(|field| field.path == path)
    }

    /// The fields one level below this path; the empty path is the whole file.
    pub fn below(&self, path: &str) -> impl Iterator<Item = &'static Field> {
        let prefix = if path.is_empty() {
            String::new()
        } else {
            format!("{path}.")
        };
        self.fields.iter().filter(move |field| {
            field
                .path
                .strip_prefix(&prefix)
                .is_some_and(|rest| !rest.is_empty() && !rest.contains('.'))
        })
    }
}

/// A table of fields, a row each. A macro, as rustfmt would make seven lines of each row.
macro_rules! fields {
    ($($path:literal, $kind:expr, $default:expr, $fate:expr, $about:literal;)*) => {
        static FIELDS: &[super::Field] = &[$(super::Field {
            path: $path,
            kind: $kind,
            default: $default,
            fate: $fate,
            about: $about,
        },)*];
    };
}
use fields;
