//! Compares PROMISES.md with the code: the tests that it names exist. No root, no network.

use std::fs;

use anyhow::{Result, ensure};
use tandem_tests::code::{root, tests};

#[test]
fn every_promise_names_tests_that_exist() -> Result<()> {
    let text = fs::read_to_string(root().join("PROMISES.md"))?;
    let tests = tests(&["controller", "nft", "xdp", "deploy", "tests"])?;
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
