//! What is written, read back.

use std::fmt::Write as _;
use std::fs;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use flate2::read::GzDecoder;
use serde_json::{Value, json};

use super::*;
use crate::image::Created;
use crate::tree::{Mode, Tree};

/// A folder that is removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("tandem-image-{}-{count}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn tree() -> Tree {
    let mut tree = Tree::default();
    let long = format!("/usr/share/{}/{}/end", "long".repeat(30), "name".repeat(30));
    tree.file(&long, Mode::DATA, "far down").unwrap();
    tree.file("/usr/bin/tool", Mode::PROGRAM, "tool").unwrap();
    tree.link("/bin", "usr/bin").unwrap();
    tree.folder("/tmp", Mode::SHARED).unwrap();
    tree
}

fn named(name: &str, architectures: &[Architecture]) -> Named {
    let image = |architecture: &Architecture| {
        let config = Config {
            entrypoint: vec!["/usr/bin/tool".to_owned(), "--all".to_owned()],
            cmd: vec!["run".to_owned()],
            env: [("PATH", "/usr/bin"), ("HOME", "/")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            labels: ["c", "a", "d", "b"]
                .map(|key| (key.to_owned(), format!("label {key}")))
                .into(),
            user: Some("65532:65532".to_owned()),
            working_dir: Some(crate::ImagePath::parse("/tmp").unwrap()),
        };
        Image::new(
            tree(),
            config,
            *architecture,
            Created::from_seconds(1_700_000_000).unwrap(),
        )
    };
    Named::new(name, architectures.iter().map(image).collect()).unwrap()
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Reads the document that a descriptor leads to. Its size and digest must be those that the descriptor says.
fn follow(layout: &Path, descriptor: &Value) -> Vec<u8> {
    let digest = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
    let bytes = fs::read(layout.join(BLOBS).join(digest)).unwrap();
    assert_eq!(sha256(&bytes), digest);
    assert_eq!(descriptor["size"], bytes.len());
    bytes
}

fn follow_json(layout: &Path, descriptor: &Value) -> Value {
    serde_json::from_slice(&follow(layout, descriptor)).unwrap()
}

/// The entries of a tar as text, one a line: mode, owner, time, size, path, target.
fn listing(tar: impl Read) -> String {
    let mut text = String::new();
    for entry in tar::Archive::new(tar).entries().unwrap() {
        let entry = entry.unwrap();
        let header = entry.header();
        let numbers = (header.uid().unwrap(), header.gid().unwrap(), header.mtime().unwrap());
        let path = entry
            .path()
            .unwrap()
            .display()
            .to_string()
            .replace(&"long".repeat(30), "LONG");
        let target = entry
            .link_name()
            .unwrap()
            .map(|target| format!(" -> {}", target.display()));
        let (mode, size) = (header.mode().unwrap(), entry.size());
        let path = path.replace(&"name".repeat(30), "NAME");
        writeln!(text, "{mode:o} {numbers:?} {size} {path}{}", target.unwrap_or_default()).unwrap();
    }
    text
}

#[test]
fn a_layout_holds_what_was_given_and_every_digest_is_right() {
    let scratch = Scratch::new();
    let layout = scratch.join("oci");
    let both = [Architecture::Amd64, Architecture::Arm64];
    let written = write(&layout, &[named("example.test/tool:1", &both)]).unwrap();

    assert_eq!(read(&layout.join(MARK)), json!({"imageLayoutVersion": "1.0.0"}));
    let top = read(&layout.join(INDEX));
    let name = &top["manifests"][0];
    assert_eq!(
        name["annotations"],
        json!({"io.containerd.image.name": "example.test/tool:1", "org.opencontainers.image.ref.name": "example.test/tool:1"})
    );
    assert_eq!(name["digest"], written[0].digest);
    let index = follow_json(&layout, name);
    for (at, architecture) in ["amd64", "arm64"].iter().enumerate() {
        let described = &index["manifests"][at];
        assert_eq!(
            described["platform"],
            json!({"architecture": architecture, "os": "linux"})
        );
        let manifest = follow_json(&layout, described);
        assert_eq!(manifest["schemaVersion"], 2);
        assert_eq!(manifest["layers"].as_array().unwrap().len(), 1);
        let config = follow_json(&layout, &manifest["config"]);
        assert_eq!(config["architecture"], *architecture);
        assert_eq!(config["created"], "2023-11-14T22:13:20Z");
        assert_eq!(
            config["config"],
            json!({
                "User": "65532:65532", "Entrypoint": ["/usr/bin/tool", "--all"], "Cmd": ["run"], "WorkingDir": "/tmp",
                "Env": ["HOME=/", "PATH=/usr/bin"],
                "Labels": {"a": "label a", "b": "label b", "c": "label c", "d": "label d"},
            })
        );
        let layer = follow(&layout, &manifest["layers"][0]);
        let mut tar = Vec::new();
        GzDecoder::new(layer.as_slice()).read_to_end(&mut tar).unwrap();
        assert_eq!(
            config["rootfs"]["diff_ids"],
            json!([format!("sha256:{}", sha256(&tar))])
        );
        let platform = &written[0].platforms[at];
        assert_eq!(platform.unpacked, tar.len() as u64);
        assert_eq!(platform.files, 3);
        let sizes = [
            &described["size"],
            &manifest["config"]["size"],
            &manifest["layers"][0]["size"],
        ];
        assert_eq!(
            platform.stored,
            sizes.iter().filter_map(|size| size.as_u64()).sum::<u64>()
        );
        assert_eq!(
            listing(Cursor::new(tar)),
            "777 (0, 0, 1700000000) 0 bin -> usr/bin\n\
             1777 (0, 0, 1700000000) 0 tmp/\n\
             755 (0, 0, 1700000000) 0 usr/\n\
             755 (0, 0, 1700000000) 0 usr/bin/\n\
             755 (0, 0, 1700000000) 4 usr/bin/tool\n\
             755 (0, 0, 1700000000) 0 usr/share/\n\
             755 (0, 0, 1700000000) 0 usr/share/LONG/\n\
             755 (0, 0, 1700000000) 0 usr/share/LONG/NAME/\n\
             644 (0, 0, 1700000000) 8 usr/share/LONG/NAME/end\n"
        );
    }
}

#[test]
fn the_same_images_are_the_same_bytes_in_every_folder_and_in_every_run() {
    let scratch = Scratch::new();
    let images = || {
        [
            named("example.test/tool:1", &[Architecture::Amd64]),
            named("example.test/b:2", &[Architecture::Arm64]),
        ]
    };
    let archives: Vec<Vec<u8>> = (0..8)
        .map(|run| {
            let layout = scratch.join(&format!("run{run}"));
            write(&layout, &images()).unwrap();
            let tar = scratch.join("tar");
            archive(&layout, &tar).unwrap();
            fs::read(tar).unwrap()
        })
        .collect();
    assert!(archives.iter().all(|bytes| *bytes == archives[0]));
    let listed = listing(Cursor::new(&archives[0]));
    assert!(listed.starts_with("644 (0, 0, 0) 30 oci-layout\n"), "{listed}");
    // both images have the same files, so they share the blob
    assert_eq!(listed.lines().count(), 2 + 1 + 2 * 3, "{listed}");
}

#[test]
fn files_that_are_not_compressed_are_a_plain_tar() {
    let scratch = Scratch::new();
    let layout = scratch.join("oci");
    let image = Image::new(
        tree(),
        Config::default(),
        Architecture::Amd64,
        Created::from_seconds(0).unwrap(),
    );
    let plain = image.compressed(Compression::Off);
    let written = write(&layout, &[Named::new("example.test/a:1", vec![plain]).unwrap()]).unwrap();
    let index = follow_json(&layout, &read(&layout.join(INDEX))["manifests"][0]);
    let manifest = follow_json(&layout, &index["manifests"][0]);
    let layer = &manifest["layers"][0];
    assert_eq!(layer["mediaType"], "application/vnd.oci.image.layer.v1.tar");
    assert_eq!(layer["size"], written[0].platforms[0].unpacked);
    let config = follow_json(&layout, &manifest["config"]);
    assert_eq!(config["rootfs"]["diff_ids"][0], layer["digest"]);
    assert_eq!(config["config"], json!({}));
}

#[test]
fn a_layout_replaces_a_layout_and_nothing_else() {
    let scratch = Scratch::new();
    let layout = scratch.join("oci");
    write(&layout, &[named("example.test/a:1", &[Architecture::Amd64])]).unwrap();
    write(&layout, &[]).unwrap();
    assert_eq!(fs::read_dir(layout.join(BLOBS)).unwrap().count(), 0);

    let other = scratch.join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("precious"), "here").unwrap();
    let error = write(&other, &[]).unwrap_err().to_string();
    assert!(
        error.ends_with("other is no OCI layout: it is left as it is, remove it or choose another folder"),
        "{error}"
    );
    assert_eq!(fs::read_dir(&other).unwrap().count(), 1);
    assert!(matches!(archive(&other, &scratch.join("tar")), Err(Error::NoLayout(_))));
}

#[test]
fn a_layout_that_was_not_finished_is_no_archive() {
    let scratch = Scratch::new();
    let (layout, file) = (scratch.join("oci"), scratch.join("file"));
    fs::write(&file, "four").unwrap();
    let mut tree = Tree::default();
    tree.host_file("/file", Mode::DATA, &file).unwrap();
    let image = Image::new(
        tree,
        Config::default(),
        Architecture::Amd64,
        Created::from_seconds(0).unwrap(),
    );
    let named = [Named::new("example.test/a:1", vec![image]).unwrap()];
    write(&layout, &named).unwrap();

    for (content, after) in [("longer", 6), ("no", 2)] {
        fs::write(&file, content).unwrap();
        let error = write(&layout, &named).unwrap_err().to_string();
        assert!(
            error.ends_with(&format!("file had 4 bytes, and {after} when it was read")),
            "{error}"
        );
        assert!(matches!(
            archive(&layout, &scratch.join("tar")),
            Err(Error::NoLayout(_))
        ));
    }
    fs::write(&file, "same").unwrap();
    write(&layout, &named).unwrap();
    archive(&layout, &scratch.join("tar")).unwrap();
}

#[test]
fn a_name_is_written_once() {
    let scratch = Scratch::new();
    let twice = [
        named("example.test/a:1", &[Architecture::Amd64]),
        named("example.test/a:1", &[Architecture::Arm64]),
    ];
    let error = write(&scratch.join("oci"), &twice).unwrap_err().to_string();
    assert_eq!(error, "image example.test/a:1: the name is given twice");
}
