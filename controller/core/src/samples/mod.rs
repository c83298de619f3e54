//! Sample objects for tests and benchmarks.

mod objects;
#[cfg(test)]
mod own;

pub use objects::{mk_port, mk_service};
#[cfg(test)]
pub(crate) use own::*;
