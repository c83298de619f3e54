//! `make api-faults`: a proxy between Tandem and the real API server cuts, stalls, truncates and exchanges what the server
//! sends, at every byte of a short history. Fails if a case is wrong, or if there were too few cases.
//!
//! `API_FAULT_EVERY` (1: a fault at every byte), `API_FAULT_TANDEMS` (48, at once), `API_FAULT_CASE` (only this case, by
//! its name).

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result};
use tandem_tests::api_faults::{self, Options};
use tandem_tests::{cluster, interrupt, program, setting, tandem};

/// There are at least this many cases, if no setting makes them fewer.
const LEAST: usize = 500;

fn main() -> ExitCode {
    program::main("api-faults", run)
}

fn run() -> Result<bool> {
    program::need_root()?;
    let only = std::env::var("API_FAULT_CASE").ok();
    let only = only.map(|name| name.parse().context("API_FAULT_CASE")).transpose()?;
    let options = Options {
        tandems: setting("API_FAULT_TANDEMS", 48)?,
        every: setting("API_FAULT_EVERY", 1)?,
        short: false,
        only,
    };
    tandem::binary()?;
    cluster::binary()?;
    interrupt::watch()?;
    let began = Instant::now();
    let figures = api_faults::run(&options, |done, all, wrong| {
        let seconds = began.elapsed().as_secs();
        println!("# {done} of {all} cases after {seconds} s");
        for (case, complaints) in wrong {
            println!("# WRONG API_FAULT_CASE={case}");
            for complaint in complaints {
                println!("#   {complaint}");
            }
        }
    })?;
    println!("api_fault_cases: {}", figures.cases);
    println!("api_fault_wrong: {}", figures.wrong.len());
    let enough = figures.cases >= LEAST || only.is_some() || options.every > 1;
    if !enough {
        eprintln!("api-faults: only {} cases", figures.cases);
    }
    Ok(figures.wrong.is_empty() && enough)
}
