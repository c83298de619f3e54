//! The second data plane in the agent: programs in the kernel that answer by the rows of nftables.
//!
//! A [`Keeper`] has a thread of its own. It loads the programs, attaches them, puts the followers into the engine's seats
//! ([`crate::engine::Seat`]), and takes all of it back if the configuration says so. The engine waits for nothing of it.
//!
//! Without the cargo feature `xdp`, there are no programs: whoever asks for them is told so in the status.
//!
//! Invariant: an agent that stands by does nothing here. What is pinned belongs to the agent that serves.

#[cfg(not(feature = "xdp"))]
mod absent;
#[cfg(feature = "xdp")]
mod attached;
#[cfg(feature = "xdp")]
mod below;
pub mod devices;
#[cfg(feature = "xdp")]
mod keeper;
#[cfg(feature = "xdp")]
mod minded;
#[cfg(feature = "xdp")]
mod neighbourhood;
#[cfg(feature = "xdp")]
mod outside;
#[cfg(feature = "xdp")]
mod outside_counts;
#[cfg(feature = "xdp")]
mod outside_keeper;
mod outside_report;
#[cfg(feature = "xdp")]
mod place;
#[cfg(feature = "xdp")]
mod records;
mod report;
mod reserved;
mod settings;
#[cfg(feature = "xdp")]
mod sockets;
#[cfg(feature = "xdp")]
mod used_ports;
#[cfg(feature = "xdp")]
mod ways;

#[cfg(not(feature = "xdp"))]
pub use absent::{Keeper, clean, has_packets};
pub use devices::DevicePattern;
#[cfg(feature = "xdp")]
pub use keeper::{Keeper, clean};
pub use outside_report::{
    DeviceRole, DeviceState, Fill, FlowShown, HopShown, OutsideCounts, OutsideStage, OutsideState, TrafficCounts,
};
#[cfg(feature = "xdp")]
pub use records::XdpRecords;
pub use report::{Below, Counts, MapFill, Report, Stage, State, Where};
pub use reserved::Reserved;
pub use settings::{DataPlane, DeviceMode, MOST_FLOWS, PAGE, SocketsOf, XdpSettings};
#[cfg(feature = "xdp")]
pub use tandem_xdp::kernel::has_packets;
