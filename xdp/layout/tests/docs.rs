//! docs/xdp.md names the reasons with which programs leave a connection to nftables.

use std::fs;
use std::path::Path;

use tandem_xdp_layout::Reason;

/// Who looks into the map of counts knows a reason by its number alone.
#[test]
fn docs_name_each_reason_that_is_counted_with_its_number() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/xdp.md");
    let docs = fs::read_to_string(path).unwrap();
    let mut wanted: Vec<String> = Reason::ALL
        .into_iter()
        .filter(|reason| *reason != Reason::NoFrontend) // which is not counted
        .map(|reason| format!("| {} | `{}` | ", reason.number(), reason.words()))
        .collect();
    wanted.sort();
    let is_row = |line: &&str| line.starts_with("| ") && line.chars().nth(2).is_some_and(|char| char.is_ascii_digit());
    let mut rows: Vec<&str> = docs.lines().filter(is_row).collect();
    rows.sort_unstable();
    let begins: Vec<String> = rows
        .iter()
        .map(|row| row.split_inclusive("| ").take(3).collect())
        .collect();
    assert_eq!(begins, wanted);
}
