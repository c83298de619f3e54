//! `make orders`: Tandem and the real kube-proxy start and end on one node in every order, at rest and in the middle of
//! changes. Fails if rules of one that does not run decide afterwards, or if a request was lost.
//!
//! `ORDERS_NODES` (4, at once), `ORDERS_ONLY` (only orders whose name contains this).

use std::process::ExitCode;

use anyhow::Result;
use tandem_tests::{cluster, interrupt, orders, program, setting, tandem};

/// There are at least this many orders, if no setting makes them fewer.
const LEAST: usize = 24;

fn main() -> ExitCode {
    program::main("orders", run)
}

fn run() -> Result<bool> {
    program::need_root()?;
    let only = std::env::var("ORDERS_ONLY").unwrap_or_default();
    let mut chosen = orders::all();
    chosen.retain(|order| order.to_string().contains(&only));
    tandem::binary()?;
    cluster::binary()?;
    interrupt::watch()?;
    let figures = orders::run(&chosen, setting("ORDERS_NODES", 4)?, |order, wrong| match wrong {
        None => println!("# {order}: right"),
        Some(wrong) => println!("# {order}: WRONG: {wrong}"),
    })?;
    println!("orders_requests: {}", figures.requests);
    println!("orders_lost: {}", figures.lost);
    println!("orders: {}", figures.orders);
    println!("orders_wrong: {}", figures.wrong.len());
    let enough = figures.orders >= if only.is_empty() { LEAST } else { 1 };
    Ok(figures.wrong.is_empty() && enough)
}
