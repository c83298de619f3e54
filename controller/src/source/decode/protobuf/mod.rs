//! Objects in protobuf, read into the same structures as JSON: a message is given to serde as a JSON object is, with the
//! names that the schema knows. So a field's wrong value is named in the same words.
//!
//! An API server writes the entries of a list one behind the other. If another field is in between, the list is broken.

pub(crate) mod reader;
pub(crate) mod schema;
#[cfg(test)]
pub(crate) mod tests;

use jiff::Timestamp;
use serde::de::value::{BorrowedStrDeserializer, Error};
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;

use reader::{Fields, NoMessage, Value};
use schema::{Field, Message, Type};

/// A message, for serde.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Object<'a> {
    pub(crate) schema: &'static Message,
    pub(crate) bytes: &'a [u8],
}

fn broken(error: NoMessage) -> Error {
    Error::custom(error)
}

fn text(bytes: &[u8]) -> Result<&str, Error> {
    std::str::from_utf8(bytes).map_err(|_| Error::custom("a text that is not UTF-8"))
}

impl<'de> Deserializer<'de> for Object<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_map(Entries {
            schema: self.schema,
            rest: Fields(self.bytes),
            next: None,
        })
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier
    }
}

/// The fields of a message that the schema knows.
struct Entries<'de> {
    schema: &'static Message,
    rest: Fields<'de>,
    next: Option<(&'static Field, Value<'de>)>,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        while let Some((number, value)) = self.rest.next().map_err(broken)? {
            let Some(field) = self.schema.iter().find(|field| field.number == number) else {
                continue;
            };
            // Go writes a text that is not set as an empty one. In JSON, it is left out.
            if let (Type::Text, Value::Bytes([])) = (field.is, value) {
                continue;
            }
            self.next = Some((field, value));
            return seed.deserialize(BorrowedStrDeserializer::new(field.name)).map(Some);
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        // serde asks for a value only after a key.
        let Some((field, value)) = self.next.take() else {
            return Err(Error::custom("a value without a field"));
        };
        seed.deserialize(FieldValue {
            field,
            value,
            rest: &mut self.rest,
        })
    }
}

/// A field's value. If the field is a list, the other entries follow in `rest`.
struct FieldValue<'r, 'de> {
    field: &'static Field,
    value: Value<'de>,
    rest: &'r mut Fields<'de>,
}

impl<'de> Deserializer<'de> for FieldValue<'_, 'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let value = self.value;
        let entries = Repeated {
            number: self.field.number,
            first: Some(value),
            rest: self.rest,
        };
        match self.field.is {
            Type::Texts => visitor.visit_seq(List {
                is: Type::Text,
                entries,
            }),
            Type::Objects(schema) => visitor.visit_seq(List {
                is: Type::Object(schema),
                entries,
            }),
            Type::Map => visitor.visit_map(Labels { entries, value: "" }),
            is => Single { is, value }.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// One value.
struct Single<'de> {
    is: Type,
    value: Value<'de>,
}

impl<'de> Deserializer<'de> for Single<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match (self.is, self.value) {
            (Type::Text, Value::Bytes(bytes)) => visitor.visit_borrowed_str(text(bytes)?),
            (Type::Int, Value::Varint(number)) => visitor.visit_i64(number.cast_signed()),
            (Type::Bool, Value::Varint(number)) => visitor.visit_bool(number != 0),
            (Type::Object(schema), Value::Bytes(bytes)) => Object { schema, bytes }.deserialize_any(visitor),
            (Type::Time, Value::Bytes(bytes)) => visitor.visit_string(time(bytes)?),
            // serde says what it expected instead.
            (_, Value::Varint(number)) => visitor.visit_u64(number),
            (_, Value::Bytes(bytes)) => visitor.visit_borrowed_bytes(bytes),
            (_, Value::Fixed) => visitor.visit_f64(0.0),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// A time as JSON has it.
fn time(bytes: &[u8]) -> Result<String, Error> {
    let mut fields = Fields(bytes);
    let mut seconds = 0;
    while let Some((number, value)) = fields.next().map_err(broken)? {
        if let (1, Value::Varint(number)) = (number, value) {
            seconds = number.cast_signed();
        }
    }
    let time = Timestamp::from_second(seconds).map_err(|_| Error::custom("a time that no calendar has"))?;
    Ok(time.to_string())
}

/// The values of a field that may be there more than once.
struct Repeated<'r, 'de> {
    number: u32,
    first: Option<Value<'de>>,
    rest: &'r mut Fields<'de>,
}

impl<'de> Repeated<'_, 'de> {
    fn next(&mut self) -> Result<Option<Value<'de>>, Error> {
        match self.first.take() {
            Some(value) => Ok(Some(value)),
            None => self.rest.next_of(self.number).map_err(broken),
        }
    }
}

/// The entries of a list.
struct List<'r, 'de> {
    is: Type,
    entries: Repeated<'r, 'de>,
}

impl<'de> SeqAccess<'de> for List<'_, 'de> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        let Some(value) = self.entries.next()? else {
            return Ok(None);
        };
        seed.deserialize(Single { is: self.is, value }).map(Some)
    }
}

/// The entries of a map of texts.
struct Labels<'r, 'de> {
    entries: Repeated<'r, 'de>,
    value: &'de str,
}

impl<'de> MapAccess<'de> for Labels<'_, 'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some(entry) = self.entries.next()? else {
            return Ok(None);
        };
        let Value::Bytes(bytes) = entry else {
            return Err(Error::custom("a label that is no text"));
        };
        let (mut fields, mut name) = (Fields(bytes), "");
        self.value = "";
        while let Some((number, value)) = fields.next().map_err(broken)? {
            match (number, value) {
                (1, Value::Bytes(bytes)) => name = text(bytes)?,
                (2, Value::Bytes(bytes)) => self.value = text(bytes)?,
                _ => {}
            }
        }
        seed.deserialize(BorrowedStrDeserializer::new(name)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        seed.deserialize(Single {
            is: Type::Text,
            value: Value::Bytes(self.value.as_bytes()),
        })
    }
}
