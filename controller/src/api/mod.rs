//! The local API: `tandem services`, `tandem status` and `tandem ready` ask the running agent over a unix socket. Only
//! root may open the socket. The answers come from the last published snapshot. So neither the engine nor the API waits
//! for the other. Each answer is a [`Document`] or a [`List`].

mod client;
mod document;
mod flows;
mod from_outside;
mod inside;
mod make;
mod outside;
mod planes;
mod problems;
mod ready;
mod server;
mod socket;
mod view;

pub use client::{ApiError, get};
pub use document::{Document, Kind, List};
pub use flows::{End, FlowsWanted};
pub use inside::Rules;
pub use outside::{DeviceView, FlowView, HopView, OutsideView, PacketsView};
pub use planes::{CountView, FolderView, FollowerView, LeftView, MapView, SocketsView};
pub use ready::ReadyView;
pub use server::Server;
pub use socket::{SocketError, remove_dead};
pub use view::{
    AnswersView, ConfigurationView, ConnectionsView, EndpointsView, FamilyPortView, FamilyStatusView, PortView,
    ProblemView, ServiceView, StatusView, TakenView, UdpFlowsView,
};

/// The default path of the agent's socket.
pub const SOCKET: &str = "/run/tandem/tandem.sock";
