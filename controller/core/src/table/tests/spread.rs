//! Rows that only followers hold.

use super::*;
use crate::plane::{DataPlane, Memory};

fn web(endpoints: &[SliceEndpoint], maglev: bool) -> PortPlan<V4> {
    PortPlan {
        maglev,
        ..mk_plan(&mk_exposed("web"), endpoints)
    }
}

const A: [&str; 2] = ["10.0.2.1", "10.0.2.2"];

#[test]
fn to_spread_a_list_or_not_is_one_row_and_no_row_of_the_data_plane() {
    let mut table = table_of([web(&[remote(A[0])], false)]);
    for (maglev, row) in [(true, "+ spread f000:0200"), (false, "- spread f000:0200")] {
        assert_eq!(table.set(web(&[remote(A[0])], maglev)), None);
        let delta = table.take();
        table.commit();
        assert_eq!(delta_text(&delta), [row]);
        assert!(delta.stored().is_empty());
    }
}

#[test]
fn a_list_stays_spread_while_its_endpoints_change_and_until_it_goes() {
    let mut table = table_of([web(&[remote(A[0])], true)]);
    let grown = change(&mut table, web(&A.map(remote), true));
    assert!(!grown.iter().any(|row| row.contains("spread")), "{grown:?}");
    table.remove(&http("web"));
    assert!(settle(&mut table).contains(&"- spread f000:0200".to_owned()));
}

#[test]
fn an_empty_list_is_not_spread_until_it_has_endpoints() {
    let mut table = table_of([web(&[], true)]);
    assert!(!rows_text(&table.rows()).contains("spread"));
    let filled = change(&mut table, web(&[remote(A[0])], true));
    assert!(filled.contains(&"+ spread f000:0200".to_owned()), "{filled:?}");
    let emptied = change(&mut table, web(&[], true));
    assert!(emptied.contains(&"- spread f000:0200".to_owned()), "{emptied:?}");
}

#[test]
fn after_a_start_only_rows_come_that_the_data_plane_does_not_store() {
    let mut kernel = Memory::strict();
    let mut table = Table::default();
    set_all(&mut table, [web(&[remote(A[0])], true)]);
    let delta = table.take();
    kernel.apply(&delta.stored()).unwrap();
    table.commit();
    assert_eq!(table.rows().len(), kernel.rows().len() + 1);

    let (mut adopted, strays) = Table::adopt(kernel.rows());
    assert!(strays.is_empty(), "nothing is missing: {strays}");
    assert_eq!(change(&mut adopted, web(&[remote(A[0])], true)), ["+ spread f000:0200"]);
    assert_eq!(rows_text(&adopted.rows()), rows_text(&table.rows()));
}

#[test]
fn an_id_is_not_given_out_sooner_because_of_a_change_that_no_data_plane_sees() {
    let mut table = table_of([web(&[remote(A[0])], false)]);
    table.remove(&http("web"));
    settle(&mut table);
    let resting = table.ids.resting().count();
    set_all(&mut table, [web(&[remote(A[0])], false)]);
    settle(&mut table);
    assert_eq!(
        (resting, table.ids.resting().count()),
        (1, 0),
        "one change lets it be used"
    );

    let mut table = table_of([web(&[remote(A[0])], false), mk_plan(&mk_service("other"), &[])]);
    table.remove(&http("other"));
    settle(&mut table);
    change(&mut table, web(&[remote(A[0])], true));
    assert_eq!(table.ids.resting().count(), 1, "it rests still");
}
