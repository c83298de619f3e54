//! Architecture invariant: `tandem-core` has no I/O, no clock and no runtime. What it needs of the world are arguments.
//!
//! This test checks the dependencies of `tandem-core`. Clippy checks its code (`clippy.toml`).

use std::fs;
use std::path::Path;

#[test]
fn the_library_depends_on_nothing_but_ranges_error_texts_and_json() {
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).unwrap();
    let (_, after) = manifest.split_once("\n[dependencies]\n").unwrap();
    let section = after.split("\n[").next().unwrap_or(after);
    let names: Vec<&str> = section
        .lines()
        .filter_map(|line| line.split(['.', '=', ' ']).next().filter(|name| !name.is_empty()))
        .collect();
    assert_eq!(names, ["ipnet", "serde", "serde_json", "thiserror"]);
}

#[test]
fn the_lints_that_keep_it_pure_are_on() {
    let library = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    assert!(library.contains("#![deny(clippy::disallowed_methods, clippy::disallowed_types)]"));
}
