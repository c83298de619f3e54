//! Turns a deserializer's message about a badly typed field into words that name the value and the expected type. The
//! result is at most a line, whatever is in the file.

use std::fmt;

use super::notes::shorten;

/// The largest number of characters of a field's path or of a parser's message.
const MOST_CHARS: usize = 253;

/// What is wrong with a field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Complaint {
    /// The value, shortened, if the parser's message has it.
    pub value: Option<String>,
    /// What is wrong with it.
    pub problem: String,
}

/// `"http": not a whole number`
impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(value) = &self.value {
            write!(f, "{value:?}: ")?;
        }
        f.write_str(&self.problem)
    }
}

impl Complaint {
    /// Makes it from a message of serde_json or serde-saphyr, without positions and without types of Rust.
    pub(crate) fn of(message: &str) -> Self {
        let message = match message.rfind(" at line ") {
            Some(end) => &message[..end],
            None => message,
        };
        let told = message
            .strip_prefix("invalid type: ")
            .or_else(|| message.strip_prefix("invalid value: "))
            .and_then(|rest| rest.rsplit_once(", expected "));
        if let Some((found, expected)) = told {
            let problem = if message.starts_with("invalid value: integer") {
                "too large a number".to_owned()
            } else {
                format!("not {}", noun(expected))
            };
            return Self {
                value: Some(shorten(&value(found))),
                problem,
            };
        }
        // If a list is in place of an object, serde reads its items as the fields in their order.
        if message.starts_with("invalid length ") && message.contains(", expected struct ") {
            return Self {
                value: Some("[…]".into()),
                problem: "not an object".into(),
            };
        }
        let problem = match message.strip_prefix("invalid ") {
            Some(kind @ ("i64" | "i32" | "u32" | "u16" | "bool" | "boolean")) => format!("not {}", noun(kind)),
            _ => printable(message),
        };
        Self { value: None, problem }
    }
}

/// The API documentation's word for what a serde message calls expected.
fn noun(expected: &str) -> String {
    match expected {
        "i64" | "i32" | "u32" | "u16" => "a whole number".into(),
        "a sequence" => "a list".into(),
        "a boolean" | "bool" | "boolean" => "true or false".into(),
        "a map" => "an object".into(),
        other if other.starts_with("struct ") => "an object".into(),
        other => printable(other),
    }
}

/// The value in a serde message: `string "http"`, ``integer `7` ``, `map`.
fn value(found: &str) -> String {
    match found {
        "map" => return "{…}".into(),
        "sequence" => return "[…]".into(),
        "null" | "unit value" | "Option value" => return "null".into(),
        _ => {}
    }
    let between = |quote: char| {
        let (_, rest) = found.split_once(quote)?;
        rest.rsplit_once(quote).map(|(value, _)| value)
    };
    match (found.starts_with("string "), between('"'), between('`')) {
        // serde has escaped it, and the printer escapes it again.
        (true, Some(text), _) => text.replace("\\\"", "\"").replace("\\\\", "\\"),
        (_, _, Some(number)) => number.to_owned(),
        _ => found.to_owned(),
    }
}

/// The path at which decoding stopped; empty if that is the whole object.
pub(crate) fn field_path(track: serde_path_to_error::Track) -> String {
    let path = track.path().to_string();
    // A value that was read through an alias, or as a key, has no path.
    let path = path.trim_end_matches(['?', '.']);
    printable(path)
}

/// A text as one line that is short enough for the log.
pub(crate) fn printable(text: &str) -> String {
    let mut line = String::with_capacity(text.len().min(MOST_CHARS));
    for (count, character) in text.chars().enumerate() {
        if count == MOST_CHARS {
            line.push('…');
            break;
        }
        if character.is_control() {
            line.extend(character.escape_debug());
        } else {
            line.push(character);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_say_what_is_there_and_what_should_be() {
        for (message, words) in [
            (
                r#"invalid type: string "http", expected i64 at line 1 column 7"#,
                r#""http": not a whole number"#,
            ),
            (
                r#"invalid type: string "a at line 7, expected x \"b\"", expected a sequence at line 1 column 7"#,
                r#""a at line 7, expected x \"b\"": not a list"#,
            ),
            (
                "invalid value: integer `9223372036854775808`, expected i64",
                r#""9223372036854775808": too large a number"#,
            ),
            (
                "invalid type: floating point `1e+20`, expected i64 at line 1 column 7",
                r#""1e+20": not a whole number"#,
            ),
            ("invalid type: map, expected a sequence", r#""{…}": not a list"#),
            (
                "invalid type: sequence, expected struct Meta",
                r#""[…]": not an object"#,
            ),
            ("invalid type: null, expected a boolean", r#""null": not true or false"#),
            ("invalid i64", "not a whole number"),
            (
                "invalid length 0, expected struct Meta with 6 elements",
                r#""[…]": not an object"#,
            ),
            ("unexpected\nend", "unexpected\\nend"),
        ] {
            assert_eq!(Complaint::of(message).to_string(), words, "{message}");
        }
    }

    #[test]
    fn nothing_makes_a_message_long() {
        let long = "ä\u{7}\"`".repeat(100_000);
        for message in [
            long.clone(),
            format!("invalid type: string {long:?}, expected a map"),
            format!("invalid type: map, expected {long}"),
        ] {
            let words = Complaint::of(&message).to_string();
            assert!(words.chars().count() < 600, "{}", words.len());
            assert!(!words.contains(char::is_control));
        }
    }
}
