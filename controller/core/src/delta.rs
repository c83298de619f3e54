//! A change as a value, and the one door through which it reaches a data plane.

use std::fmt;

use crate::family::Family;
use crate::row::{Pick, Row};

/// The rows that one change adds, removes and gives another value. Applied whole or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delta<F: Family> {
    /// Rows whose key stood nowhere before, ordered by [`crate::row::Kind`]: frontends last.
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
}

/// What holds the rows of one family: the kernel's tables, or memory in tests.
pub trait DataPlane<F: Family> {
    /// Reads back every row that is there, at a start or after [`ApplyError::Unknown`].
    fn read(&mut self) -> Result<Vec<Row<F>>, ReadError>;

    /// Applies a change whole or not at all.
    fn apply(&mut self, delta: &Delta<F>) -> Result<(), ApplyError<F>>;

    /// The ways to pick an endpoint that are there: rows with these never meet [`ApplyError::UsedUp`].
    fn ways(&self) -> Vec<Pick> {
        Vec::new()
    }
}

/// Why the rows could not be read back.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ReadError(pub String);

/// Why a change was not applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError<F: Family> {
    /// The data plane refused these rows; nothing of the change was applied.
    #[error("{} row(s) were refused, the first: {}", .0.len(), FirstRejection(.0))]
    Rejected(Vec<Rejection<F>>),
    /// Room for ways to pick an endpoint is used up, and these rows need one that is not there; nothing of the change was
    /// applied.
    #[error("no way to pick an endpoint was left for {} row(s), the first: {}", .0.len(), FirstRejection(.0))]
    UsedUp(Vec<Rejection<F>>),
    /// Nothing of the change was applied, for a reason that is not one row's.
    #[error("{0}")]
    Failed(String),
    /// It is not known whether the change was applied: read the rows back before the next one.
    #[error("{0}")]
    Unknown(String),
}

/// One row that a data plane refused, and its reason.
#[derive(Clone, Debug)]
pub struct Rejection<F: Family> {
    /// The row that was to be added, removed or changed to.
    pub row: Row<F>,
    /// The data plane's words.
    pub reason: String,
}

struct FirstRejection<'a, F: Family>(&'a [Rejection<F>]);

impl<F: Family> fmt::Display for FirstRejection<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.first() {
            Some(rejection) => write!(f, "{:?}: {}", rejection.row, rejection.reason),
            None => f.write_str("none named"),
        }
    }
}
