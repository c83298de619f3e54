//! A change that the data plane did not apply leaves no trace.

use super::*;
use crate::object::TrafficPolicy;

fn services() -> Vec<PortPlan<V4>> {
    let entries = [local("10.0.1.1"), remote("10.0.2.1"), remote("10.0.2.2")];
    let sticky = Service {
        cluster_ips: ips(&["10.96.0.2"]),
        affinity: Some(60),
        external_policy: TrafficPolicy::Local,
        created: 1,
        ..mk_exposed("sticky")
    };
    let plain = Service {
        created: 2,
        source_ranges: nets(&["192.0.2.0/24"]),
        restricted: Families::BOTH,
        ..mk_exposed("plain")
    };
    vec![mk_plan(&sticky, &entries), mk_plan(&plain, &entries)]
}

/// Makes a change twice, with a rollback between. The rows come back, and the second change is equal to the first.
fn assert_leaves_no_trace(mut table: Table<V4>, what: &str, change: impl Fn(&mut Table<V4>)) {
    let before = rows_text(&table.rows());
    change(&mut table);
    let first = table.take();
    assert!(!first.is_empty(), "{what} changes nothing");
    table.rollback();
    assert_eq!(rows_text(&table.rows()), before, "{what}");
    assert!(table.take().is_empty(), "{what}");
    change(&mut table);
    table.rollback();
    assert!(table.take().is_empty(), "{what}, not taken");
    change(&mut table);
    assert_eq!(delta_text(&table.take()), delta_text(&first), "{what}");
}

#[test]
fn any_change_can_be_rolled_back() {
    let again = |edit: fn(&mut PortPlan<V4>)| {
        move |table: &mut Table<V4>| {
            for mut plan in services() {
                edit(&mut plan);
                table.set(plan);
            }
        }
    };
    let check = |what: &str, change: &dyn Fn(&mut Table<V4>)| {
        assert_leaves_no_trace(table_of(services()), what, change);
    };
    check("endpoints gone", &again(|plan| plan.all = None));
    check("affinity off", &again(|plan| plan.affinity = None));
    check("affinity on", &again(|plan| plan.affinity = Some(5)));
    check("age", &again(|plan| plan.created = -plan.created));
    check("frontends gone", &again(|plan| plan.frontends.truncate(1)));
    check("maglev", &again(|plan| plan.maglev = !plan.maglev));
    check("hairpin gone", &again(|plan| plan.hairpin.clear()));
    check("new names", &again(|plan| plan.key.port = "other".into()));
    check("removed", &|table| table.remove(&http("sticky")));
    check("swapped", &|table| {
        table.remove(&http("plain"));
        table.remove(&http("sticky"));
        for plan in services().into_iter().rev() {
            table.set(PortPlan {
                affinity: plan.affinity.map_or(Some(7), |_| None),
                ..plan
            });
        }
    });
    check("node", &|table| {
        let mut node = NodeRows::default();
        node.node_addresses.insert([192, 0, 2, 11].into());
        table.set_node(node);
    });
    let (adopted, _) = Table::adopt(table_of(services()).rows());
    assert_leaves_no_trace(adopted, "orphans dropped", |table| table.drop_orphans(nobody));
    let (adopted, _) = Table::adopt(table_of(services()).rows());
    assert_leaves_no_trace(adopted, "orphans claimed", |table| {
        table.set(services().remove(1));
        table.drop_orphans(nobody);
    });
}

#[test]
fn ids_taken_in_vain_are_free_again() {
    let mut table = table_of([]);
    for _ in 0..3 {
        set_all(&mut table, services());
        table.rollback();
    }
    set_all(&mut table, services());
    assert_eq!(table.id(&http("sticky")), ServiceId::sticky(0));
    assert_eq!(table.id(&http("plain")), ServiceId::plain(0));
}

#[test]
fn what_was_committed_is_not_rolled_back() {
    let mut table = table_of(services());
    table.remove(&http("sticky"));
    table.take();
    table.commit();
    let before = rows_text(&table.rows());
    table.remove(&http("plain"));
    table.rollback();
    assert_eq!(rows_text(&table.rows()), before);
}

#[test]
fn waiting_counts_what_was_written_since_the_last_take() {
    let mut table = table_of([]);
    assert_eq!(table.waiting(), 0);
    set_all(&mut table, services());
    assert_eq!(table.waiting(), table.rows().len());
    table.take();
    assert_eq!(table.waiting(), 0);
}
