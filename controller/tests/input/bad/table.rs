//! The tables of cases: `field | kind of fault | value | notice`.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use serde_json::Value;
use tandem::event::ObjectKind;

/// Every field must have rows for these faults. Other faults are `out of range`, `contradictory` and `other family`.
pub(crate) const FAULTS: [&str; 4] = ["missing", "null", "wrong type", "huge"];

#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// A JSON pointer into the good object.
    pub(crate) field: String,
    pub(crate) fault: String,
    /// JSON. It is empty if the field is removed. `N x "text"` is a string, repeated N times. `N of VALUE` is a list of
    /// N items, with the item's number for `%`. `N deep` is a list in a list, N times.
    pub(crate) value: String,
    pub(crate) said: String,
}

impl Case {
    /// The value as JSON text.
    pub(crate) fn text(&self) -> String {
        let number = |text: &str| text.trim().parse::<usize>().ok();
        if let Some((count, text)) = self.value.split_once(" x ")
            && let Some(count) = number(count)
        {
            return format!("\"{}\"", text.trim_matches('"').repeat(count));
        }
        if let Some((count, item)) = self.value.split_once(" of ")
            && let Some(count) = number(count)
        {
            let items: Vec<String> = (0..count).map(|n| item.replace('%', &n.to_string())).collect();
            return format!("[{}]", items.join(","));
        }
        if let Some(count) = self.value.strip_suffix(" deep").and_then(number) {
            return format!("{}{}", "[".repeat(count), "]".repeat(count));
        }
        self.value.clone()
    }

    /// The good object with this value in it.
    pub(crate) fn object(&self, kind: ObjectKind) -> String {
        const HERE: &str = "\u{1}here\u{1}";
        let mut object = good(kind);
        if self.value.is_empty() {
            let (parent, name) = self.field.rsplit_once('/').unwrap();
            let name = name.replace("~1", "/");
            match object.pointer_mut(parent).unwrap() {
                Value::Object(map) => drop(map.remove(&name).unwrap()),
                Value::Array(list) => drop(list.remove(name.parse().unwrap())),
                other => panic!("{other} has no fields"),
            }
            return object.to_string();
        }
        // Some values are not JSON that a parser accepts or keeps unchanged.
        *object.pointer_mut(&self.field).unwrap() = HERE.into();
        object
            .to_string()
            .replace(&serde_json::to_string(HERE).unwrap(), &self.text())
    }
}

fn path(kind: ObjectKind, end: &str) -> PathBuf {
    let name = kind.to_string().to_lowercase();
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/bad/{name}.{end}"))
}

/// A correct object of this kind with every field that Tandem reads.
pub(crate) fn good(kind: ObjectKind) -> Value {
    serde_json::from_str(&fs::read_to_string(path(kind, "json")).unwrap()).unwrap()
}

pub(crate) fn read(kind: ObjectKind) -> Vec<Case> {
    let text = fs::read_to_string(path(kind, "txt")).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines
        .map(|line| {
            let mut parts = line.splitn(4, " | ").map(|part| part.trim().to_owned());
            let mut part = || parts.next().unwrap_or_else(|| panic!("no row: {line}"));
            Case {
                field: part(),
                fault: part(),
                value: part(),
                said: part(),
            }
        })
        .collect()
}

pub(crate) fn write(kind: ObjectKind, cases: &[Case]) {
    let old = fs::read_to_string(path(kind, "txt")).unwrap();
    let mut text: String = old
        .lines()
        .take_while(|line| line.starts_with('#'))
        .fold(String::new(), |all, line| all + line + "\n");
    for case in cases {
        let _ = writeln!(text, "{} | {} | {} | {}", case.field, case.fault, case.value, case.said);
    }
    fs::write(path(kind, "txt"), text).unwrap();
}

/// Every value in an object, by its pointer. Only the first item of each list is taken.
pub(crate) fn pointers(value: &Value) -> Vec<String> {
    fn collect(value: &Value, at: &str, into: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                for (name, value) in map {
                    let at = format!("{at}/{}", name.replace('/', "~1"));
                    into.push(at.clone());
                    collect(value, &at, into);
                }
            }
            Value::Array(list) => {
                if let Some(first) = list.first() {
                    let at = format!("{at}/0");
                    into.push(at.clone());
                    collect(first, &at, into);
                }
            }
            _ => {}
        }
    }
    let mut all = Vec::new();
    collect(value, "", &mut all);
    all
}
