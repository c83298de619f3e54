//! One family's maps in the kernel.

use std::io;
use std::sync::{Arc, Mutex};

use aya::maps::{HashMap, Map, MapData, MapError};
use aya::{Ebpf, Pod};
use tandem_xdp_layout::{Address, FrontendKey, FrontendWord, ListIndex, Maps, ServiceWord, Switch};

use super::grace::Grace;
use super::memory::Words;
use super::programs::Programs;
use crate::store::{Store, StoreError};

/// Why a map cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MapsError {
    /// The object has no such map.
    #[error("there is no map {0}")]
    Missing(String),
    /// It is of another kind, or its elements have another size.
    #[error("use the map {0}")]
    Other(String, #[source] MapError),
    /// It is no array.
    #[error("the map {0} is no array")]
    NoArray(String),
    /// Its memory cannot be mapped.
    #[error("map the memory of {0}")]
    Memory(String, #[source] io::Error),
}

/// A value that the kernel gets byte for byte. It has no padding.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Raw<T>(T);

#[expect(unsafe_code, reason = "says that a value is plain bytes")]
// SAFETY: it is only used for keys of the layout, which are made of integers and have no padding: their sizes are asserted.
unsafe impl<T: Copy + 'static> Pod for Raw<T> {}

/// The names of a family's maps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Names {
    frontends: &'static str,
    addresses: &'static str,
    services: &'static str,
    lists: &'static str,
    switch: &'static str,
}

/// IPv4's maps.
pub(crate) const V4: Names = Names {
    frontends: "FRONTENDS4",
    addresses: "ADDRESSES4",
    services: "SERVICES4",
    lists: "LISTS4",
    switch: "SWITCH4",
};

/// IPv6's maps.
pub(crate) const V6: Names = Names {
    frontends: "FRONTENDS6",
    addresses: "ADDRESSES6",
    services: "SERVICES6",
    lists: "LISTS6",
    switch: "SWITCH6",
};

/// The maps of one family.
#[derive(Debug)]
pub struct KernelMaps<A: Address> {
    names: Names,
    frontends: HashMap<MapData, Raw<FrontendKey<A>>, u64>,
    /// How many of them there is room for.
    room: u32,
    addresses: HashMap<MapData, Raw<A>, u64>,
    services: Words,
    lists: Words,
    switch: Words,
    grace: Arc<Grace>,
    programs: Arc<Mutex<Programs>>,
    writes: u64,
}

impl<T> std::fmt::Debug for Raw<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Raw")
    }
}

impl<A: Address + 'static> KernelMaps<A> {
    /// Takes a family's maps out of a loaded object.
    pub(crate) fn take(
        ebpf: &mut Ebpf,
        names: Names,
        grace: &Arc<Grace>,
        programs: &Arc<Mutex<Programs>>,
    ) -> Result<Self, MapsError> {
        let mut map = |name: &str| ebpf.take_map(name).ok_or_else(|| MapsError::Missing(name.to_owned()));
        let other = |name: &'static str| move |error| MapsError::Other(name.to_owned(), error);
        let frontends = map(names.frontends)?;
        let room = match &frontends {
            Map::HashMap(data) => data.info().map_err(other(names.frontends))?.max_entries(),
            _ => 0, // the next line says what is wrong
        };
        let frontends = frontends.try_into().map_err(other(names.frontends))?;
        let addresses = map(names.addresses)?.try_into().map_err(other(names.addresses))?;
        let mut array = |name: &'static str| words(name, map(name)?);
        Ok(Self {
            frontends,
            room,
            addresses,
            services: array(names.services)?,
            lists: array(names.lists)?,
            switch: array(names.switch)?,
            names,
            grace: Arc::clone(grace),
            programs: Arc::clone(programs),
            writes: 0,
        })
    }

    /// How many writes there were to the maps since they were opened.
    pub fn writes(&self) -> u64 {
        self.writes
    }

    fn insert(&mut self, key: &FrontendKey<A>, word: FrontendWord) -> Result<(), StoreError> {
        let put = self.frontends.insert(Raw(*key), word.0, 0);
        put.map_err(|error| refused(self.names.frontends, error))
    }
}

/// Maps the memory of an array of words.
pub(crate) fn words(name: &str, map: Map) -> Result<Words, MapsError> {
    let Map::Array(data) = map else {
        return Err(MapsError::NoArray(name.to_owned()));
    };
    let len = match data.info() {
        Ok(info) => info.max_entries(),
        Err(error) => return Err(MapsError::Other(name.to_owned(), error)),
    };
    Words::map(data.fd(), len).map_err(|error| MapsError::Memory(name.to_owned(), error))
}

/// The kernel says E2BIG if a hash is full, and ENOMEM if it has no memory for an element.
fn refused(map: &'static str, error: MapError) -> StoreError {
    let full = match &error {
        MapError::SyscallError(error) => matches!(
            error.io_error.kind(),
            io::ErrorKind::ArgumentListTooLong | io::ErrorKind::OutOfMemory
        ),
        _ => false,
    };
    if full {
        StoreError::Full(map)
    } else {
        StoreError::Failed(error.into())
    }
}

impl<A: Address + 'static> Maps<A> for KernelMaps<A> {
    fn frontend(&self, key: &FrontendKey<A>) -> Option<u64> {
        self.frontends.get(&Raw(*key), 0).ok()
    }

    fn service(&self, index: ListIndex) -> Option<u64> {
        self.services.get(index.get())
    }

    fn word(&self, place: u32) -> Option<u64> {
        self.lists.get(place)
    }
}

impl<A: Address + Send + 'static> Store<A> for KernelMaps<A> {
    fn put_frontend(&mut self, key: &FrontendKey<A>, word: FrontendWord) -> Result<(), StoreError> {
        self.writes += 1;
        match self.insert(key, word) {
            Err(StoreError::Full(_)) => {}
            put => return put,
        }
        let room = self.room.saturating_mul(2);
        let larger = super::lock(&self.programs).enlarge_hash(self.names.frontends, &self.frontends, room);
        (self.frontends, self.room) = (larger.map_err(StoreError::Failed)?, room);
        self.insert(key, word)
    }

    fn remove_frontend(&mut self, key: &FrontendKey<A>) -> Result<(), StoreError> {
        self.writes += 1;
        match self.frontends.remove(&Raw(*key)) {
            Ok(()) | Err(MapError::KeyNotFound) => Ok(()),
            Err(error) if is_not_found(&error) => Ok(()),
            Err(error) => Err(refused(self.names.frontends, error)),
        }
    }

    fn frontends(&self) -> Result<Vec<(FrontendKey<A>, FrontendWord)>, StoreError> {
        let entries = self.frontends.iter();
        let entries = entries.map(|entry| entry.map(|(key, word)| (key.0, FrontendWord(word))));
        let entries: Result<_, _> = entries.collect();
        entries.map_err(|error| refused(self.names.frontends, error))
    }

    fn put_address(&mut self, addr: A) -> Result<(), StoreError> {
        self.writes += 1;
        let put = self.addresses.insert(Raw(addr), 1, 0);
        put.map_err(|error| refused(self.names.addresses, error))
    }

    fn remove_address(&mut self, addr: A) -> Result<(), StoreError> {
        self.writes += 1;
        match self.addresses.remove(&Raw(addr)) {
            Ok(()) | Err(MapError::KeyNotFound) => Ok(()),
            Err(error) if is_not_found(&error) => Ok(()),
            Err(error) => Err(refused(self.names.addresses, error)),
        }
    }

    fn addresses(&self) -> Result<Vec<A>, StoreError> {
        let addresses: Result<_, _> = self.addresses.keys().map(|addr| addr.map(|addr| addr.0)).collect();
        addresses.map_err(|error| refused(self.names.addresses, error))
    }

    fn put_word(&mut self, place: u32, word: u64) {
        self.writes += 1;
        self.lists.set(place, word);
    }

    fn put_service(&mut self, index: ListIndex, word: ServiceWord) {
        self.writes += 1;
        self.services.publish(index.get(), word.0);
    }

    fn set_switch(&mut self, switch: Switch) {
        self.writes += 1;
        self.switch.publish(0, switch.0);
    }

    fn switch(&self) -> Switch {
        Switch(self.switch.get(0).unwrap_or_default())
    }

    fn words(&self) -> u32 {
        u32::try_from(self.lists.len()).unwrap_or(u32::MAX)
    }

    fn grow(&mut self, words: u32) -> Result<(), StoreError> {
        let larger = super::lock(&self.programs).enlarge_words(self.names.lists, &self.lists, words);
        self.lists = larger.map_err(StoreError::Failed)?;
        Ok(())
    }

    fn ticket(&mut self) -> u64 {
        self.grace.ticket()
    }

    fn passed(&self) -> u64 {
        self.grace.passed()
    }
}

fn is_not_found(error: &MapError) -> bool {
    matches!(error, MapError::SyscallError(error) if error.io_error.kind() == io::ErrorKind::NotFound)
}
