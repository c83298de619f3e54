//! What a socket is connected to, translated once.
//!
//! What a socket remembers needs no lock of its own: the kernel holds the socket's lock while a program runs for it, in all versions
//! that have these hooks (`BPF_CGROUP_RUN_SA_PROG_LOCK` for `sendmsg` and `recvmsg` of UDP and for its `connect`; `connect` of TCP locks
//! the socket itself). So two threads that send on one socket come one after the other.

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
