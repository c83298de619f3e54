//! YAML for people: block style, keys in their order. Strings are quoted only if they could be read as something else.

use serde_json::Value;

/// One document.
pub fn to_yaml(value: &Value) -> String {
    let mut text = String::new();
    write(&mut text, value, 0);
    text
}

fn write(text: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Array(items) => {
            for item in items {
                indent(text, depth);
                text.push_str("- ");
                // The first line of a nested block is on the same line as the dash.
                let mut nested = String::new();
                write(&mut nested, item, depth + 1);
                text.push_str(nested.trim_start());
            }
        }
        Value::Object(fields) => {
            for (name, field) in fields {
                indent(text, depth);
                text.push_str(&scalar(name));
                text.push(':');
                if is_block(field) {
                    text.push('\n');
                    write(text, field, depth + 1);
                } else {
                    text.push(' ');
                    text.push_str(&inline(field));
                    text.push('\n');
                }
            }
        }
        _ => {
            indent(text, depth);
            text.push_str(&inline(value));
            text.push('\n');
        }
    }
    if !is_block(value) && matches!(value, Value::Array(_) | Value::Object(_)) {
        text.push_str(&inline(value));
        text.push('\n');
    }
}

fn is_block(value: &Value) -> bool {
    value.as_array().is_some_and(|items| !items.is_empty())
        || value.as_object().is_some_and(|fields| !fields.is_empty())
}

fn inline(value: &Value) -> String {
    match value {
        Value::String(text) => scalar(text),
        _ => value.to_string(), // numbers, booleans, null, [] and {}
    }
}

fn scalar(text: &str) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    let words = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(safe)
        && !words.contains(&text.to_ascii_lowercase().as_str());
    if plain {
        text.to_owned()
    } else {
        Value::from(text).to_string()
    }
}

fn indent(text: &mut String, depth: usize) {
    text.extend(std::iter::repeat_n("  ", depth));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nested_lists_and_words_that_mean_something_else_come_out_right() {
        let value = json!({
            "kind": "Service",
            "labels": { "kubernetes.io/name": "on", "empty": {} },
            "ports": [{ "port": 80, "list": [1, "10.96.0.10"] }, "::1"],
        });
        let expected = "\
kind: Service
labels:
  empty: {}
  kubernetes.io/name: \"on\"
ports:
  - list:
      - 1
      - \"10.96.0.10\"
    port: 80
  - \"::1\"
";
        assert_eq!(to_yaml(&value), expected);
    }
}
