//! How Tandem's packet program treats a packet: what it reads, what it writes, and where the packet goes.
//!
//! This is the program without its surroundings. In the kernel, a [`World`] is maps and helpers, and a [`Frame`] is the driver's
//! memory. In tests and for fuzzing, both are memory of a process. So what is tried there is what the kernel runs.
//!
//! ```text
//! Ethernet, VLAN → IPv4 or IPv6 → reply of a flow?      by its port: one record
//!                               → packet of a client?   by the index: one record
//!                               → first packet?         frontend → list → endpoint → ways out → a record
//! ```
//!
//! Invariant: a packet is translated whole, or it is passed on with nothing changed but its source MAC address. That tells nftables
//! which endpoint was chosen.
//!
//! Invariant: nothing is sent by a flow whose record was taken over while it was read.
#![no_std]
#![forbid(unsafe_code)]
#![expect(
    clippy::inline_always,
    reason = "a program in the kernel is one function: calls would cost, and the verifier would look at each alone"
)]
#![expect(clippy::similar_names, reason = "a world has words")]
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_lossless,
    reason = "parts of words are taken and put together here"
)]

#[cfg(any(test, feature = "memory"))]
extern crate std;

mod checksum;
mod ether;
mod first;
mod fragments;
mod frame;
mod hop;
mod icmp;
mod index;
mod ip;
mod jhash;
mod mark;
#[cfg(any(test, feature = "memory"))]
pub mod memory;
mod pick;
mod ports;
mod send;
mod settings;
mod slot;
mod too_big;
mod transport;
mod verdict;
mod world;

pub use ether::{begin, go_on, run};
pub use frame::{Frame, Part};
pub use jhash::jhash;
pub use verdict::{Decision, Stage, Verdict};
pub use world::{FamilyWorld, Kind, Route, Way, World};
