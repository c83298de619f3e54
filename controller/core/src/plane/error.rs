//! Errors of data planes.

use std::error::Error;
use std::fmt;

use crate::family::Family;
use crate::row::Row;

/// What went wrong inside a data plane, as its own error type.
pub type Cause = Box<dyn Error + Send + Sync>;

/// Why a data plane could not be opened, or could not be put before those of other programs. Nothing has changed.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct OpenError(Cause);

impl OpenError {
    /// Makes an error with the data plane's own error as its cause.
    pub fn new(cause: impl Into<Cause>) -> Self {
        Self(cause.into())
    }
}

/// Why the rows could not be read back.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct ReadError(Cause);

impl ReadError {
    /// Makes an error with the data plane's own error as its cause.
    pub fn new(cause: impl Into<Cause>) -> Self {
        Self(cause.into())
    }
}

/// Why unused parts of the data plane could not be removed. No row depends on them.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct IdleError(Cause);

impl IdleError {
    /// Makes an error with the data plane's own error as its cause.
    pub fn new(cause: impl Into<Cause>) -> Self {
        Self(cause.into())
    }
}

/// Why a change was not applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError<F: Family> {
    /// The data plane refused these rows; nothing of the change was applied.
    #[error("{} row(s) were refused, the first: {}", .0.len(), First(.0))]
    Rejected(Vec<Rejection<F>>),
    /// These rows need a new way to pick an endpoint, and there is no room for one. Nothing of the change was applied.
    #[error("no way to pick an endpoint was left for {} row(s), the first: {}", .0.len(), First(.0))]
    UsedUp(Vec<Rejection<F>>),
    /// Nothing of the change was applied, and the reason is not one row.
    #[error("{0}")]
    Failed(#[source] Cause),
    /// It is not known whether the change was applied. Read the rows back before the next change.
    #[error("{0}")]
    Unknown(#[source] Cause),
}

/// One row that a data plane refused, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection<F: Family> {
    /// The row that was to be added or removed, or the new row of a change.
    pub row: Row<F>,
    /// Why it was refused.
    pub reason: Reason,
}

/// Why a row was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// A row with the same key exists.
    #[error("its key is there already")]
    Taken,
    /// An existing range shares addresses with it.
    #[error("it overlaps a row that is there")]
    Overlaps,
    /// The row that was to be removed does not exist.
    #[error("it is not there")]
    NotThere,
    /// There is no room for more rows of its kind.
    #[error("the set is full")]
    Full,
    /// There is no room for another way to pick an endpoint.
    #[error(
        "every number for a way to pick an endpoint is in use: there are more than 509 different combinations of endpoint \
         count and affinity timeout"
    )]
    NoWayLeft,
    /// Another reason, in the data plane's own words.
    #[error("{0}")]
    Other(String),
}

struct First<'a, F: Family>(&'a [Rejection<F>]);

impl<F: Family> fmt::Display for First<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.first() {
            Some(rejection) => rejection.fmt(f),
            None => f.write_str("none named"),
        }
    }
}

impl<F: Family> fmt::Display for Rejection<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.row.label() {
            Some(label) => write!(f, "{} ({label}): {}", self.row, self.reason),
            None => write!(f, "{}: {}", self.row, self.reason),
        }
    }
}
