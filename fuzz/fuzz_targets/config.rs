//! A configuration file. The first byte says which of the two it is.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tandem::fuzzing::configuration;

/// No line of the log is longer, whatever a file contains.
const LONGEST: usize = 2048;

fuzz_target!(|input: &[u8]| {
    let Some((own, text)) = input.split_first() else {
        return;
    };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let (_, said) = configuration(own % 2 == 1, text);
    for line in said {
        assert!(line.len() <= LONGEST, "{} bytes: {line:.200}", line.len());
    }
});
