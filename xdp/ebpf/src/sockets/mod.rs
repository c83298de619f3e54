//! What a socket is connected to, translated once.

pub(crate) mod connect;
pub(crate) mod context;
pub(crate) mod datagram;
mod find;
pub(crate) mod reverse;
pub(crate) mod rewrite;

/// Whose sockets a program takes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    /// Those of the node's own network.
    Node,
    /// Those of all other networks, whose processes are in kubelet's folder.
    Pod,
}
