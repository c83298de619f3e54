//! The fields of a message as they are written: numbers and values.

use prost::DecodeError;
use prost::encoding::{WireType, decode_key, decode_varint};

/// A value as it is written. What it means depends on the field.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Value<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    /// A fixed number, which no field has that Tandem reads.
    Fixed,
}

/// The bytes are no message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no protobuf: {0}")]
pub(crate) struct NoMessage(String);

impl From<DecodeError> for NoMessage {
    #[cold]
    fn from(error: DecodeError) -> Self {
        Self(error.to_string())
    }
}

/// Takes the fields of a message one by one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    /// The next field; none at the end.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<Option<(u32, Value<'a>)>, NoMessage> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let (number, wire) = self.key()?;
        let value = match wire {
            WireType::Varint => Value::Varint(self.varint()?),
            WireType::LengthDelimited => {
                let length = self.varint()?;
                Value::Bytes(self.take(number, length)?)
            }
            WireType::SixtyFourBit => self.take(number, 8).map(|_| Value::Fixed)?,
            WireType::ThirtyTwoBit => self.take(number, 4).map(|_| Value::Fixed)?,
            WireType::StartGroup | WireType::EndGroup => {
                return Err(NoMessage(format!("field {number} is a group")));
            }
        };
        Ok(Some((number, value)))
    }

    /// The number of the next field, and how its value is written.
    fn key(&mut self) -> Result<(u32, WireType), NoMessage> {
        // Nearly every field has a number below 16, so that one byte is its key. The smallest key is that of field 1.
        if let [key @ 8..128, rest @ ..] = self.0
            && let Ok(wire) = WireType::try_from(u64::from(key & 7))
        {
            self.0 = rest;
            return Ok((u32::from(key >> 3), wire));
        }
        Ok(decode_key(&mut self.0)?)
    }

    fn varint(&mut self) -> Result<u64, NoMessage> {
        // Most lengths and numbers are small.
        if let [value @ ..128, rest @ ..] = self.0 {
            self.0 = rest;
            return Ok(u64::from(*value));
        }
        Ok(decode_varint(&mut self.0)?)
    }

    /// Takes this many bytes of a field.
    fn take(&mut self, number: u32, length: u64) -> Result<&'a [u8], NoMessage> {
        let length_here = usize::try_from(length).unwrap_or(usize::MAX);
        let Some((value, rest)) = self.0.split_at_checked(length_here) else {
            let left = self.0.len();
            let problem = format!("field {number} of {length} bytes, and {left} are left");
            return Err(NoMessage(problem));
        };
        self.0 = rest;
        Ok(value)
    }

    /// The next field, if it has this number.
    pub(crate) fn next_of(&mut self, number: u32) -> Result<Option<Value<'a>>, NoMessage> {
        let mut ahead = *self;
        match ahead.next()? {
            Some((found, value)) if found == number => {
                *self = ahead;
                Ok(Some(value))
            }
            _ => Ok(None),
        }
    }

    /// The last field of bytes with this number, if the message can be read up to there.
    pub(crate) fn find(mut self, number: u32) -> Option<&'a [u8]> {
        let mut found = None;
        while let Ok(Some((other, value))) = self.next() {
            if let (true, Value::Bytes(bytes)) = (other == number, value) {
                found = Some(bytes);
            }
        }
        found
    }
}
