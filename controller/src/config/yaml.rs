//! Reads the text of a file, YAML or JSON, as a value. Errors are in words for people who write such files.

use std::borrow::Cow;

use serde_json::Value;
use serde_saphyr::{Error, MessageFormatter, UserMessageFormatter};

/// A document.
#[derive(Debug)]
pub(super) struct Read {
    /// Its value.
    pub(super) value: Value,
    /// Whether more documents follow.
    pub(super) more: bool,
}

/// Reads the first document that is not empty. kube-proxy reads the first one.
pub(super) fn read(text: &str) -> Result<Read, String> {
    let error = match value(text) {
        Ok(value) => return Ok(Read { value, more: false }),
        Err(error) => error,
    };
    let mut documents = documents(text).into_iter().filter(|text| says_something(text));
    let Some((first, more)) = documents.next().map(|first| (first, documents.next().is_some())) else {
        return Err(error);
    };
    // If there is only one document, or if the first one cannot be read, the error about the whole file names the right
    // line.
    let value = value(first).map_err(|_| error)?;
    Ok(Read { value, more })
}

/// Splits a file at the lines that begin and end documents. No other line can look like these, because the content of a
/// document would be indented.
fn documents(text: &str) -> Vec<&str> {
    let mut documents = Vec::new();
    let (mut start, mut at) = (0, 0);
    for line in text.split_inclusive('\n') {
        let mark = line.starts_with("---") || line.starts_with("...");
        if mark
            && line
                .get(3..)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace))
        {
            documents.push(text.get(start..at).unwrap_or_default());
            // Text after the mark belongs to the document that the mark begins.
            start = at + 3;
        }
        at += line.len();
    }
    documents.push(text.get(start..).unwrap_or_default());
    documents
}

fn says_something(document: &str) -> bool {
    let content = |line: &str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    document.lines().any(content)
}

fn value(text: &str) -> Result<Value, String> {
    if text.trim_start().starts_with('{') {
        // A YAML mapping may be written in braces, too.
        return serde_json::from_str(text).or_else(|error| yaml(text).map_err(|_| error.to_string()));
    }
    yaml(text)
}

fn yaml(text: &str) -> Result<Value, String> {
    let options = serde_saphyr::options! { with_snippet: false };
    let value = serde_saphyr::from_str_with_options(text, options);
    value.map_err(|error: Error| error.render_with_formatter(&Words))
}

/// Replaces the library's own messages, which name its functions and options.
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
            ("a: [\n", "unclosed bracket '[' at line 1, column 4"),
        ] {
            assert_eq!(read(text).unwrap_err(), words);
        }
    }

    #[test]
    fn the_first_document_that_says_something_counts() {
        let one = serde_json::json!({"a": 1});
        for (text, more) in [
            ("a: 1\n", false),
            ("---\na: 1\n", false),
            ("# first\n---\na: 1\n...\n", false),
            ("---\n---\n# none yet\n---\na: 1\n---\n", false),
            ("a: 1\n---\n\n---\n# none\n", false),
            ("--- {a: 1}\n", false),
            ("{a: 1}\n", false),
            ("{\"a\": 1}\n", false),
            ("a: 1\n---\nb: 1\n", true),
            ("--- {a: 1}\n--- {a: 2}\n", true),
            ("a: 1\r\n---\r\nb: 1\r\n", true),
            ("a: 1\n---\nb: [\n", true),
            ("a: 1\n...\n---\nb: 1\n", true),
        ] {
            let read = read(text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
            assert_eq!((&read.value, read.more), (&one, more), "{text:?}");
        }
        for text in ["a: [\n---\nb: 1\n", "a: |\n  x\n b\n---\n"] {
            assert!(read(text).is_err(), "{text:?}");
        }
        let marks = "a: |\n  ---\n  x\nb: '---'\nc: ---x\n";
        let value = read(marks).unwrap().value;
        assert_eq!(value, serde_json::json!({"a": "---\nx\n", "b": "---", "c": "---x"}));
    }
}
