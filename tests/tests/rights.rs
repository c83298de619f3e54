//! The rights that the chart gives the agent on a node.

use anyhow::{Result, ensure};
use tandem_tests::rights;

#[test]
fn every_feature_works_with_the_charts_capabilities_and_none_of_them_is_one_too_many() -> Result<()> {
    let figures = rights::run(|line| println!("{line}"))?;
    ensure!(figures.missing.is_empty(), "{:#?}", figures.missing);
    ensure!(figures.unused.is_empty(), "{:#?}", figures.unused);
    ensure!(figures.given == ["NET_ADMIN"] && figures.features > 10, "{figures:?}");
    ensure!(figures.given_xdp == ["BPF", "NET_ADMIN", "PERFMON"], "{figures:?}");
    Ok(())
}
