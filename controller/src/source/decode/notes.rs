//! Collects the faults of an object while it is decoded.

use std::fmt::Display;

use tandem_core::uid::Uid;

use crate::event::Notice;

/// The largest number of faults that are named for one object. That is enough for one reading.
const MOST_NOTICES: usize = 16;
/// Longer values are cut.
const MOST_CHARS: usize = 64;

/// The notices of one object.
#[derive(Debug, Default)]
pub(super) struct Notes {
    uid: Option<Uid>,
    notices: Vec<Notice>,
}

impl Notes {
    /// Makes the notes of the object with this uid.
    pub(super) fn of(uid: Option<Uid>) -> Self {
        Self {
            uid,
            notices: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, field: impl Into<String>, value: impl AsRef<str>, problem: impl Into<String>) {
        if self.notices.len() < MOST_NOTICES {
            self.notices.push(Notice {
                field: field.into(),
                value: shorten(value.as_ref()),
                problem: problem.into(),
                uid: self.uid,
            });
        }
    }

    pub(super) fn into_vec(self) -> Vec<Notice> {
        self.notices
    }
}

/// Counts the same fault in many entries of a list. It becomes one notice that names the first entry and counts the
/// others.
#[derive(Debug, Default)]
pub(super) struct Tally {
    first: Option<(usize, String, String)>,
    others: usize,
}

impl Tally {
    pub(super) fn add(&mut self, index: usize, value: &str, problem: impl Display) {
        if self.first.is_some() {
            self.others += 1;
        } else {
            self.first = Some((index, value.to_owned(), problem.to_string()));
        }
    }

    /// `field` is the path up to the index; `rest` is the part after it.
    pub(super) fn finish(self, notes: &mut Notes, field: &str, rest: &str, consequence: &str) {
        let Some((index, value, problem)) = self.first else {
            return;
        };
        let also = match self.others {
            0 => String::new(),
            1 => " (and 1 more like it)".to_owned(),
            n => format!(" (and {n} more like it)"),
        };
        notes.add(
            format!("{field}[{index}]{rest}"),
            value,
            format!("{problem}; {consequence}{also}"),
        );
    }
}

/// Cuts a long value, between two characters.
pub(crate) fn shorten(value: &str) -> String {
    match value.char_indices().nth(MOST_CHARS) {
        Some((end, _)) => format!("{}…", &value[..end]),
        None => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_value_is_cut_at_a_character() {
        assert_eq!(shorten("10.0.0.1"), "10.0.0.1");
        assert_eq!(shorten(&"ü".repeat(65)), format!("{}…", "ü".repeat(64)));
    }

    #[test]
    fn a_tally_names_the_first_and_counts_the_others() {
        let mut notes = Notes::default();
        let mut tally = Tally::default();
        tally.add(3, "127.0.0.1", "loopback");
        tally.add(4, "127.0.0.2", "loopback");
        tally.finish(&mut notes, "endpoints", ".addresses[0]", "left out");
        let notices = notes.into_vec();
        assert_eq!(
            notices[0].to_string(),
            r#"endpoints[3].addresses[0]: "127.0.0.1": loopback; left out (and 1 more like it)"#
        );
    }
}
