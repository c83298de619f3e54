//! Addresses of VXLAN devices on their own link layer.

use std::fmt;
use std::str::FromStr;

/// The link-layer address of one device: six bytes, not zero, and not an address of a group.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac([u8; 6]);

/// Why there is no [`Mac`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadMac {
    /// The text is something else.
    #[error("not a MAC address of six bytes")]
    Form,
    /// `00:00:00:00:00:00`
    #[error("the MAC address is zero")]
    Zero,
    /// The lowest bit of the first byte is set.
    #[error("the MAC address is a multicast address, and no device has one")]
    Multicast,
}

impl Mac {
    /// Takes the bytes, if a device can have this address.
    pub fn new(bytes: [u8; 6]) -> Result<Self, BadMac> {
        if bytes == [0; 6] {
            Err(BadMac::Zero)
        } else if bytes[0] & 1 == 1 {
            Err(BadMac::Multicast)
        } else {
            Ok(Self(bytes))
        }
    }

    /// An address for a device out of random bytes: one that is administered locally, as flannel makes them.
    pub fn of_random(mut bytes: [u8; 6]) -> Self {
        bytes[0] = bytes[0] & !1 | 2;
        Self(bytes)
    }

    /// The bytes.
    pub fn bytes(self) -> [u8; 6] {
        self.0
    }
}

/// Reads what Go's `net.ParseMAC` reads, as flannel does: `12:c6:65:89:b4:e3`, `12-c6-65-89-b4-e3`, `12c6.6589.b4e3`.
impl FromStr for Mac {
    type Err = BadMac;

    fn from_str(text: &str) -> Result<Self, BadMac> {
        let (separator, digits) = match text.as_bytes() {
            [_, _, separator @ (b':' | b'-'), ..] => (*separator, 2),
            [_, _, _, _, separator @ b'.', ..] => (*separator, 4),
            _ => return Err(BadMac::Form),
        };
        let mut bytes = [0; 6];
        let mut filled = 0;
        for group in text.as_bytes().split(|byte| *byte == separator) {
            if group.len() != digits {
                return Err(BadMac::Form);
            }
            for pair in group.chunks(2) {
                let digit = |byte: u8| char::from(byte).to_digit(16).ok_or(BadMac::Form);
                let byte = bytes.get_mut(filled).ok_or(BadMac::Form)?;
                *byte = u8::try_from(digit(pair[0])? << 4 | digit(pair[1])?).map_err(|_| BadMac::Form)?;
                filled += 1;
            }
        }
        if filled < bytes.len() {
            return Err(BadMac::Form);
        }
        Self::new(bytes)
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            let colon = if index == 0 { "" } else { ":" };
            write!(f, "{colon}{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_address_is_read_in_the_three_forms_that_go_reads() {
        for text in ["12:c6:65:89:b4:e3", "12-C6-65-89-b4-e3", "12c6.6589.B4e3"] {
            assert_eq!(text.parse::<Mac>().unwrap().to_string(), "12:c6:65:89:b4:e3", "{text}");
        }
    }

    #[test]
    fn what_no_device_can_have_is_refused_with_the_reason() {
        for (text, why) in [
            ("", BadMac::Form),
            ("12:c6:65:89:b4", BadMac::Form),
            ("12:c6:65:89:b4:e3:00:00", BadMac::Form),
            ("12:c6:65:89:b4-e3", BadMac::Form),
            ("12:c6:65:89:b4:e", BadMac::Form),
            ("12:c6:65:89:b4:g3", BadMac::Form),
            ("12:c6:65:89:b4:+3", BadMac::Form),
            ("12c6.6589.b4e3.0000", BadMac::Form),
            ("12c6:6589:b4e3", BadMac::Form),
            ("é:c6:65:89:b4:e3", BadMac::Form),
            ("00:00:00:00:00:00", BadMac::Zero),
            ("01:00:5e:00:00:01", BadMac::Multicast),
            ("ff:ff:ff:ff:ff:ff", BadMac::Multicast),
        ] {
            assert_eq!(text.parse::<Mac>(), Err(why), "{text}");
        }
    }

    #[test]
    fn random_bytes_become_an_address_that_is_administered_locally() {
        for first in 0..=u8::MAX {
            let mac = Mac::of_random([first, 0, 0, 0, 0, 0]);
            assert_eq!(mac.bytes()[0] & 3, 2);
            assert_eq!(Mac::new(mac.bytes()), Ok(mac));
        }
    }
}
