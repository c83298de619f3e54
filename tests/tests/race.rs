//! A short form of `make race`, and a test that it finds what it looks for.

use std::time::Duration;

use anyhow::{Result, ensure};
use tandem_tests::race::{self, Options};

#[test]
fn no_connection_that_meets_a_change_leaves_untranslated_or_dies() -> Result<()> {
    let options = Options {
        connections: 20_000,
        shrinks: 40,
        lasting: Duration::from_secs(10),
    };
    let figures = race::run(&options, |title, figures| println!("{title}: {figures}"))?;
    ensure!(figures.is_good(), "{}", figures.lines("race"));
    ensure!(
        figures.connections() > 0 && figures.shrinks() > 0,
        "nothing was made or changed"
    );
    Ok(())
}

#[test]
fn what_nobody_translates_is_counted() -> Result<()> {
    let options = Options {
        connections: 100,
        shrinks: 0,
        lasting: Duration::from_secs(1),
    };
    let figures = race::run_without_rules(&options)?;
    ensure!(!figures.is_good(), "{figures}");
    ensure!(figures.untranslated() > 0, "{figures}");
    Ok(())
}
