//! Reads words of scenarios as values.

use serde::de::{self, Deserialize, Deserializer};

use super::sender::Sender;
use crate::addresses::Ip;
use crate::traffic::Protocol;

/// `TCP`, `UDP` or `SCTP`.
pub(super) fn protocol<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Protocol, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
}

/// A list of `ipv4` and `ipv6`.
pub(super) fn families<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Ip>, D::Error> {
    let names = Vec::<String>::deserialize(deserializer)?;
    if names.is_empty() {
        return Err(de::Error::custom("no family at all"));
    }
    let family = |name: String| match name.as_str() {
        "ipv4" => Ok(Ip::V4),
        "ipv6" => Ok(Ip::V6),
        _ => Err(de::Error::custom(format!("{name:?} is not a family (ipv4, ipv6)"))),
    };
    names.into_iter().map(family).collect()
}

/// A list of `connected` and `unconnected`.
pub(super) fn senders<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Sender>, D::Error> {
    let senders = Vec::<Sender>::deserialize(deserializer)?;
    if senders.is_empty() {
        return Err(de::Error::custom("nobody sends"));
    }
    Ok(senders)
}

/// The same; none if the field is not given.
pub(super) fn some_senders<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<Sender>>, D::Error> {
    senders(deserializer).map(Some)
}

/// A list of families; none if the field is not given.
pub(super) fn some_families<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<Ip>>, D::Error> {
    families(deserializer).map(Some)
}
