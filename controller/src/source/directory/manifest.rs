//! Decodes the text of one file to objects. Each document is read twice: first for its kind, which may be anywhere in
//! it, and then for the fields of that kind.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fmt;

use serde::de::DeserializeSeed;

use super::documents::{self, Document, Format};
use super::heads::{Head, Heads};
use super::list::{List, Object};
use crate::source::decode::{Complaint, Decoder, Outcome, field_path};

/// The largest number of faults of one file that are named. Further ones are only counted.
const MOST_FAULTS: usize = 64;
/// How often a list is read again because something in it is broken.
const MOST_READINGS: usize = 16;

/// The content of a file: objects, and what could not be read.
#[derive(Debug, Default)]
pub(super) struct Manifest {
    pub(super) objects: Vec<Outcome>,
    pub(super) faults: Vec<Fault>,
    /// Kinds that Tandem does not read.
    pub(super) skipped: Vec<String>,
}

/// Something in a file that cannot be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fault {
    /// Line and column, from 1.
    at: Option<(usize, usize)>,
    /// The number of the document, from 1; 0 if it is the whole file.
    document: usize,
    /// Kind and name, as far as they could be read.
    object: Box<str>,
    field: Box<str>,
    what: Complaint,
}

impl Fault {
    fn of(field: String, problem: String) -> Self {
        Self {
            field: field.into(),
            what: Complaint { value: None, problem },
            ..Self::default()
        }
    }
}

/// `line 3, column 9: document 2: Service shop/web: spec.ports[0].port: …`
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((line, column)) = self.at {
            write!(f, "line {line}, column {column}: ")?;
        }
        if self.document > 0 {
            write!(f, "document {}: ", self.document)?;
        }
        for part in [&self.object, &self.field] {
            if !part.is_empty() {
                write!(f, "{part}: ")?;
            }
        }
        self.what.fmt(f)
    }
}

pub(super) fn parse(decoder: &Decoder, format: Format, text: &str) -> Manifest {
    let mut manifest = Manifest::default();
    let documents = match format {
        Format::Yaml => documents::yaml(text),
        Format::Json => match documents::json(text) {
            Ok(documents) => documents,
            Err(error) => {
                manifest.faults.push(Fault {
                    at: Some((error.line(), error.column())),
                    what: Complaint::of(&error.to_string()),
                    ..Fault::default()
                });
                return manifest;
            }
        },
    };
    let mut unsaid = 0;
    for (index, document) in documents.iter().enumerate() {
        let said = manifest.faults.len();
        if let Err(fault) = read(decoder, format, *document, &mut manifest) {
            manifest.faults.push(fault);
        }
        manifest.faults[said..]
            .iter_mut()
            .for_each(|fault| fault.document = index + 1);
        unsaid += manifest.faults.len().saturating_sub(MOST_FAULTS);
        manifest.faults.truncate(MOST_FAULTS);
    }
    if unsaid > 0 {
        manifest
            .faults
            .push(Fault::of(String::new(), format!("{unsaid} more fault(s) like these")));
    }
    manifest
}

fn read(decoder: &Decoder, format: Format, document: Document<'_>, into: &mut Manifest) -> Result<(), Fault> {
    let Heads { head, items } = deserialize(format, document, &std::marker::PhantomData::<Heads>, String::new)?;
    let missing = |head: &Head, path: String| Fault {
        at: Some((document.line + 1, 1)),
        object: head.to_string().into(),
        ..Fault::of(path, "is missing".to_owned())
    };
    let items = match (head.kind.as_deref(), items) {
        (Some("List"), items) => items.unwrap_or_default(),
        // A list of one kind does not repeat the kind in its items.
        (Some(kind), Some(items)) if kind.ends_with("List") => {
            let (kind, version) = (kind.trim_end_matches("List"), head.api_version);
            let named = |head: Head| Head {
                kind: Some(kind.to_owned()),
                api_version: version.clone(),
                ..head
            };
            items.into_iter().map(named).collect()
        }
        _ => {
            let seed = Object {
                decoder,
                kind: head.read_as(),
            };
            match deserialize(format, document, &seed, || head.to_string())? {
                Some(outcome) => into.objects.push(outcome),
                None => into
                    .skipped
                    .push(head.known().map_err(|field| missing(&head, field.to_owned()))?),
            }
            return Ok(());
        }
    };
    for (index, head) in items.iter().enumerate().filter(|(_, head)| head.read_as().is_none()) {
        match head.known() {
            Ok(kind) => into.skipped.push(kind),
            Err(field) => into.faults.push(missing(head, format!("items[{index}].{field}"))),
        }
    }
    read_list(decoder, format, document, &items, into)
}

/// Reads a list without its broken items. A parser cannot go on after an error. So the list is read again without the
/// broken item, but only a limited number of times.
fn read_list(
    decoder: &Decoder,
    format: Format,
    document: Document<'_>,
    items: &[Head],
    into: &mut Manifest,
) -> Result<(), Fault> {
    let (reached, mut broken, mut end) = (Cell::new(0), BTreeSet::new(), usize::MAX);
    loop {
        reached.set(0);
        let seed = List {
            decoder,
            items,
            broken: &broken,
            end,
            reached: &reached,
        };
        let name = || items.get(reached.get()).map(ToString::to_string).unwrap_or_default();
        let fault = match deserialize(format, document, &seed, name) {
            Ok(objects) => {
                into.objects.extend(objects);
                return Ok(());
            }
            Err(fault) => fault,
        };
        if end < usize::MAX || !broken.insert(reached.get()) {
            return Err(fault);
        }
        into.faults.push(fault);
        if broken.len() == MOST_READINGS {
            end = reached.get();
            let problem = format!("{MOST_READINGS} broken items: this list is not read behind them");
            into.faults.push(Fault::of("items".to_owned(), problem));
        }
    }
}

/// Deserializes a document. An error becomes a fault with its place; `name` says which object it was.
fn deserialize<'de, S: DeserializeSeed<'de> + Clone>(
    format: Format,
    document: Document<'de>,
    seed: &S,
    name: impl Fn() -> String,
) -> Result<S::Value, Fault> {
    let mut track = serde_path_to_error::Track::new();
    let result = match format {
        Format::Yaml => {
            // A file may have any size, but the result is limited: aliases and nesting can make it much larger than the
            // file.
            let budget = serde_saphyr::budget! {
                max_events: usize::MAX,
                max_nodes: usize::MAX,
                max_total_scalar_bytes: usize::MAX,
            };
            let options = serde_saphyr::options! { budget: budget, with_snippet: false };
            serde_saphyr::with_deserializer_from_str_with_options(document.text, options, |text| {
                seed.clone()
                    .deserialize(serde_path_to_error::Deserializer::new(text, &mut track))
            })
            .map_err(|error| {
                let place = error.location().map(|at| (to_usize(at.line()), to_usize(at.column())));
                let text = error.to_string();
                (place, yaml_words(&text).to_owned())
            })
        }
        Format::Json => {
            let mut text = serde_json::Deserializer::from_str(document.text);
            let result = seed
                .clone()
                .deserialize(serde_path_to_error::Deserializer::new(&mut text, &mut track));
            result.map_err(|error| (Some((error.line(), error.column())), error.to_string()))
        }
    };
    result.map_err(|(place, problem)| {
        let field = field_path(track);
        Fault {
            at: place.map(|(line, column)| (line + document.line, column)),
            document: 0,
            object: name().into(),
            field: field.into(),
            what: Complaint::of(&problem),
        }
    })
}

/// The message without the position, which is relative to the document.
fn yaml_words(text: &str) -> &str {
    let text = text.strip_prefix("error: ").unwrap_or(text);
    match text.split_once(": ") {
        Some((place, rest)) if place.starts_with("line ") => rest,
        _ => text,
    }
}

fn to_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
