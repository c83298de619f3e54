//! Errors of libraries in one line.

use std::error::Error;

/// An error and its causes, each once, in one line.
pub(crate) fn line(error: &(dyn Error + 'static)) -> String {
    let mut line = String::new();
    let mut next = Some(error);
    while let Some(cause) = next {
        let text = one_line(&cause.to_string());
        // Outer errors often have the inner error's words.
        if !text.is_empty() && !line.contains(&text) {
            if !line.is_empty() {
                line.push_str(": ");
            }
            line.push_str(&text);
        }
        next = cause.source();
    }
    line
}

/// A text of several lines as one.
pub(crate) fn one_line(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join(" | ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer\n  words: {0}")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn each_cause_is_told_once_in_one_line() {
        let error = std::io::Error::other(Outer(std::io::Error::other("inner")));
        assert_eq!(line(&error), "outer | words: inner");
        assert_eq!(one_line("\n a\n\n b \n"), "a | b");
    }
}
