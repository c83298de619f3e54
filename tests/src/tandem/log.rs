//! The lines that a Tandem has logged, in plain text or JSON.

use std::io::{BufRead as _, BufReader, Read};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use serde_json::Value;

#[derive(Clone, Debug, Default)]
pub(super) struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    /// Collects the output of a pipe until it ends.
    pub(super) fn follow(&self, pipe: Option<impl Read + Send + 'static>) {
        let Some(pipe) = pipe else { return };
        let log = self.clone();
        thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                log.lock().push(line);
            }
        });
    }

    /// Waits until the pipes have ended. That happens soon after the process has ended.
    pub(super) fn wait_end(&self) {
        // Each follower holds a clone.
        let _ = crate::eventually(Duration::from_secs(2), || {
            (Arc::strong_count(&self.0) == 1).then_some(())
        });
    }

    pub(super) fn lines(&self) -> Vec<String> {
        self.lock().clone()
    }

    pub(super) fn tail(&self, count: usize) -> String {
        let lines = self.lock();
        lines[lines.len().saturating_sub(count)..].join("\n")
    }

    /// Lines at level ERROR, and panics, that contain none of the expected texts.
    pub(super) fn errors(&self, expected: &[String]) -> Vec<String> {
        let is_expected = |line: &&String| expected.iter().any(|text| line.contains(text));
        let lines = self.lock();
        lines
            .iter()
            .filter(|line| is_error(line))
            .filter(|line| !is_expected(line))
            .cloned()
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The level comes before the message. A message may contain the word ERROR.
pub(super) fn is_error(line: &str) -> bool {
    if line.starts_with("thread '") && line.contains(" panicked at ") {
        return true;
    }
    match serde_json::from_str::<Value>(line) {
        Ok(entry) => entry["level"] == "ERROR",
        Err(_) => line
            .split_whitespace()
            .take(2)
            .any(|word| word == "ERROR" || word == "error:"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_told_by_their_level_in_text_and_json() {
        let errors = [
            "2026-01-01T00:00:00Z ERROR tandem: the table is gone",
            "ERROR the table is gone",
            r#"{"timestamp":"2026-01-01T00:00:00Z","level":"ERROR","fields":{}}"#,
            "thread 'main' (7) panicked at src/main.rs:1:1:",
        ];
        let others = [
            "2026-01-01T00:00:00Z  INFO tandem: no ERROR here",
            r#"{"level":"WARN","fields":{"message":"ERROR"}}"#,
        ];
        assert!(errors.iter().all(|line| is_error(line)));
        assert!(!others.iter().any(|line| is_error(line)));
    }
}
