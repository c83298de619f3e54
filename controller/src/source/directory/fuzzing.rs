//! Reads the text of a file, and returns what the log would say about it.

use std::path::Path;

use super::documents::Format;
use super::manifest::parse;
use crate::source::decode::Decoder;

/// Reads a file with this name. Returns how many objects it holds, and its faults and notices as they are printed. None
/// if the name is not a manifest's.
pub fn manifest(decoder: &Decoder, name: &Path, text: &str) -> Option<(usize, Vec<String>)> {
    let manifest = parse(decoder, Format::of(name)?, text);
    let notices = manifest.objects.iter().flat_map(|outcome| &outcome.notices);
    let said = notices.map(ToString::to_string);
    let faults = manifest.faults.iter().map(ToString::to_string);
    Some((manifest.objects.len(), said.chain(faults).collect()))
}
