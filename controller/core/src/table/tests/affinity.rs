//! Session affinity: lists with numbered endpoints.

use super::*;

const A: &str = "10.0.1.1";
const B: &str = "10.0.2.1";

fn web(affinity: Option<u32>, endpoints: &[SliceEndpoint]) -> PortPlan<V4> {
    let service = Service {
        affinity,
        ..mk_service("web")
    };
    mk_plan(&service, endpoints)
}

#[test]
fn affinity_on_and_off_moves_the_port_to_an_id_of_the_other_kind() {
    let mut table = table_of([web(None, &[remote(A)])]);
    assert_eq!(
        change(&mut table, web(Some(60), &[remote(A)])),
        [
            "+ endpoint-id f400:0001 : 10.0.1.1:8080",
            "+ sticky-endpoint f400:0000 . 0 : f400:0001",
            "+ service f400:0000 : sticky of 1 for 60s",
            "- service f000:0200 : any of 1",
            "- endpoint f000:0200 . 0 : 10.0.1.1:8080",
            "~ frontend cluster 10.96.0.1 80/TCP : f000:0200 -> f400:0000",
        ]
    );
    assert_eq!(
        change(&mut table, web(None, &[remote(A)])),
        [
            "+ endpoint f000:0400 . 0 : 10.0.1.1:8080",
            "+ service f000:0400 : any of 1",
            "- service f400:0000 : sticky of 1 for 60s",
            "- sticky-endpoint f400:0000 . 0 : f400:0001",
            "- endpoint-id f400:0001 : 10.0.1.1:8080",
            "~ frontend cluster 10.96.0.1 80/TCP : f400:0000 -> f000:0400",
        ]
    );
}

#[test]
fn another_timeout_is_one_changed_row() {
    let mut table = table_of([web(Some(60), &[remote(A)])]);
    assert_eq!(
        change(&mut table, web(Some(90), &[remote(A)])),
        ["~ service f400:0000 : sticky of 1 for 60s -> sticky of 1 for 90s"]
    );
}

#[test]
fn an_endpoint_more_or_less_leaves_the_numbers_of_the_others() {
    let mut table = table_of([web(Some(60), &[remote(A), remote(B)])]);
    assert_eq!(
        change(&mut table, web(Some(60), &[remote(B)])),
        [
            "- sticky-endpoint f400:0000 . 1 : f400:0002",
            "- endpoint-id f400:0001 : 10.0.1.1:8080",
            "~ sticky-endpoint f400:0000 . 0 : f400:0001 -> f400:0002",
            "~ service f400:0000 : sticky of 2 for 60s -> sticky of 1 for 60s",
        ]
    );
    assert_eq!(
        change(&mut table, web(Some(60), &[remote(A), remote(B)])),
        [
            "+ endpoint-id f400:0003 : 10.0.1.1:8080",
            "+ sticky-endpoint f400:0000 . 1 : f400:0003",
            "~ service f400:0000 : sticky of 1 for 60s -> sticky of 2 for 60s",
        ]
    );
}

#[test]
fn a_list_with_affinity_holds_4095_endpoints_and_says_so() {
    let entries: Vec<SliceEndpoint> = (0..5000u32)
        .map(|n| remote(&std::net::Ipv4Addr::from(0x0a00_0000 + n).to_string()))
        .collect();
    let mut table = Table::default();
    let limit = table.set(web(Some(60), &entries));
    let text = "has 5000 endpoints, of which 4095 are used: a Service port cannot have more";
    assert_eq!(limit.map(|limit| limit.to_string()).as_deref(), Some(text));
    assert_eq!(table.rows().len(), 2 * 4095 + 3);
    let replaced = table.set(web(Some(60), &entries[1..]));
    assert!(replaced.is_some());
    assert_eq!(table.rows().len(), 2 * 4095 + 3);
    table.take();
    table.commit();
    assert_eq!(table.set(web(Some(60), &entries[905..])), None, "4095 fit");
    assert_eq!(table.rows().len(), 2 * 4095 + 3);
}

#[test]
fn where_the_ids_with_affinity_are_used_up_a_port_goes_without_until_one_is_free() {
    let nth = |n: u32| {
        let service = Service {
            cluster_ips: vec![std::net::Ipv4Addr::from(0x0a60_0000 + n).into()],
            affinity: Some(60),
            ..mk_service(&format!("s{n}"))
        };
        mk_plan(&service, &[remote(A)])
    };
    let mut table = table_of((0..16_384).map(nth));
    for _ in 0..2 {
        assert_eq!(table.set(nth(16_384)), Some(Limit::Affinity));
        assert_eq!(table.id(&http("s16384")).map(ServiceId::is_sticky), Some(false));
    }
    table.take();
    table.commit();
    assert_eq!(table.set(nth(16_384)), Some(Limit::Affinity));
    assert!(table.take().is_empty(), "the same plan again changes nothing");
    table.remove(&http("s7"));
    assert_eq!(
        table.set(nth(16_384)),
        Some(Limit::Affinity),
        "not in the change that frees one"
    );
    table.take();
    table.commit();
    assert_eq!(table.ids_left(true), 1);
    assert_eq!(table.set(nth(16_384)), None);
    assert_eq!(table.id(&http("s16384")), ServiceId::sticky(7));
}
