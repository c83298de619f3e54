//! The pod network: how the pods of all nodes reach each other. Out of what Nodes say, of this node and of settings, it makes
//! the rows that the kernel needs: routes, neighbours and FDB entries of VXLAN devices. It is flannel's wire with flannel's annotations.
//!
//! ```text
//! NodeSaid -> peer::Peer -> claims -> own::Way -> row::Row ; diff: rows wanted, rows there -> changes
//! ```
//!
//! Invariants: what one Node says costs that Node alone. A row is of one peer, or of this node. The rows after any history are those
//! of a fresh start.

pub mod annotation;
pub mod carrier;
pub mod claims;
pub mod diff;
pub mod mac;
pub mod own;
pub mod peer;
pub mod plan;
pub mod row;
pub mod said;
