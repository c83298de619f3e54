//! `make field`: runs the tests of every case of `docs/field.md`, one at a time. It prints a line for each case, and
//! the sums. It fails if a case fails or has no test.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::Parser;
use tandem_tests::field::{Tests, cases};
use tandem_tests::program;

/// The table has at least this many cases.
const LEAST: usize = 30;

/// Runs the tests of every case of docs/field.md, one at a time.
#[derive(Parser)]
struct Arguments {
    /// Only this case. `8` means all of 8.1, 8.2, ….
    #[arg(long, value_name = "NUMBER")]
    case: Option<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    program::main("field", || run(arguments.case.as_deref()))
}

fn run(chosen: Option<&str>) -> Result<bool> {
    program::need_root()?;
    let mut cases = cases()?;
    if let Some(chosen) = chosen {
        let part = format!("{chosen}.");
        cases.retain(|case| case.number == chosen || case.number.starts_with(&part));
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
