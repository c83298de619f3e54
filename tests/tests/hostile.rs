//! Short forms of `make hostile`.

use std::time::Duration;

use anyhow::{Result, ensure};
use tandem_tests::hostile::{self, Load, Outcome, Siege};

#[test]
fn a_neighbour_without_rights_cannot_keep_tandem_from_starting() -> Result<()> {
    assert_eq!(hostile::lock_squatted()?, Outcome::Good);
    Ok(())
}

#[test]
fn a_probe_is_answered_beside_connections_that_say_nothing() -> Result<()> {
    let siege = Siege {
        connections: 400,
        probes: 3,
    };
    let outcome = hostile::healthz_under_flood(&[siege], |_, slowest, failed| println!("{slowest:?}, {failed}"))?;
    assert_eq!(outcome, Outcome::Good);
    Ok(())
}

#[test]
fn changes_go_through_beside_objects_as_large_as_they_can_be() -> Result<()> {
    let load = Load {
        services: 20,
        step: Duration::from_millis(200),
        patience: Duration::from_secs(20),
    };
    let pauses = hostile::pauses(&load, |what, longest| println!("{what}: {longest:?}"))?;
    ensure!(!pauses.given_up, "a change of another Service did not come through");
    Ok(())
}
