//! Makes parsers public that nothing else outside needs: for `fuzz/`, for the tests that replay its findings, and for
//! benchmarks.

use std::path::PathBuf;

use crate::config::Sources;

pub use crate::cluster::watch::events::Events;
pub use crate::cluster::watch::fuzzing::{Given, list, watch};
pub use crate::source::directory::fuzzing::manifest;

/// Reads a configuration file: Tandem's own, or a `KubeProxyConfiguration`. Returns whether there are settings, and the
/// messages.
pub fn configuration(own: bool, text: &str) -> (bool, Vec<String>) {
    let file = Some((PathBuf::from("file"), text.to_owned()));
    let (kube_proxy, tandem) = if own { (None, file) } else { (file, None) };
    match Sources::default().load_texts(kube_proxy, tandem) {
        Ok(loaded) => (true, loaded.warnings),
        Err(error) => (false, vec![error.to_string()]),
    }
}
