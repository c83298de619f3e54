//! The agent and both data planes are killed, exchanged and refused under requests without a pause: the short form of
//! `make xdp-switch`.

use anyhow::{Result, ensure};
use tandem_tests::switch::{self, Options, outside};

#[test]
fn nothing_is_lost_and_nothing_stale_is_served_while_the_agent_and_the_data_planes_change() -> Result<()> {
    let options = Options {
        short: true,
        only: None,
    };
    let report = switch::run(&options, |line| println!("{line}"))?;
    ensure!(report.is_good(), "{report}{:#?}", report.wrong);
    Ok(())
}

#[test]
fn flows_from_outside_stay_with_their_endpoints_while_the_agent_the_device_and_the_routes_change() -> Result<()> {
    let options = Options {
        short: true,
        only: None,
    };
    let report = outside::run(&options, |line| println!("{line}"))?;
    ensure!(report.is_good(), "{report}");
    Ok(())
}
