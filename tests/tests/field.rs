//! `docs/field.md` against the code: the tests that it names exist. No root, no network.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};
use tandem_tests::field::{cases, root};

/// Every function behind `#[test]` or `#[tokio::test]`, in all packages.
fn tests() -> Result<BTreeSet<String>> {
    fn walk(folder: &Path, found: &mut BTreeSet<String>) -> Result<()> {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() && !path.ends_with("target") && !path.ends_with(".git") {
                walk(&path, found)?;
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path)?;
                // Between the attribute of the test and its function there may be others.
                let mut waits = false;
                for line in text.lines().map(str::trim) {
                    waits |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
                    if let Some((_, rest)) = line.split_once("fn ").filter(|_| waits) {
                        found.extend(rest.split(['(', '<']).next().map(str::to_owned));
                        waits = false;
                    }
                }
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
fn every_case_of_the_field_names_tests_that_exist() -> Result<()> {
    let (tests, cases) = (tests()?, cases()?);
    for case in &cases {
        for name in &case.tests {
            ensure!(
                tests.contains(name),
                "case {} of docs/field.md names `{name}`, which is no test",
                case.number
            );
        }
    }
    ensure!(cases.len() >= 30, "docs/field.md holds only {} cases", cases.len());
    Ok(())
}
