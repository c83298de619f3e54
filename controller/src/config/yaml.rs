//! A file's text, YAML or JSON, as a value; what is wrong with it in words for people who write such files.

use std::borrow::Cow;

use serde_json::Value;
use serde_saphyr::{Error, MessageFormatter, UserMessageFormatter};

/// Reads one document.
pub(super) fn value(text: &str) -> Result<Value, String> {
    if text.trim_start().starts_with('{') {
        return serde_json::from_str(text).map_err(|error| error.to_string());
    }
    let options = serde_saphyr::options! { with_snippet: false };
    let value = serde_saphyr::from_str_with_options(text, options);
    value.map_err(|error: Error| error.render_with_formatter(&Words))
}

/// The library's own words name its functions and options.
struct Words;

impl MessageFormatter for Words {
    fn format_message<'a>(&self, error: &'a Error) -> Cow<'a, str> {
        match error {
            Error::DuplicateMappingKey { key: Some(key), .. } => format!("the key {key} is there twice").into(),
            Error::DuplicateMappingKey { key: None, .. } => "a key is there twice".into(),
            Error::MultipleDocuments { .. } => "more than one document".into(),
            _ => UserMessageFormatter.format_message(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_said_without_words_of_the_library() {
        for (text, words) in [
            (
                "a: 1\nconntrack: {}\nconntrack: {}\n",
                "the key conntrack is there twice at line 3, column 1",
            ),
            ("a: 1\n---\nb: 1\n", "more than one document at line 3, column 1"),
            ("a: [\n", "unclosed bracket '[' at line 1, column 4"),
        ] {
            assert_eq!(value(text).unwrap_err(), words);
        }
    }
}
