//! Between rows and what stands in maps.

use tandem_core::family::{Family, V4, V6};
use tandem_core::id::ServiceId;
use tandem_core::maglev;
use tandem_core::plane::{DetectLocal, Place, RuleSettings};
use tandem_core::row::{self, Frontend, L4Address};
use tandem_xdp_layout::{
    Address4, Address6, Class, Endpoint, FlowAddress, FrontendKey, HeldKey, ListIndex, SourceKey, Switch,
};

/// A family whose rows can stand in maps.
pub trait Plane: Family {
    /// An address in a map.
    type Mapped: FlowAddress + Send + std::fmt::Debug + 'static;

    /// The address as it stands in maps.
    fn mapped(addr: Self::Addr) -> Self::Mapped;

    /// The first address of a range, and how many of its bits count.
    fn range(net: Self::Net) -> (Self::Addr, u8);

    /// The address that stands in a map.
    fn unmapped(addr: Self::Mapped) -> Self::Addr;
}

impl Plane for V4 {
    type Mapped = Address4;

    fn mapped(addr: Self::Addr) -> Address4 {
        Address4(u32::from_ne_bytes(addr.octets()))
    }

    fn range(net: Self::Net) -> (Self::Addr, u8) {
        (net.network(), net.prefix_len())
    }

    fn unmapped(addr: Address4) -> Self::Addr {
        addr.0.to_ne_bytes().into()
    }
}

impl Plane for V6 {
    type Mapped = Address6;

    fn mapped(addr: Self::Addr) -> Address6 {
        let bytes = addr.octets();
        let word = |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        Address6::of_words(word(0), word(4), word(8), word(12))
    }

    fn range(net: Self::Net) -> (Self::Addr, u8) {
        (net.network(), net.prefix_len())
    }

    fn unmapped(addr: Address6) -> Self::Addr {
        // A half is two words, of which the first is the lower one, on every machine.
        let words = [addr.first, addr.first >> 32, addr.second, addr.second >> 32];
        let mut bytes = [0; 16];
        for (bytes, word) in bytes.chunks_exact_mut(4).zip(words) {
            bytes.copy_from_slice(&u32::try_from(word & 0xffff_ffff).unwrap_or_default().to_ne_bytes());
        }
        bytes.into()
    }
}

/// An endpoint as it stands in maps.
pub(crate) fn endpoint<F: Plane>(endpoint: row::Endpoint<F>) -> Endpoint<F::Mapped> {
    Endpoint {
        addr: F::mapped(endpoint.addr),
        port: endpoint.port.get().to_be(),
    }
}

/// An endpoint that stands in a map; none if its port is 0, which no row has.
pub(crate) fn plain<F: Plane>(endpoint: Endpoint<F::Mapped>) -> Option<row::Endpoint<F>> {
    Some(row::Endpoint {
        addr: F::unmapped(endpoint.addr),
        port: row::Port::new(u16::from_be(endpoint.port))?,
    })
}

/// Maglev's cells of a list with these endpoints by slot. Every node computes them alike, so nothing in them depends on
/// how numbers stand in this one's memory.
pub(crate) fn cells<F: Plane>(endpoints: &[Endpoint<F::Mapped>]) -> Box<[u16]> {
    let plain = |endpoint: &Endpoint<F::Mapped>| (F::unmapped(endpoint.addr), u16::from_be(endpoint.port));
    let endpoints: Vec<_> = endpoints.iter().map(plain).collect();
    maglev::cells::<F>(&endpoints, maglev::SEED)
}

/// The key of a frontend's address.
pub(crate) fn address_key<F: Plane>(at: &L4Address<F>) -> FrontendKey<F::Mapped> {
    FrontendKey::new(F::mapped(at.addr), at.port.get().to_be(), at.protocol.number())
}

/// A range of sources that may reach a frontend, and how many of its bits count.
pub(crate) fn source<F: Plane>(at: &L4Address<F>, net: F::Net) -> (SourceKey<F::Mapped>, u32) {
    let (first, bits) = F::range(net);
    let key = SourceKey {
        frontend: address_key(at),
        source: F::mapped(first),
    };
    (key, u32::from(bits))
}

/// The key of a frontend, and its class.
pub(crate) fn frontend<F: Plane>(frontend: &Frontend<F>) -> (FrontendKey<F::Mapped>, Class) {
    match frontend {
        Frontend::Address { class, at } => {
            let class = match class {
                row::Class::Cluster => Class::Cluster,
                row::Class::External => Class::External,
            };
            (address_key(at), class)
        }
        Frontend::NodePort { protocol, port } => {
            let key = FrontendKey::node_port(port.get().to_be(), protocol.number());
            (key, Class::NodePort)
        }
    }
}

/// The key of a UDP flow that nftables serves: where it goes to as the socket names it, and the socket's own port.
pub fn held_key<F: Plane>(addr: F::Addr, port: u16, own: u16) -> HeldKey<F::Mapped> {
    let port = port.to_be();
    HeldKey::new(
        Endpoint {
            addr: F::mapped(addr),
            port,
        },
        own,
    )
}

const _: () = assert!(ListIndex::COUNT == 2 * (ServiceId::PLAIN + ServiceId::STICKY));

/// The number of a list: those with affinity come after those without.
pub(crate) fn index(service: ServiceId) -> ListIndex {
    let first = if service.is_sticky() { ServiceId::PLAIN } else { 0 };
    let number = 2 * (first + service.number()) + u32::from(service.is_local());
    // An id's number is below the count of its kind, and the sum of both counts is the count of numbers.
    ListIndex::new(number).unwrap_or_else(|| unreachable!("the number of {service} is too large"))
}

/// The list that has a number.
pub(crate) fn service(index: ListIndex) -> ServiceId {
    let number = index.get() / 2;
    let all = match number.checked_sub(ServiceId::PLAIN) {
        None => ServiceId::plain(number),
        Some(sticky) => ServiceId::sticky(sticky),
    };
    // Numbers of lists are those that `index` makes.
    let all = all.unwrap_or_else(|| unreachable!("no list has the number {}", index.get()));
    if index == index.all() { all } else { all.local() }
}

/// The switch of a family that is on under these rules, without the range of nodePorts.
pub(crate) fn settings(rules: &RuleSettings, loopback: bool) -> Switch {
    let detects_nobody = rules.detect_local == DetectLocal::Nothing;
    match rules.place {
        Place::First => Switch::on(rules.masquerade_all, detects_nobody, loopback),
        // Another service proxy decides, and its rules are in nftables.
        Place::Second => Switch::OFF,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_list_has_a_number_of_its_own_and_the_largest_is_the_last() {
        let plain = |n| ServiceId::plain(n).unwrap();
        let sticky = |n| ServiceId::sticky(n).unwrap();
        let found = [
            plain(0),
            plain(0).local(),
            plain(1),
            plain(ServiceId::PLAIN - 1).local(),
            sticky(0),
            sticky(ServiceId::STICKY - 1).local(),
        ]
        .map(|id| index(id).get());
        assert_eq!(found, [0, 1, 2, 262_141, 262_142, ListIndex::COUNT - 1]);
        assert_eq!(index(sticky(3).local()).all(), index(sticky(3)));
        for number in (0..ListIndex::COUNT).filter_map(ListIndex::new) {
            assert_eq!(index(service(number)), number);
        }
    }

    #[test]
    fn bytes_stand_in_network_order() {
        let Address4(word) = V4::mapped([10, 0, 0, 1].into());
        assert_eq!(word.to_ne_bytes(), [10, 0, 0, 1]);
        let addr = V6::mapped("fd00::1:2".parse().unwrap());
        assert_eq!(addr.first.to_ne_bytes(), [0xfd, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(addr.second.to_ne_bytes(), [0, 0, 0, 0, 0, 1, 0, 2]);
        for text in ["10.0.0.1", "1.2.3.254"] {
            let addr = text.parse().unwrap();
            assert_eq!(V4::unmapped(V4::mapped(addr)), addr);
        }
        for text in ["fd00::1:2", "102:304:506:708:90a:b0c:d0e:f10"] {
            let addr = text.parse().unwrap();
            assert_eq!(V6::unmapped(V6::mapped(addr)), addr);
        }
    }
}
