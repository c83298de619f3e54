//! The local API: what `tandem services` and `tandem status` ask the running agent, over a unix socket that only root
//! may open. Subscribers load the last published snapshot; they never wait for the engine, nor it for them.

mod client;
mod make;
mod problems;
mod server;
mod socket;
mod view;

pub use client::{ApiError, get};
pub use server::Server;
pub use socket::{SocketError, remove_dead};
pub use view::{
    ConfigurationView, EndpointsView, FamilyPortView, FamilyStatusView, PortView, ProblemView, ServiceView, StatusView,
    TakenView, UdpFlowsView,
};

/// Where the agent listens unless told otherwise.
pub const SOCKET: &str = "/run/tandem/tandem.sock";
