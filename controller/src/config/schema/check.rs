//! Checks whether a file's values have the types that the table says.

use serde_json::Value;

use super::{FieldKind, Schema};
use crate::config::duration;

/// A value that does not fit, or a field that is not there.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Misfit {
    /// Path of the field.
    pub(crate) field: String,
    /// Its value; none if the field does not exist.
    pub(crate) value: Option<String>,
    /// What is wrong with it.
    pub(crate) problem: String,
}

/// Checks a whole file. Null means unset in every field.
pub(crate) fn check(schema: &Schema, value: &Value) -> Result<(), Misfit> {
    let Value::Object(_) = value else {
        return Err(misfit("", value, "not a mapping of fields to values"));
    };
    section(schema, value, "", "")
}

/// `path` is the field's in the table, `place` the same with indices.
fn section(schema: &Schema, value: &Value, path: &str, place: &str) -> Result<(), Misfit> {
    let Value::Object(map) = value else {
        return Err(misfit(place, value, "not a section of fields"));
    };
    for (name, value) in map {
        let join = |before: &str| match before {
            "" => name.clone(),
            before => format!("{before}.{name}"),
        };
        let (path, place) = (join(path), join(place));
        if schema.unused(&path).is_some() {
            continue;
        }
        let Some(field) = schema.field(&path) else {
            return Err(unknown(schema, &path, place));
        };
        if value.is_null() {
            continue;
        }
        match (field.kind, value) {
            (FieldKind::Section, value) => section(schema, value, &path, &place)?,
            (FieldKind::Sections, Value::Array(list)) => {
                for (index, value) in list.iter().enumerate() {
                    section(schema, value, &path, &format!("{place}[{index}]"))?;
                }
            }
            (FieldKind::Texts, Value::Array(list)) => {
                for (index, value) in list.iter().enumerate() {
                    fits(FieldKind::Text, value)
                        .map_err(|problem| misfit(&format!("{place}[{index}]"), value, problem))?;
                }
            }
            (FieldKind::Switches, Value::Object(map)) => {
                for (name, value) in map {
                    fits(FieldKind::Boolean, value)
                        .map_err(|problem| misfit(&format!("{place}.{name}"), value, problem))?;
                }
            }
            (kind, value) => fits(kind, value).map_err(|problem| misfit(&place, value, problem))?,
        }
    }
    Ok(())
}

fn fits(kind: FieldKind, value: &Value) -> Result<(), &'static str> {
    let (fits, wanted) = match kind {
        FieldKind::Boolean => (value.is_boolean(), "not true or false"),
        FieldKind::Integer => {
            let fits = value.as_i64().is_some_and(|number| i32::try_from(number).is_ok());
            (fits, "not an integer of 32 bits")
        }
        FieldKind::Unsigned => {
            let fits = value.as_u64().is_some_and(|number| u32::try_from(number).is_ok());
            (fits, "not an integer of 32 bits that is not negative")
        }
        FieldKind::Number => {
            let fits = value.as_f64().is_some_and(|number| number.abs() <= f64::from(f32::MAX));
            (fits, "not a number of 32 bits")
        }
        FieldKind::Text => (value.is_string(), "not a text (a number or true needs quotes)"),
        FieldKind::Duration => (is_duration(value), "not a duration of 0 or more, like 30s, 1m30s or 1h"),
        FieldKind::DurationOrNanoseconds => {
            let fits = value.as_u64().is_some() || is_duration(value);
            (fits, "not a duration of 0 or more, like 5s")
        }
        FieldKind::Quantity => {
            let fits = value.as_u64().is_some() || value.as_str().is_some_and(is_quantity);
            (fits, "not a number of bytes, like 512, 1K or 2Ki")
        }
        FieldKind::Texts => (false, "not a list of texts"),
        FieldKind::Switches => (false, "not a section of names with true or false"),
        FieldKind::Section | FieldKind::Sections => (false, "not a list of sections"),
    };
    if fits { Ok(()) } else { Err(wanted) }
}

fn is_duration(value: &Value) -> bool {
    value.as_str().and_then(duration::parse).is_some()
}

fn is_quantity(text: &str) -> bool {
    const SUFFIXES: [&str; 14] = [
        "", "k", "K", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei",
    ];
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    digits > 0 && digits < 19 && text.get(digits..).is_some_and(|suffix| SUFFIXES.contains(&suffix))
}

fn misfit(field: &str, value: &Value, problem: &str) -> Misfit {
    Misfit {
        field: field.to_owned(),
        value: Some(words(value)),
        problem: problem.to_owned(),
    }
}

/// A value as text for people, cut after 100 characters.
pub(crate) fn words(value: &Value) -> String {
    const ENOUGH: usize = 100;
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    match text.char_indices().nth(ENOUGH) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

fn unknown(schema: &Schema, path: &str, place: String) -> Misfit {
    let (section, name) = path.rsplit_once('.').unwrap_or(("", path));
    let names = schema.below(section).filter_map(|field| field.path.rsplit('.').next());
    let problem = match nearest(name, names) {
        Some(known) => format!("no such field; did you mean {known}?"),
        None => format!("no such field in {}", schema.version),
    };
    Misfit {
        field: words(&Value::String(place)),
        value: None,
        problem,
    }
}

/// The known name that is most similar to this one; none if no name is similar.
pub(crate) fn nearest<'a>(unknown: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // A comparison costs the product of the lengths, and no known name is that long.
    if unknown.len() > 200 {
        return None;
    }
    let lower = unknown.to_lowercase();
    known
        .map(|known| (strsim::damerau_levenshtein(&lower, &known.to_lowercase()), known))
        .filter(|(distance, known)| *distance <= known.len().div_ceil(3).min(3))
        .min()
        .map(|(_, known)| known)
}
