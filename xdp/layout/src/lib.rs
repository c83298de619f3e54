//! What stands in Tandem's eBPF maps, and how it is read.
//!
//! The programs in the kernel, the agent that fills the maps, and the tests all use this code. So there is one way to
//! read a map, and a test that finds the right answer by it has tried what the kernel runs.
//!
//! A frontend leads to a list of endpoints in three steps:
//!
//! ```text
//! frontends (hash)        services (array)          lists (array of words)
//! address·port·protocol → number, generation, …  →  place, generation, way →  header, endpoints by slot, …
//! ```
//!
//! Invariant: a value that changes while programs run is one word of 64 bits. A reader sees the old one or the new one.
//!
//! Invariant: a list never changes. A changed list is a new list elsewhere, and the old one stays until no program can
//! be reading it.

#![no_std]
#![expect(
    clippy::inline_always,
    reason = "a program in the kernel is one function: calls would cost, and the verifier would look at each alone"
)]
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_lossless,
    reason = "parts of words are taken and put together here"
)]

mod address;
mod affinity;
mod flow;
mod frontend;
mod held;
mod hop;
mod list;
mod maps;
mod node;
mod packets;
mod read;
mod reason;
mod service;
mod socket;
mod switch;
mod visitor;
mod way;

pub use address::{Address, Address4, Address6, Endpoint};
pub use affinity::{AffinityKey, AffinityWord, Remembered};
pub use flow::{
    BUCKET, Claimable, Direction, FIRST_PORT, Flow, FlowAddress, FlowKey, IndexWord, Record, RecordNumber, SLOTS,
    State, StateWord, TcpFlags, Times, claimable, is_over,
};
pub use frontend::{Class, FrontendKey, FrontendWord};
pub use held::HeldKey;
pub use hop::{
    DEVICE_SOURCES, DEVICE_WORDS, Device, DeviceKey, DeviceNumber, DeviceWord, Hop, IngressWord, Mac, RouteGeneration,
};
pub use list::{Header, List, Writer};
pub use maps::Maps;
pub use node::Node;
pub use packets::{PacketCount, PacketSettings, PacketWords, seconds};
pub use read::{Which, frontend, list, takes_node_port};
pub use reason::Reason;
pub use service::{Generation, ListIndex, ServiceWord};
pub use socket::{PAIRS, Pair, Pairs};
pub use switch::Switch;
pub use visitor::{FragmentKey, FragmentWord, HeldWord, SourceKey, VisitorKey};
pub use way::Way;

/// The words of records: [`flow`]'s functions that read and write them.
pub mod record {
    pub use crate::flow::{change, claim, read, read_for, renew_hop, since, state, touch, used};
}

/// The version of everything in this crate. Maps of another version are never read. It rises with every change of a
/// key, a value or their meaning.
pub const VERSION: u32 = if cfg!(feature = "other-layout") { OTHER } else { 3 };

/// The oldest version whose [`Switch`] has the same meaning.
pub const SWITCH_SINCE: u32 = 1;

/// The oldest version whose flows, with everything that belongs to them, stand in maps as they do now.
pub const FLOWS_SINCE: u32 = 3;

/// The version of a build that tests take for another one's.
const OTHER: u32 = 1000;
