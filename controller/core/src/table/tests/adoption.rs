//! A restart keeps the rows that exist.

use super::*;
use crate::object::TrafficPolicy;
use crate::plane::{DataPlane as _, Memory};
use crate::row::Protocol;

fn services() -> Vec<PortPlan<V4>> {
    let entries = [local("10.0.1.1"), remote("10.0.2.1"), remote("10.0.2.2")];
    let ports = vec![mk_port("http", Protocol::Tcp, 80), mk_port("http", Protocol::Udp, 80)];
    let plain = Service {
        source_ranges: nets(&["192.0.2.0/24", "100.64.0.0/10"]),
        restricted: Families::BOTH,
        ..mk_exposed("plain")
    };
    let nobody = Service {
        cluster_ips: ips(&["10.96.0.2"]),
        ingress_ips: ips(&["203.0.113.2"]),
        restricted: Families::BOTH,
        ..mk_service("nobody")
    };
    let sticky = Service {
        cluster_ips: ips(&["10.96.0.3"]),
        external_ips: ips(&["198.51.100.3"]),
        affinity: Some(60),
        external_policy: TrafficPolicy::Local,
        ..mk_service("sticky")
    };
    let inside = Service {
        cluster_ips: ips(&["10.96.0.4"]),
        internal_policy: TrafficPolicy::Local,
        ports,
        ..mk_service("inside")
    };
    let mut found = vec![mk_plan(&plain, &entries), mk_plan(&nobody, &[])];
    found.push(mk_plan(&sticky, &entries));
    found.extend(plans(&inside, &[mk_slice("inside", &entries[1..])]));
    found
}

/// A table whose rows and ids have a history.
fn grown() -> Table<V4> {
    let mut table = table_of(services().into_iter().rev());
    for mut plan in services() {
        for list in [&mut plan.all, &mut plan.local].into_iter().flatten() {
            if let Usable::Endpoints(endpoints) = list {
                endpoints.remove(0);
            }
        }
        table.set(plan);
    }
    set_all(&mut table, services());
    let mut node = NodeRows::default();
    node.node_addresses.insert([192, 0, 2, 11].into());
    node.service_cidrs
        .extend(nets(&["10.96.0.0/12"]).into_iter().filter_map(V4::net));
    node.local_pods
        .extend(nets(&["10.0.0.0/16"]).into_iter().filter_map(V4::net));
    table.set_node(node);
    table.take();
    table.commit();
    table
}

#[test]
fn adopted_rows_are_the_rows_that_were_read() {
    let before = grown();
    let (after, strays) = Table::adopt(before.rows());
    assert_eq!(delta_text(&strays), NOTHING);
    assert_eq!(rows_text(&after.rows()), rows_text(&before.rows()));
}

#[test]
fn the_same_plans_after_a_restart_change_nothing_and_keep_their_ids() {
    let before = grown();
    for reversed in [false, true] {
        let (mut after, _) = Table::adopt(before.rows());
        let mut plans = services();
        if reversed {
            plans.reverse();
        }
        for plan in plans {
            let key = plan.key.clone();
            assert_eq!(change(&mut after, plan), NOTHING, "{key}");
            assert_eq!(after.id(&key), before.id(&key), "{key}");
        }
        after.set_node(before.node.clone());
        after.drop_orphans(nobody);
        assert_eq!(settle(&mut after), NOTHING);
        assert_eq!(rows_text(&after.rows()), rows_text(&before.rows()));
    }
}

#[test]
fn endpoints_with_affinity_keep_their_numbers_over_a_restart() {
    let before = grown();
    let (mut after, _) = Table::adopt(before.rows());
    let mut plan = services().remove(2);
    plan.all = Some(Usable::Endpoints(vec![crate::row::Endpoint {
        addr: [10, 0, 2, 2].into(),
        port: port(8080),
    }]));
    let lines = change(&mut after, plan);
    let touched = |line: &&String| line.contains("endpoint-id f40");
    let touched: Vec<_> = lines.iter().filter(touched).collect();
    assert_eq!(
        touched.len(),
        2,
        "the numbers of the others go, this one's stays: {lines:#?}"
    );
    assert!(touched.iter().all(|line| line.starts_with("- ")), "{lines:#?}");
}

#[test]
fn an_adopted_id_is_not_given_to_another_service() {
    let (mut table, _) = Table::adopt(grown().rows());
    let other = Service {
        cluster_ips: ips(&["10.96.0.9"]),
        ..mk_service("new")
    };
    table.set(mk_plan(&other, &[]));
    let id = table.id(&http("new")).unwrap();
    assert!(
        !grown()
            .rows()
            .iter()
            .any(|row| row.service().map(ServiceId::all) == Some(id))
    );
}

#[test]
fn what_another_service_left_under_the_same_address_keeps_its_id_to_itself() {
    let before = table_of([mk_plan(&mk_exposed("old"), &[remote("10.0.2.1")])]);
    let id = before.id(&http("old"));
    let (mut table, _) = Table::adopt(before.rows());
    set_all(&mut table, [mk_plan(&mk_service("new"), &[remote("10.0.2.2")])]);
    table.drop_orphans(nobody);
    assert_ne!(table.id(&http("new")), id);
    let delta = table.take();
    let list = |row: &Row<V4>| row.service().map(ServiceId::all);
    assert!(delta.added.iter().all(|row| list(row) != id));
    assert!(delta.removed.iter().filter(|row| list(row) == id).count() > 2);
}

#[test]
fn an_id_freed_before_the_data_plane_is_opened_again_rests() {
    let mut before = table_of(services());
    let id = before.id(&http("nobody")).unwrap();
    before.remove(&http("nobody"));
    before.take();
    before.commit();
    let (table, _) = Table::adopt_again(before.rows(), &before);
    assert_eq!(table.ids.resting().collect::<Vec<_>>(), [id]);
}

#[test]
fn orphans_stay_that_serve_somebody() {
    let (mut table, _) = Table::adopt(grown().rows());
    let own = crate::plan::OwnFrontends::<V4>::of(&Service {
        cluster_ips: ips(&["10.96.0.3"]),
        ..mk_service("sticky")
    });
    let other = crate::plan::OwnFrontends::<V4>::of(&mk_service("other"));
    table.drop_orphans(|service, frontend| *service == **other.name() && other.contains(frontend));
    table.rollback();
    table.drop_orphans(|service, frontend| *service == **own.name() && own.contains(frontend));
    assert!(table.has_orphans());
    table.take();
    let labels: BTreeSet<String> = table
        .rows()
        .iter()
        .filter_map(|row| match row {
            Row::Service { label, .. } => Some(label.to_string()),
            _ => None,
        })
        .collect();
    assert_eq!(labels.into_iter().collect::<Vec<_>>(), ["ns/sticky:http"]);
}

#[test]
fn what_no_service_claims_goes_exactly() {
    let gone = http("sticky");
    let (mut table, _) = Table::adopt(grown().rows());
    set_all(&mut table, services().into_iter().filter(|plan| plan.key != gone));
    assert_eq!(
        settle(&mut table),
        NOTHING,
        "nothing goes before it is known to be gone"
    );
    table.drop_orphans(nobody);
    let dropped = settle(&mut table);
    let mut expected = grown();
    expected.remove(&gone);
    let mut expected = settle(&mut expected);
    let mut sorted = dropped;
    sorted.sort_unstable();
    expected.sort_unstable();
    assert_eq!(sorted, expected);
    table.drop_orphans(nobody);
    assert_eq!(settle(&mut table), NOTHING);
}

#[test]
fn everything_goes_where_no_service_is_left() {
    let (mut table, _) = Table::adopt(grown().rows());
    table.set_node(NodeRows::default());
    table.drop_orphans(nobody);
    assert_eq!(table.take().removed.len(), grown().rows().len());
    assert_eq!(table.rows(), []);
}

#[test]
fn a_service_that_changed_meanwhile_keeps_its_id_and_changes_the_least() {
    let (mut table, _) = Table::adopt(table_of([mk_plan(&mk_exposed("web"), &[remote("10.0.2.1")])]).rows());
    let renamed = Service {
        external_ips: ips(&["198.51.100.7"]),
        ..mk_exposed("web")
    };
    assert_eq!(
        change(&mut table, mk_plan(&renamed, &[remote("10.0.2.1"), remote("10.0.2.2")])),
        [
            "+ endpoint f000:0200 . 1 : 10.0.2.2:8080",
            "+ frontend external 198.51.100.7 80/TCP : f000:0200",
            "- frontend external 198.51.100.1 80/TCP : f000:0200",
            "~ service f000:0200 : any of 1 -> any of 2",
        ]
    );
}

#[test]
fn a_service_that_got_affinity_meanwhile_takes_its_frontends_along() {
    let service = mk_service("web");
    let (mut table, _) = Table::adopt(table_of([mk_plan(&service, &[remote("10.0.2.1")])]).rows());
    let sticky = Service {
        affinity: Some(60),
        ..service
    };
    let lines = change(&mut table, mk_plan(&sticky, &[remote("10.0.2.1")]));
    assert!(
        lines.contains(&"~ frontend cluster 10.96.0.1 80/TCP : f000:0200 -> f400:0000".to_owned()),
        "{lines:#?}"
    );
    table.drop_orphans(nobody);
    assert_eq!(
        settle(&mut table),
        [
            "- service f000:0200 : any of 1",
            "- endpoint f000:0200 . 0 : 10.0.2.1:8080"
        ]
    );
}

#[test]
fn orphans_have_no_owner_and_shadow_nobody() {
    let (mut table, _) = Table::adopt(grown().rows());
    assert_eq!(table.owner(ServiceId::plain(0).unwrap()), None);
    assert_eq!(table.id(&http("plain")), None);
    let other = Service {
        cluster_ips: ips(&["10.96.0.9"]),
        ingress_ips: ips(&["203.0.113.2"]),
        affinity: Some(60),
        ..mk_service("other")
    };
    table.set(mk_plan(&other, &[]));
    assert_eq!(table.shadowed(&http("other")).count(), 0);
}

#[test]
fn all_rows_are_those_that_the_data_plane_holds_each_after_the_rows_that_it_points_to() {
    fn same(table: &Table<V4>, memory: &Memory<V4>) {
        let rows = table.rows();
        assert!(rows.is_sorted_by_key(Row::kind), "{}", rows_text(&rows));
        assert_eq!(rows_text(&rows), rows_text(&memory.rows()));
    }
    let (mut table, mut memory) = (Table::default(), Memory::strict());
    let mut bring = |table: &mut Table<V4>| {
        memory.apply(&table.take()).unwrap();
        table.commit();
        same(table, &memory);
    };
    bring(&mut table);
    set_all(&mut table, services());
    table.set_node(grown().node.clone());
    bring(&mut table);
    table.remove(&http("sticky"));
    bring(&mut table);
    let (mut adopted, strays) = Table::adopt(table.rows());
    assert!(strays.is_empty());
    bring(&mut adopted);
    set_all(&mut adopted, services());
    adopted.drop_orphans(nobody);
    bring(&mut adopted);
    adopted.remove(&http("plain"));
    adopted.take();
    adopted.rollback();
    same(&adopted, &memory);
}
