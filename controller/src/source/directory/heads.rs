//! What a document says about itself: kind and name. These are read first, wherever they are in the document, and
//! whatever else is wrong with it.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::event::ObjectKind;
use crate::source::decode::printable;

/// A document's own head, and the heads of the objects that it lists.
#[derive(Clone, Debug, Default)]
pub(super) struct Heads {
    pub(super) head: Head,
    pub(super) items: Option<Vec<Head>>,
}

/// Kind and name of an object, as far as they can be read.
#[derive(Clone, Debug, Default)]
pub(super) struct Head {
    pub(super) api_version: Option<String>,
    pub(super) kind: Option<String>,
    pub(super) namespace: Option<String>,
    pub(super) name: Option<String>,
}

impl Head {
    /// Version and kind of an object that Tandem does not read. The error names a missing field: without it, the object
    /// could be of a kind that Tandem reads.
    pub(super) fn known(&self) -> Result<String, &'static str> {
        let part =
            |field: &'static str, part: &Option<String>| part.clone().filter(|part| !part.is_empty()).ok_or(field);
        let kind = part("kind", &self.kind)?;
        Ok(printable(&format!("{} {kind}", part("apiVersion", &self.api_version)?)))
    }

    /// The kind, if Tandem reads it.
    pub(super) fn read_as(&self) -> Option<ObjectKind> {
        match (self.api_version.as_deref()?, self.kind.as_deref()?) {
            ("v1", "Service") => Some(ObjectKind::Service),
            ("v1", "Node") => Some(ObjectKind::Node),
            ("discovery.k8s.io/v1", "EndpointSlice") => Some(ObjectKind::EndpointSlice),
            ("networking.k8s.io/v1" | "networking.k8s.io/v1beta1", "ServiceCIDR") => Some(ObjectKind::ServiceCidr),
            _ => None,
        }
    }

    /// Stores a field, if it is part of a head.
    fn field<'de, A: MapAccess<'de>>(&mut self, field: &str, map: &mut A) -> Result<(), A::Error> {
        match field {
            "apiVersion" => self.api_version = map.next_value::<Word>()?.0,
            "kind" => self.kind = map.next_value::<Word>()?.0,
            "metadata" => {
                let meta: Meta = map.next_value()?;
                (self.namespace, self.name) = (meta.namespace, meta.name);
            }
            _ => drop(map.next_value::<IgnoredAny>()?),
        }
        Ok(())
    }
}

/// `Service shop/web`
impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(self.kind.as_deref().unwrap_or("object")))?;
        match (&self.namespace, &self.name) {
            (Some(namespace), Some(name)) => write!(f, " {}/{}", printable(namespace), printable(name)),
            (None, Some(name)) => write!(f, " {}", printable(name)),
            _ => Ok(()),
        }
    }
}

impl<'de> Deserialize<'de> for Heads {
    fn deserialize<D: Deserializer<'de>>(text: D) -> Result<Self, D::Error> {
        struct HeadsVisitor;

        impl<'de> Visitor<'de> for HeadsVisitor {
            type Value = Heads;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Heads, A::Error> {
                let mut heads = Heads::default();
                while let Some(Word(field)) = map.next_key()? {
                    match field.as_deref() {
                        Some("items") => {
                            let items: Option<Vec<Item>> = map.next_value()?;
                            heads.items = items.map(|items| items.into_iter().map(|Item(head)| head).collect());
                        }
                        field => heads.head.field(field.unwrap_or_default(), &mut map)?,
                    }
                }
                Ok(heads)
            }
        }

        text.deserialize_map(HeadsVisitor)
    }
}

/// Makes a visitor accept every value. If something is wrong, the error is reported later, when the object itself is
/// read, and only that object is lost.
macro_rules! anything_else {
    ($other:expr) => {
        fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
            let _ = value;
            Ok($other)
        }
        fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
            let _ = value;
            Ok($other)
        }
        fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
            let _ = value;
            Ok($other)
        }
        fn visit_i128<E: Error>(self, value: i128) -> Result<Self::Value, E> {
            let _ = value;
            Ok($other)
        }
        fn visit_u128<E: Error>(self, value: u128) -> Result<Self::Value, E> {
            let _ = value;
            Ok($other)
        }
        fn visit_f64<E: Error>(self, value: f64) -> Result<Self::Value, E> {
            let _ = value;
            Ok($other)
        }
        fn visit_bytes<E: Error>(self, value: &[u8]) -> Result<Self::Value, E> {
            let _ = value;
            Ok($other)
        }
        fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
            Ok($other)
        }
        fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
            Ok($other)
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            while list.next_element::<IgnoredAny>()?.is_some() {}
            Ok($other)
        }
    };
}

/// A string; nothing if the value is anything else.
struct Word(Option<String>);

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(text: D) -> Result<Self, D::Error> {
        struct WordVisitor;

        impl<'de> Visitor<'de> for WordVisitor {
            type Value = Word;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Word, E> {
                Ok(Word(Some(text.to_owned())))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Word, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Word(None))
            }

            anything_else!(Word(None));
        }

        text.deserialize_any(WordVisitor)
    }
}

#[derive(Default)]
struct Meta {
    namespace: Option<String>,
    name: Option<String>,
}

impl<'de> Deserialize<'de> for Meta {
    fn deserialize<D: Deserializer<'de>>(text: D) -> Result<Self, D::Error> {
        struct MetaVisitor;

        impl<'de> Visitor<'de> for MetaVisitor {
            type Value = Meta;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }

            fn visit_str<E: Error>(self, _: &str) -> Result<Meta, E> {
                Ok(Meta::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Meta, A::Error> {
                let mut meta = Meta::default();
                while let Some(Word(field)) = map.next_key()? {
                    match field.as_deref() {
                        Some("namespace") => meta.namespace = map.next_value::<Word>()?.0,
                        Some("name") => meta.name = map.next_value::<Word>()?.0,
                        _ => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(meta)
            }

            anything_else!(Meta::default());
        }

        text.deserialize_any(MetaVisitor)
    }
}

/// One of a list's items, whatever it is.
struct Item(Head);

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(text: D) -> Result<Self, D::Error> {
        struct ItemVisitor;

        impl<'de> Visitor<'de> for ItemVisitor {
            type Value = Item;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }

            fn visit_str<E: Error>(self, _: &str) -> Result<Item, E> {
                Ok(Item(Head::default()))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Item, A::Error> {
                let mut head = Head::default();
                while let Some(Word(field)) = map.next_key()? {
                    head.field(field.as_deref().unwrap_or_default(), &mut map)?;
                }
                Ok(Item(head))
            }

            anything_else!(Item(Head::default()));
        }

        text.deserialize_any(ItemVisitor)
    }
}
