//! The contract of data planes: what the engine asks of whatever holds a family's rows. A data plane stores rows and decides
//! nothing about Kubernetes.

mod delta;
mod error;
#[cfg(any(test, feature = "samples"))]
mod memory;
mod others;
mod ownership;
mod settings;

pub use delta::Delta;
pub use error::{ApplyError, Cause, IdleError, OpenError, ReadError, Reason, Rejection};
#[cfg(any(test, feature = "samples"))]
pub use memory::{Fault, Memory};
pub use others::ForwardDrop;
pub use ownership::{Ownership, WhyShared};
pub use settings::{DetectLocal, RuleSettings};

use std::time::Duration;

use crate::family::Family;
use crate::row::{Pick, Row};

/// What holds the rows of one family: the kernel's tables, or memory in tests.
pub trait DataPlane<F: Family>: Send {
    /// Reads back every row that is there, at a start or after [`ApplyError::Unknown`].
    fn read(&mut self) -> Result<Vec<Row<F>>, ReadError>;

    /// Applies a change whole or not at all.
    fn apply(&mut self, delta: &Delta<F>) -> Result<(), ApplyError<F>>;

    /// How long the last change took, from handing it over to its acknowledgement.
    fn took(&self) -> Duration {
        Duration::ZERO
    }

    /// The ways to pick an endpoint that are there: rows with these never meet [`ApplyError::UsedUp`].
    fn ways(&self) -> Vec<Pick>;

    /// Who may change what it holds.
    fn ownership(&self) -> Ownership;

    /// Removes what no row uses any more. Called when nothing else is to do.
    fn idle(&mut self) -> Result<(), IdleError> {
        Ok(())
    }

    /// Makes sure that packets meet these rules before those that other programs made meanwhile. Gives whether anything had
    /// to be done for it.
    fn keep_first(&mut self) -> Result<bool, OpenError> {
        Ok(false)
    }
}

/// Opens a data plane with these fixed rules. Called at the start, after a failure, and when the rules are to be others.
pub type Open<F> = Box<dyn FnMut(RuleSettings) -> Result<Box<dyn DataPlane<F>>, OpenError> + Send>;
