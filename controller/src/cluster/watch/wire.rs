//! The JSON around objects: a list's page, a watch's line, a failure's Status. Objects stay text until the decoder
//! reads them.

use serde::Deserialize;
use serde::de::Deserializer;
use serde_json::value::RawValue;

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
#[serde(rename_all = "camelCase")]
pub(super) struct BookmarkObject {
    #[serde(default)]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) api_version: String,
    #[serde(default)]
    pub(super) metadata: BookmarkMeta,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct BookmarkMeta {
    #[serde(default)]
    pub(super) resource_version: String,
    #[serde(default)]
    pub(super) annotations: Option<BookmarkAnnotations>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct BookmarkAnnotations {
    /// `"true"` if all objects that existed were sent.
    #[serde(default, rename = "k8s.io/initial-events-end")]
    pub(super) initial_events_end: Option<String>,
}

/// Any object, read only for its version.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Versioned {
    #[serde(default)]
    pub(super) metadata: PageMeta,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Status {
    #[serde(default)]
    pub(super) code: u16,
    #[serde(default)]
    pub(super) message: String,
    #[serde(default)]
    pub(super) details: Option<StatusDetails>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StatusDetails {
    #[serde(default)]
    pub(super) retry_after_seconds: u64,
}
