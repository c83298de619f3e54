//! The chart's own documents: its versions, the defaults, and the table of values in its README. One fact is in several
//! files, so these are compared.

use std::fmt::{self, Formatter, Write as _};
use std::fs;
use std::marker::PhantomData;

use anyhow::{Context as _, Result, anyhow, ensure};
use serde::de::{Deserialize, DeserializeOwned, MapAccess, Visitor};
use serde_json::Value;

use super::helm::chart;
use crate::code::root;

/// What is around the table in the README.
const BEGIN: &str = "<!-- table: values -->\n";
const END: &str = "<!-- end -->\n";
/// A key that is Helm's own.
const OF_HELM: &str = "global";

/// A part of the schema.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
struct Schema {
    #[serde(rename = "type")]
    kind: Value,
    #[serde(rename = "$ref")]
    reference: Option<String>,
    description: Option<String>,
    properties: Ordered<Schema>,
    definitions: Ordered<Schema>,
}

/// The fields of an object in the order of the file.
#[derive(Debug)]
struct Ordered<T>(Vec<(String, T)>);

impl<T> Default for Ordered<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Ordered<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = Ordered<T>;

            fn expecting(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Ordered(fields))
            }
        }
        deserializer.deserialize_map(Fields(PhantomData))
    }
}

/// A value that a user can give.
struct Row {
    /// Its keys, from the outermost.
    path: Vec<String>,
    kind: String,
    description: String,
}

fn file(name: &str) -> Result<String> {
    let path = chart().join(name);
    fs::read_to_string(&path).with_context(|| path.display().to_string())
}

fn yaml<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_saphyr::from_str(text).map_err(|error| anyhow!("{error}"))
}

/// Fails if the chart has another version than Tandem.
pub(super) fn check_version() -> Result<()> {
    let text = fs::read_to_string(root().join("Cargo.toml"))?;
    let version = text.lines().find_map(|line| line.strip_prefix("version = "));
    let version = version.context("Cargo.toml has no version")?.trim_matches('"');
    let chart: Value = yaml(&file("Chart.yaml")?)?;
    for field in ["version", "appVersion"] {
        ensure!(
            chart[field] == version,
            "Chart.yaml: {field} is {}, and Tandem is {version}",
            chart[field]
        );
    }
    Ok(())
}

/// Fails if a value has no description, or if values.yaml does not say it.
pub(super) fn check_values() -> Result<()> {
    let (text, mut wrong) = (file("values.yaml")?, Vec::new());
    for row in rows()? {
        let (path, key) = (row.path.join("."), row.path.last().cloned().unwrap_or_default());
        let says = |line: &str| {
            let line = line.trim_start_matches([' ', '#']);
            line.strip_prefix(&key).is_some_and(|rest| rest.starts_with(':'))
        };
        if !text.lines().any(says) {
            wrong.push(format!("{path}: values.yaml does not say it"));
        }
        if row.description.is_empty() || row.kind.is_empty() {
            wrong.push(format!("{path}: has no type or no description in values.schema.json"));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("; "));
    Ok(())
}

/// Fails if the README has another table than the schema and the defaults make.
pub(super) fn check_readme() -> Result<()> {
    let readme = file("README.md")?;
    ensure!(
        with_table(&readme)? == readme,
        "README.md: its table of values is not that of values.schema.json and values.yaml: `make manifests` writes it"
    );
    Ok(())
}

/// Writes the table of the README.
pub(super) fn keep_readme() -> Result<()> {
    let path = chart().join("README.md");
    fs::write(&path, with_table(&file("README.md")?)?).with_context(|| format!("write {}", path.display()))
}

fn with_table(readme: &str) -> Result<String> {
    let (before, rest) = readme.split_once(BEGIN).context("README.md: no table begins")?;
    let (_, after) = rest.split_once(END).context("README.md: no table ends")?;
    Ok(format!("{before}{BEGIN}{}{END}{after}", table()?))
}

fn table() -> Result<String> {
    let values: Value = yaml(&file("values.yaml")?)?;
    let mut table = "| value | type | default | what it does |\n|---|---|---|---|\n".to_owned();
    for row in rows()? {
        let default = row.path.iter().fold(&values, |value, key| &value[key]);
        let default = match default {
            Value::Null => String::new(),
            default => format!("`{default}`"),
        };
        let path = row.path.join(".");
        writeln!(table, "| `{path}` | {} | {default} | {} |", row.kind, row.description)?;
    }
    Ok(table)
}

fn rows() -> Result<Vec<Row>> {
    let schema: Schema = serde_json::from_str(&file("values.schema.json")?).context("values.schema.json")?;
    let mut rows = Vec::new();
    walk(&schema, &schema, &[], &mut rows);
    rows.retain(|row| row.path[0] != OF_HELM);
    Ok(rows)
}

/// Adds the values of this part. An object with a description is one value. Without one, its fields are.
fn walk(root: &Schema, part: &Schema, path: &[String], rows: &mut Vec<Row>) {
    for (key, field) in &part.properties.0 {
        let path = [path, std::slice::from_ref(key)].concat();
        if field.description.is_none() && !field.properties.0.is_empty() {
            walk(root, field, &path, rows);
            continue;
        }
        rows.push(Row {
            path,
            kind: kind(root, field),
            description: field.description.clone().unwrap_or_default(),
        });
    }
}

/// The types of a value, as words.
fn kind(root: &Schema, part: &Schema) -> String {
    let named = part
        .reference
        .as_deref()
        .and_then(|name| name.strip_prefix("#/definitions/"));
    let referred = named.and_then(|name| root.definitions.0.iter().find(|(own, _)| own == name));
    match &referred.map_or(part, |(_, referred)| referred).kind {
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" or "),
        kind => kind.as_str().unwrap_or_default().to_owned(),
    }
}
