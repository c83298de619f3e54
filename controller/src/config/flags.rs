//! Flags from the command line, turned into values of fields.

use serde_json::{Number, Value, json};

use super::ConfigError;
use super::document::Document;
use super::schema::flags::{FLAGS, Flag, Sets};
use super::schema::{self, FieldKind};
use super::words::{NO_SWITCHES, boolean, switches};

/// The flags of a command line, in the order of the table.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    given: Vec<(&'static Flag, Value)>,
}

impl Flags {
    /// Takes the values of each flag that the command line has. Names that are in no table are ignored.
    pub fn new<'a>(given: impl IntoIterator<Item = (&'a str, Vec<String>)>) -> Result<Self, ConfigError> {
        let mut flags = Self::default();
        for (name, values) in given {
            if let Some(flag) = FLAGS.iter().find(|flag| flag.name == name) {
                flags.given.push((flag, value(flag, &values)?));
            }
        }
        Ok(flags)
    }

    /// The same flags and one more.
    pub fn and(mut self, name: &str, value: String) -> Result<Self, ConfigError> {
        self.given.append(&mut Self::new([(name, vec![value])])?.given);
        Ok(self)
    }

    /// A flag's value.
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        debug_assert!(FLAGS.iter().any(|flag| flag.name == name), "no flag {name}");
        self.given
            .iter()
            .find(|(flag, _)| flag.name == name)
            .map(|(_, value)| value)
    }

    /// A flag's text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(Value::as_str)
    }

    /// A flag's number.
    pub(super) fn integer(&self, name: &str) -> Option<i64> {
        self.get(name).and_then(Value::as_i64)
    }

    /// Whether a boolean flag is given, and is not `false`.
    pub fn on(&self, name: &str) -> bool {
        self.get(name).and_then(Value::as_bool).unwrap_or(false)
    }

    /// Sets the flags' values in a `KubeProxyConfiguration`. Beside a file, it sets only those that win over the file.
    /// Returns one line for each flag that has no effect.
    pub(super) fn over(&self, document: &mut Document, beside_file: bool) -> Result<Vec<String>, ConfigError> {
        let mut lines = Vec::new();
        for (flag, value) in &self.given {
            let name = flag.name;
            match flag.sets {
                Sets::KubeProxy(_) if beside_file => {
                    lines.push(format!("--{name}: ignored because of --config, as in kube-proxy"));
                }
                Sets::Itself if beside_file && name.ends_with("-port") => {
                    lines.push(format!("--{name}: ignored because of --config, as in kube-proxy"));
                }
                Sets::KubeProxy(field) | Sets::Always(field) => {
                    if name == "masquerade-all" {
                        // It sets the field of both sections, whatever the mode.
                        document.set("iptables.masqueradeAll", name, value.clone())?;
                    }
                    document.set(field, name, value.clone())?;
                }
                Sets::Dropped(release) => {
                    lines.push(format!(
                        "--{name}: ignored: Kubernetes {release} dropped it, so it has no effect"
                    ));
                }
                Sets::Nothing(reason) => lines.push(format!("--{name}: ignored: {reason}")),
                Sets::Tandem(_) | Sets::Itself | Sets::Own => {}
            }
        }
        Ok(lines)
    }

    /// Sets the flags' values in a `TandemConfiguration`.
    pub(super) fn over_tandem(&self, document: &mut Document) -> Result<(), ConfigError> {
        for (flag, value) in &self.given {
            if let Sets::Tandem(field) = flag.sets {
                document.set(field, flag.name, value.clone())?;
            }
        }
        Ok(())
    }
}

/// Reads the values of a flag as Go's flags do. The last one counts, but the values of a list are collected.
fn value(flag: &Flag, given: &[String]) -> Result<Value, ConfigError> {
    let last = given.last().map_or("", String::as_str);
    let wrong = |problem: &str| ConfigError::Value {
        place: format!("--{}", flag.name),
        value: schema::words(&json!(last)),
        problem: problem.to_owned(),
    };
    let pieces = || given.iter().flat_map(|text| text.split(','));
    Ok(match flag.kind {
        FieldKind::Boolean => Value::Bool(boolean(last).ok_or_else(|| wrong("not true or false"))?),
        FieldKind::Integer | FieldKind::Unsigned => {
            let number = last.parse::<i64>().map_err(|_| wrong("not an integer"))?;
            json!(number)
        }
        FieldKind::Number => {
            let number = last.parse::<f64>().ok().and_then(Number::from_f64);
            Value::Number(number.ok_or_else(|| wrong("not a number"))?)
        }
        FieldKind::Texts => pieces().filter(|text| !text.is_empty()).collect(),
        FieldKind::Switches => switches(&given.join(",")).ok_or_else(|| wrong(NO_SWITCHES))?,
        _ => json!(last),
    })
}
