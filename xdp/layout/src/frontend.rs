//! What a socket is connected to, and what stands about it.

use crate::address::{Address, mix};
use crate::service::{Generation, ListIndex};

/// The key of a frontend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct FrontendKey<A: Address> {
    /// The address; [`Address::NONE`] for a nodePort.
    pub addr: A,
    /// The port in network order.
    pub port: u16,
    /// The protocol's number in the IP header.
    pub protocol: u8,
    /// 1 for a nodePort, which has no address: a program may connect to the address of zeros too.
    node_port: u8,
    /// Always 0: the key has no byte without a meaning.
    fill: A::Fill,
}

const _: () = assert!(size_of::<FrontendKey<crate::Address4>>() == 8);
const _: () = assert!(size_of::<FrontendKey<crate::Address6>>() == 24);

impl<A: Address> FrontendKey<A> {
    /// The key of an address and port.
    #[inline(always)]
    pub fn new(addr: A, port: u16, protocol: u8) -> Self {
        Self {
            addr,
            port,
            protocol,
            node_port: 0,
            fill: A::Fill::default(),
        }
    }

    /// The key of a nodePort.
    #[inline(always)]
    pub fn node_port(port: u16, protocol: u8) -> Self {
        Self {
            node_port: 1,
            ..Self::new(A::NONE, port, protocol)
        }
    }

    #[inline(always)]
    fn check(&self) -> u64 {
        let rest = (self.node_port as u64) << 24 | (self.port as u64) << 8 | self.protocol as u64;
        mix(self.addr.fold(), rest) & FrontendWord::CHECK
    }
}

/// The kind of a frontend's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A ClusterIP.
    Cluster,
    /// An externalIP or a LoadBalancer address.
    External,
    /// A nodePort.
    NodePort,
}

/// What stands about a frontend, in one word:
///
/// | bits | what |
/// |---|---|
/// | 0–25 | a check of the key |
/// | 26 | whether only some sources may reach it |
/// | 27–28 | the class |
/// | 29–47 | the number of its list |
/// | 48–63 | the generation of that number |
///
/// The kernel may use an element of a hash again for another key while a program reads it. The check tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct FrontendWord(pub u64);

const _: () = assert!(ListIndex::COUNT <= 1 << 19);

impl FrontendWord {
    const CHECK: u64 = (1 << 26) - 1;
    const RESTRICTED: u64 = 1 << 26;

    /// The word for a key.
    #[inline(always)]
    pub fn new<A: Address>(
        key: &FrontendKey<A>,
        list: ListIndex,
        generation: Generation,
        class: Class,
        restricted: bool,
    ) -> Self {
        let class: u64 = match class {
            Class::Cluster => 0,
            Class::External => 1,
            Class::NodePort => 2,
        };
        let restricted = if restricted { Self::RESTRICTED } else { 0 };
        Self(key.check() | restricted | class << 27 | (list.get() as u64) << 29 | (generation.0 as u64) << 48)
    }

    /// Whether the word stands about this key.
    #[inline(always)]
    pub fn is_of<A: Address>(self, key: &FrontendKey<A>) -> bool {
        self.0 & Self::CHECK == key.check()
    }

    /// Whether only some sources may reach the frontend.
    #[inline(always)]
    pub fn restricted(self) -> bool {
        self.0 & Self::RESTRICTED != 0
    }

    /// The class; none if the word makes no sense.
    #[inline(always)]
    pub fn class(self) -> Option<Class> {
        match self.0 >> 27 & 3 {
            0 => Some(Class::Cluster),
            1 => Some(Class::External),
            2 => Some(Class::NodePort),
            _ => None,
        }
    }

    /// The number of the list; none if the word makes no sense.
    #[inline(always)]
    pub fn list(self) -> Option<ListIndex> {
        ListIndex::new((self.0 >> 29 & 0x7_ffff) as u32)
    }

    /// The generation of that number.
    #[inline(always)]
    pub fn generation(self) -> Generation {
        Generation((self.0 >> 48) as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Address4, Address6};

    #[test]
    fn a_word_gives_back_what_it_was_made_of() {
        let key = FrontendKey::new(Address6::of_words(1, 2, 3, 4), 80, 6);
        for class in [Class::Cluster, Class::External, Class::NodePort] {
            for restricted in [false, true] {
                let list = ListIndex::new(ListIndex::COUNT - 1).unwrap();
                let word = FrontendWord::new(&key, list, Generation(0xffff), class, restricted);
                assert!(word.is_of(&key));
                assert_eq!(word.class(), Some(class));
                assert_eq!(word.restricted(), restricted);
                assert_eq!(word.list(), Some(list));
                assert_eq!(word.generation(), Generation(0xffff));
            }
        }
    }

    #[test]
    fn the_address_of_zeros_is_no_node_port() {
        let (node_port, zeros) = (FrontendKey::node_port(80, 6), FrontendKey::new(Address4(0), 80, 6));
        assert_ne!(node_port, zeros);
        let word = FrontendWord::new(
            &node_port,
            ListIndex::new(7).unwrap(),
            Generation(1),
            Class::NodePort,
            false,
        );
        assert!(word.is_of(&node_port) && !word.is_of(&zeros));
    }

    #[test]
    fn a_word_of_another_key_is_told() {
        let key = FrontendKey::new(Address4(0x0101_000a), 80, 6);
        let word = FrontendWord::new(&key, ListIndex::new(7).unwrap(), Generation(1), Class::Cluster, false);
        let others = [
            FrontendKey::new(Address4(0x0201_000a), 80, 6),
            FrontendKey::new(Address4(0x0101_000a), 81, 6),
            FrontendKey::new(Address4(0x0101_000a), 80, 17),
            FrontendKey::node_port(80, 6),
        ];
        for other in others {
            assert!(!word.is_of(&other), "{other:?}");
        }
        assert_eq!(FrontendWord(u64::MAX).class(), None);
        assert_eq!(FrontendWord(u64::MAX).list(), None);
    }
}
