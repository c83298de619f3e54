//! What programs know of the node.

/// The words about the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Node {
    /// The cookie of the node's network namespace; 0 while it is not known.
    Cookie = 0,
    /// The number of kubelet's folder; 0 while there is none.
    PodFolder = 1,
    /// How far that folder is below the topmost one.
    PodLevel = 2,
}
