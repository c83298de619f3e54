//! `make sockets`: real sockets ask Services from every place. It prints each case that is wrong, and the sums. It fails
//! if a case is wrong, or if there are too few.

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use tandem_tests::sockets::{self, Options};
use tandem_tests::{interrupt, program, tandem};

/// There are at least this many cases.
const LEAST: usize = 300;

/// Real sockets ask Services from every place.
#[derive(Parser)]
struct Arguments {
    /// Only the cases of one question whose name contains this.
    #[arg(long, value_name = "PART-OF-NAME")]
    only: Option<String>,
    /// Only one case of so many.
    #[arg(long, value_name = "NUMBER")]
    every: Option<usize>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    program::main("sockets", || run(arguments))
}

fn run(arguments: Arguments) -> Result<bool> {
    program::need_root()?;
    tandem::binary()?;
    interrupt::watch()?;
    let whole = arguments.only.is_none() && arguments.every.is_none();
    let options = Options {
        only: arguments.only,
        every: arguments.every,
    };
    let report = sockets::run(&options, |line| println!("{line}"))?;
    print!("{report}");
    Ok(report.wrong() == 0 && (!whole || report.cases() >= LEAST))
}
