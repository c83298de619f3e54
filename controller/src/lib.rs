//! The node agent. See ARCHITECTURE.md for the way of a change.

mod accept;
pub mod agent;
pub mod api;
mod backoff;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod engine;
pub mod event;
mod files;
pub mod flows;
#[doc(hidden)]
pub mod fuzzing;
pub mod health;
mod http;
pub mod index;
pub mod interfaces;
mod kube_proxy;
mod listeners;
pub mod loopback;
mod memory;
pub mod net;
mod node_facts;
pub mod node_settings;
pub mod recorder;
pub mod routes;
pub mod source;
pub mod standing;
pub mod subscribers;
pub mod sysctl;
mod wait;
pub mod ways;
pub mod xdp;
