//! Images that the project's own program writes: what Tandem does with the files of its image alone. Needs root.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::{env, fs};

use anyhow::{Context as _, Result, ensure};
use tandem_image::product::{About, Documents, image};
use tandem_image::{Architecture, Compression, Config, Created, Image, Named, Tree, layout};
use tandem_tests::empty_root;
use tandem_tests::scratch::Scratch;
use tandem_tests::tandem::binary;

/// Writes an image with the program under test. That one is not linked statically, so its libraries are in the image.
fn written(folder: &Path) -> Result<()> {
    let documents = Documents {
        authorities: Vec::new(),
        licences: b"licences".to_vec(),
        sbom: b"{}".to_vec(),
    };
    let about = About {
        version: "1.2.3".to_owned(),
        revision: "0123abc".to_owned(),
        source: None,
    };
    let created = Created::from_seconds(1_700_000_000)?;
    let image = image(&binary()?, Architecture::HERE, &documents, &about, created)?;
    let named = Named::new("localhost/tandem:1.2.3", vec![image.compressed(Compression::Off)])?;
    layout::write(folder, &[named])?;
    Ok(())
}

#[test]
fn with_the_files_of_its_image_alone_tandem_starts_and_finds_the_api_server_by_every_kind_of_name() -> Result<()> {
    let scratch = Scratch::new("image")?;
    let folder = scratch.path().join("oci");
    written(&folder)?;
    let answers = empty_root::check(&folder)?;
    let wrong: Vec<String> = answers
        .iter()
        .filter_map(|answer| {
            answer
                .came
                .as_ref()
                .err()
                .map(|error| format!("{}: {error:#}", answer.what))
        })
        .collect();
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    ensure!(answers.len() == 8, "only {} things were tried", answers.len());
    Ok(())
}

/// Runs `scripts/push.sh` in a folder that has only this script and perhaps a layout.
fn push(to: &str, path: &Path, with_layout: bool, skopeo: &str) -> Result<(bool, String)> {
    let (scripts, bin) = (path.join("scripts"), path.join("bin"));
    fs::create_dir_all(&scripts)?;
    fs::create_dir_all(&bin)?;
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/push.sh");
    fs::copy(&ours, scripts.join("push.sh")).context("copy the script")?;
    if with_layout {
        let created = Created::from_seconds(0)?;
        let image = Image::new(Tree::default(), Config::default(), Architecture::HERE, created);
        let named = Named::new("localhost/tandem:1", vec![image])?;
        layout::write(&path.join("target/image/oci"), &[named])?;
    }
    let tool = bin.join("skopeo");
    fs::write(&tool, format!("#!/bin/sh\n{skopeo}\n"))?;
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o755))?;
    let paths = env::join_paths(
        [bin]
            .into_iter()
            .chain(env::split_paths(&env::var_os("PATH").unwrap_or_default())),
    )?;
    let output = Command::new(scripts.join("push.sh"))
        .arg(to)
        .env("PATH", paths)
        .output()?;
    let said = [output.stdout, output.stderr].concat();
    Ok((
        output.status.success(),
        String::from_utf8_lossy(&said).trim_end().to_owned(),
    ))
}

#[test]
fn a_push_that_cannot_work_says_why_in_one_line() -> Result<()> {
    let scratch = Scratch::new("push")?;
    let refuses = r#"echo 'time="2026-01-01T00:00:00Z" level=fatal msg="writing blob: denied: \"tandem\" is read-only"' >&2; exit 1"#;
    let host = "it needs a host and a tag, as in registry.example.com/tandem:0.1.0";
    for (to, with_layout, skopeo, wanted) in [
        (
            "",
            false,
            "exit 9",
            "push: TO is missing: make push TO=registry.example.com/tandem:0.1.0".to_owned(),
        ),
        ("tandem:1", false, "exit 9", format!("push: TO is tandem:1: {host}")),
        (
            "a.test/tandem",
            false,
            "exit 9",
            format!("push: TO is a.test/tandem: {host}"),
        ),
        (
            "a.test/tandem:1",
            false,
            "exit 9",
            "push: there is no image yet: make image".to_owned(),
        ),
        (
            "a.test/tandem:1",
            true,
            refuses,
            "push: a.test/tandem:1 was not written: writing blob: denied: \"tandem\" is read-only".to_owned(),
        ),
    ] {
        let (worked, said) = push(to, scratch.path(), with_layout, skopeo)?;
        ensure!(!worked && said == wanted, "{to:?}: {said:?}, and not {wanted:?}");
    }
    // A registry that has something else afterwards is found out.
    let (worked, said) = push(
        "a.test/tandem:1",
        scratch.path(),
        true,
        "[ \"$1\" = inspect ] && echo other; exit 0",
    )?;
    ensure!(!worked && said.contains("has the digest sha256:"), "{said}");
    Ok(())
}
