//! What flannel writes about a node's VXLAN device into an annotation, `backend-data` or `backend-v6-data`:
//! `{"VNI":1,"VtepMAC":"12:c6:65:89:b4:e3"}`.
//!
//! It is read as Go's `encoding/json` reads it, because that decides what other nodes do with it: the case of keys does not
//! matter, unknown keys are skipped, `null` leaves a field as it was, and of several values of one field the last one counts.
//! It is written as flannel writes it, byte for byte: flannel cuts its own text apart by `:"`.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, Visitor};

use super::mac::{BadMac, Mac};

/// The longest text that is read. flannel's has 43 bytes.
const LONGEST: usize = 4096;

/// A VXLAN device as its node describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// The number of the network.
    pub vni: u32,
    /// The device's address.
    pub mac: Mac,
}

/// Why an annotation describes no device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadDevice {
    /// It is too long to be read.
    #[error("{0} bytes, and at most {LONGEST} are read")]
    Long(usize),
    /// It is not JSON, or a field has another type.
    #[error("{0}")]
    Json(String),
    /// There is no address.
    #[error("no VtepMAC")]
    NoMac,
    /// The address is wrong.
    #[error("VtepMAC {text:?}: {why}")]
    Mac {
        /// The text.
        text: String,
        /// What is wrong.
        why: BadMac,
    },
}

impl Device {
    /// Reads an annotation's value.
    pub fn read(text: &str) -> Result<Self, BadDevice> {
        if text.len() > LONGEST {
            return Err(BadDevice::Long(text.len()));
        }
        let fields: Option<Fields> = serde_json::from_str(text).map_err(|error| BadDevice::Json(error.to_string()))?;
        let Fields { vni, mac } = fields.unwrap_or_default();
        let text = mac.ok_or(BadDevice::NoMac)?;
        match text.parse() {
            Ok(mac) => Ok(Self { vni, mac }),
            Err(why) => Err(BadDevice::Mac { text, why }),
        }
    }
}

/// Writes the annotation's value.
impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{\"VNI\":{},\"VtepMAC\":\"{}\"}}", self.vni, self.mac)
    }
}

/// The fields that count.
#[derive(Default)]
struct Fields {
    vni: u32,
    mac: Option<String>,
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with VNI and VtepMAC")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
        let mut fields = Fields::default();
        while let Some(key) = map.next_key::<String>()? {
            if key.eq_ignore_ascii_case("VNI") {
                fields.vni = map
                    .next_value::<Option<u32>>()
                    .map_err(in_field("VNI"))?
                    .unwrap_or(fields.vni);
            } else if key.eq_ignore_ascii_case("VtepMAC") {
                let mac: Option<String> = map.next_value().map_err(in_field("VtepMAC"))?;
                fields.mac = mac.or(fields.mac);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(fields)
    }
}

/// Names the field in an error.
fn in_field<E: Error>(field: &'static str) -> impl Fn(E) -> E {
    move |error| E::custom(format!("{field}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"{"VNI":1,"VtepMAC":"12:c6:65:89:b4:e3"}"#;

    #[test]
    fn flannels_text_is_read_and_written_byte_for_byte() {
        let device = Device::read(TEXT).unwrap();
        assert_eq!(device.vni, 1);
        assert_eq!(device.to_string(), TEXT);
    }

    #[test]
    fn json_is_read_as_go_reads_it() {
        for text in [
            r#" { "vtepmac" : "12:c6:65:89:b4:e3", "vni" : 1 } "#,
            r#"{"VNI":7,"VNI":1,"VtepMAC":"02:00:00:00:00:01","VTEPMAC":"12:c6:65:89:b4:e3"}"#,
            r#"{"VNI":1,"VNI":null,"VtepMAC":"12:c6:65:89:b4:e3","vtepMac":null}"#,
            r#"{"VNI":1,"VtepMAC":"12:c6:65:89:b4:e3","Port":[{"deep":{}}],"":0}"#,
        ] {
            assert_eq!(Device::read(text).unwrap().to_string(), TEXT, "{text}");
        }
        assert_eq!(Device::read(r#"{"VtepMAC":"12:c6:65:89:b4:e3"}"#).unwrap().vni, 0);
    }

    #[test]
    fn what_go_refuses_is_refused_with_the_field() {
        let long = format!("{TEXT}{}", " ".repeat(256 << 10));
        let deep = format!("{}1{}", "{\"a\":".repeat(500), "}".repeat(500));
        for (text, why) in [
            ("", "EOF while parsing a value"),
            ("null", "no VtepMAC"),
            ("{}", "no VtepMAC"),
            ("[]", "an object with VNI and VtepMAC"),
            ("\"x\"", "an object with VNI and VtepMAC"),
            (r#"{"VNI":"1","VtepMAC":"12:c6:65:89:b4:e3"}"#, "VNI: invalid type"),
            (r#"{"VNI":-1}"#, "VNI: invalid value"),
            (r#"{"VNI":1.0}"#, "VNI: invalid type"),
            (r#"{"VNI":4294967296}"#, "VNI: invalid value"),
            (r#"{"VtepMAC":7}"#, "VtepMAC: invalid type"),
            (r#"{"VtepMAC":""}"#, "VtepMAC \"\": not a MAC address"),
            (r#"{"VtepMAC":"00:00:00:00:00:00"}"#, "the MAC address is zero"),
            (r#"{"VtepMAC":"01:00:00:00:00:00"}"#, "multicast"),
            (&format!("{TEXT}{TEXT}"), "trailing characters"),
            (&deep, "no VtepMAC"),
            (&long, "262183 bytes, and at most 4096 are read"),
        ] {
            let error = Device::read(text).unwrap_err().to_string();
            assert!(error.contains(why), "{}: {error}", &text[..text.len().min(80)]);
        }
    }
}
