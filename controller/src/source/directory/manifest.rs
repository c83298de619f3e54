//! One file's text to objects. Each document is looked through twice: for its kind, wherever that stands, and then for
//! what its kind has.

use std::cell::Cell;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::documents::{self, Document, Format};
use crate::event::Kind;
use crate::source::decode::{Decoder, Outcome, field_path, plain_words};

/// What a file holds: objects, and what could not be read.
#[derive(Debug, Default)]
pub(super) struct Manifest {
    pub(super) objects: Vec<Outcome>,
    pub(super) faults: Vec<Fault>,
    /// Kinds that Tandem does not read.
    pub(super) skipped: Vec<String>,
}

/// Something in a file that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// Line and column, from 1.
    at: Option<(usize, usize)>,
    /// Which document, from 1; 0 where it is the whole file.
    document: usize,
    /// Kind and name, as far as they could be read.
    object: String,
    field: String,
    problem: String,
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
        f.write_str(&self.problem)
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
                    document: 0,
                    object: String::new(),
                    field: String::new(),
                    problem: plain_words(&error.to_string()),
                });
                return manifest;
            }
        },
    };
    for (index, document) in documents.iter().enumerate() {
        if let Err(fault) = read(decoder, format, *document, &mut manifest) {
            manifest.faults.push(Fault {
                document: index + 1,
                ..fault
            });
        }
    }
    manifest
}

fn read(decoder: &Decoder, format: Format, document: Document<'_>, into: &mut Manifest) -> Result<(), Fault> {
    let heads: Heads = deserialize(format, document, &std::marker::PhantomData::<Heads>, |_| String::new())?;
    let items = match heads.kind.as_deref() {
        Some("List") => heads.items.unwrap_or_default(),
        // A list of one kind does not say the kind of its items.
        Some(kind) if heads.items.is_some() && kind.ends_with("List") => {
            let (kind, version) = (kind.trim_end_matches("List"), heads.api_version);
            let named = |head: Head| Head {
                kind: Some(kind.to_owned()),
                api_version: version.clone(),
                ..head
            };
            heads.items.unwrap_or_default().into_iter().map(named).collect()
        }
        _ => {
            let head = Head {
                api_version: heads.api_version,
                kind: heads.kind,
                metadata: heads.metadata,
            };
            let seed = Object {
                decoder,
                kind: kind_of(&head),
            };
            match deserialize(format, document, &seed, |_| head.to_string())? {
                Some(outcome) => into.objects.push(outcome),
                None => into.skipped.push(head.known(document)?),
            }
            return Ok(());
        }
    };
    for head in items.iter().filter(|head| kind_of(head).is_none()) {
        into.skipped.push(head.known(document)?);
    }
    let reached = Cell::new(0);
    let seed = List {
        decoder,
        items: &items,
        reached: &reached,
    };
    let name = |_: &str| items.get(reached.get()).map(ToString::to_string).unwrap_or_default();
    into.objects.extend(deserialize(format, document, &seed, name)?);
    Ok(())
}

/// Deserializes a document, and turns an error into a fault with its place; `name` says which object it was.
fn deserialize<'de, S: DeserializeSeed<'de> + Clone>(
    format: Format,
    document: Document<'de>,
    seed: &S,
    name: impl Fn(&str) -> String,
) -> Result<S::Value, Fault> {
    let mut track = serde_path_to_error::Track::new();
    let result = match format {
        Format::Yaml => {
            // Whoever may write here may also stop the agent: no limit to a file's size, but to what aliases make of it.
            let options = serde_saphyr::options! { budget: None, with_snippet: false };
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
            object: name(&field),
            field,
            problem: plain_words(&problem),
        }
    })
}

/// Without the position, which is the document's own.
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

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Heads {
    api_version: Option<String>,
    kind: Option<String>,
    metadata: Option<HeadMeta>,
    items: Option<Vec<Head>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    api_version: Option<String>,
    kind: Option<String>,
    metadata: Option<HeadMeta>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct HeadMeta {
    namespace: Option<String>,
    name: Option<String>,
}

impl Head {
    /// Version and kind of what Tandem does not read. An object that does not say what it is could be one that it does.
    fn known(&self, document: Document<'_>) -> Result<String, Fault> {
        let part = |field: &str, part: &Option<String>| {
            part.clone().filter(|part| !part.is_empty()).ok_or_else(|| Fault {
                at: Some((document.line + 1, 1)),
                document: 0,
                object: self.to_string(),
                field: field.to_owned(),
                problem: "is missing".to_owned(),
            })
        };
        let kind = part("kind", &self.kind)?;
        Ok(format!("{} {kind}", part("apiVersion", &self.api_version)?))
    }
}

/// `Service shop/web`
impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Whatever stands there is still one line of the log.
        let plain = |text: &str| text.chars().take(253).flat_map(char::escape_debug).collect::<String>();
        f.write_str(&plain(self.kind.as_deref().unwrap_or("object")))?;
        let Some(meta) = &self.metadata else { return Ok(()) };
        match (&meta.namespace, &meta.name) {
            (Some(namespace), Some(name)) => write!(f, " {}/{}", plain(namespace), plain(name)),
            (None, Some(name)) => write!(f, " {}", plain(name)),
            _ => Ok(()),
        }
    }
}

fn kind_of(head: &Head) -> Option<Kind> {
    match (head.api_version.as_deref()?, head.kind.as_deref()?) {
        ("v1", "Service") => Some(Kind::Service),
        ("v1", "Node") => Some(Kind::Node),
        ("discovery.k8s.io/v1", "EndpointSlice") => Some(Kind::EndpointSlice),
        ("networking.k8s.io/v1" | "networking.k8s.io/v1beta1", "ServiceCIDR") => Some(Kind::ServiceCidr),
        _ => None,
    }
}

/// One object of a known kind; others are passed over.
#[derive(Clone)]
struct Object<'a> {
    decoder: &'a Decoder,
    kind: Option<Kind>,
}

impl<'de> DeserializeSeed<'de> for Object<'_> {
    type Value = Option<Outcome>;

    fn deserialize<D: Deserializer<'de>>(self, text: D) -> Result<Self::Value, D::Error> {
        match self.kind {
            Some(kind) => self.decoder.decode(kind, text).map(Some),
            None => IgnoredAny::deserialize(text).map(|_| None),
        }
    }
}

/// The objects in `items`.
#[derive(Clone)]
struct List<'a> {
    decoder: &'a Decoder,
    items: &'a [Head],
    /// How far it came, to name what went wrong.
    reached: &'a Cell<usize>,
}

impl<'de> DeserializeSeed<'de> for List<'_> {
    type Value = Vec<Outcome>;

    fn deserialize<D: Deserializer<'de>>(self, text: D) -> Result<Self::Value, D::Error> {
        text.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for List<'_> {
    type Value = Vec<Outcome>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a List")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut objects = Vec::new();
        while let Some(field) = map.next_key::<String>()? {
            if field == "items" {
                objects = map.next_value_seed(Items(self.clone()))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(objects)
    }
}

struct Items<'a>(List<'a>);

impl<'de> DeserializeSeed<'de> for Items<'_> {
    type Value = Vec<Outcome>;

    fn deserialize<D: Deserializer<'de>>(self, text: D) -> Result<Self::Value, D::Error> {
        text.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Items<'_> {
    type Value = Vec<Outcome>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut objects = Vec::with_capacity(self.0.items.len());
        for (index, head) in self.0.items.iter().enumerate() {
            self.0.reached.set(index);
            let seed = Object {
                decoder: self.0.decoder,
                kind: kind_of(head),
            };
            let item = list
                .next_element_seed(seed)?
                .ok_or_else(|| A::Error::custom("a list shorter than it was"))?;
            objects.extend(item);
        }
        Ok(objects)
    }
}
