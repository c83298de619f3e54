//! Every field that Tandem reads from an object, with every kind of wrong value. Each case is one line in
//! `tests/data/bad/*.txt`, which also has the expected notice. `BLESS=1` writes the present notices. Read the
//! difference before you commit it.

mod engine;
mod table;

use std::collections::BTreeSet;

use tandem::event::ObjectKind;
use tandem::source::decode::{Decoded, Decoder};

use table::{Case, FAULTS, good, pointers, read, write};

/// No message is longer, whatever an object contains.
const LONGEST: usize = 1024;

/// The decoder's notices about an object, in one line.
fn said(decoder: &Decoder, kind: ObjectKind, text: &str) -> String {
    let (said, lines) = match decoder.decode_json(kind, text) {
        Ok(outcome) => {
            let notices: Vec<String> = outcome.notices.iter().map(ToString::to_string).collect();
            let ignored = match outcome.decoded {
                Decoded::Apply(_) => None,
                Decoded::Ignore(_, _, why) => Some(format!("ignored: {why}")),
            };
            let lines: Vec<String> = ignored.into_iter().chain(notices).collect();
            if lines.is_empty() {
                ("harmless".to_owned(), lines)
            } else {
                (lines.join(" & "), lines)
            }
        }
        Err(error) => (format!("unreadable: {error}"), vec![error.to_string()]),
    };
    for line in &lines {
        assert!(line.len() <= LONGEST, "{} bytes: {line:.300}", line.len());
        assert!(!line.contains(char::is_control), "{line:?}");
    }
    said
}

#[test]
fn every_wrong_value_is_said_by_field_value_and_what_happens_instead_or_harms_nothing() {
    let decoder = Decoder::new("node-a");
    let mut wrong = Vec::new();
    for kind in ObjectKind::ALL {
        let mut cases = read(kind);
        for case in &mut cases {
            let said = said(&decoder, kind, &case.object(kind));
            let same = said == case.said || (said == "harmless" && case.said.starts_with("harmless: "));
            if !same {
                wrong.push(format!(
                    "{kind} {}: {}\n   now: {said}\n   was: {}",
                    case.field, case.value, case.said
                ));
                case.said = said;
            }
            // After any bad object, a good one is read without a notice.
            assert_eq!(self::said(&decoder, kind, &good(kind).to_string()), "harmless");
        }
        if std::env::var_os("BLESS").is_some() {
            write(kind, &cases);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_harms_nothing_says_why() {
    for kind in ObjectKind::ALL {
        for case in read(kind) {
            let reason = case
                .said
                .strip_prefix("harmless")
                .map(|reason| reason.trim_start_matches(": "));
            assert_ne!(reason, Some(""), "{kind} {} {}", case.field, case.value);
        }
    }
}

#[test]
fn the_tables_have_every_field_with_every_fault_that_any_field_can_have() {
    for kind in ObjectKind::ALL {
        let cases = read(kind);
        let known: BTreeSet<(&str, &str)> = cases
            .iter()
            .map(|case| (case.field.as_str(), case.fault.as_str()))
            .collect();
        for field in pointers(&good(kind)) {
            for fault in FAULTS {
                assert!(
                    known.contains(&(field.as_str(), fault)),
                    "{kind}: no row for {field} | {fault}"
                );
            }
        }
    }
}

/// The names of the fields that raw.rs reads.
fn read_fields() -> Vec<String> {
    let source = include_str!("../../../src/source/decode/raw.rs");
    let (mut fields, mut renamed) = (Vec::new(), None);
    for line in source.lines().map(str::trim) {
        if let Some((_, rest)) = line.split_once("rename = \"") {
            renamed = rest.split_once('"').map(|(name, _)| name.to_owned());
        } else if let Some(rest) = line.strip_prefix("pub(super) ")
            && let Some((name, kind)) = rest.split_once(": ")
            && kind.starts_with("Option<")
        {
            let camel = |name: &str| {
                let mut words = name.split('_');
                let first = words.next().unwrap_or_default().to_owned();
                words.fold(first, |all, word| all + &word[..1].to_uppercase() + &word[1..])
            };
            fields.push(renamed.take().unwrap_or_else(|| camel(name)));
        }
    }
    fields
}

#[test]
fn the_good_objects_have_every_field_that_is_read() {
    let pointers: Vec<String> = ObjectKind::ALL.iter().flat_map(|kind| pointers(&good(*kind))).collect();
    let fields = read_fields();
    assert!(fields.len() > 50, "{fields:?}");
    for field in fields {
        let end = format!("/{}", field.replace('/', "~1"));
        assert!(
            pointers.iter().any(|pointer| pointer.ends_with(&end)),
            "no good object has {field}"
        );
    }
}

#[test]
fn what_is_no_object_at_all_is_survived() {
    let decoder = Decoder::new("node-a");
    let deep = "[".repeat(100_000);
    let nested = format!("{}7{}", "{\"spec\":".repeat(100_000), "}".repeat(100_000));
    for kind in ObjectKind::ALL {
        for text in [
            "",
            "null",
            "7",
            "[]",
            "{}",
            "\"",
            "NaN",
            &deep,
            &nested,
            "{\"metadata\":{}}",
        ] {
            let said = said(&decoder, kind, text);
            assert!(said.starts_with("unreadable: "), "{said}");
        }
    }
}

#[test]
fn case_values_are_what_they_say() {
    let case = |value: &str| Case {
        field: "/x".into(),
        fault: "huge".into(),
        value: value.into(),
        said: String::new(),
    };
    assert_eq!(case("7").text(), "7");
    assert_eq!(case("1000000 x \"a\"").text().len(), 1_000_002);
    assert_eq!(
        case("3 of \"10.0.0.%\"").text(),
        r#"["10.0.0.0","10.0.0.1","10.0.0.2"]"#
    );
    assert_eq!(case("3 deep").text(), "[[[]]]");
}
