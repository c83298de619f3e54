//! A short form of `make differential`.

use anyhow::{Result, ensure};
use tandem_tests::differential::{self, Options};

#[test]
fn clients_outside_are_answered_the_same_with_xdp_as_with_nftables_alone() -> Result<()> {
    let options = Options { seed: 1, cases: 300 };
    let report = differential::run(&options, |line| println!("wrong: {line}"))?;
    ensure!(report.is_good(), "{report}{}", report.wrong().join("\n"));
    ensure!(report.cases() >= options.cases, "{report}");
    Ok(())
}
