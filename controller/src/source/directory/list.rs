//! Reads the objects in `items` one by one.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::heads::Head;
use crate::event::ObjectKind;
use crate::source::decode::{Decoder, Outcome};

/// One object of a known kind. Others are skipped.
#[derive(Clone)]
pub(super) struct Object<'a> {
    pub(super) decoder: &'a Decoder,
    pub(super) kind: Option<ObjectKind>,
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
pub(super) struct List<'a> {
    pub(super) decoder: &'a Decoder,
    pub(super) items: &'a [Head],
    /// Indices of those that are known to be unreadable.
    pub(super) broken: &'a BTreeSet<usize>,
    /// Objects from this index on are skipped.
    pub(super) end: usize,
    /// The index that the reader reached, so that an error can name the object.
    pub(super) reached: &'a Cell<usize>,
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
            let wanted = index < self.0.end && !self.0.broken.contains(&index);
            let seed = Object {
                decoder: self.0.decoder,
                kind: head.read_as().filter(|_| wanted),
            };
            let item = list
                .next_element_seed(seed)?
                .ok_or_else(|| A::Error::custom("a list shorter than it was"))?;
            objects.extend(item);
        }
        Ok(objects)
    }
}
