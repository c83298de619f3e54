//! What links are, as the kernel tells it.

use tandem::net::offload::strips_vlan_tags;
use tandem::net::{
    Addresses, Answer, Change, DefaultRoute, LOOPBACK, Link, Object, Routes, Rtnetlink, StatedAddress, Vlan,
};
use tandem_core::family::IpFamily;
use tandem_core::node::InterfaceName;

use crate::support::{in_namespace, ip, link};

fn name(text: &str) -> InterfaceName {
    InterfaceName::parse(text).expect("a name")
}

/// Whether the kernel knows a kind of device. It refuses to make one of a kind that it does not know.
fn knows(kernel: &mut Rtnetlink, kind: &str) -> bool {
    let trial = Link {
        name: Some(name("trial")),
        kind: Some(kind.to_owned()),
        ..Link::default()
    };
    let answers = kernel.apply(&[Change::Set(Object::Link(trial))]).expect("an answer");
    if answers == [Answer::Done] {
        ip("link del trial");
    }
    let unknown = matches!(&answers[0], Answer::Refused(refusal) if refusal.errno == libc::EOPNOTSUPP);
    if unknown {
        eprintln!("this kernel has no devices of kind {kind}: that part is not tried");
    }
    !unknown
}

#[test]
fn a_link_tells_what_it_is_and_what_is_below_and_above_it() {
    in_namespace(|| {
        let mut kernel = Rtnetlink::open().expect("a socket");
        ip("link add br0 type bridge");
        ip("link add d1 type veth peer name d2");
        ip("link set d2 master br0");
        let mut found = |name: &str| link(&mut kernel, name).expect(name);
        let (lo, d0, d9) = (found("lo"), found("d0"), found("d9"));
        assert_eq!((lo.index, lo.hardware, lo.kind), (LOOPBACK, Link::LOOPBACK, None));
        assert_eq!((d0.hardware, d0.kind.as_deref()), (Link::ETHERNET, Some("veth")));
        assert_eq!((d0.carrier, d9.carrier), (Some(d9.index), Some(d0.index)));
        assert_eq!((d0.vlan, d0.attached, d0.master), (None, None, None));
        assert_eq!(found("d2").master, Some(found("br0").index));
        assert_eq!(found("br0").carrier, None);
        if knows(&mut kernel, "dummy") {
            ip("link add d3 type dummy");
            let d3 = link(&mut kernel, "d3").expect("d3");
            assert_eq!((d3.hardware, d3.kind.as_deref()), (Link::ETHERNET, Some("dummy")));
        }
        if knows(&mut kernel, "vlan") {
            ip("link add link d0 name v5 type vlan id 5");
            ip("link add link d0 name v6 type vlan protocol 802.1ad id 6");
            let (v5, v6) = (
                link(&mut kernel, "v5").expect("v5"),
                link(&mut kernel, "v6").expect("v6"),
            );
            assert_eq!((v5.carrier, v5.mac), (Some(d0.index), d0.mac));
            assert_eq!(v5.vlan, Some(Vlan { id: 5, outer: false }));
            assert_eq!(v6.vlan, Some(Vlan { id: 6, outer: true }));
        }
    });
}

#[test]
fn the_other_end_in_another_namespace_is_no_carrier() {
    in_namespace(|| {
        // A process of its own has the other namespace. Its end of the cable goes with it.
        let away = std::process::Command::new("unshare").args(["-n", "sleep", "5"]).spawn();
        let mut away = away.expect("unshare");
        let place = |pid: u32| std::fs::read_link(format!("/proc/{pid}/ns/net")).expect("a namespace");
        let own = std::fs::read_link("/proc/thread-self/ns/net").expect("a namespace");
        while place(away.id()) == own {
            std::thread::yield_now();
        }
        ip(&format!("link set d9 netns {}", away.id()));
        let mut kernel = Rtnetlink::open().expect("a socket");
        assert_eq!(link(&mut kernel, "d0").expect("d0").carrier, None);
        away.kill().expect("a process");
        away.wait().expect("a process");
    });
}

#[test]
fn a_device_says_whether_it_takes_vlan_tags_away() {
    in_namespace(|| {
        let bridge = "br0";
        ip(&format!("link add {bridge} type bridge"));
        assert!(strips_vlan_tags(&name("d0")).expect("an answer"), "veth does");
        assert!(!strips_vlan_tags(&name("lo")).expect("an answer"), "lo does not");
        assert!(
            !strips_vlan_tags(&name(bridge)).expect("an answer"),
            "a bridge does not"
        );
        let nobody = strips_vlan_tags(&name("nobody")).expect_err("no such device");
        assert_eq!(nobody.raw_os_error(), Some(libc::ENODEV));
    });
}

#[test]
fn addresses_tell_whether_packets_may_have_them_as_source() {
    in_namespace(|| {
        for words in [
            "addr add 192.0.2.1/24 dev d0",
            "addr add 192.0.2.2/24 dev d0",
            "addr add 2001:db8::1/64 dev d0 nodad",
            "addr add 2001:db8::2/64 dev d0 nodad preferred_lft 0",
        ] {
            ip(words);
        }
        let mut kernel = Rtnetlink::open().expect("a socket");
        let listed = kernel.list::<StatedAddress>(&Addresses::default()).expect("addresses");
        let of = |text: &str| {
            let found = listed.iter().find(|it| it.address.address.addr().to_string() == text);
            found.map(|it| (it.usable, it.secondary))
        };
        assert_eq!(of("192.0.2.1"), Some((true, false)));
        assert_eq!(of("192.0.2.2"), Some((true, true)));
        assert_eq!(of("2001:db8::1"), Some((true, false)));
        assert_eq!(of("2001:db8::2"), Some((false, false)), "deprecated");
    });
}

#[test]
fn default_routes_tell_all_links_that_packets_leave_by() {
    in_namespace(|| {
        ip("link add d1 type veth peer name d2");
        ip("link set d1 up");
        ip("link set d2 up");
        ip("addr add 192.0.2.1/24 dev d0");
        ip("addr add 198.51.100.1/24 dev d1");
        ip("route add default nexthop via 192.0.2.254 nexthop via 198.51.100.254");
        ip("route add default via 192.0.2.253 table 7");
        ip("route add unreachable default table 8");
        ip("route add 203.0.113.0/24 via 192.0.2.254");
        ip("-6 route add default dev d1");
        let mut kernel = Rtnetlink::open().expect("a socket");
        let index = |kernel: &mut Rtnetlink, name| link(kernel, name).expect(name).index;
        let (d0, d1) = (index(&mut kernel, "d0"), index(&mut kernel, "d1"));
        let mut links = |family| {
            let filter = Routes {
                family,
                table: None,
                link: None,
            };
            let routes = kernel.list::<DefaultRoute>(&filter).expect("routes");
            let mut links: Vec<_> = routes.into_iter().map(|it| (it.route.table, it.links)).collect();
            links.sort();
            links
        };
        let expected = [(7, vec![d0]), (254, vec![d0, d1])];
        assert_eq!(links(IpFamily::V4), expected);
        assert_eq!(links(IpFamily::V6), [(254, vec![d1])]);
    });
}
