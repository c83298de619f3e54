//! What Tandem knows about Services, without a cluster, a kernel or a clock.
//!
//! Services, their endpoints and this node go in; rows come out ([`plan`](mod@plan)), and the difference to the rows that
//! stand already ([`table`]). Both data planes store exactly these rows. Time, node identity and randomness are arguments.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod addr;
pub mod family;
pub mod flows;
pub mod id;
pub mod node;
pub mod object;
pub mod plan;
pub mod plane;
pub mod row;
pub mod table;
pub mod uid;

#[cfg(any(test, feature = "samples"))]
pub mod samples;
