//! Tandem's second data plane: it holds some of nftables' rows in eBPF maps, to answer sooner.
//!
//! nftables decides, and this crate follows ([`tandem_core::plane::Follower`]). It knows rows, and nothing of
//! Kubernetes. What it lacks, nftables serves.
//!
//! Invariant: after every single write to a map, a program that reads the maps finds the old answer, the new answer, or
//! leaves the connection to nftables.

#[cfg(feature = "kernel")]
pub mod kernel;

mod change;
mod content;
mod convert;
mod flows;
mod follower;
mod renew;
mod rows;
mod space;
mod store;

#[cfg(any(test, feature = "samples"))]
pub mod model;
#[cfg(all(feature = "kernel", any(test, feature = "samples")))]
#[expect(
    clippy::cast_possible_truncation,
    reason = "devices, ports and lengths of the cases are small numbers"
)]
pub mod packets;
#[cfg(any(test, feature = "samples"))]
pub mod random;

pub use convert::{Plane, flow_key, held_key};
pub use flows::{Cut, cut_datagrams};
pub use rows::Rows;
pub use store::{Store, StoreError};
pub use tandem_xdp_layout::{
    Address4, Address6, Device, DeviceNumber, FlowAddress, HeldKey, Hop, IngressWord, Mac, PacketSettings,
    RouteGeneration, Times,
};
