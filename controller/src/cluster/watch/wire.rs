//! What is around objects: a list's page, a watch's line, a bookmark, a failure's Status. Page and line are JSON; the
//! others are also read from protobuf. Objects stay text until the decoder reads them.

use std::fmt;

use serde::Deserialize;
use serde::de::Deserializer;
use serde_json::value::RawValue;

/// How a server writes objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    /// An event is a line.
    Json,
    /// An event is a frame: its length in four bytes, the highest first, then that many bytes.
    Protobuf,
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Json => "JSON",
            Self::Protobuf => "protobuf",
        })
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Page<'a> {
    #[serde(default)]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) api_version: String,
    #[serde(default)]
    pub(super) metadata: PageMeta,
    /// Go writes `null` for a list that nothing was ever put into. It is not the same as a missing field.
    #[serde(borrow, default, deserialize_with = "there")]
    #[expect(clippy::option_option, reason = "absent and null differ")]
    pub(super) items: Option<Option<Vec<&'a RawValue>>>,
}

fn there<'de, T: Deserialize<'de>, D: Deserializer<'de>>(value: D) -> Result<Option<T>, D::Error> {
    T::deserialize(value).map(Some)
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PageMeta {
    #[serde(default)]
    pub(super) resource_version: String,
    #[serde(default, rename = "continue")]
    pub(super) after: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Line<'a> {
    #[serde(borrow, rename = "type")]
    pub(super) what: &'a str,
    #[serde(borrow)]
    pub(super) object: &'a RawValue,
}

/// A bookmark's object.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct BookmarkObject {
    pub(super) kind: String,
    pub(super) api_version: String,
    pub(super) metadata: BookmarkMeta,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct BookmarkMeta {
    pub(super) resource_version: String,
    pub(super) annotations: Option<BookmarkAnnotations>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct BookmarkAnnotations {
    /// `"true"` if all objects that existed were sent.
    #[serde(rename = "k8s.io/initial-events-end")]
    pub(super) initial_events_end: Option<String>,
}

/// Any object, read only for its version.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Versioned {
    pub(super) metadata: PageMeta,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Status {
    pub(super) code: u16,
    pub(super) message: String,
    pub(super) details: Option<StatusDetails>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct StatusDetails {
    pub(super) retry_after_seconds: u64,
}
