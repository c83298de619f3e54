//! A netlink socket, and the answers that it receives. The tables of `tandem-nft` and the agent's rtnetlink both use
//! it. It knows neither nftables nor routes.

pub mod answer;
pub mod message;
pub mod socket;
