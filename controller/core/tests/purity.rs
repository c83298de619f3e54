//! Architecture invariant: `tandem-core` has no I/O, no clock and no runtime. What it needs of the world are arguments.

use std::fs;
use std::path::{Path, PathBuf};

/// Words that no line outside tests may name.
const WORDS: [&str; 17] = [
    "tokio",
    "kube",
    "k8s_openapi",
    "async",
    "await",
    "fs",
    "File",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "SystemTime",
    "Instant",
    "sleep",
    "thread",
    "process",
    "rand",
];

/// Every source file that is part of the library.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let (folders, files): (Vec<_>, Vec<_>) = entries.map(|entry| entry.path()).partition(|path| path.is_dir());
    let part = |path: &PathBuf| path.extension().is_some_and(|ext| ext == "rs") && !path.ends_with("samples.rs");
    let deeper = folders.iter().filter(|path| !path.ends_with("tests"));
    files
        .into_iter()
        .filter(part)
        .chain(deeper.flat_map(|path| sources(path)))
        .collect()
}

fn library() -> Vec<PathBuf> {
    let files = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    assert!(files.len() > 15, "only found {files:?}");
    files
}

/// The code of a file: without comments, and without the tests at its end.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().take_while(|line| *line != "#[cfg(test)]");
    lines
        .zip(1..)
        .map(|(line, number)| (number, line.split("//").next().unwrap_or(line)))
}

fn names(line: &str, word: &str) -> bool {
    line.split(|c: char| !c.is_alphanumeric() && c != '_')
        .any(|found| found == word)
}

#[test]
fn no_line_outside_tests_names_input_output_or_time() {
    let mut offences = Vec::new();
    for file in library() {
        let text = fs::read_to_string(&file).unwrap();
        for (number, line) in code(&text) {
            offences.extend(
                WORDS
                    .iter()
                    .filter(|word| names(line, word))
                    .map(|word| format!("{}:{number} names {word}: {}", file.display(), line.trim())),
            );
        }
    }
    assert!(offences.is_empty(), "{}", offences.join("\n"));
}

#[test]
fn tests_come_last_in_their_files() {
    for file in library() {
        let text = fs::read_to_string(&file).unwrap();
        let Some((_, after)) = text.split_once("#[cfg(test)]\n") else {
            continue;
        };
        let first = after.lines().next().unwrap_or_default();
        let module = first.strip_prefix("mod ").is_some_and(|rest| !rest.contains("::"));
        let rest = after.lines().skip(1);
        let indented = rest
            .filter(|line| !line.is_empty() && *line != "}")
            .all(|line| line.starts_with(' '));
        assert!(
            module && indented,
            "{}: code behind the tests is not looked at",
            file.display()
        );
    }
}

#[test]
fn words_are_found_where_they_are_named_and_only_there() {
    assert!(names("use std::{fs, io};", "fs"));
    assert!(names("    client.send().await?;", "await"));
    assert!(!names("let offset = kube_proxy;", "kube"));
    assert_eq!(
        code("a // tokio\n#[cfg(test)]\nmod tests {").collect::<Vec<_>>(),
        [(1, "a ")]
    );
}

#[test]
fn the_library_depends_on_nothing_but_ranges_and_error_texts() {
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).unwrap();
    let (_, after) = manifest.split_once("\n[dependencies]\n").unwrap();
    let section = after.split("\n[").next().unwrap_or(after);
    let names: Vec<&str> = section
        .lines()
        .filter_map(|line| line.split(['.', '=', ' ']).next().filter(|name| !name.is_empty()))
        .collect();
    assert_eq!(names, ["ipnet", "thiserror"]);
}
