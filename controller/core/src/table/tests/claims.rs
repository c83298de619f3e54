//! Several Services that want one frontend.

use super::*;

fn claimant(name: &str, created: i64, ranges: &[&str]) -> PortPlan<V4> {
    let number = name.bytes().last().unwrap_or(0);
    let service = Service {
        created,
        cluster_ips: ips(&[&format!("10.96.0.{number}")]),
        ingress_ips: ips(&["203.0.113.1"]),
        source_ranges: nets(ranges),
        restricted: closed(!ranges.is_empty()),
        ..mk_service(name)
    };
    mk_plan(&service, &[])
}

fn holder(table: &Table<V4>) -> String {
    let rows = rows_text(&table.rows());
    let line = rows.lines().find(|line| line.starts_with("frontend external"));
    line.and_then(|line| line.split_once("# "))
        .map_or("nobody", |(_, label)| label)
        .to_owned()
}

#[test]
fn the_oldest_service_has_it_whatever_the_order_of_arrival() {
    let plans = [claimant("c", 1, &[]), claimant("a", 2, &[]), claimant("b", 2, &[])];
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [2, 0, 1]] {
        let mut table = table_of(order.map(|n| plans[n].clone()));
        assert_eq!(holder(&table), "ns/c:http");
        table.remove(&http("c"));
        assert_eq!(holder(&table), "ns/a:http", "of the same age, the first by name");
        table.remove(&http("a"));
        assert_eq!(holder(&table), "ns/b:http");
        table.remove(&http("b"));
        assert_eq!(holder(&table), "nobody");
    }
}

#[test]
fn the_next_one_takes_over_in_the_change_in_which_the_holder_goes() {
    let mut table = table_of([claimant("a", 1, &[]), claimant("b", 2, &["100.64.0.0/10"])]);
    table.remove(&http("a"));
    assert_eq!(
        settle(&mut table),
        [
            "+ allowed-source 203.0.113.1 80/TCP . 100.64.0.0/10",
            "+ restricted 203.0.113.1 80/TCP",
            "- frontend cluster 10.96.0.97 80/TCP : f000:0200",
            "- cluster-ip 10.96.0.97",
            "- service f000:0200 : refuse",
            "~ frontend external 203.0.113.1 80/TCP : f000:0200 -> f000:0400",
        ]
    );
}

#[test]
fn a_younger_claim_changes_nothing_but_its_own_rows() {
    let mut table = table_of([claimant("a", 1, &["100.64.0.0/10"])]);
    assert_eq!(
        change(&mut table, claimant("b", 2, &[])),
        [
            "+ service f000:0400 : refuse",
            "+ cluster-ip 10.96.0.98",
            "+ frontend cluster 10.96.0.98 80/TCP : f000:0400",
        ]
    );
}

#[test]
fn an_older_claim_takes_the_frontend_at_once() {
    let mut table = table_of([claimant("a", 2, &["100.64.0.0/10"])]);
    assert_eq!(
        change(&mut table, claimant("b", 1, &["198.51.100.0/24"])),
        [
            "+ service f000:0400 : refuse",
            "+ cluster-ip 10.96.0.98",
            "+ allowed-source 203.0.113.1 80/TCP . 198.51.100.0/24",
            "+ frontend cluster 10.96.0.98 80/TCP : f000:0400",
            "- allowed-source 203.0.113.1 80/TCP . 100.64.0.0/10",
            "~ frontend external 203.0.113.1 80/TCP : f000:0200 -> f000:0400",
        ]
    );
}

#[test]
fn a_holder_that_is_made_anew_goes_to_the_end_of_the_line() {
    let mut table = table_of([claimant("a", 1, &[]), claimant("b", 2, &[])]);
    assert_eq!(
        change(&mut table, claimant("a", 3, &[])),
        ["~ frontend external 203.0.113.1 80/TCP : f000:0200 -> f000:0400"]
    );
}

#[test]
fn a_claim_that_is_given_up_lets_the_next_one_in() {
    let mut table = table_of([claimant("a", 1, &[]), claimant("b", 2, &[])]);
    let without = Service {
        created: 1,
        cluster_ips: ips(&["10.96.0.97"]),
        ..mk_service("a")
    };
    assert_eq!(
        change(&mut table, mk_plan(&without, &[])),
        ["~ frontend external 203.0.113.1 80/TCP : f000:0200 -> f000:0400"]
    );
}

#[test]
fn two_services_with_one_cluster_ip_share_its_row() {
    let mk = |name: &str, created| Service {
        created,
        ..mk_service(name)
    };
    let mut table = table_of([mk_plan(&mk("a", 1), &[]), mk_plan(&mk("b", 2), &[])]);
    table.remove(&http("a"));
    assert_eq!(
        settle(&mut table),
        [
            "- service f000:0200 : refuse",
            "~ frontend cluster 10.96.0.1 80/TCP : f000:0200 -> f000:0400",
        ]
    );
    table.remove(&http("b"));
    assert_eq!(
        settle(&mut table),
        [
            "- frontend cluster 10.96.0.1 80/TCP : f000:0400",
            "- cluster-ip 10.96.0.1",
            "- service f000:0400 : refuse",
        ]
    );
}

#[test]
fn shadowed_names_the_frontends_that_another_has_and_who() {
    let table = table_of([claimant("a", 1, &[]), claimant("b", 2, &[])]);
    let shadowed = |name: &str| -> Vec<String> {
        let found = table.shadowed(&http(name));
        found
            .map(|(frontend, by)| format!("{} by {by}", frontend_text(&frontend)))
            .collect()
    };
    assert_eq!(shadowed("b"), ["external 203.0.113.1 80/TCP by ns/a:http"]);
    assert_eq!(shadowed("a"), NOTHING);
    assert_eq!(shadowed("unknown"), NOTHING);
}

#[test]
fn what_is_disputed_is_told_once_a_change_with_all_who_want_it() {
    let mut table = Table::default();
    let told = |table: &mut Table<V4>| -> Vec<String> {
        let disputed = table.take_disputed();
        let line = |frontend: &Frontend<V4>| {
            let names: Vec<String> = table
                .claimants(frontend)
                .map(|key| key.service.name.to_string())
                .collect();
            format!("{}: {}", frontend_text(frontend), names.join(" "))
        };
        disputed.iter().map(line).collect()
    };
    let at = |names: &str| vec![format!("external 203.0.113.1 80/TCP: {names}")];
    change(&mut table, claimant("b", 2, &[]));
    assert_eq!(told(&mut table), NOTHING, "one alone");
    change(&mut table, claimant("c", 3, &[]));
    assert_eq!(told(&mut table), at("b c"));
    assert_eq!(told(&mut table), NOTHING, "told already");
    change(&mut table, claimant("a", 1, &[]));
    assert_eq!(told(&mut table), at("a b c"));
    change(&mut table, mk_plan(&mk_service("other"), &[]));
    assert_eq!(told(&mut table), NOTHING, "nobody else's business");
    table.remove(&http("b"));
    assert_eq!(told(&mut table), at("a c"));
    table.rollback();
    assert_eq!(told(&mut table), at("a b c"), "it was not carried out");
    for name in ["a", "b"] {
        table.remove(&http(name));
    }
    settle(&mut table);
    assert_eq!(told(&mut table), at("c"), "the dispute is over");
}

#[test]
fn rows_of_an_earlier_run_dispute_nothing() {
    let rows = table_of([claimant("a", 1, &[])]).rows();
    let (mut table, _) = Table::adopt(rows);
    change(&mut table, claimant("b", 2, &[]));
    for frontend in table.take_disputed() {
        assert!(table.claimants(&frontend).count() < 2, "{}", frontend_text(&frontend));
    }
}

#[test]
fn ids_and_owners_name_each_other() {
    let mut table = table_of([claimant("a", 1, &[]), claimant("b", 2, &[])]);
    for name in ["a", "b"] {
        let id = table.id(&http(name)).unwrap();
        assert_eq!(table.owner(id), Some(&http(name)));
        assert_eq!(table.owner(id.local()), Some(&http(name)));
    }
    let id = table.id(&http("a")).unwrap();
    table.remove(&http("a"));
    assert_eq!(table.id(&http("a")), None);
    assert_eq!(table.owner(id), None);
    change(&mut table, claimant("c", 3, &[]));
    assert_eq!(table.owner(id), None, "the id rests");
    assert_ne!(table.id(&http("c")), Some(id));
}

#[test]
fn every_row_that_is_one_ports_alone_names_it() {
    let mut table = table_of([claimant("a", 1, &["100.64.0.0/10"]), claimant("b", 2, &[])]);
    let owners = |table: &Table<V4>| -> Vec<String> {
        let rows = table.rows();
        let restricting = rows
            .iter()
            .filter(|row| matches!(row, Row::Restricted { .. } | Row::AllowedSource { .. }));
        restricting
            .filter_map(|row| Some(table.owner_of(row)?.to_string()))
            .collect()
    };
    assert_eq!(owners(&table), ["ns/a:http", "ns/a:http"]);
    for row in table.rows().iter().filter(|row| row.service().is_some()) {
        let owner = table.owner_of(row).map(ToString::to_string);
        let Row::Frontend { label, .. } = row else { continue };
        assert_eq!(owner.as_deref(), Some(&**label));
    }
    let shared = Row::ClusterIp {
        addr: [10, 96, 0, 97].into(),
    };
    assert_eq!(table.owner_of(&shared), None);
    assert_eq!(table.ports(&http("a").service).collect::<Vec<_>>(), [&http("a")]);
    table.remove(&http("a"));
    assert_eq!(table.ports(&http("a").service).next(), None);
}
