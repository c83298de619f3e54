//! `make chart`: lints the chart, renders it with each file of values, and refuses wrong ones. Tandem reads each rendered
//! configuration, and a real API server takes each object. Says what Pod Security `restricted` says. Takes each right of the
//! chart's role away, and sees it missed.
//!
//! `chart keep` (`make manifests`) writes what is made from the chart: examples, plain manifests, the table of values.

use std::process::ExitCode;

use anyhow::{Result, bail};
use tandem_tests::{chart, cluster, interrupt, program, tandem, tools};

fn main() -> ExitCode {
    program::main("chart", || match std::env::args().nth(1).as_deref() {
        None => judge(),
        Some("keep") => chart::keep().map(|()| true),
        Some(other) => bail!("{other:?} is not known: give nothing, or `keep`"),
    })
}

fn judge() -> Result<bool> {
    program::need_root()?;
    tandem::binary()?;
    cluster::binary()?;
    tools::tool("helm")?;
    interrupt::watch()?;
    let tell = |case: &str, wrong: Option<&str>| match wrong {
        None => println!("# {case}: right"),
        Some(wrong) => println!("# {case}: WRONG: {wrong}"),
    };
    let mut cases = chart::Cases::new(&tell);
    chart::without_a_cluster(&mut cases)?;
    let site = chart::Audited::start()?;
    let said = chart::with_a_cluster(&mut cases, &site)?;
    chart::rights(&mut cases, &site)?;
    println!("restricted_says: {}", said.join(", "));
    println!("chart_cases: {}", cases.count);
    println!("chart_wrong: {}", cases.wrong);
    Ok(cases.wrong == 0)
}
