//! The devices whose packets are answered before the rest of the kernel sees them, and those that they leave by.
//!
//! The configuration has patterns ([`DevicePattern`]). [`read::read`] reads the devices of this node ([`facts::Facts`]),
//! [`plan::plan`] says what each of them is used for or why it is not, and [`numbers::Numbers`] numbers the ways out.
//! All of it but `read` is pure.

#[cfg(feature = "xdp")]
pub mod facts;
#[cfg(feature = "xdp")]
pub mod numbers;
mod pattern;
#[cfg(feature = "xdp")]
pub mod plan;
#[cfg(feature = "xdp")]
pub mod read;
#[cfg(feature = "xdp")]
mod why;

pub use pattern::{BadPattern, DevicePattern, Glob};
#[cfg(feature = "xdp")]
pub use why::Why;
