//! The server sent something else than what was asked for. This says what it was, in words for people who run the node.

use serde::Deserialize;

use super::failure::Failure;
use super::wire::Status;
use crate::source::decode::{Complaint, printable};

/// This much of a page is enough to tell what it is.
const MOST: usize = 64 << 10;

/// The fields by which any object says what it is.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Head {
    pub(super) kind: String,
    pub(super) api_version: String,
}

/// The failure of a body that is not `wanted`. If the body is a Status, the failure has the code of the Status.
pub(super) fn instead(text: &[u8], wanted: &str, error: Option<&serde_json::Error>) -> Failure {
    let head: Result<Head, _> = serde_json::from_slice(text);
    let came = match head {
        Ok(Head { kind, .. }) if kind == "Status" => {
            let status: Status = serde_json::from_slice(text).unwrap_or_default();
            if status.code >= 400 {
                return Failure::status(status);
            }
            "a Status".to_owned()
        }
        Ok(Head { kind, .. }) if kind.is_empty() => format!("an object without kind ({})", words(text)),
        Ok(Head { kind, api_version }) => match error.map(|error| Complaint::of(&error.to_string())) {
            Some(complaint) if kind == wanted => {
                return Failure::Garbage(format!("a broken {wanted}: {complaint}"));
            }
            _ if api_version.is_empty() => format!("{} of no apiVersion", a(&kind)),
            _ => format!("{} of {}", a(&kind), printable(&api_version)),
        },
        Err(error) => {
            let text = text.trim_ascii_start();
            match text.first() {
                None => "nothing".to_owned(),
                Some(b'{' | b'[') => return broken(&error, wanted),
                Some(_) => format!("no JSON ({})", words(text)),
            }
        }
    };
    Failure::Garbage(format!("{came} instead of {}", a(wanted)))
}

/// The failure of a text that begins like `wanted` and is no JSON.
pub(super) fn broken(error: &serde_json::Error, wanted: &str) -> Failure {
    let complaint = Complaint::of(&error.to_string());
    Failure::Garbage(format!("broken JSON ({complaint}) instead of {}", a(wanted)))
}

/// The failure of an object of another kind or group.
pub(super) fn other(kind: &str, api_version: &str, wanted: &str) -> Failure {
    let (came, wanted) = (a(kind), a(wanted));
    Failure::Garbage(format!("{came} of {} instead of {wanted}", printable(api_version)))
}

/// The failure that an ERROR event inside a watch reports.
pub(super) fn error_event(object: &str) -> Failure {
    match serde_json::from_str::<Status>(object) {
        Ok(status) if status.code > 0 => Failure::status(status),
        _ => instead(object.as_bytes(), "Status in an ERROR event", None),
    }
}

/// The kind that an object says it has.
pub(super) fn kind_of(object: &str) -> String {
    serde_json::from_str::<Head>(object).unwrap_or_default().kind
}

/// A noun with its article.
pub(super) fn a(noun: &str) -> String {
    let article = if noun.starts_with(['A', 'E', 'I', 'O']) {
        "an"
    } else {
        "a"
    };
    format!("{article} {}", printable(noun))
}

/// A body's first words.
pub(super) fn words(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(&text[..text.len().min(MOST)]);
    let words: Vec<&str> = text.split_whitespace().take(100).collect();
    printable(&words.join(" "))
}
