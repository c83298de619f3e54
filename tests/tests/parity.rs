//! Tandem beside the real kube-proxy: a third of the scenarios that `make parity` walks whole. Needs root and the helper
//! program that `make test` builds. What the scenarios' files must be like is tested beside the code that reads them.

use anyhow::{Result, ensure};
use tandem_tests::parity::{self, Options};

#[test]
fn tandem_answers_every_flow_of_a_third_of_the_scenarios_as_kube_proxy_does() -> Result<()> {
    let third = Options {
        third: true,
        ..Options::default()
    };
    let report = parity::run(&third, |lines| print!("{lines}"))?;
    ensure!(report.is_good(), "not as it should be:\n{}\n{report}", report.wrong());
    Ok(())
}
