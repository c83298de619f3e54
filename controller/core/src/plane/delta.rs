//! A change as a value.

use std::borrow::Cow;
use std::fmt;

use crate::family::Family;
use crate::row::Row;

/// The rows that one change adds, removes or gives another value. A change is applied completely or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delta<F: Family> {
    /// Rows whose key did not exist before, ordered by [`crate::row::RowKind`]: frontends last.
    pub added: Vec<Row<F>>,
    /// Rows whose key does not exist after the change.
    pub removed: Vec<Row<F>>,
    /// Rows that keep their key: the old row and the new one.
    pub changed: Vec<(Row<F>, Row<F>)>,
}

impl<F: Family> Default for Delta<F> {
    fn default() -> Self {
        Self {
            added: Vec::new(),
            removed: Vec::new(),
            changed: Vec::new(),
        }
    }
}

impl<F: Family> Delta<F> {
    /// How many rows the change touches.
    pub fn len(&self) -> usize {
        self.added.len() + self.removed.len() + self.changed.len()
    }

    /// Whether the change touches no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The part of the change that a data plane stores ([`crate::row::RowKind::is_stored`]). It is nearly always all of it, and then
    /// nothing is copied.
    pub fn stored(&self) -> Cow<'_, Self> {
        let is_stored = |row: &Row<F>| row.kind().is_stored();
        if self.new_rows().chain(&self.removed).all(is_stored) {
            return Cow::Borrowed(self);
        }
        let mut stored = self.clone();
        stored.added.retain(is_stored);
        stored.removed.retain(is_stored);
        stored.changed.retain(|(_, new)| is_stored(new));
        Cow::Owned(stored)
    }

    /// The rows that exist after the change and did not exist before, with their new values.
    pub fn new_rows(&self) -> impl Iterator<Item = &Row<F>> + Clone {
        self.changed.iter().map(|(_, new)| new).chain(&self.added)
    }

    /// The rows that existed before the change and do not exist after it, with their old values.
    pub fn old_rows(&self) -> impl Iterator<Item = &Row<F>> + Clone {
        self.removed.iter().chain(self.changed.iter().map(|(old, _)| old))
    }
}

/// Writes one row a line: `+ row` is added, `- row` is removed, `~ row -> value` gets another value.
impl<F: Family> fmt::Display for Delta<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut begin = "";
        let mut line = |f: &mut fmt::Formatter<'_>, text: fmt::Arguments<'_>| {
            write!(f, "{begin}{text}")?;
            begin = "\n";
            Ok(())
        };
        for row in &self.added {
            line(f, format_args!("+ {row}"))?;
        }
        for row in &self.removed {
            line(f, format_args!("- {row}"))?;
        }
        for (old, new) in &self.changed {
            match new.value() {
                Some(value) => line(f, format_args!("~ {old} -> {value}"))?,
                None => line(f, format_args!("~ {old} -> {new}"))?,
            }
        }
        Ok(())
    }
}
