//! The node agent. See ARCHITECTURE.md for the way of a change.

pub mod agent;
pub mod api;
pub mod cli;
pub mod config;
pub mod engine;
pub mod event;
pub mod index;
pub mod interfaces;
mod memory;
pub mod source;
