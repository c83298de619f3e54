//! `make parity`: sends the same flows through the real kube-proxy and through Tandem. Prints a line for each and the
//! sums. Fails if a flow differs and `docs/differences.md` does not say so.
//!
//! Usage: `parity [--scenario PART-OF-NAME] [--list]`

use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail, ensure};
use tandem_tests::parity::{self, Options, choose};
use tandem_tests::{cluster, interrupt, tandem};

fn main() -> ExitCode {
    let result = run();
    match result {
        _ if interrupt::came() => {
            eprintln!("\ninterrupted; everything that was made is removed");
            ExitCode::from(interrupt::INTERRUPTED)
        }
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("parity: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<bool> {
    let (mut options, mut list) = (Options::default(), false);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--scenario" => {
                options.scenario = Some(arguments.next().context("--scenario: part of a name must follow")?);
            }
            "--list" => list = true,
            _ => bail!("usage: parity [--scenario PART-OF-NAME] [--list]"),
        }
    }
    if list {
        for scenario in choose(&options)? {
            println!("{:44} {:4}  {}", scenario.name, scenario.size(), scenario.title);
        }
        return Ok(true);
    }
    ensure!(
        rustix::process::geteuid().is_root(),
        "needs root, to make network namespaces: run it with sudo"
    );
    tandem::binary()?;
    cluster::binary()?;
    interrupt::watch()?;
    let report = parity::run(&options, |lines| {
        print!("{lines}");
        let _ = io::stdout().flush();
    })?;
    let wrong = report.wrong();
    if !wrong.is_empty() {
        println!("\nnot as it should be:\n{wrong}");
    }
    print!("\n{report}");
    Ok(report.is_good())
}
