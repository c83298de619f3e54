//! Tests of the table, by topic. Rows and changes are compared as text ([`crate::samples`]).

mod adoption;
mod affinity;
mod changes;
mod claims;
mod histories;
mod model;
mod pictures;
mod rollback;
mod spread;
mod strays;

use super::*;
use crate::family::V4;
use crate::object::{Service, SliceEndpoint};
use crate::samples::*;

fn set_all(table: &mut Table<V4>, plans: impl IntoIterator<Item = PortPlan<V4>>) {
    for plan in plans {
        assert_eq!(table.set(plan), None);
    }
}

/// A table that holds these plans, and the data plane too.
fn table_of(plans: impl IntoIterator<Item = PortPlan<V4>>) -> Table<V4> {
    let mut table = Table::default();
    set_all(&mut table, plans);
    table.take();
    table.commit();
    table
}

/// The plan of a Service with port `http` and these endpoints.
fn mk_plan(service: &Service, endpoints: &[SliceEndpoint]) -> PortPlan<V4> {
    plan_one(service, &[mk_slice(&service.key.name, endpoints)])
}

/// Takes and commits the waiting change, and returns it as text.
fn settle(table: &mut Table<V4>) -> Vec<String> {
    let delta = table.take();
    table.commit();
    delta_text(&delta)
}

/// What setting a plan changes.
fn change(table: &mut Table<V4>, plan: PortPlan<V4>) -> Vec<String> {
    assert_eq!(table.set(plan), None);
    settle(table)
}

const NOTHING: [&str; 0] = [];

/// For `drop_orphans`: orphans serve no Service.
fn nobody(_: &str, _: &Frontend<V4>) -> bool {
    false
}
