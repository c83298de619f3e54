//! `make field`: runs the tests of every case of `docs/field.md`, one at a time. Prints a line for each case and the
//! sums. Fails if a test fails, or if a case has no test.
//!
//! Usage: `field [--case NUMBER]`; `8` means all of 8.1, 8.2, ….

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail, ensure};
use tandem_tests::field::{Tests, cases};

/// The least number of cases.
const LEAST: usize = 30;

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("field: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<bool> {
    let mut chosen = None;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--case" => chosen = Some(arguments.next().context("--case: a number must follow")?),
            _ => bail!("usage: field [--case NUMBER]"),
        }
    }
    ensure!(
        rustix::process::geteuid().is_root(),
        "needs root, to make network namespaces: run it with sudo"
    );
    let mut cases = cases()?;
    if let Some(chosen) = &chosen {
        let part = format!("{chosen}.");
        cases.retain(|case| case.number == *chosen || case.number.starts_with(&part));
        ensure!(!cases.is_empty(), "there is no case {chosen}");
    }
    let tests = Tests::build()?;
    let mut results: BTreeMap<String, Option<String>> = BTreeMap::new();
    let mut wrong = 0;
    for case in &cases {
        let mut complaints = Vec::new();
        for name in &case.tests {
            // One test may belong to several cases.
            let result = match results.get(name) {
                Some(result) => result.clone(),
                None => tests.run(name)?,
            };
            complaints.extend(result.clone());
            results.insert(name.clone(), result);
        }
        if case.tests.is_empty() {
            complaints.push("no test".to_owned());
        }
        let (number, title) = (&case.number, &case.title);
        if complaints.is_empty() {
            println!("ok     {number:5} {title}");
        } else {
            wrong += 1;
            println!("WRONG  {number:5} {title}");
            for complaint in &complaints {
                println!("       {}", complaint.trim_end());
            }
        }
    }
    println!("field_cases: {}", cases.len());
    println!("field_wrong: {wrong}");
    Ok(wrong == 0 && (chosen.is_some() || cases.len() >= LEAST))
}
