//! A short form of `make api-faults`, and a test that its judge finds what is wrong. Needs root, and the helper program
//! that `make test` builds.

use anyhow::{Result, ensure};
use tandem_tests::api_faults::{self, Options};

#[test]
fn whatever_fault_an_answer_has_nothing_is_removed_and_the_end_is_that_of_a_fresh_start() -> Result<()> {
    let options = Options {
        tandems: 24,
        every: 1,
        short: true,
        only: None,
    };
    let figures = api_faults::run(&options, |done, all, _| println!("{done} of {all} cases"))?;
    ensure!(figures.wrong.is_empty(), "wrong: {:#?}", figures.wrong);
    ensure!(figures.cases >= 30, "only {} cases", figures.cases);
    Ok(())
}

#[test]
fn a_server_that_leaves_objects_out_is_found_by_the_judge() -> Result<()> {
    for (case, complaints) in api_faults::run_lies()? {
        let text = complaints.join("\n");
        ensure!(
            text.contains("is not") || text.contains("must not be"),
            "{case}: {text}"
        );
        // What a list leaves out is taken away. What a watch does not say stays as it is.
        let lost = case.phase == api_faults::Phase::List;
        ensure!(text.contains("lost ") == lost, "{case}: {text}");
    }
    Ok(())
}
