//! Addresses with their state: whether packets may have them as their source.

use netlink_bindings::rt_addr::{IfaFlags, OpGetaddrDump};
use netlink_bindings::traits::NetlinkRequest as _;

use super::address::{Address, Addresses};
use super::object::Listed;

/// States in which an address is not to be used: its duplicate is looked for or was found, or it is on its way out.
const NOT_USED: u32 = IfaFlags::Tentative as u32 | IfaFlags::Dadfailed as u32 | IfaFlags::Deprecated as u32;
/// IPv4: not the first address of its range. IPv6: made for some hours (`IFA_F_TEMPORARY` is the same bit).
const SECONDARY: u32 = IfaFlags::Secondary as u32;

/// An address of an interface, and its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatedAddress {
    /// The address.
    pub address: Address,
    /// Whether new flows may have it as their source.
    pub usable: bool,
    /// Whether the kernel itself takes another one first, if there is one.
    pub secondary: bool,
}

impl Listed for StatedAddress {
    type Filter = Addresses;
    const NAME: &'static str = Address::NAME;
    const GET: u16 = Address::GET;

    fn ask(filter: &Addresses, body: &mut Vec<u8>) {
        Address::ask(filter, body);
    }

    fn decode(body: &[u8]) -> Option<Self> {
        let address = Address::decode(body)?;
        let (header, attributes) = OpGetaddrDump::decode_reply(body);
        let flags = attributes.get_flags().unwrap_or(header.ifa_flags.into());
        Some(Self {
            address,
            usable: flags & NOT_USED == 0,
            secondary: flags & SECONDARY != 0,
        })
    }

    fn passes(&self, filter: &Addresses) -> bool {
        self.address.passes(filter)
    }
}
