//! One family's maps in the kernel.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::{Arc, Mutex};

use aya::Ebpf;
use aya::maps::{Map, MapData, MapError};
use tandem_core::plane::{Cause, Full};
use tandem_core::row::Protocol;
use tandem_xdp_layout::{Address, FrontendKey, FrontendWord, HeldKey, ListIndex, Maps, ServiceWord, SourceKey, Switch};

use super::counts::Counts;
use super::grace::Waiter;
use super::hash::{Hash, Refused, failed};
use super::held::{Flows, Gate, Held};
use super::line::line;
use super::memory::Words;
use super::outside::{Ports, Sources};
use super::programs::{NotEnlarged, Programs};
use super::sparse::SparseWords;
use crate::store::{Store, StoreError};

/// Why a map cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MapsError {
    /// The object has no such map.
    #[error("there is no map {0}")]
    Missing(String),
    /// It is of another kind, or its elements have another size.
    #[error("use the map {0}: {error}", error = line(.1))]
    Other(String, MapError),
    /// It is no array.
    #[error("the map {0} is no array")]
    NoArray(String),
    /// Its memory cannot be mapped.
    #[error("map the memory of {0}: {1}")]
    Memory(String, #[source] io::Error),
    /// What it holds cannot be read.
    #[error("read the map {0}: {1}")]
    Read(String, #[source] StoreError),
}

/// The names of a family's maps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Names {
    frontends: &'static str,
    addresses: &'static str,
    ports: &'static str,
    sources: &'static str,
    services: &'static str,
    lists: &'static str,
    taken: &'static str,
    held: &'static str,
    switch: &'static str,
}

/// IPv4's maps.
pub(crate) const V4: Names = Names {
    frontends: "FRONTENDS4",
    addresses: "ADDRESSES4",
    ports: "PORTS4",
    sources: "SOURCES4",
    services: "SERVICES4",
    lists: "LISTS4",
    taken: "TAKEN4",
    held: "HELD4",
    switch: "SWITCH4",
};

/// IPv6's maps.
pub(crate) const V6: Names = Names {
    frontends: "FRONTENDS6",
    addresses: "ADDRESSES6",
    ports: "PORTS6",
    sources: "SOURCES6",
    services: "SERVICES6",
    lists: "LISTS6",
    taken: "TAKEN6",
    held: "HELD6",
    switch: "SWITCH6",
};

/// The maps of one family.
#[derive(Debug)]
pub struct KernelMaps<A: Address + 'static> {
    names: Names,
    frontends: Hash<FrontendKey<A>>,
    /// The same during a renewal.
    remembered: Option<HashMap<FrontendKey<A>, u64>>,
    addresses: Hash<A>,
    /// The ports of frontends for packets from outside.
    ports: Ports,
    sources: Sources<A>,
    services: SparseWords,
    lists: SparseWords,
    /// Shared with whoever shows the counts.
    taken: Arc<Counts>,
    /// The switch, and the sockets that stay with nftables.
    held: Held<A>,
    /// Reads which these are.
    flows: Option<Flows<A>>,
    grace: Arc<Waiter>,
    programs: Arc<Mutex<Programs>>,
    writes: u64,
    /// Why something could not be read, and was taken for missing.
    unread: RefCell<Option<MapError>>,
}

impl<A: Address + 'static> KernelMaps<A> {
    /// Takes a family's maps out of a loaded object.
    pub(crate) fn take(
        ebpf: &mut Ebpf,
        names: Names,
        grace: &Arc<Waiter>,
        programs: &Arc<Mutex<Programs>>,
    ) -> Result<Self, MapsError> {
        let mut map = |name: &str| ebpf.take_map(name).ok_or_else(|| MapsError::Missing(name.to_owned()));
        let gate = Gate::take(
            words(names.switch, map(names.switch)?)?,
            hash(names.held, map(names.held)?)?,
        );
        let taken = Counts::take(map(names.taken)?);
        Ok(Self {
            frontends: hash(names.frontends, map(names.frontends)?)?,
            remembered: None,
            addresses: hash(names.addresses, map(names.addresses)?)?,
            ports: Ports::new(words(names.ports, map(names.ports)?)?),
            sources: Sources::take(names.sources, map(names.sources)?)
                .map_err(|error| MapsError::Other(names.sources.to_owned(), error))?,
            services: sparse(names.services, map(names.services)?)?,
            lists: sparse(names.lists, map(names.lists)?)?,
            taken: Arc::new(taken.map_err(|error| MapsError::Other(names.taken.to_owned(), error))?),
            held: Held::new(gate.map_err(|error| MapsError::Read(names.held.to_owned(), error))?),
            flows: None,
            names,
            grace: Arc::clone(grace),
            programs: Arc::clone(programs),
            writes: 0,
            unread: RefCell::default(),
        })
    }

    /// How many writes there were to the maps since they were opened.
    pub fn writes(&self) -> u64 {
        self.writes
    }

    /// Has `flows` read the UDP flows that the kernel tracks (conntrack), whenever the family is about to be switched on. Flows to
    /// other addresses than frontends may be among them. If it fails, the family stays off.
    pub fn hold_by(&mut self, flows: impl FnMut() -> Result<Vec<HeldKey<A>>, Cause> + Send + 'static) {
        self.flows = Some(Flows(Box::new(flows)));
    }

    /// The UDP sockets that stay with nftables, for the thread that releases them.
    pub fn held(&self) -> Held<A> {
        self.held.clone()
    }

    /// Whether a frontend is held that a datagram to this address and port asks for.
    fn has_frontend(&self, key: &HeldKey<A>) -> bool {
        let (to, udp) = (key.frontend(), Protocol::Udp.number());
        self.frontend(&FrontendKey::new(to.addr, to.port, udp)).is_some()
            || self.frontend(&FrontendKey::node_port(to.port, udp)).is_some()
    }

    /// How many connections each Service port has taken.
    pub(crate) fn taken(&self) -> Arc<Counts> {
        Arc::clone(&self.taken)
    }

    /// Enlarges a map. If some programs then have the new one and others the old one, the family is off before anything else
    /// is written, and [`Store::prepare`] gives all programs the same.
    fn enlarge(
        &mut self,
        name: &'static str,
        room: u32,
        enlarge: impl Fn(&mut Self, &mut Programs) -> Result<(), NotEnlarged>,
    ) -> Result<(), StoreError> {
        let programs = Arc::clone(&self.programs);
        enlarge(self, &mut super::lock(&programs)).map_err(|error| match error {
            NotEnlarged::NoRoom(errno) => StoreError::Full(Full { name, room, errno }),
            NotEnlarged::Torn(cause) => {
                self.held.gate().set_switch(Switch::OFF);
                let what = format!("some programs have the larger map {name}, and others the smaller one: {cause}");
                StoreError::Failed(what.into())
            }
        })
    }
}

/// The UDP flows that the kernel tracks cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("read which UDP sockets nftables serves")]
struct NotHeld(#[source] Cause);

fn hash<K: Copy + 'static>(name: &'static str, map: Map) -> Result<Hash<K>, MapsError> {
    Hash::take(name, map).map_err(|error| MapsError::Other(name.to_owned(), error))
}

/// Maps the memory of an array of words.
pub(crate) fn words(name: &str, map: Map) -> Result<Words, MapsError> {
    let (data, len) = array(name, map)?;
    Words::map(data.fd(), len).map_err(|error| MapsError::Memory(name.to_owned(), error))
}

/// The same with the parts alone that have something in them.
fn sparse(name: &str, map: Map) -> Result<SparseWords, MapsError> {
    let (data, len) = array(name, map)?;
    SparseWords::open(data.fd(), len).map_err(|error| MapsError::Memory(name.to_owned(), error))
}

fn array(name: &str, map: Map) -> Result<(MapData, u32), MapsError> {
    let Map::Array(data) = map else {
        return Err(MapsError::NoArray(name.to_owned()));
    };
    match data.info() {
        Ok(info) => Ok((data, info.max_entries())),
        Err(error) => Err(MapsError::Other(name.to_owned(), error)),
    }
}

/// Memory of an array that cannot be mapped.
fn unmapped(error: io::Error) -> StoreError {
    StoreError::Failed(error.into())
}

impl<A: Address + 'static> Maps<A> for KernelMaps<A> {
    fn frontend(&self, key: &FrontendKey<A>) -> Option<u64> {
        if let Some(remembered) = &self.remembered {
            return remembered.get(key).copied();
        }
        self.frontends.get(*key).unwrap_or_else(|error| {
            self.unread.replace(Some(error));
            None
        })
    }

    fn has_address(&self, addr: &A) -> bool {
        let found = self.addresses.get(*addr).unwrap_or_else(|error| {
            self.unread.replace(Some(error));
            None
        });
        found.is_some()
    }

    fn service(&self, index: ListIndex) -> Option<u64> {
        self.services.get(index.get())
    }

    fn word(&self, place: u32) -> Option<u64> {
        self.lists.get(place)
    }
}

/// Puts an element in a hash of these maps, which is enlarged if it is full.
macro_rules! put {
    ($maps:ident.$hash:ident, $key:expr, $word:expr) => {{
        $maps.writes += 1;
        let name = $maps.$hash.name();
        let mut put = $maps.$hash.put($key, $word).map_err(Refused::from);
        if matches!(put, Err(Refused::Full)) {
            let room = $maps.$hash.room();
            $maps.enlarge(name, room, |maps, programs| maps.$hash.enlarge(programs, 0))?;
            put = $maps.$hash.put($key, $word).map_err(Refused::from);
        }
        put.map_err(|refused| $maps.$hash.refused(refused))
    }};
}

impl<A: Address + 'static> Store<A> for KernelMaps<A> {
    fn prepare(&mut self) -> Result<(), StoreError> {
        self.unread.take();
        super::lock(&self.programs).make_whole().map_err(StoreError::Failed)
    }

    fn sound(&mut self) -> Result<(), StoreError> {
        match self.unread.take() {
            Some(error) => Err(failed(self.names.frontends, &error)),
            None => Ok(()),
        }
    }

    fn put_frontend(&mut self, key: &FrontendKey<A>, word: FrontendWord) -> Result<(), StoreError> {
        // Before the frontend: a packet that nobody looks at is nftables'.
        self.ports.note(key, word);
        put!(self.frontends, *key, word.0)?;
        if let Some(remembered) = &mut self.remembered {
            remembered.insert(*key, word.0);
        }
        Ok(())
    }

    fn remove_frontend(&mut self, key: &FrontendKey<A>) -> Result<(), StoreError> {
        self.writes += 1;
        if let Some(remembered) = &mut self.remembered {
            remembered.remove(key);
        }
        self.frontends.remove(*key)
    }

    fn look(&mut self) -> Result<(), StoreError> {
        self.services.look().and_then(|()| self.lists.look()).map_err(unmapped)
    }

    fn frontends(&self) -> Result<Vec<(FrontendKey<A>, FrontendWord)>, StoreError> {
        let words = match &self.remembered {
            Some(remembered) => remembered.iter().map(|(key, word)| (*key, *word)).collect(),
            None => self.frontends.all()?,
        };
        let word = |(key, word)| (key, FrontendWord(word));
        Ok(words.into_iter().map(word).collect())
    }

    fn remember(&mut self) -> Result<(), StoreError> {
        let found: HashMap<_, _> = self.frontends.all()?.into_iter().collect();
        for (key, word) in &found {
            self.ports.note(key, FrontendWord(*word));
        }
        self.remembered = Some(found);
        Ok(())
    }

    fn forget(&mut self) {
        self.remembered = None;
    }

    fn put_address(&mut self, addr: A) -> Result<(), StoreError> {
        put!(self.addresses, addr, 1)
    }

    fn remove_address(&mut self, addr: A) -> Result<(), StoreError> {
        self.writes += 1;
        self.addresses.remove(addr)
    }

    fn addresses(&self) -> Result<Vec<A>, StoreError> {
        Ok(self.addresses.all()?.into_iter().map(|(addr, _)| addr).collect())
    }

    fn put_source(&mut self, key: SourceKey<A>, bits: u32) -> Result<(), StoreError> {
        self.writes += 1;
        self.sources.put(key, bits)
    }

    fn remove_source(&mut self, key: SourceKey<A>, bits: u32) -> Result<(), StoreError> {
        self.writes += 1;
        self.sources.remove(key, bits)
    }

    fn sources(&self) -> Result<Vec<(SourceKey<A>, u32)>, StoreError> {
        self.sources.all()
    }

    fn put_word(&mut self, place: u32, word: u64) -> Result<(), StoreError> {
        self.writes += 1;
        self.lists.set(place, word).map_err(unmapped)
    }

    fn put_service(&mut self, index: ListIndex, word: ServiceWord) -> Result<(), StoreError> {
        self.writes += 1;
        self.services.publish(index.get(), word.0).map_err(unmapped)
    }

    fn counted(&self) -> Result<Vec<ListIndex>, StoreError> {
        self.taken.counted()
    }

    fn count_anew(&mut self, port: ListIndex) -> Result<(), StoreError> {
        let anew = self.taken.begin_anew(port);
        self.writes += u64::from(anew.map_err(|error| StoreError::Failed(error.into()))?);
        Ok(())
    }

    fn hold_sockets(&mut self) -> Result<(), StoreError> {
        let flows = self.flows.as_mut().map_or_else(|| Ok(Vec::new()), |flows| (flows.0)());
        let flows = flows.map_err(|error| StoreError::Failed(Box::new(NotHeld(error))))?;
        let flows: HashSet<_> = flows.into_iter().filter(|key| self.has_frontend(key)).collect();
        let (name, room) = (self.names.held, self.held.gate().room());
        self.enlarge(name, room, |maps, programs| {
            maps.held.gate().make_room(programs, flows.len())
        })?;
        self.held.gate().hold(&flows)
    }

    fn set_switch(&mut self, switch: Switch) {
        self.writes += 1;
        self.held.gate().set_switch(switch);
    }

    fn switch(&self) -> Switch {
        self.held.gate().switch()
    }

    fn words(&self) -> u32 {
        self.lists.len()
    }

    fn grow(&mut self, words: u32) -> Result<(), StoreError> {
        let (name, room) = (self.names.lists, self.words());
        self.enlarge(name, room, |maps, programs| {
            maps.lists = programs.enlarge_words(name, &maps.lists, words)?;
            Ok(())
        })
    }

    fn ticket(&mut self) -> u64 {
        self.grace.ticket()
    }

    fn passed(&self) -> u64 {
        self.grace.passed()
    }
}
