//! `make image-test`: the program of the image that `make image` made, with the files of the image alone. Prints one
//! line for what it could not do, and how much it could.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use tandem_tests::{empty_root, interrupt, program};

fn main() -> ExitCode {
    program::main("image-answers", run)
}

fn run() -> Result<bool> {
    program::need_root()?;
    interrupt::watch()?;
    let layout = std::env::args_os().nth(1).context("usage: image-answers LAYOUT")?;
    let answers = empty_root::check(Path::new(&layout))?;
    let mut right = 0;
    for answer in &answers {
        match &answer.came {
            Ok(()) => right += 1,
            Err(error) => println!("# {}: {error:#}", answer.what),
        }
    }
    println!("image_answers: {right} of {}", answers.len());
    Ok(right == answers.len())
}
