//! What Tandem knows about Services, without a cluster, a kernel or a clock.
//!
//! [`plan`](mod@plan) makes rows from Services, their endpoints and this node. [`table`] computes the difference to the
//! rows that are programmed. Every data plane stores exactly these rows. Time, node identity and randomness are
//! arguments.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod addr;
pub mod family;
pub mod flows;
pub mod id;
pub mod maglev;
pub mod node;
pub mod object;
pub mod plan;
pub mod plane;
pub mod podnet;
pub mod row;
pub mod table;
pub mod uid;

#[cfg(any(test, feature = "samples"))]
pub mod samples;
