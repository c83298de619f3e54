//! The form of the demo's output: at most 100 columns, colours only on a terminal.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use crate::flow::Score;

/// The output of the demo.
pub(crate) struct Paper {
    out: io::Stdout,
    colours: bool,
}

/// How something is printed.
#[derive(Clone, Copy)]
pub(crate) enum Ink {
    Bold,
    Dim,
    Good,
    Bad,
}

impl Paper {
    pub(crate) fn new() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let out = io::stdout();
        Self {
            colours: wanted && out.is_terminal(),
            out,
        }
    }

    pub(crate) fn title(&self, text: &str) {
        self.line(&format!("\n{}", self.ink(Ink::Bold, text)));
    }

    pub(crate) fn heading(&self, text: &str) {
        self.line(&format!("\n{}", self.ink(Ink::Bold, text)));
    }

    /// Prints lines unchanged, with an indent.
    pub(crate) fn text(&self, text: &str) {
        for line in text.trim_end().lines() {
            self.line(format!("  {line}").trim_end());
        }
    }

    pub(crate) fn ink(&self, ink: Ink, text: &str) -> String {
        let code = match ink {
            Ink::Bold => "1",
            Ink::Dim => "2",
            Ink::Good => "32",
            Ink::Bad => "1;31",
        };
        if self.colours {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    pub(crate) fn line(&self, line: &str) {
        // If the reader goes away (`| head`), the demo must still remove what it made.
        let _ = writeln!(&self.out, "{line}");
    }

    pub(crate) fn result(&self, score: &Score, elapsed: Duration) {
        let Score { passed, failed } = score;
        let words = format!(
            "{passed} flows as they must be, {failed} not, in {:.1} s",
            elapsed.as_secs_f64()
        );
        let (ink, mark) = if *failed == 0 {
            (Ink::Good, "✔")
        } else {
            (Ink::Bad, "✘")
        };
        self.line(&format!("\n{} {}\n", self.ink(ink, mark), self.ink(Ink::Bold, &words)));
    }
}
