//! The API server: the client, what is watched, and what is written.

mod causes;
mod connect;
#[cfg(test)]
mod everything;
pub mod watch;
pub(crate) mod write;

pub use connect::{ConnectError, Http, connect};
