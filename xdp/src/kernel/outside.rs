//! What only packets from outside are asked for: the ports of their frontends, and the sources that may reach them.

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Map, MapData, MapError};
use tandem_xdp_layout::{Address, Class, FrontendKey, FrontendWord, SourceKey};

use super::hash::{Raw, failed, is_missing};
use super::memory::Words;
use crate::store::StoreError;

/// TCP's number in the IP header.
const TCP: u8 = 6;
/// How many ports there are.
const PORTS: u32 = 65_536;

/// A bit for each port that a frontend may have. Bits are only ever set: the flows of a frontend that is gone are still looked for,
/// and a bit too many costs one question that is answered with no.
#[derive(Debug)]
pub(crate) struct Ports(Words);

impl Ports {
    pub(crate) fn new(words: Words) -> Self {
        Self(words)
    }

    /// Notes the port of a frontend.
    pub(crate) fn note<A: Address>(&self, key: &FrontendKey<A>, word: FrontendWord) {
        if matches!(word.class(), Some(Class::External | Class::NodePort)) {
            let port = u32::from(u16::from_be(key.port));
            let bit = if key.protocol == TCP { port } else { port + PORTS };
            self.0.turn(bit / 64, 1 << (bit % 64), true);
        }
    }
}

/// Ranges of sources.
#[derive(Debug)]
pub(crate) struct Sources<A: Address + 'static> {
    name: &'static str,
    map: LpmTrie<MapData, Raw<SourceKey<A>>, u64>,
}

impl<A: Address + 'static> Sources<A> {
    pub(crate) fn take(name: &'static str, map: Map) -> Result<Self, MapError> {
        let map = map.try_into()?;
        Ok(Self { name, map })
    }

    fn key(key: SourceKey<A>, bits: u32) -> Key<Raw<SourceKey<A>>> {
        Key::new(SourceKey::<A>::prefix(bits), Raw(key))
    }

    /// Adds a range, if there is room. Without it, nftables lets its sources in.
    pub(crate) fn put(&mut self, key: SourceKey<A>, bits: u32) -> Result<(), StoreError> {
        match self.map.insert(&Self::key(key, bits), 1, 0) {
            Err(error) if !is_full(&error) => Err(failed(self.name, &error)),
            _ => Ok(()),
        }
    }

    pub(crate) fn remove(&mut self, key: SourceKey<A>, bits: u32) -> Result<(), StoreError> {
        match self.map.remove(&Self::key(key, bits)) {
            Err(error) if !is_missing(&error) => Err(failed(self.name, &error)),
            _ => Ok(()),
        }
    }

    pub(crate) fn all(&self) -> Result<Vec<(SourceKey<A>, u32)>, StoreError> {
        let range = |key: Key<Raw<SourceKey<A>>>| {
            let bits = key.prefix_len().saturating_sub(SourceKey::<A>::prefix(0));
            (key.data().0, bits)
        };
        let keys = self.map.keys().map(|key| key.map(range));
        keys.collect::<Result<_, _>>()
            .map_err(|error| failed(self.name, &error))
    }
}

/// Whether a map takes no more.
fn is_full(error: &MapError) -> bool {
    matches!(error, MapError::SyscallError(error) if error.io_error.raw_os_error() == Some(libc::ENOSPC))
}
