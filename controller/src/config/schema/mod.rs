//! Tables of every field of both kinds of file, and of every flag: its type, its default, and what Tandem does with it.
//! Tandem checks files against these tables, and takes warnings and `tandem config explain` from them. The tables of
//! docs/configuration.md are generated from them too.

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
    /// Fields that a file may have and that are not read.
    pub unused: &'static [Unused],
}

/// Both kinds.
pub static SCHEMAS: [&Schema; 2] = [&kube_proxy::SCHEMA, &tandem::SCHEMA];

/// One field.
#[derive(Debug)]
pub struct Field {
    /// Its path: `conntrack.maxPerCore`.
    pub path: &'static str,
    /// The type of its value.
    pub kind: FieldKind,
    /// Its value if it is not set.
    pub default: Default,
    /// What Tandem does with it.
    pub fate: Fate,
    /// What it means.
    pub about: &'static str,
}

impl Field {
    /// Its default as text for people; none if it has no default value.
    pub fn default_text(&self) -> Option<&'static str> {
        self.default
            .text()
            .or((self.kind == FieldKind::Boolean).then_some("false"))
    }
}

/// The type of a field.
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
    /// A duration as Go writes it, or a number of nanoseconds.
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
    /// The type's name, as `kubectl explain` prints it.
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

/// The value of a field that is not set, as in kube-proxy's own types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Default {
    /// Nothing: false, zero, the empty text or list.
    Nothing,
    /// This, if the field is missing or null. Zero is a value.
    Unset(&'static str),
    /// This, also if the field is zero or empty.
    Empty(&'static str),
}

impl Default {
    /// The default as text, if there is one.
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
    /// Tandem does what it says. The value says when a change in the file takes effect.
    Honoured(Change),
    /// It has no effect, for this reason.
    Ignored(&'static str),
    /// It holds other fields, each with its own fate.
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
    /// The field with this path. Paths inside a list of sections have no indices.
    pub fn field(&self, path: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.path == path)
    }

    /// The unused field with this path.
    pub fn unused(&self, path: &str) -> Option<&'static Unused> {
        self.unused.iter().find(|field| field.path == path)
    }

    /// The fields one level below this path. The empty path means the whole file.
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

/// A table of fields, one row each. It is a macro because rustfmt would turn each row into seven lines.
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
