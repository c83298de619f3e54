//! A change as a value.

use std::fmt;

use crate::family::Family;
use crate::row::Row;

/// The rows that one change adds, removes and gives another value. Applied whole or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delta<F: Family> {
    /// Rows whose key stood nowhere before, ordered by [`crate::row::RowKind`]: frontends last.
    pub added: Vec<Row<F>>,
    /// Rows whose key stands nowhere afterwards.
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
    /// How many rows it touches.
    pub fn len(&self) -> usize {
        self.added.len() + self.removed.len() + self.changed.len()
    }

    /// Whether it touches none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The rows that stand afterwards and did not stand before, in this form.
    pub fn new_rows(&self) -> impl Iterator<Item = &Row<F>> + Clone {
        self.changed.iter().map(|(_, new)| new).chain(&self.added)
    }

    /// The rows that stood before and do not stand afterwards, in this form.
    pub fn old_rows(&self) -> impl Iterator<Item = &Row<F>> + Clone {
        self.removed.iter().chain(self.changed.iter().map(|(old, _)| old))
    }
}

/// One row a line: `+ row` comes, `- row` goes, `~ row -> value` gets another value.
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
