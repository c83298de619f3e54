//! Configuration: a `KubeProxyConfiguration` and the flags that go with it, to [`Settings`]. What is asked for and not done
//! is never passed over: an unknown field is an error, a field that Tandem does not use yet a warning.

mod duration;
mod file;
mod settings;
#[cfg(test)]
mod tests;
mod unused;

use std::path::PathBuf;

pub use settings::{DetectLocal, Overrides, Settings};

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is not there, or not to be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel says.
        source: std::io::Error,
    },
    /// The file is neither YAML nor JSON.
    #[error("{path}: {problem}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and what.
        problem: String,
    },
    /// The file is not a `KubeProxyConfiguration`, or has fields that one has not, or fields of the wrong type.
    #[error("{path}: {field}: {problem}")]
    Field {
        /// The file.
        path: PathBuf,
        /// Path of the field.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A value that means nothing.
    #[error("{place}: {value:?}: {problem}")]
    Value {
        /// The file and field, or the flag.
        place: String,
        /// What is there.
        value: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The machine has no name to use as the node's.
    #[error("this machine has no host name: give the node's name with --hostname-override")]
    NoHostname,
}
