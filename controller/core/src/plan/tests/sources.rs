//! `loadBalancerSourceRanges`: which sources may reach which frontends.

use crate::family::{Family, V4, V6};
use crate::object::{Choice, Node, Service};
use crate::plan::plan;
use crate::samples::*;

/// What the decoder would say: the families of the ranges, or both if none could be read.
fn closed_by(ranges: &[&str]) -> Families {
    Families {
        v4: ranges.is_empty() || ranges.iter().any(|range| range.contains('.')),
        v6: ranges.is_empty() || ranges.iter().any(|range| range.contains(':')),
    }
}

fn restricted_to(ranges: &[&str]) -> Service {
    Service {
        cluster_ips: ips(&["10.96.0.1", "fd00::1"]),
        ingress_ips: ips(&["203.0.113.1", "2001:db8::9", "203.0.113.2"]),
        source_ranges: nets(ranges),
        restricted: closed_by(ranges),
        ..mk_exposed("web")
    }
}

/// The frontends that only some sources may reach, each with its sources.
fn restrictions_on<F: Family>(service: &Service, node: &Node) -> Vec<String> {
    let plans = plan::<F>(service, &[].iter(), node, Choice::Random).unwrap();
    let frontends = plans.iter().flat_map(|plan| &plan.frontends);
    let restricted = frontends.filter_map(|plan| Some((frontend_text(&plan.frontend), plan.sources.as_ref()?)));
    restricted
        .map(|(frontend, sources)| {
            let sources: Vec<String> = sources.iter().map(ToString::to_string).collect();
            format!("{frontend} from [{}]", sources.join(" "))
        })
        .collect()
}

fn restrictions<F: Family>(service: &Service) -> Vec<String> {
    restrictions_on::<F>(service, &mk_node())
}

#[test]
fn ranges_restrict_load_balancer_addresses_only() {
    assert_eq!(
        restrictions::<V4>(&restricted_to(&["198.51.100.0/24"])),
        [
            "external 203.0.113.1 80/TCP from [198.51.100.0/24]",
            "external 203.0.113.2 80/TCP from [198.51.100.0/24]",
        ]
    );
}

#[test]
fn without_ranges_everyone_may_come() {
    let service = Service {
        restricted: Families::NONE,
        ..restricted_to(&[])
    };
    assert_eq!(restrictions::<V4>(&service), [""; 0]);
    assert_eq!(restrictions::<V6>(&service), [""; 0]);
}

#[test]
fn each_family_takes_its_own_ranges() {
    let service = restricted_to(&["2001:db8:5::/48", "198.51.100.0/24"]);
    assert_eq!(
        restrictions::<V4>(&service)[0],
        "external 203.0.113.1 80/TCP from [198.51.100.0/24]"
    );
    assert_eq!(
        restrictions::<V6>(&service),
        ["external 2001:db8::9 80/TCP from [2001:db8:5::/48]"]
    );
}

#[test]
fn ranges_of_the_other_family_alone_restrict_nothing() {
    let service = restricted_to(&["2001:db8:5::/48"]);
    assert_eq!(restrictions::<V4>(&service), [""; 0]);
    assert_eq!(restrictions::<V6>(&service).len(), 1);
}

#[test]
fn where_no_range_was_readable_nobody_may_come() {
    let service = restricted_to(&[]);
    assert_eq!(
        restrictions::<V4>(&service),
        [
            "external 203.0.113.1 80/TCP from []",
            "external 203.0.113.2 80/TCP from []"
        ]
    );
    assert_eq!(restrictions::<V6>(&service), ["external 2001:db8::9 80/TCP from []"]);
}

#[test]
fn a_family_that_something_unreadable_was_meant_for_is_closed_whatever_the_other_has() {
    let service = Service {
        restricted: Families::BOTH,
        ..restricted_to(&["2001:db8:5::/48"])
    };
    assert_eq!(
        restrictions::<V4>(&service)[0],
        "external 203.0.113.1 80/TCP from []",
        "nobody may come by IPv4"
    );
    assert_eq!(
        restrictions::<V6>(&service),
        ["external 2001:db8::9 80/TCP from [2001:db8:5::/48]"]
    );
}

#[test]
fn ranges_count_whatever_restricted_says() {
    let service = Service {
        restricted: Families::NONE,
        ..restricted_to(&["198.51.100.0/24"])
    };
    assert_eq!(restrictions::<V4>(&service).len(), 2);
}

#[test]
fn a_range_with_the_nodes_address_also_allows_the_load_balancer_addresses() {
    assert_eq!(
        restrictions::<V4>(&restricted_to(&["192.0.2.0/24"])),
        [
            "external 203.0.113.1 80/TCP from [192.0.2.0/24 203.0.113.1/32 203.0.113.2/32]",
            "external 203.0.113.2 80/TCP from [192.0.2.0/24 203.0.113.1/32 203.0.113.2/32]",
        ]
    );
    assert_eq!(
        restrictions::<V6>(&restricted_to(&["2001:db8:2::/48"])),
        ["external 2001:db8::9 80/TCP from [2001:db8::9/128 2001:db8:2::/48]"]
    );
}

#[test]
fn a_node_without_an_address_of_the_family_adds_nothing() {
    let node = Node {
        addresses: ips(&["2001:db8:2::11"]),
        ..mk_node()
    };
    assert_eq!(
        restrictions_on::<V4>(&restricted_to(&["192.0.2.0/24"]), &node)[0],
        "external 203.0.113.1 80/TCP from [192.0.2.0/24]"
    );
}

#[test]
fn overlapping_and_neighbouring_ranges_become_one() {
    let service = restricted_to(&["198.51.100.128/25", "198.51.100.7/32", "198.51.100.0/25"]);
    assert_eq!(
        restrictions::<V4>(&service)[0],
        "external 203.0.113.1 80/TCP from [198.51.100.0/24]"
    );
    assert_eq!(
        restrictions::<V4>(&restricted_to(&["0.0.0.0/0", "198.51.100.0/25"]))[0],
        "external 203.0.113.1 80/TCP from [0.0.0.0/0]"
    );
}

#[test]
fn an_address_that_is_both_external_ip_and_ingress_is_restricted() {
    let service = Service {
        external_ips: ips(&["203.0.113.2"]),
        ..restricted_to(&["198.51.100.0/24"])
    };
    assert_eq!(restrictions::<V4>(&service).len(), 2);
}
