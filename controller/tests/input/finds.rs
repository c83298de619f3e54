//! What fuzzers found, and the seeds that they began with: the small form of `fuzz/fuzz_targets/`. A finding goes into
//! `tests/data/fuzz/TARGET/`, under a name that says what it was.

use std::fs;
use std::path::{Path, PathBuf};

use tandem::event::ObjectKind;
use tandem::fuzzing::{Given, configuration, list, manifest, watch};
use tandem::source::decode::Decoder;

/// The inputs of a target.
fn inputs(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = [
        here.join("tests/data/fuzz").join(target),
        here.join("../fuzz/seeds").join(target),
    ];
    let files = folders.iter().filter_map(|folder| folder.read_dir().ok()).flatten();
    let inputs: Vec<(PathBuf, Vec<u8>)> = files
        .map(|file| file.unwrap().path())
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    assert!(!inputs.is_empty(), "no inputs for {target}");
    inputs
}

fn is_a_line(path: &Path, line: &str) {
    assert!(line.len() <= 2048, "{}: {} bytes", path.display(), line.len());
    assert!(!line.contains(char::is_control), "{}: {line:?}", path.display());
}

#[test]
fn every_manifest_that_a_fuzzer_found_is_survived() {
    for (path, input) in inputs("manifest") {
        let (format, text) = input.split_first().unwrap();
        let name = if format % 2 == 0 { "a.yaml" } else { "a.json" };
        let text = String::from_utf8_lossy(text);
        let (_, said) = manifest(&Decoder::new("node-a"), Path::new(name), &text).unwrap();
        for line in &said {
            is_a_line(&path, line);
        }
    }
}

#[test]
fn every_configuration_that_a_fuzzer_found_is_survived_and_a_good_one_is_read() {
    for (path, input) in inputs("config") {
        let (own, text) = input.split_first().unwrap();
        let (usable, said) = configuration(own % 2 == 1, &String::from_utf8_lossy(text));
        let is_seed = path.iter().any(|part| part == "seeds");
        assert_eq!(usable, is_seed, "{}: {said:?}", path.display());
        for line in &said {
            assert!(line.len() <= 2048, "{}: {} bytes", path.display(), line.len());
        }
    }
}

#[test]
fn every_object_that_a_fuzzer_found_is_survived() {
    for (path, input) in inputs("object") {
        let (kind, text) = input.split_first().unwrap();
        let kind = ObjectKind::ALL[usize::from(*kind) % ObjectKind::ALL.len()];
        match Decoder::new("node-a").decode_json(kind, &String::from_utf8_lossy(text)) {
            Ok(outcome) => {
                for notice in &outcome.notices {
                    is_a_line(&path, &notice.to_string());
                }
            }
            Err(error) => is_a_line(&path, &error.to_string()),
        }
    }
}

#[tokio::test]
async fn every_watch_that_a_fuzzer_found_is_the_same_however_it_is_cut() {
    for (target, protobuf) in [("watch_lines", false), ("watch_frames", true)] {
        for (path, input) in inputs(target) {
            let [kind, piece, body @ ..] = &input[..] else { continue };
            let is = Given::of(*kind, protobuf);
            let watch = |pieces| watch(Decoder::new("node-a"), is, pieces);
            let whole = watch(vec![body.to_vec()]).await;
            let pieces = body.chunks(usize::from(*piece).max(1)).map(<[u8]>::to_vec).collect();
            assert_eq!(watch(pieces).await, whole, "{}", path.display());
        }
    }
}

#[tokio::test]
async fn every_list_that_a_fuzzer_found_is_the_same_however_it_is_cut_and_a_good_one_is_complete() {
    for (path, input) in inputs("list_body") {
        let [kind, piece, body @ ..] = &input[..] else { continue };
        let is = Given::of_list(*kind);
        let list = |pieces| list(Decoder::new("node-a"), is, pieces);
        let whole = list(vec![body.to_vec()]).await;
        let pieces = body.chunks(usize::from(*piece).max(1)).map(<[u8]>::to_vec).collect();
        assert_eq!(list(pieces).await, whole, "{}", path.display());
        let is_complete = whole.iter().any(|event| event.starts_with("Listed("));
        let is_seed = path.iter().any(|part| part == "seeds");
        assert!(is_complete || !is_seed, "{}: {whole:?}", path.display());
    }
}
