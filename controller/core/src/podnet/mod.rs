//! The pod network: how the pods of all nodes reach each other. Out of what Nodes say, of this node and of settings, it makes
//! the rows that the kernel needs: routes, neighbours and FDB entries of VXLAN devices. It is flannel's wire with flannel's annotations.

pub mod annotation;
pub mod carrier;
pub mod claims;
pub mod mac;
pub mod peer;
pub mod said;
