//! The headers of IPv4 and IPv6.

use tandem_xdp_layout::{Address4, Address6, Endpoint, FlowAddress, Reason};

use crate::checksum::Difference;
use crate::frame::Part;
use crate::jhash::jhash;

/// TCP's and UDP's numbers in the IP header.
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
/// The number of IPv6's fragment header.
pub(crate) const FRAGMENT: u8 = 44;

/// Where the header begins, without a VLAN tag and with one.
pub(crate) const PLAIN: usize = 14;
pub(crate) const TAGGED: usize = 18;

/// What a header says.
#[derive(Clone, Copy)]
pub(crate) struct Header<A> {
    pub(crate) source: A,
    pub(crate) destination: A,
    pub(crate) protocol: u8,
    /// How many hops it may go (TTL).
    pub(crate) hops: u8,
    /// How long the packet is, from this header on.
    pub(crate) total: u32,
    /// Whether the packet is a fragment, as IPv4 says it.
    pub(crate) fragment: Option<Fragment>,
    /// Whether no router may divide the packet. It is always so in IPv6.
    pub(crate) whole: bool,
}

/// A part of a packet.
#[derive(Clone, Copy)]
pub(crate) struct Fragment {
    /// The packet's number.
    pub(crate) id: u32,
    /// Whether it is the first part, which has the ports.
    pub(crate) first: bool,
}

/// A family's headers.
pub(crate) trait Ip: FlowAddress {
    /// How long a header without options is.
    const LEN: usize;
    /// How much longer a packet is with another header and one of ICMP before it.
    const MORE: i32;
    /// ICMP's number.
    const ICMP: u8;
    /// Its place in what there is for each family.
    const FAMILY: usize;

    /// Reads a header.
    fn header(part: impl Part) -> Result<Header<Self>, Reason>;
    /// Writes the addresses, and counts a hop.
    fn rewrite(part: impl Part, source: Self, destination: Self, header_delta: u16);
    /// Writes the addresses into a header inside an ICMP error. It gives how the header's own checksum changed.
    fn rewrite_inside(part: impl Part, source: Self, destination: Self, header_delta: u16) -> Difference;
    /// Writes a whole header of a packet of ICMP, of so many bytes behind the header.
    fn write_header(part: impl Part, source: Self, destination: Self, behind: u16);
    /// The sum that ICMP's checksum has of the header.
    fn pseudo_header(source: Self, destination: Self, behind: u16) -> crate::checksum::Total;
    /// Whether an ICMP message of this type is an error, which has the packet's header in it.
    fn is_error(kind: u8) -> bool;
    /// The type and code of the error that says that a packet is too big, and where the size is: its halves in front and behind.
    fn too_big(mtu: u16) -> [u16; 3];
    /// The difference of a checksum if one address is in the place of another.
    fn difference(old: Self, new: Self) -> Difference;
    /// The difference of the header's own checksum if these addresses are in the place of those.
    fn header_difference(addresses: Difference) -> u16;
    /// The source address of a device, by its two words; [`tandem_xdp_layout::Address::NONE`] if it has none.
    fn of_source(first: u64, second: u64) -> Self;
    /// A number by which a client chooses.
    fn choice(client: Endpoint<Self>, seed: u32) -> u32;
}

impl Ip for Address4 {
    const LEN: usize = 20;
    const MORE: i32 = 28;
    const ICMP: u8 = 1;
    const FAMILY: usize = 0;

    #[inline(always)]
    fn header(part: impl Part) -> Result<Header<Self>, Reason> {
        const DONT_FRAGMENT: u16 = 0x4000;
        // More fragments, and where this one begins.
        const FRAGMENT: u16 = 0x3fff;
        const OFFSET: u16 = 0x1fff;
        match part.u8(0) {
            0x45 => {}
            0x46..=0x4f => return Err(Reason::Options),
            _ => return Err(Reason::Malformed),
        }
        let total = u16::from_be(part.u16(2));
        if (total as usize) < Self::LEN {
            return Err(Reason::Malformed);
        }
        let flags = u16::from_be(part.u16(6));
        let fragment = if flags & FRAGMENT == 0 {
            None
        } else {
            Some(Fragment {
                id: part.u16(4) as u32,
                first: flags & OFFSET == 0,
            })
        };
        Ok(Header {
            source: Self(part.u32(12)),
            destination: Self(part.u32(16)),
            protocol: part.u8(9),
            hops: part.u8(8),
            total: total as u32,
            fragment,
            whole: flags & DONT_FRAGMENT != 0,
        })
    }

    #[inline(always)]
    fn rewrite(part: impl Part, source: Self, destination: Self, header_delta: u16) {
        // The hop limit is the first byte of its half.
        let hops = part.u8(8);
        part.put_u8(8, hops.wrapping_sub(1));
        let difference = Difference::of(header_delta).u16(
            u16::from_ne_bytes([hops, 0]),
            u16::from_ne_bytes([hops.wrapping_sub(1), 0]),
        );
        part.put_u16(10, difference.apply(part.u16(10)));
        part.put_u32(12, source.0);
        part.put_u32(16, destination.0);
    }

    #[inline(always)]
    fn rewrite_inside(part: impl Part, source: Self, destination: Self, header_delta: u16) -> Difference {
        let old = part.u16(10);
        let new = Difference::of(header_delta).apply(old);
        part.put_u16(10, new);
        part.put_u32(12, source.0);
        part.put_u32(16, destination.0);
        Difference::default().u16(old, new)
    }

    #[inline(always)]
    fn write_header(part: impl Part, source: Self, destination: Self, behind: u16) {
        let total = (Self::LEN as u16 + behind).to_be();
        // Version and length, service, total; no number, don't fragment; 64 hops, ICMP, checksum.
        let first = u64::from_ne_bytes([0x45, 0, total.to_ne_bytes()[0], total.to_ne_bytes()[1], 0, 0, 0x40, 0]);
        let second = u64::from_ne_bytes([64, Self::ICMP, 0, 0, 0, 0, 0, 0]);
        let sum = crate::checksum::Total::default()
            .add(first)
            .add(second)
            .add(source.0 as u64)
            .add(destination.0 as u64);
        part.put_u64(0, first);
        part.put_u16(8, second as u16);
        part.put_u16(10, sum.checksum());
        part.put_u32(12, source.0);
        part.put_u32(16, destination.0);
    }

    #[inline(always)]
    fn pseudo_header(_: Self, _: Self, _: u16) -> crate::checksum::Total {
        crate::checksum::Total::default()
    }

    #[inline(always)]
    fn is_error(kind: u8) -> bool {
        // Unreachable, time exceeded, parameter problem.
        matches!(kind, 3 | 11 | 12)
    }

    #[inline(always)]
    fn too_big(mtu: u16) -> [u16; 3] {
        [u16::from_ne_bytes([3, 4]), 0, mtu.to_be()]
    }

    #[inline(always)]
    fn difference(old: Self, new: Self) -> Difference {
        Difference::default().u64(old.0 as u64, new.0 as u64)
    }

    #[inline(always)]
    fn header_difference(addresses: Difference) -> u16 {
        addresses.folded()
    }

    #[inline(always)]
    fn of_source(first: u64, _: u64) -> Self {
        Self(first as u32)
    }

    #[inline(always)]
    fn choice(client: Endpoint<Self>, seed: u32) -> u32 {
        jhash([client.addr.0, client.port as u32], seed)
    }
}

impl Ip for Address6 {
    const LEN: usize = 40;
    const MORE: i32 = 48;
    const ICMP: u8 = 58;
    const FAMILY: usize = 1;

    #[inline(always)]
    fn header(part: impl Part) -> Result<Header<Self>, Reason> {
        if part.u8(0) >> 4 != 6 {
            return Err(Reason::Malformed);
        }
        let behind = u16::from_be(part.u16(4)) as u32;
        Ok(Header {
            source: Self {
                first: part.u64(8),
                second: part.u64(16),
            },
            destination: Self {
                first: part.u64(24),
                second: part.u64(32),
            },
            protocol: part.u8(6),
            hops: part.u8(7),
            total: Self::LEN as u32 + behind,
            fragment: None,
            whole: true,
        })
    }

    #[inline(always)]
    fn rewrite(part: impl Part, source: Self, destination: Self, _: u16) {
        part.put_u8(7, part.u8(7).wrapping_sub(1));
        Self::rewrite_inside(part, source, destination, 0);
    }

    #[inline(always)]
    fn rewrite_inside(part: impl Part, source: Self, destination: Self, _: u16) -> Difference {
        part.put_u64(8, source.first);
        part.put_u64(16, source.second);
        part.put_u64(24, destination.first);
        part.put_u64(32, destination.second);
        Difference::default()
    }

    #[inline(always)]
    fn write_header(part: impl Part, source: Self, destination: Self, behind: u16) {
        let behind = behind.to_be().to_ne_bytes();
        part.put_u64(
            0,
            u64::from_ne_bytes([0x60, 0, 0, 0, behind[0], behind[1], Self::ICMP, 64]),
        );
        Self::rewrite_inside(part, source, destination, 0);
    }

    #[inline(always)]
    fn pseudo_header(source: Self, destination: Self, behind: u16) -> crate::checksum::Total {
        let sum = crate::checksum::Total::default().add(source.first).add(source.second);
        let sum = sum.add(destination.first).add(destination.second);
        sum.add(behind.to_be() as u64).add((Self::ICMP as u16).to_be() as u64)
    }

    #[inline(always)]
    fn is_error(kind: u8) -> bool {
        // Unreachable, too big, time exceeded, parameter problem.
        matches!(kind, 1..=4)
    }

    #[inline(always)]
    fn too_big(mtu: u16) -> [u16; 3] {
        [u16::from_ne_bytes([2, 0]), 0, mtu.to_be()]
    }

    #[inline(always)]
    fn difference(old: Self, new: Self) -> Difference {
        Difference::default()
            .u64(old.first, new.first)
            .u64(old.second, new.second)
    }

    #[inline(always)]
    fn header_difference(_: Difference) -> u16 {
        0
    }

    #[inline(always)]
    fn of_source(first: u64, second: u64) -> Self {
        Self { first, second }
    }

    #[inline(always)]
    fn choice(client: Endpoint<Self>, seed: u32) -> u32 {
        let Self { first, second } = client.addr;
        let words = [first as u32, (first >> 32) as u32, second as u32, (second >> 32) as u32];
        jhash([words[0], words[1], words[2], words[3], client.port as u32], seed)
    }
}
