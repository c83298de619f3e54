//! How the API server is asked for objects, from the fields that say it.

use serde_json::Value;

use super::ConfigError;
use super::document::Document;
use super::schema::words;
use crate::ways::{Accept, Lists, PROTOBUF, Ways};

const ACCEPTED: &str = "clientConnection.acceptContentTypes";
const CONTENT_TYPE: &str = "clientConnection.contentType";
const LISTS: &str = "apiServer.lists";

pub(super) fn resolve(config: &Document, tandem: &Document, warnings: &mut Vec<String>) -> Result<Ways, ConfigError> {
    Ok(Ways {
        lists: lists(tandem)?,
        accept: accept(config, warnings),
    })
}

fn lists(tandem: &Document) -> Result<Lists, ConfigError> {
    match tandem.text(LISTS) {
        "Stream" => Ok(Lists::Stream),
        "Cache" => Ok(Lists::Cache),
        "Pages" => Ok(Lists::Pages),
        _ => Err(tandem.wrong(LISTS, "not a way to list objects (Stream, Cache, Pages)")),
    }
}

/// As client-go, takes the first of the two fields that is set. kube-proxy would ask for an encoding that it cannot read,
/// and fail.
fn accept(config: &Document, warnings: &mut Vec<String>) -> Accept {
    let field = match config.text(ACCEPTED).trim() {
        "" => CONTENT_TYPE,
        _ => ACCEPTED,
    };
    let text = config.text(field).trim();
    if field == CONTENT_TYPE && text.eq_ignore_ascii_case(PROTOBUF) {
        return Accept::default();
    }
    let (accept, unreadable) = Accept::parse(text);
    if accept.is_none() || !unreadable.is_empty() {
        let (place, unreadable) = (config.place(field), words(&Value::String(unreadable.join(","))));
        let instead = if accept.is_some() {
            "ignored"
        } else {
            "it asks for protobuf, and takes JSON from servers that have no protobuf"
        };
        warnings.push(format!(
            "{place}: {unreadable:?}: tandem reads application/vnd.kubernetes.protobuf and application/json: {instead}"
        ));
    }
    accept.unwrap_or_default()
}
