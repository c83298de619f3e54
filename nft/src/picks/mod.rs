//! Picks: the ways to pick an endpoint of a Service. Each pick that a Service needs has a chain, and a number in the
//! map `picks` that leads to the chain. Pure.

pub(crate) mod chain;
pub(crate) mod chains;
