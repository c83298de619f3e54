//! Tandem beside the real kube-proxy: `make parity` as a test. Needs root and the helper program that `make test`
//! builds. Other tests, beside the code that reads the scenarios' files, check these files.

use anyhow::{Result, ensure};
use tandem_tests::parity::{self, Options};

#[test]
fn tandem_answers_every_flow_of_every_scenario_as_kube_proxy_does() -> Result<()> {
    let report = parity::run(&Options::default(), |lines| print!("{lines}"))?;
    ensure!(report.is_good(), "not as it should be:\n{}\n{report}", report.wrong());
    Ok(())
}
