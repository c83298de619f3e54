//! Doors to parsers that nothing outside needs, for `fuzz/` and for the tests that replay what it found.

use std::path::PathBuf;

use crate::config::Sources;

pub use crate::cluster::watch::fuzzing::watch;
pub use crate::source::directory::fuzzing::manifest;

/// What is said of a file of configuration, and whether there are settings: Tandem's own file, or a
/// `KubeProxyConfiguration`.
pub fn configuration(own: bool, text: &str) -> (bool, Vec<String>) {
    let file = Some((PathBuf::from("file"), text.to_owned()));
    let (kube_proxy, tandem) = if own { (None, file) } else { (file, None) };
    match Sources::default().load_texts(kube_proxy, tandem) {
        Ok(loaded) => (true, loaded.warnings),
        Err(error) => (false, vec![error.to_string()]),
    }
}
