//! One object as the API writes it. The first byte is its kind.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tandem::event::ObjectKind;
use tandem::source::decode::Decoder;

/// No line of the log is longer, whatever an object contains.
const LONGEST: usize = 2048;

fuzz_target!(|input: &[u8]| {
    let Some((kind, text)) = input.split_first() else {
        return;
    };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let kind = ObjectKind::ALL[usize::from(*kind) % ObjectKind::ALL.len()];
    let said = match Decoder::new("node-a").decode_json(kind, text) {
        Ok(outcome) => outcome.notices.iter().map(ToString::to_string).collect(),
        Err(error) => vec![error.to_string()],
    };
    for line in said {
        assert!(line.len() <= LONGEST, "{} bytes: {line:.200}", line.len());
        assert!(!line.contains(char::is_control), "{line:?}");
    }
});
