//! The numbers and offsets that differ between the tables `ip tandem` and `ip6 tandem`. Used by everything that
//! encodes or decodes. Holds no rows.

use tandem_core::family::IpFamily;

/// The kernel's numbers of families, as messages about tables carry them (`NFPROTO_*`).
pub(crate) const UNSPEC: u8 = 0;
pub(crate) const INET: u8 = 1;
pub(crate) const IPV4: u8 = 2;
pub(crate) const IPV6: u8 = 10;

/// The numbers of one family.
#[derive(Debug)]
pub(crate) struct Numbers {
    /// The family in netlink headers and nat expressions.
    pub(crate) nfproto: u8,
    /// The family as nft writes it.
    pub(crate) name: &'static str,
    /// Bytes of an address.
    pub(crate) addr_len: u8,
    /// Where the network header holds the source address.
    pub(crate) saddr_offset: u32,
    /// Where the network header holds the destination address.
    pub(crate) daddr_offset: u32,
    /// The ICMP code "port unreachable".
    pub(crate) port_unreachable: u8,
    /// nft's data type of an address.
    pub(crate) addr_type: u32,
    /// nft's number of the network header, for `typeof`.
    pub(crate) header_id: u32,
    /// nft's number of the source address field in that header.
    pub(crate) saddr_id: u32,
    /// nft's number of the destination address field in that header.
    pub(crate) daddr_id: u32,
}

static IP: Numbers = Numbers {
    nfproto: IPV4,
    name: "ip",
    addr_len: 4,
    saddr_offset: 12,
    daddr_offset: 16,
    port_unreachable: 3,
    addr_type: 7,
    header_id: 12,
    saddr_id: 11,
    daddr_id: 12,
};

static IP6: Numbers = Numbers {
    nfproto: IPV6,
    name: "ip6",
    addr_len: 16,
    saddr_offset: 8,
    daddr_offset: 24,
    port_unreachable: 4,
    addr_type: 8,
    header_id: 13,
    saddr_id: 8,
    daddr_id: 9,
};

/// The numbers of a family.
pub(crate) fn numbers(family: IpFamily) -> &'static Numbers {
    match family {
        IpFamily::V4 => &IP,
        IpFamily::V6 => &IP6,
    }
}
