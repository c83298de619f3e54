//! Rows that make no sense. Whatever was read: after the change that `adopt` returns, the data plane holds exactly the
//! table's rows, and a Service that comes gets every row that it needs.

use super::model::Model;
use super::*;
use crate::row::{Endpoint, L4Address, Pick, Protocol};

fn at() -> L4Address<V4> {
    L4Address {
        addr: [203, 0, 113, 1].into(),
        protocol: Protocol::Tcp,
        port: port(80),
    }
}

fn endpoint(last: u8) -> Endpoint<V4> {
    Endpoint {
        addr: [10, 0, 2, last].into(),
        port: port(8080),
    }
}

fn slot(service: ServiceId, slot: u16, last: u8) -> Row<V4> {
    Row::Endpoint {
        service,
        slot,
        endpoint: endpoint(last),
    }
}

fn plain() -> ServiceId {
    ServiceId::plain(0).unwrap()
}

fn sticky() -> ServiceId {
    ServiceId::sticky(0).unwrap()
}

fn web(affinity: Option<u32>) -> PortPlan<V4> {
    let service = Service {
        affinity,
        source_ranges: nets(&["100.64.0.0/10"]),
        restricted: Families::BOTH,
        ..mk_exposed("web")
    };
    mk_plan(&service, &[remote("10.0.2.1"), remote("10.0.2.2")])
}

/// Adopts rows, checks what must always hold, and returns the change that adoption asks for.
fn adopt(rows: &[Row<V4>]) -> Vec<String> {
    let mut strays = Vec::new();
    for affinity in [None, Some(60)] {
        let mut model = Model::of(rows);
        let (mut table, delta) = Table::adopt(rows.to_vec());
        model.apply(&delta);
        assert_eq!(
            model.text(),
            rows_text(&table.rows()),
            "after the change that adoption hands back"
        );
        strays = delta_text(&delta);
        table.set(web(affinity));
        table.drop_orphans(nobody);
        model.apply(&table.take());
        table.commit();
        model.assert_sound();
        assert_eq!(model.text(), rows_text(&table.rows()));
        let fresh = table_of([web(affinity)]).rows();
        assert_eq!(
            model.len(),
            fresh.len(),
            "every row that the Service needs, and no other"
        );
    }
    strays
}

/// The change that adoption asks for after `edit` has changed the rows of a Service.
fn broken(affinity: Option<u32>, edit: impl FnOnce(&mut Vec<Row<V4>>)) -> Vec<String> {
    let mut rows = table_of([web(affinity)]).rows();
    edit(&mut rows);
    adopt(&rows)
}

#[test]
fn an_allowed_source_without_its_restriction_is_a_stray() {
    let strays = broken(None, |rows| rows.retain(|row| !matches!(row, Row::Restricted { .. })));
    assert_eq!(strays, ["- allowed-source 203.0.113.1 80/TCP . 100.64.0.0/10"]);
}

#[test]
fn a_cluster_ip_that_is_missing_is_added() {
    let strays = broken(None, |rows| rows.retain(|row| !matches!(row, Row::ClusterIp { .. })));
    assert_eq!(strays, ["+ cluster-ip 10.96.0.1"]);
}

#[test]
fn restrictions_of_no_frontend_are_strays() {
    let source = Row::AllowedSource {
        at: at(),
        source: "198.51.100.0/24".parse().unwrap(),
    };
    assert_eq!(
        adopt(&[source, Row::Restricted { at: at() }]),
        [
            "- restricted 203.0.113.1 80/TCP",
            "- allowed-source 203.0.113.1 80/TCP . 198.51.100.0/24",
        ]
    );
}

#[test]
fn shared_rows_that_nobody_needs_are_strays() {
    let strays = adopt(&[
        Row::ClusterIp {
            addr: [10, 96, 0, 7].into(),
        },
        Row::LocalEndpoint {
            addr: [10, 0, 1, 7].into(),
        },
    ]);
    assert_eq!(strays, ["- hairpin 10.0.1.7", "- cluster-ip 10.96.0.7"]);
}

#[test]
fn slots_behind_a_gap_are_strays() {
    let strays = broken(None, |rows| {
        rows.retain(|row| !matches!(row, Row::Endpoint { slot: 0, .. }));
        rows.push(slot(plain(), 7, 7));
    });
    assert_eq!(
        strays,
        [
            "- endpoint f000:0200 . 1 : 10.0.2.2:8080",
            "- endpoint f000:0200 . 7 : 10.0.2.7:8080",
        ]
    );
}

#[test]
fn a_second_slot_with_the_same_endpoint_is_a_stray() {
    let strays = broken(None, |rows| {
        for row in rows {
            if let Row::Endpoint {
                slot: 1,
                endpoint: found,
                ..
            } = row
            {
                *found = endpoint(1);
            }
        }
    });
    assert_eq!(strays, ["- endpoint f000:0200 . 1 : 10.0.2.1:8080"]);
}

#[test]
fn slots_of_a_list_that_nothing_picks_from_are_strays() {
    let strays = broken(None, |rows| rows.retain(|row| !matches!(row, Row::Service { .. })));
    assert_eq!(
        strays,
        [
            "- endpoint f000:0200 . 0 : 10.0.2.1:8080",
            "- endpoint f000:0200 . 1 : 10.0.2.2:8080",
        ]
    );
    let strays = broken(Some(60), |rows| rows.retain(|row| !matches!(row, Row::Service { .. })));
    assert_eq!(strays.len(), 4, "{strays:#?}");
}

#[test]
fn a_frontend_without_its_list_stays_until_it_is_claimed() {
    let strays = broken(None, |rows| rows.retain(|row| matches!(row, Row::Frontend { .. })));
    assert_eq!(strays, ["+ cluster-ip 10.96.0.1"]);
}

#[test]
fn a_list_without_its_frontends_goes_with_the_orphans() {
    let strays = broken(None, |rows| {
        rows.retain(|row| matches!(row, Row::Service { .. } | Row::Endpoint { .. }));
    });
    assert_eq!(strays, NOTHING);
}

#[test]
fn slots_of_the_wrong_kind_are_strays() {
    let strays = broken(Some(60), |rows| rows.push(slot(sticky(), 5, 5)));
    assert_eq!(strays, ["- endpoint f400:0000 . 5 : 10.0.2.5:8080"]);
    let strays = broken(Some(60), |rows| rows.push(slot(sticky(), 0, 5)));
    assert_eq!(strays, ["- endpoint f400:0000 . 0 : 10.0.2.5:8080"]);
    let strays = broken(None, |rows| {
        rows.push(Row::StickyEndpoint {
            service: plain(),
            slot: 0,
            id: sticky().endpoint(1).unwrap(),
        });
    });
    assert_eq!(strays, ["- sticky-endpoint f000:0200 . 0 : f400:0001"]);
}

#[test]
fn a_sticky_slot_with_an_endpoint_of_another_list_is_a_stray() {
    let strays = broken(Some(60), |rows| {
        for row in rows {
            if let Row::StickyEndpoint { slot: 1, id, .. } = row {
                *id = ServiceId::sticky(1).unwrap().endpoint(2).unwrap();
            }
        }
    });
    assert_eq!(
        strays,
        [
            "- sticky-endpoint f400:0000 . 1 : f400:1002",
            "- endpoint-id f400:0002 : 10.0.2.2:8080",
        ]
    );
}

#[test]
fn sticky_slots_and_endpoint_ids_without_each_other_are_strays() {
    let strays = broken(Some(60), |rows| {
        rows.retain(|row| !matches!(row, Row::EndpointId { id, .. } if id.number() == 1));
    });
    assert_eq!(
        strays,
        [
            "- sticky-endpoint f400:0000 . 0 : f400:0001",
            "- sticky-endpoint f400:0000 . 1 : f400:0002",
            "- endpoint-id f400:0002 : 10.0.2.2:8080",
        ]
    );
    let strays = broken(Some(60), |rows| {
        rows.push(Row::EndpointId {
            id: sticky().endpoint(9).unwrap(),
            endpoint: endpoint(9),
        });
    });
    assert_eq!(strays, ["- endpoint-id f400:0009 : 10.0.2.9:8080"]);
}

#[test]
fn a_number_in_two_sticky_slots_counts_once() {
    let strays = broken(Some(60), |rows| {
        rows.push(Row::StickyEndpoint {
            service: sticky(),
            slot: 2,
            id: sticky().endpoint(1).unwrap(),
        });
    });
    assert_eq!(strays, ["- sticky-endpoint f400:0000 . 2 : f400:0001"]);
}

#[test]
fn one_endpoint_under_two_numbers_counts_once() {
    let strays = broken(Some(60), |rows| {
        for row in rows {
            if let Row::EndpointId { id, endpoint: found } = row
                && id.number() == 2
            {
                *found = endpoint(1);
            }
        }
    });
    assert_eq!(
        strays,
        [
            "- sticky-endpoint f400:0000 . 1 : f400:0002",
            "- endpoint-id f400:0002 : 10.0.2.1:8080",
        ]
    );
}

#[test]
fn a_pick_that_does_not_fit_its_list_is_set_right_by_the_service() {
    for pick in [
        Pick::Refuse,
        Pick::Any { count: port(9) },
        Pick::Sticky {
            count: port(1),
            seconds: 1,
        },
    ] {
        for affinity in [None, Some(60)] {
            let strays = broken(affinity, |rows| {
                for row in rows {
                    if let Row::Service { pick: found, .. } = row {
                        *found = pick;
                    }
                }
            });
            assert_eq!(strays, NOTHING);
        }
    }
}

#[test]
fn labels_that_differ_are_set_right() {
    let strays = broken(None, |rows| {
        for row in rows {
            if let Row::Service { label, .. } = row {
                *label = "ns/other:http".into();
            }
        }
    });
    assert_eq!(strays, ["~ service f000:0200 : any of 2 -> any of 2"]);
}
