//! Uids: they distinguish an object from an earlier one with the same name.

use std::fmt;
use std::str::FromStr;

/// `metadata.uid`. API servers make a UUID in lower case. It is kept as its 16 bytes, because there may be one for each
/// of 10,000 Services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Uid([u8; 16]);

/// The error if a text is no [`Uid`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a UUID in lower case")]
pub struct NoUid;

impl FromStr for Uid {
    type Err = NoUid;

    fn from_str(text: &str) -> Result<Self, NoUid> {
        let mut number = 0_u128;
        for (at, byte) in text.bytes().enumerate() {
            let digit = match (at, byte) {
                (8 | 13 | 18 | 23, b'-') => continue,
                (8 | 13 | 18 | 23 | 36.., _) => return Err(NoUid),
                (_, b'0'..=b'9') => byte - b'0',
                (_, b'a'..=b'f') => byte - b'a' + 10,
                _ => return Err(NoUid),
            };
            number = number << 4 | u128::from(digit);
        }
        if text.len() == 36 {
            Ok(Self(number.to_be_bytes()))
        } else {
            Err(NoUid)
        }
    }
}

/// Writes the uid as the API server does.
impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            if matches!(at, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uid_is_written_as_it_was_read_or_not_read() {
        let uid = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9";
        let longer = format!("{uid}0");
        assert_eq!(uid.parse::<Uid>().map(|read| read.to_string()).as_deref(), Ok(uid));
        for text in [
            "",
            "u",
            "node1",
            &uid.to_uppercase(),
            &uid.replace('-', "0"),
            &uid[1..],
            &uid[..35],
            &longer,
        ] {
            assert_eq!(text.parse::<Uid>(), Err(NoUid), "{text}");
        }
    }
}
