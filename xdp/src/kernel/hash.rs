//! Hashes of words in the kernel.

use std::io;

use aya::Pod;
use aya::maps::{HashMap, Map, MapData, MapError};

use super::line::line;
use super::programs::{NotEnlarged, Programs};
use crate::store::StoreError;
use tandem_core::plane::Full;

/// A value that the kernel gets byte for byte. It has no padding.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Raw<T>(pub(crate) T);

#[expect(unsafe_code, reason = "says that a value is plain bytes")]
// SAFETY: it is only used for keys of the layout, which are made of integers and have no padding: their sizes are asserted.
unsafe impl<T: Copy + 'static> Pod for Raw<T> {}

impl<T> std::fmt::Debug for Raw<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Raw")
    }
}

/// A hash of words, which becomes larger if it is full.
#[derive(Debug)]
pub(crate) struct Hash<K: Copy + 'static> {
    name: &'static str,
    map: HashMap<MapData, Raw<K>, u64>,
    /// How many entries there is room for.
    room: u32,
}

impl<K: Copy + 'static> Hash<K> {
    pub(crate) fn take(name: &'static str, map: Map) -> Result<Self, MapError> {
        let room = match &map {
            Map::HashMap(data) => data.info()?.max_entries(),
            _ => 0, // the next line says what is wrong
        };
        let map = map.try_into()?;
        Ok(Self { name, map, room })
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn get(&self, key: K) -> Result<Option<u64>, MapError> {
        match self.map.get(&Raw(key), 0) {
            Ok(word) => Ok(Some(word)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn put(&mut self, key: K, word: u64) -> Result<(), MapError> {
        self.map.insert(Raw(key), word, 0)
    }

    pub(crate) fn remove(&mut self, key: K) -> Result<(), StoreError> {
        match self.map.remove(&Raw(key)) {
            Err(error) if !is_missing(&error) => Err(failed(self.name, &error)),
            _ => Ok(()),
        }
    }

    pub(crate) fn all(&self) -> Result<Vec<(K, u64)>, StoreError> {
        let entries = self.map.iter().map(|entry| entry.map(|(key, word)| (key.0, word)));
        entries
            .collect::<Result<_, _>>()
            .map_err(|error| failed(self.name, &error))
    }

    /// How many entries there is room for.
    pub(crate) fn room(&self) -> u32 {
        self.room
    }

    /// Makes room for at least so many entries.
    pub(crate) fn enlarge(&mut self, programs: &mut Programs, least: u32) -> Result<(), NotEnlarged> {
        let room = self.room.saturating_mul(2).max(least);
        self.map = programs.enlarge_hash(self.name, &self.map, room)?;
        self.room = room;
        Ok(())
    }
}

/// What is said about a map of which a call failed.
pub(crate) fn failed(name: &str, error: &MapError) -> StoreError {
    StoreError::Failed(format!("use the map {name}: {}", line(error)).into())
}

/// What the kernel refused a call for.
fn kind_of(error: &MapError) -> Option<io::ErrorKind> {
    match error {
        MapError::SyscallError(error) => Some(error.io_error.kind()),
        _ => None,
    }
}

impl<K: Copy + 'static> Hash<K> {
    /// What is said about an element that was refused.
    pub(crate) fn refused(&self, refused: Refused) -> StoreError {
        let errno = match refused {
            Refused::Full => libc::E2BIG,
            Refused::NoMemory => libc::ENOMEM,
            Refused::Other(error) => return StoreError::Failed(error.into()),
        };
        StoreError::Full(Full {
            name: self.name,
            room: self.room,
            errno: Some(errno),
        })
    }
}

/// What an element was refused for. The kernel says E2BIG if a hash is full, and ENOMEM if it has no memory for an element now.
pub(crate) enum Refused {
    Full,
    NoMemory,
    Other(MapError),
}

impl From<MapError> for Refused {
    fn from(error: MapError) -> Self {
        match kind_of(&error) {
            Some(io::ErrorKind::ArgumentListTooLong) => Self::Full,
            Some(io::ErrorKind::OutOfMemory) => Self::NoMemory,
            _ => Self::Other(error),
        }
    }
}

/// Whether what was to be removed is not there.
pub(crate) fn is_missing(error: &MapError) -> bool {
    matches!(error, MapError::KeyNotFound) || kind_of(error) == Some(io::ErrorKind::NotFound)
}
