//! The maps, as readers see them.

use crate::address::Address;
use crate::frontend::FrontendKey;
use crate::service::ListIndex;

/// The maps of one family, as a program in the kernel or the agent reads them.
pub trait Maps<A: Address> {
    /// The word of a frontend.
    fn frontend(&self, key: &FrontendKey<A>) -> Option<u64>;

    /// Whether an address of the node takes nodePort traffic.
    fn has_address(&self, addr: &A) -> bool;

    /// The word of a number.
    fn service(&self, index: ListIndex) -> Option<u64>;

    /// A word of the lists.
    fn word(&self, place: u32) -> Option<u64>;
}
