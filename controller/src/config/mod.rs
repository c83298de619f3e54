//! Makes [`Settings`] from a `KubeProxyConfiguration`, a `TandemConfiguration` and the flags. If something is asked for
//! and not done, it is always reported: an unknown field is an error, a field without effect is a warning.

mod data_plane;
#[cfg(test)]
mod docs;
mod document;
mod duration;
mod effective;
mod explain;
mod flags;
mod live;
mod load;
mod resolve;
mod schema;
mod settings;
#[cfg(test)]
mod tests;
mod validate;
mod watch;
mod ways;
mod words;
mod yaml;

use std::path::PathBuf;

pub use effective::Changes;
pub use explain::explain;
pub use flags::Flags;
pub use live::{FileState, Live, Reread};
pub use load::{Loaded, Sources};
pub use schema::flags::{FLAGS, Flag, Sets};
pub use schema::{Change, Default, Fate, Field, FieldKind, SCHEMAS, Schema, Unused, Why};
pub use settings::{Conntrack, ConntrackMax, LogFormat, Settings};

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file does not exist or cannot be read.
    #[error("configuration file {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The kernel's error.
        source: std::io::Error,
    },
    /// The file is neither YAML nor JSON.
    #[error("{path}: {problem}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The place and the mistake.
        problem: String,
    },
    /// The file is of another kind, or has a field that its kind does not have.
    #[error("{path}: {field}: {problem}")]
    Field {
        /// The file.
        path: PathBuf,
        /// Path of the field.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A value has the wrong type, or has no meaning.
    #[error("{place}: {value:?}: {problem}")]
    Value {
        /// The file and field, or the flag.
        place: String,
        /// The value.
        value: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The machine has no host name that could be the node's name.
    #[error("this machine has no host name: give the node's name with --hostname-override")]
    NoHostname,
}
