//! rtnetlink: links, addresses, routes, rules, neighbours and FDB entries as values. `Rtnetlink` lists and changes
//! them. `Monitor` reports changes, whoever makes them. `offload` asks what devices do to packets.
//!
//! Everything here concerns the network namespace of the thread that opened the socket. This module does not decide
//! what to change. Its tenants do (`interfaces`, `routes`).

mod address;
mod default_route;
mod link;
mod monitor;
mod neighbour;
mod object;
pub mod offload;
mod route;
mod rtnetlink;
mod rule;
mod source;

pub use address::{Address, Addresses};
pub use default_route::DefaultRoute;
pub use link::{AttachMode, Attached, Link, Links, Vlan};
pub use monitor::{Group, Monitor, News};
pub use neighbour::{Fdb, FdbEntry, Mac, Neighbour, NeighbourState, Neighbours};
pub use object::{Change, Listed, Object};
pub use route::{Origin, Route, RouteKind, Routes, Scope};
pub use rtnetlink::{Answer, NetError, Rtnetlink};
pub use rule::{Rule, Rules};
pub use source::StatedAddress;

/// The index of `lo`, which is the first link of every network namespace.
pub const LOOPBACK: u32 = 1;
