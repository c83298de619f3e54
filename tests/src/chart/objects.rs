//! The objects of a rendering.

use anyhow::{Context as _, Result, anyhow};
use serde_json::Value;

/// Reads all documents of a text.
pub(super) fn parse(text: &str) -> Result<Vec<Value>> {
    let mut objects = Vec::new();
    for document in text.split("\n---\n") {
        let document = document.strip_prefix("---\n").unwrap_or(document);
        let options = serde_saphyr::options! { with_snippet: false };
        let object: Value = serde_saphyr::from_str_with_options(document, options)
            .map_err(|error| anyhow!("{error} in this document:\n{document}"))?;
        if !object.is_null() {
            objects.push(object);
        }
    }
    Ok(objects)
}

/// The first object of a kind.
pub(super) fn of<'o>(objects: &'o [Value], kind: &str) -> Result<&'o Value> {
    let found = objects.iter().find(|object| object["kind"] == kind);
    found.with_context(|| format!("there is no {kind}"))
}

/// The template of the pods.
pub(super) fn pod(objects: &[Value]) -> Result<&Value> {
    Ok(&of(objects, "DaemonSet")?["spec"]["template"])
}

/// The members of a list; none if it is not there.
pub(super) fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// The texts of a list.
pub(super) fn texts(value: &Value) -> Vec<String> {
    list(value).filter_map(Value::as_str).map(str::to_owned).collect()
}
