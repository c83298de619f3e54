//! A configuration as it was written, in a file or as flags, and the same configuration with its defaults.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::ConfigError;
use super::duration;
use super::schema::{self, Default, Fate, Field, FieldKind, Schema, Why};
use super::words;
use super::yaml;

/// A configuration of either kind, checked against its table.
#[derive(Clone, Debug)]
pub(super) struct Document {
    schema: &'static Schema,
    file: Option<PathBuf>,
    /// Fields that flags set, each with the flag's name.
    flags: BTreeMap<&'static str, &'static str>,
    written: Value,
    /// One line for each thing that has no effect and is not a field.
    notes: Vec<String>,
    /// The values with defaults: every field of the table is there.
    pub(super) values: Value,
}

impl Document {
    /// A configuration with defaults only.
    pub(super) fn empty(schema: &'static Schema) -> Self {
        let mut document = Self {
            schema,
            file: None,
            flags: BTreeMap::new(),
            written: json!({}),
            notes: Vec::new(),
            values: Value::Null,
        };
        document.complete();
        document
    }

    /// Reads the text of a file, YAML or JSON.
    pub(super) fn parse(schema: &'static Schema, path: &Path, text: &str) -> Result<Self, ConfigError> {
        let yaml::Read { mut value, more } = yaml::read(text).map_err(|problem| ConfigError::Syntax {
            path: path.to_owned(),
            problem,
        })?;
        let mut notes = Vec::new();
        if more {
            notes.push(format!(
                "{}: more than one document: the first one counts, as in kube-proxy, and the others have no effect",
                path.display()
            ));
        }
        if let Some(Value::String(text)) = value.get("featureGates") {
            let place = format!("{}: featureGates", path.display());
            let gates = gates_of_text(&place, text)?;
            notes.push(format!(
                "{place}: {text:?}: a text until Kubernetes 1.9, names with true or false since"
            ));
            put(&mut value, "featureGates", gates);
        }
        let written = value;
        let fail = |field: &str, problem: String| ConfigError::Field {
            path: path.to_owned(),
            field: field.to_owned(),
            problem,
        };
        for (field, expected) in [("apiVersion", schema.version), ("kind", schema.kind)] {
            match written.get(field) {
                Some(Value::String(found)) if found == expected => {}
                Some(found) => {
                    let found = schema::words(found);
                    return Err(fail(field, format!("must be {expected}, not {found:?}")));
                }
                None => return Err(fail(field, format!("missing, must be {expected}"))),
            }
        }
        schema::check(schema, &written).map_err(|misfit| match misfit.value {
            Some(value) => ConfigError::Value {
                place: format!("{}: {}", path.display(), misfit.field),
                value,
                problem: misfit.problem,
            },
            None => fail(&misfit.field, misfit.problem),
        })?;
        let mut document = Self {
            schema,
            file: Some(path.to_owned()),
            flags: BTreeMap::new(),
            written,
            notes,
            values: Value::Null,
        };
        document.complete();
        Ok(document)
    }

    /// Sets a field to a flag's value.
    pub(super) fn set(&mut self, path: &'static str, flag: &'static str, value: Value) -> Result<(), ConfigError> {
        let mut tree = value.clone();
        for name in path.rsplit('.') {
            tree = Value::Object(Map::from_iter([(name.to_owned(), tree)]));
        }
        schema::check(self.schema, &tree).map_err(|misfit| ConfigError::Value {
            place: format!("--{flag}"),
            value: misfit.value.unwrap_or_default(),
            problem: misfit.problem,
        })?;
        put(&mut self.written, path, value);
        self.flags.insert(path, flag);
        self.complete();
        Ok(())
    }

    /// The name of the field, or of the flag that set it, for people.
    pub(super) fn place(&self, path: &str) -> String {
        match (self.flags.get(path), &self.file) {
            (Some(flag), _) => format!("--{flag}"),
            (None, Some(file)) => format!("{}: {path}", file.display()),
            (None, None) => path.to_owned(),
        }
    }

    /// Whether there is a file.
    pub(super) fn is_from_file(&self) -> bool {
        self.file.is_some()
    }

    /// An error about a field, with the value that was written.
    pub(super) fn wrong(&self, path: &str, problem: &str) -> ConfigError {
        let value = lookup(&self.values, path).unwrap_or(&Value::Null);
        self.wrong_value(path, &schema::words(value), problem)
    }

    /// The same for an error in a part of the value.
    pub(super) fn wrong_value(&self, path: &str, value: &str, problem: &str) -> ConfigError {
        ConfigError::Value {
            place: self.place(path),
            value: schema::words(&Value::String(value.to_owned())),
            problem: problem.to_owned(),
        }
    }

    /// Whether a field's value differs from its default.
    pub(super) fn is_set(&self, path: &str) -> bool {
        let Some(field) = self.schema.field(path) else {
            return false;
        };
        lookup(&self.values, path) != Some(&default(field))
    }

    /// Whether a field is written, with any value except null.
    pub(super) fn is_written(&self, path: &str) -> bool {
        lookup(&self.written, path).is_some_and(|value| !value.is_null())
    }

    /// The field's text; empty if it has none.
    pub(super) fn text(&self, path: &str) -> &str {
        self.value(path).and_then(Value::as_str).unwrap_or_default()
    }

    /// Whether the field is true.
    pub(super) fn on(&self, path: &str) -> bool {
        self.value(path).and_then(Value::as_bool).unwrap_or_default()
    }

    /// The field's integer.
    pub(super) fn integer(&self, path: &str) -> i64 {
        self.value(path).and_then(Value::as_i64).unwrap_or_default()
    }

    /// The field's duration.
    pub(super) fn duration(&self, path: &str) -> Duration {
        duration::parse(self.text(path)).unwrap_or_default()
    }

    /// The field's list of texts.
    pub(super) fn texts(&self, path: &str) -> Vec<&str> {
        let list = self.value(path).and_then(Value::as_array);
        list.into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// The field's value: a map of names, or a list of sections.
    pub(super) fn value(&self, path: &str) -> Option<&Value> {
        debug_assert!(self.schema.field(path).is_some(), "no field {path}");
        lookup(&self.values, path)
    }

    /// One line for each field that is set and has no effect.
    pub(super) fn ignored(&self) -> Vec<String> {
        let mut lines = self.notes.clone();
        for unused in self.schema.unused.iter().filter(|unused| self.is_written(unused.path)) {
            let place = self.place(unused.path);
            let value = match (unused.why, lookup(&self.written, unused.path)) {
                (Why::Dropped(_), Some(value)) => format!("{:?}: ", schema::words(value)),
                // The content of these kinds is no setting.
                _ => String::new(),
            };
            lines.push(format!("{place}: {value}ignored: {}", unused.reason()));
        }
        for field in self.schema.fields {
            if let Fate::Ignored(reason) = field.fate
                && self.is_set(field.path)
                && !(field.kind == FieldKind::Switches || field.path.starts_with("logging.vmodule."))
            {
                let value = lookup(&self.values, field.path).unwrap_or(&Value::Null);
                let (place, value) = (self.place(field.path), schema::words(value));
                lines.push(format!("{place}: {value:?}: ignored: {reason}"));
            }
        }
        lines
    }

    fn complete(&mut self) {
        let mut values = json!({});
        for field in self.schema.fields {
            if field.path.starts_with("logging.vmodule.") {
                continue;
            }
            let written = lookup(&self.written, field.path).filter(|value| !value.is_null());
            let value = match (written, field.default) {
                (Some(_), _) if field.kind == FieldKind::Section => json!({}),
                (None, _) => default(field),
                (Some(value), Default::Empty(_)) if is_empty(field.kind, value) => default(field),
                (Some(value), _) => normal(field.kind, value),
            };
            put(&mut values, field.path, value);
        }
        self.values = values;
    }
}

/// Reads feature gates from one text. Kubernetes 1.9 wrote them so in a file, and the flag still has this form.
fn gates_of_text(place: &str, text: &str) -> Result<Value, ConfigError> {
    words::switches(text).ok_or_else(|| ConfigError::Value {
        place: place.to_owned(),
        value: schema::words(&json!(text)),
        problem: words::NO_SWITCHES.to_owned(),
    })
}

/// The value of a field that is not set.
fn default(field: &Field) -> Value {
    match (field.kind, field.default.text()) {
        (FieldKind::Boolean, text) => json!(text == Some("true")),
        (FieldKind::Integer | FieldKind::Unsigned | FieldKind::Number, text) => {
            json!(text.and_then(|text| text.parse::<i64>().ok()).unwrap_or_default())
        }
        (FieldKind::Text, text) => json!(text.unwrap_or_default()),
        (FieldKind::Duration | FieldKind::DurationOrNanoseconds, text) => {
            json!(duration::format(text.and_then(duration::parse).unwrap_or_default()))
        }
        (FieldKind::Quantity, _) => json!("0"),
        (FieldKind::Switches | FieldKind::Section, _) => json!({}),
        (FieldKind::Texts | FieldKind::Sections, _) => json!([]),
    }
}

/// A value in its only normal form, so that equal values are written equally.
fn normal(kind: FieldKind, value: &Value) -> Value {
    match (kind, value) {
        (FieldKind::Duration | FieldKind::DurationOrNanoseconds, Value::String(text)) => {
            json!(duration::format(duration::parse(text).unwrap_or_default()))
        }
        (FieldKind::DurationOrNanoseconds, value) => {
            json!(duration::format(Duration::from_nanos(
                value.as_u64().unwrap_or_default()
            )))
        }
        (FieldKind::Quantity, Value::Number(number)) => json!(number.to_string()),
        (FieldKind::Number, value) => match value.as_f64() {
            #[expect(clippy::cast_possible_truncation, reason = "it is whole and small")]
            Some(number) if number.fract() == 0.0 && number.abs() < 1e9 => json!(number as i64),
            _ => value.clone(),
        },
        _ => value.clone(),
    }
}

fn is_empty(kind: FieldKind, value: &Value) -> bool {
    match value {
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) if kind == FieldKind::Text => text.is_empty(),
        Value::String(text) => duration::parse(text).is_some_and(|time| time.is_zero()),
        _ => false,
    }
}

/// The value of the field with this path.
pub(super) fn lookup<'a>(values: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(values, |value, name| value.get(name))
}

/// Sets the value of the field with this path, and makes missing sections.
pub(super) fn put(values: &mut Value, path: &str, value: Value) {
    let mut at = values;
    for name in path.split('.') {
        if !at.is_object() {
            *at = json!({});
        }
        let Value::Object(map) = at else { return };
        at = map.entry(name).or_insert(Value::Null);
    }
    *at = value;
}
