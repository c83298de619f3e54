//! What a socket is connected to, translated once.
//!
//! What a socket remembers needs no lock of its own: the kernel holds the socket's lock while a program runs for it, in all versions
//! that have these hooks (`BPF_CGROUP_RUN_SA_PROG_LOCK` for `sendmsg` and `recvmsg` of UDP and for its `connect`; `connect` of TCP locks
//! the socket itself). So two threads that send on one socket come one after the other.
//!
//! A network inside a pod (containers in a pod, a cluster of kind in a pod) is taken as the pod's. Its processes are in kubelet's folder
//! too, and no program can tell its namespace from the pod's own: only the container runtime knows which is which. What such a network
//! asks at an address of this cluster's Services, this cluster answers, also if a cluster inside has the same address. If pods hold
//! clusters, only the node's programs may be attached. For affinity each network is a client of its own, while nftables sees one client,
//! the pod's address: so two networks in one pod may have two endpoints, and each stays with its own.

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
