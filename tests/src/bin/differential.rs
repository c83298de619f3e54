//! `make differential`: random Services, histories and packets in two worlds, one with `dataPlane: nft` and one with `dataPlane: xdp` and
//! `xdp.devices`. Fails if clients outside are answered differently: by another kind of endpoint, from another source, or in other
//! shares.
//!
//! `DIFFERENTIAL_SEED` (1), `DIFFERENTIAL_CASES` (10000).

use std::process::ExitCode;

use anyhow::Result;
use tandem_tests::differential::{self, Options};
use tandem_tests::{interrupt, program, setting, tandem};

fn main() -> ExitCode {
    program::main("differential", run)
}

fn run() -> Result<bool> {
    program::need_root()?;
    let options = Options {
        seed: setting("DIFFERENTIAL_SEED", 1)?,
        cases: setting("DIFFERENTIAL_CASES", 10_000)?,
    };
    tandem::binary()?;
    interrupt::watch()?;
    let report = differential::run(&options, |line| println!("# wrong: {line}"))?;
    print!("{report}");
    Ok(report.is_good())
}
