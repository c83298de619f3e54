//! Lists, sets and removes objects.

use std::fmt::Debug;

use tandem::net::{
    Address, Addresses, Answer, Change, Fdb, FdbEntry, LOOPBACK, Link, Listed, Mac, Neighbour, NeighbourState,
    Neighbours, Object, Origin, Route, RouteKind, Routes, Rtnetlink, Rule, Rules, Scope,
};
use tandem_core::family::IpFamily;
use tandem_core::node::InterfaceName;

use crate::support::{bridge, in_namespace, ip, link};

const MAC: Mac = Mac([2, 0, 0, 0, 0, 7]);

fn done(kernel: &mut Rtnetlink, change: &Change) {
    let answers = kernel.apply(std::slice::from_ref(change)).expect("answers");
    assert_eq!(answers, [Answer::Done], "{change:?}");
}

/// Sets the object, checks it with `seen`, reads it back, sets it again, and removes it twice.
fn lives<O>(filter: &O::Filter, object: &O, wrap: impl Fn(O) -> Object, seen: impl Fn() -> bool)
where
    O: Listed + Clone + PartialEq + Debug,
{
    let mut kernel = Rtnetlink::open().expect("a socket");
    let list = |kernel: &mut Rtnetlink| kernel.list::<O>(filter).expect("a list").contains(object);
    let (set, remove) = (Change::Set(wrap(object.clone())), Change::Remove(wrap(object.clone())));
    assert!(!list(&mut kernel) && !seen(), "before: {object:?}");
    done(&mut kernel, &set);
    assert!(seen(), "not there: {object:?}");
    assert!(
        list(&mut kernel),
        "not read: {object:?}; {:?}",
        kernel.list::<O>(filter)
    );
    let again = kernel.apply(&[set]).expect("answers");
    assert!(
        matches!(again.as_slice(), [Answer::Done | Answer::AlreadySo]),
        "{again:?}"
    );
    done(&mut kernel, &remove);
    assert!(!seen() && !list(&mut kernel), "still there: {object:?}");
    let again = kernel.apply(&[remove]).expect("answers");
    assert_eq!(again, [Answer::AlreadySo], "{object:?}");
}

#[test]
fn an_address_comes_and_goes_in_both_families() {
    in_namespace(|| {
        let d0 = link(&mut Rtnetlink::open().expect("a socket"), "d0").expect("d0").index;
        for text in ["192.0.2.11/24", "2001:db8:2::11/64"] {
            let address = Address {
                link: d0,
                address: text.parse().expect("an address"),
                peer: None,
                scope: Scope::UNIVERSE,
            };
            let on_d0 = Addresses {
                family: None,
                link: Some(d0),
            };
            lives(&on_d0, &address, Object::Address, || {
                ip("addr show dev d0").contains(text)
            });
        }
    });
}

#[test]
fn the_other_end_of_a_point_to_point_link_is_not_this_nodes_address() {
    in_namespace(|| {
        ip("addr add 192.0.2.1 peer 192.0.2.2/32 dev d0");
        let mut kernel = Rtnetlink::open().expect("a socket");
        let v4 = Addresses {
            family: Some(IpFamily::V4),
            link: None,
        };
        let found = kernel.list::<Address>(&v4).expect("addresses");
        let found: Vec<_> = found.iter().filter(|address| address.link != LOOPBACK).collect();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].address.addr().to_string(), "192.0.2.1");
        assert_eq!(found[0].peer.map(|peer| peer.to_string()).as_deref(), Some("192.0.2.2"));
    });
}

#[test]
fn a_route_comes_and_goes_in_both_families_and_only_its_table_is_listed() {
    in_namespace(|| {
        ip("addr add 192.0.2.11/24 dev d0");
        ip("addr add 2001:db8:2::11/64 dev d0 nodad");
        let d0 = link(&mut Rtnetlink::open().expect("a socket"), "d0").expect("d0").index;
        let cases = [
            ("10.244.1.0/24", "192.0.2.12", "192.0.2.11", "-4", 7),
            ("fd00:244:1::/64", "2001:db8:2::12", "2001:db8:2::11", "-6", 1024),
        ];
        for (range, gateway, source, family, metric) in cases {
            let route = Route {
                destination: range.parse().expect("a range"),
                table: 100,
                link: Some(d0),
                gateway: gateway.parse().ok(),
                on_link: true,
                source: source.parse().ok(),
                metric,
                origin: Origin(200),
                scope: Scope::UNIVERSE,
                kind: RouteKind::UNICAST,
            };
            let in_table = |table| Routes {
                family: IpFamily::of(route.destination.addr()),
                table: Some(table),
                link: None,
            };
            let shown = || ip(&format!("{family} route show table all")).contains(&format!("{range} via {gateway}"));
            lives(&in_table(100), &route, Object::Route, shown);
            let mut kernel = Rtnetlink::open().expect("a socket");
            done(&mut kernel, &Change::Set(Object::Route(route)));
            assert_eq!(kernel.list::<Route>(&in_table(100)).expect("routes"), [route]);
            assert_eq!(kernel.list::<Route>(&in_table(4711)).expect("no such table"), []);
        }
    });
}

#[test]
fn a_rule_comes_and_goes_in_both_families() {
    in_namespace(|| {
        for (family, flag) in [(IpFamily::V4, "-4"), (IpFamily::V6, "-6")] {
            let rule = Rule {
                family,
                priority: 4711,
                table: 100,
                from_link: InterfaceName::parse("lo").ok(),
                mark: Some(7),
                origin: Origin::TANDEM,
            };
            let shown = || ip(&format!("{flag} rule show")).contains("fwmark 0x7 iif lo lookup 100");
            lives(&Rules { family }, &rule, Object::Rule, shown);
        }
    });
}

#[test]
fn a_neighbour_comes_and_goes_in_both_families() {
    in_namespace(|| {
        let d0 = link(&mut Rtnetlink::open().expect("a socket"), "d0").expect("d0").index;
        for address in ["192.0.2.12", "2001:db8:2::12"] {
            let neighbour = Neighbour {
                link: d0,
                address: address.parse().expect("an address"),
                mac: Some(MAC),
                state: NeighbourState::PERMANENT,
            };
            let on_d0 = Neighbours {
                family: None,
                link: Some(d0),
            };
            let line = format!("{address} lladdr {MAC} PERMANENT");
            // The kernel keeps a removed neighbour for a moment, with the state "failed".
            let shown = || ip("neigh show dev d0").contains(&line);
            lives(&on_d0, &neighbour, Object::Neighbour, shown);
        }
    });
}

#[test]
fn an_fdb_entry_leads_to_a_vtep() {
    in_namespace(|| {
        ip("link add vx0 type vxlan id 1 dstport 4789 local 192.0.2.11");
        let vx0 = link(&mut Rtnetlink::open().expect("a socket"), "vx0").expect("vx0");
        assert_eq!(vx0.kind.as_deref(), Some("vxlan"));
        let entry = FdbEntry {
            link: vx0.index,
            mac: MAC,
            vtep: "192.0.2.12".parse().ok(),
            of_master: false,
            state: NeighbourState::PERMANENT,
        };
        let of_vx0 = Fdb { link: Some(vx0.index) };
        lives(&of_vx0, &entry, Object::Fdb, || {
            bridge("fdb show dev vx0").contains(&format!("{MAC} dst 192.0.2.12"))
        });
    });
}

#[test]
fn a_link_is_made_changed_and_removed() {
    in_namespace(|| {
        let mut kernel = Rtnetlink::open().expect("a socket");
        let new = Link {
            name: InterfaceName::parse("d1").ok(),
            kind: Some("bridge".into()),
            mac: Some(MAC),
            mtu: 1450,
            ..Link::default()
        };
        done(&mut kernel, &Change::Set(Object::Link(new)));
        let made = link(&mut kernel, "d1").expect("d1");
        assert_eq!((made.mac, made.mtu, made.up), (Some(MAC), 1450, false));
        let changed = Link {
            mtu: 1400,
            up: true,
            ..made.clone()
        };
        done(&mut kernel, &Change::Set(Object::Link(changed)));
        let shown = ip("-o link show d1");
        assert!(shown.contains("mtu 1400") && shown.contains(",UP"), "{shown}");
        done(&mut kernel, &Change::Remove(Object::Link(made.clone())));
        assert_eq!(link(&mut kernel, "d1"), None);
        let again = kernel.apply(&[Change::Remove(Object::Link(made))]).expect("answers");
        assert_eq!(again, [Answer::AlreadySo]);
    });
}

#[test]
fn of_many_changes_only_the_bad_ones_are_refused_by_their_number_and_with_words() {
    in_namespace(|| {
        let mut kernel = Rtnetlink::open().expect("a socket");
        let d0 = link(&mut kernel, "d0").expect("d0").index;
        let neighbour = |n: u16, link| {
            let [high, low] = n.to_be_bytes();
            Change::Set(Object::Neighbour(Neighbour {
                link,
                address: [192, 0, high, low].into(),
                mac: Some(MAC),
                state: NeighbourState::PERMANENT,
            }))
        };
        let bad = |n: &u16| n % 97 == 13;
        let numbers: Vec<u16> = (0..1000).collect();
        let changes: Vec<Change> = numbers
            .iter()
            .map(|n| neighbour(*n, if bad(n) { 4711 } else { d0 }))
            .collect();
        let answers = kernel.apply(&changes).expect("answers");
        assert_eq!(answers.len(), changes.len());
        for (n, answer) in numbers.iter().zip(&answers) {
            match answer {
                Answer::Done => assert!(!bad(n), "{n} was not refused"),
                Answer::Refused(refusal) => assert!(bad(n) && refusal.errno == libc::ENODEV, "{n}: {refusal}"),
                Answer::AlreadySo => panic!("{n}: there was nothing before"),
            }
        }
        let on_d0 = Neighbours {
            family: None,
            link: Some(d0),
        };
        let there = kernel.list::<Neighbour>(&on_d0).expect("neighbours");
        // The kernel adds entries for multicast by itself.
        let ours = there.iter().filter(|neighbour| neighbour.mac == Some(MAC)).count();
        assert_eq!(ours, numbers.iter().filter(|n| !bad(n)).count());

        let route = Route {
            destination: "10.0.0.0/8".parse().expect("a range"),
            table: 100,
            link: Some(d0),
            gateway: None,
            on_link: false,
            source: "192.0.2.99".parse().ok(),
            metric: 0,
            origin: Origin::TANDEM,
            scope: Scope::LINK,
            kind: RouteKind::UNICAST,
        };
        let answers = kernel.apply(&[Change::Set(Object::Route(route))]).expect("answers");
        let [Answer::Refused(refusal)] = answers.as_slice() else {
            panic!("{answers:?}")
        };
        assert_eq!(
            refusal.to_string(),
            "Invalid prefsrc address (Invalid argument (os error 22))"
        );
    });
}
