//! Compares `docs/field.md` with the code: the tests that it names exist. No root, no network.

use anyhow::{Result, ensure};
use tandem_tests::code::tests;
use tandem_tests::field::cases;

#[test]
fn every_case_of_the_field_names_tests_that_exist() -> Result<()> {
    let (tests, cases) = (tests(&["controller", "nft", "tests"])?, cases()?);
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
