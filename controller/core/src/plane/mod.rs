//! The contract of data planes: what the engine requires from the holder of a family's rows. A data plane stores rows
//! and decides nothing about Kubernetes. Beside it stands the contract of followers, which hold some of these rows a
//! second time.

mod ahead;
mod delta;
mod error;
mod follower;
#[cfg(any(test, feature = "samples"))]
mod memory;
#[cfg(any(test, feature = "samples"))]
mod mirror;
mod others;
mod ownership;
mod settings;

pub use ahead::{Ahead, CHOSEN, XDP_PORTS, chosen};
pub use delta::Delta;
pub use error::{ApplyError, Cause, IdleError, OpenError, ReadError, Reason, Rejection};
pub use follower::{Behind, Follower, Full, Left};
#[cfg(any(test, feature = "samples"))]
pub use memory::{Fault, Memory};
#[cfg(any(test, feature = "samples"))]
pub use mirror::{Mirror, Seen};
pub use others::ForwardDrop;
pub use ownership::{Ownership, WhyShared};
pub use settings::{DetectLocal, Place, RuleSettings};

use std::time::Duration;

use crate::family::Family;
use crate::row::{Pick, Row};

/// The holder of one family's rows: the kernel's tables, or memory in tests.
///
/// Rows of some kinds are for followers alone ([`crate::row::RowKind::is_stored`]). A data plane never meets them: they are
/// taken out of each change ([`Delta::stored`]), and if nothing else is in a change, the data plane is not asked. It counts
/// as acknowledged then. When rows are read back, those are not missing, and come again as Services are planned.
pub trait DataPlane<F: Family>: Send {
    /// Reads back all rows that it stores, at the start or after [`ApplyError::Unknown`].
    fn read(&mut self) -> Result<Vec<Row<F>>, ReadError>;

    /// Applies a change completely or not at all.
    fn apply(&mut self, delta: &Delta<F>) -> Result<(), ApplyError<F>>;

    /// How long the last change took, from the call to its acknowledgement.
    fn took(&self) -> Duration {
        Duration::ZERO
    }

    /// The ways to pick an endpoint that exist. Rows with these never cause [`ApplyError::UsedUp`].
    fn ways(&self) -> Vec<Pick>;

    /// Who may change its rows.
    fn ownership(&self) -> Ownership;

    /// Removes what no row uses any more. The engine calls this when it has nothing else to do.
    fn idle(&mut self) -> Result<(), IdleError> {
        Ok(())
    }

    /// Makes sure that packets meet these rules before those that other programs made meanwhile. What a kube-proxy made
    /// counts only if `also_kube_proxy` is true. Returns whether it had to change anything.
    fn keep_first(&mut self, also_kube_proxy: bool) -> Result<bool, OpenError> {
        let _ = also_kube_proxy;
        Ok(false)
    }
}

/// Opens a data plane with these fixed rules. The engine calls it at the start, after a failure, and when the rules
/// must change.
pub type Open<F> = Box<dyn FnMut(RuleSettings) -> Result<Box<dyn DataPlane<F>>, OpenError> + Send>;
