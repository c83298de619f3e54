//! A file from a folder of manifests. The first byte says whether it is YAML or JSON.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use tandem::fuzzing::manifest;
use tandem::source::decode::Decoder;

/// No line of the log is longer, whatever a file contains.
const LONGEST: usize = 2048;

fuzz_target!(|input: &[u8]| {
    let Some((format, text)) = input.split_first() else {
        return;
    };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let name = if format % 2 == 0 { "a.yaml" } else { "a.json" };
    let read = manifest(&Decoder::new("node-a"), Path::new(name), text);
    let (_, said) = read.unwrap_or_default();
    for line in said {
        assert!(line.len() <= LONGEST, "{} bytes: {line:.200}", line.len());
        assert!(!line.contains(char::is_control), "{line:?}");
    }
});
