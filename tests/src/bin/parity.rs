//! `make parity`: the same flows through the real kube-proxy and through Tandem. It prints a line for each flow, and
//! the sums. It fails if a flow differs and is not in `docs/differences.md`. With `DATA_PLANE=xdp`, Tandem follows in
//! sockets, and the sums say how many flows these translated.

use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use tandem_tests::data_plane::DataPlane;
use tandem_tests::parity::{self, Options, choose};
use tandem_tests::{cluster, interrupt, program, tandem};

/// The same flows through the real kube-proxy and through Tandem.
#[derive(Parser)]
struct Arguments {
    /// Only the scenarios whose name contains this.
    #[arg(long, value_name = "PART-OF-NAME")]
    scenario: Vec<String>,
    /// Only list the scenarios.
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    program::main("parity", || run(arguments))
}

fn run(arguments: Arguments) -> Result<bool> {
    let options = Options {
        scenarios: arguments.scenario,
        data_plane: DataPlane::asked()?,
    };
    if arguments.list {
        for scenario in choose(&options)? {
            println!("{:44} {:4}  {}", scenario.name, scenario.size(), scenario.title);
        }
        return Ok(true);
    }
    program::need_root()?;
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
