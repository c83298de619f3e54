//! `make rights`: every feature with exactly the capabilities that the chart gives, and with each of them taken away. Fails
//! if a feature does not work, or if a capability is one too many. Once more with `dataPlane: xdp`.

use std::process::ExitCode;

use anyhow::Result;
use tandem_tests::{interrupt, program, rights, tandem};

fn main() -> ExitCode {
    program::main("rights", run)
}

fn run() -> Result<bool> {
    program::need_root()?;
    tandem::binary()?;
    interrupt::watch()?;
    let figures = rights::run(|line| println!("# {line}"))?;
    println!("rights: {}", figures.given.join(", "));
    println!("rights_xdp: {}", figures.given_xdp.join(", "));
    println!("rights_features: {}", figures.features);
    println!("rights_unused: {}", figures.unused.len());
    println!("rights_missing: {}", figures.missing.len());
    Ok(figures.missing.is_empty() && figures.unused.is_empty() && !figures.given_xdp.is_empty())
}
