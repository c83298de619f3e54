//! Why packets are not taken.

use std::io;

use aya::maps::MapError;

use crate::kernel::line::line;
use crate::kernel::object::LoadError;

/// Why packets are not taken.
#[derive(Debug, thiserror::Error)]
pub enum PacketsError {
    /// The programs were not loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A map is missing in the object.
    #[error("there is no map {0}")]
    Missing(&'static str),
    /// A map cannot be used.
    #[error("use the map {0}: {error}", error = line(.1))]
    Map(&'static str, MapError),
    /// Its memory cannot be mapped.
    #[error("map the memory of {0}: {1}")]
    Memory(&'static str, #[source] io::Error),
}
