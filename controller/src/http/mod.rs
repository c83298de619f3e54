//! The HTTP server of everything that the agent serves: health checks and the pages beside the metrics on TCP, and the
//! local API on a unix socket. It limits what clients may hold open, and for how long, in one place ([`Limits`]).
//!
//! It uses hyper directly. It has few pages, and it must see on the stream itself whether a client is slow or silent.

mod answers;
mod connections;
mod observed;
mod progress;
mod server;

pub(crate) use answers::{json, not_found, text};
pub(crate) use connections::{Connections, Limits};
pub(crate) use server::{serve, serve_later};
