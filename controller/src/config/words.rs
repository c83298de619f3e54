//! Values that are written as one text, as Go's flags write them.

use serde_json::{Map, Value};

/// The problem with a text that is not a list of switches.
pub(super) const NO_SWITCHES: &str = "not names with true or false, like A=true,B=false";

/// Reads switches from one text: `A=true,B=false`.
pub(super) fn switches(text: &str) -> Option<Value> {
    let mut map = Map::new();
    for piece in text.split(',').map(str::trim).filter(|piece| !piece.is_empty()) {
        let (name, on) = piece.split_once('=')?;
        map.insert(name.trim().to_owned(), Value::Bool(boolean(on)?));
    }
    Some(Value::Object(map))
}

/// Reads a boolean as Go's `strconv.ParseBool` does.
pub(super) fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}
