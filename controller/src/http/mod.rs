//! The HTTP server of everything that the agent serves: health checks and the pages beside the metrics on TCP, the local
//! API on a unix socket. What clients may hold open, and for how long, is limited here, in one place ([`Limits`]).
//!
//! It stands on bare hyper: its pages are few, and what a slow or silent client costs is decided on the stream itself.

mod answers;
mod connections;
mod observed;
mod progress;
mod server;

pub(crate) use answers::{json, not_found, text};
pub(crate) use connections::{Connections, Limits};
pub(crate) use server::serve;
