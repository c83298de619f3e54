//! The written documents against the code: arrows between packages, and tests that PROMISES.md names. No root, no network.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map(Path::to_path_buf)
        .unwrap_or_default()
}

/// Which of our packages each of them needs to be built.
fn arrows() -> Result<BTreeMap<String, BTreeSet<String>>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()?;
    ensure!(
        output.status.success(),
        "cargo metadata: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let mut arrows = BTreeMap::new();
    for package in metadata["packages"].as_array().context("packages")? {
        let name = package["name"].as_str().context("name")?;
        let needs = package["dependencies"].as_array().context("dependencies")?;
        let ours = needs
            .iter()
            .filter(|need| need["kind"].is_null())
            .filter_map(|need| need["name"].as_str());
        let ours = ours.filter(|need| need.starts_with("tandem")).map(str::to_owned);
        arrows.insert(name.to_owned(), ours.collect());
    }
    Ok(arrows)
}

#[test]
fn packages_depend_on_each_other_only_as_the_architecture_says() -> Result<()> {
    let arrows = arrows()?;
    let of = |name: &str| {
        arrows
            .get(name)
            .map(|needs| needs.iter().map(String::as_str).collect::<Vec<_>>())
    };
    assert_eq!(of("tandem-core").as_deref(), Some(&[][..]));
    assert_eq!(of("tandem-nft").as_deref(), Some(&["tandem-core"][..]));
    assert_eq!(of("tandem").as_deref(), Some(&["tandem-core", "tandem-nft"][..]));
    for (name, needs) in &arrows {
        let product = !matches!(name.as_str(), "tandem-tests" | "tandem-benches");
        let forbidden = needs.contains("tandem-tests") || needs.contains("tandem-benches");
        assert!(!(product && forbidden), "{name} points at tests or benches: {needs:?}");
    }
    Ok(())
}

/// Every function that follows a `#[test]` line, in all packages.
fn tests() -> Result<BTreeSet<String>> {
    fn walk(folder: &Path, found: &mut BTreeSet<String>) -> Result<()> {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() && !path.ends_with("target") && !path.ends_with(".git") {
                walk(&path, found)?;
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path)?;
                let names = text
                    .split("fn ")
                    .skip(1)
                    .filter_map(|rest| rest.split(['(', '<']).next());
                found.extend(names.map(str::to_owned));
            }
        }
        Ok(())
    }
    let mut found = BTreeSet::new();
    for folder in ["controller", "nft", "tests"] {
        walk(&root().join(folder), &mut found)?;
    }
    Ok(found)
}

#[test]
fn every_promise_names_tests_that_exist() -> Result<()> {
    let text = fs::read_to_string(root().join("PROMISES.md"))?;
    let tests = tests()?;
    let mut promises = 0;
    for (number, line) in text
        .lines()
        .enumerate()
        .filter(|(_, line)| line.starts_with("| ") && !line.starts_with("| # "))
    {
        let proof = line.trim_end_matches(['|', ' ']).rsplit('|').next().unwrap_or_default();
        let named: Vec<&str> = proof.split('`').skip(1).step_by(2).collect();
        ensure!(
            !named.is_empty(),
            "line {} of PROMISES.md names no test: {line}",
            number + 1
        );
        for name in named {
            ensure!(
                tests.contains(name),
                "line {} of PROMISES.md names `{name}`, which is no test",
                number + 1
            );
        }
        promises += 1;
    }
    ensure!(promises >= 10, "PROMISES.md holds only {promises} promises");
    Ok(())
}

#[test]
fn documents_have_no_placeholders() -> Result<()> {
    for name in ["README.md", "ARCHITECTURE.md", "PROMISES.md", "CHANGELOG.md"] {
        let text = fs::read_to_string(root().join(name))?;
        let placeholder =
            |line: &&str| !line.is_empty() && line.chars().all(|letter| letter.is_ascii_uppercase() || letter == '_');
        ensure!(
            text.lines().find(placeholder).is_none(),
            "{name}: {:?}",
            text.lines().find(placeholder)
        );
    }
    Ok(())
}
