//! A short form of `make sockets`. Needs root.

use anyhow::{Result, ensure};
use tandem_tests::sockets::{self, Options, Took};

#[test]
fn sockets_answer_as_the_rules_do_and_the_right_plane_takes_them() -> Result<()> {
    let options = Options {
        every: Some(11),
        only: None,
    };
    let mut lines = Vec::new();
    let report = sockets::run(&options, |line| lines.push(line.to_owned()))?;
    ensure!(report.wrong() == 0, "{}\n{report}", lines.join("\n"));
    // Agreement must not be agreement about nothing.
    ensure!(
        report.taken(Took::Sockets) > 50 && report.taken(Took::Nftables) > 50,
        "{report}"
    );
    Ok(())
}
