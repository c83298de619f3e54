//! `make xdp-switch`: the agent and both data planes are killed, exchanged and refused, while programs ask without a
//! pause. It prints what each step did, and the sums. It fails if a request failed, if a connection was lost, or if an
//! endpoint answered that was gone. Then it does the same to a hundred thousand flows of packets from outside.

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use tandem_tests::switch::{self, Options, outside};
use tandem_tests::{interrupt, program, tandem};

/// A whole run has at least so many requests.
const LEAST: u64 = 50_000;

/// The agent and both data planes are exchanged and refused under load.
#[derive(Parser)]
struct Arguments {
    /// Only the steps whose name contains this.
    #[arg(long, value_name = "PART-OF-NAME")]
    only: Option<String>,
    /// Less of everything, as in `make test`.
    #[arg(long)]
    short: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    program::main("xdp-switch", || run(arguments))
}

fn run(arguments: Arguments) -> Result<bool> {
    program::need_root()?;
    tandem::binary()?;
    interrupt::watch()?;
    let whole = arguments.only.is_none() && !arguments.short;
    let options = Options {
        short: arguments.short,
        only: arguments.only,
    };
    // The steps with flows of packets from outside have names of their own.
    let of_flows = options.only.as_ref().is_some_and(|only| only.contains("flows"));
    let mut good = true;
    if !of_flows {
        let report = switch::run(&options, |line| println!("{line}"))?;
        print!("{report}");
        good = report.is_good() && (!whole || report.requests >= LEAST);
    }
    let flows = outside::run(&options, |line| println!("{line}"))?;
    print!("{flows}");
    if of_flows {
        println!("lost_connections: {}", flows.lost);
    } else if flows.lost > 0 {
        println!("# flows: {} connections were lost", flows.lost);
    }
    Ok(good && flows.is_good())
}
