//! The ways to pick an endpoint: a chain for each that a Service needs, and the numbers that lead there. Pure.

pub(crate) mod chain;
pub(crate) mod chains;
