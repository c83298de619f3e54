//! What the programs of this package have in common: how they start and how they end.

use std::process::ExitCode;

use anyhow::{Result, ensure};

use crate::interrupt;

/// Runs a program that returns whether everything was right, and makes its exit code from that.
pub fn main(name: &str, run: impl FnOnce() -> Result<bool>) -> ExitCode {
    match run() {
        _ if interrupt::came() => {
            eprintln!("\ninterrupted; everything that was made is removed");
            ExitCode::from(interrupt::INTERRUPTED)
        }
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{name}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Fails if the user is not root.
pub fn need_root() -> Result<()> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "needs root, to make network namespaces: run it with sudo"
    );
    Ok(())
}
