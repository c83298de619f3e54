//! The API server: the client, what is watched, and what is written.

mod connect;
pub mod watch;
pub(crate) mod write;

pub use connect::{ConnectError, Http, connect};
