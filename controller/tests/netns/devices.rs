//! What the second data plane reads of devices.

use tandem::net::{Link, Rtnetlink};
use tandem::xdp::devices::facts::Facts;
use tandem::xdp::devices::plan::{Use, plan};
use tandem::xdp::devices::read::read;

use crate::support::{in_namespace, ip, link};

fn facts() -> Facts {
    read(&mut Rtnetlink::open().expect("a socket")).expect("facts")
}

#[test]
fn devices_are_read_with_their_addresses_and_default_routes() {
    in_namespace(|| {
        for words in [
            "addr add 192.0.2.1/24 dev d0",
            "addr add 192.0.2.2/24 dev d0",
            "addr add 198.51.100.1/24 dev d0 scope link",
            "addr add 2001:db8::1/64 dev d0 nodad",
            "addr add 2001:db8::2/64 dev d0 nodad preferred_lft 0",
            "route add default via 192.0.2.254",
            "link add br0 type bridge",
            "link set d9 master br0",
        ] {
            ip(words);
        }
        let found = facts();
        let mut kernel = Rtnetlink::open().expect("a socket");
        let mut listed = |name| link(&mut kernel, name).expect(name);
        let (d0, d9, br0) = (listed("d0"), listed("d9"), listed("br0"));
        assert_eq!(found.devices.len(), 4);
        assert_eq!(found.default_routes, [d0.index].into());
        let of_d0 = found.device(d0.index).expect("d0");
        assert_eq!(of_d0.mac, d0.mac.map(|mac| mac.0));
        assert_eq!((of_d0.kind(), of_d0.mtu, of_d0.up), ("veth", 1500, true));
        assert_eq!((of_d0.hardware, of_d0.carrier), (Link::ETHERNET, Some(d9.index)));
        assert_eq!(
            of_d0.v4,
            ["192.0.2.1", "192.0.2.2"].map(|addr| addr.parse::<std::net::Ipv4Addr>().expect("one"))
        );
        assert_eq!(of_d0.v6, ["2001:db8::1".parse::<std::net::Ipv6Addr>().expect("one")]);
        assert!(!of_d0.strips_vlan_tags, "not asked, as no VLAN needs it");
        assert_eq!(found.device(d9.index).expect("d9").master, Some(br0.index));
        let patterns = ["default-route", "d*"].map(|text| text.parse().expect("a pattern"));
        let plan = plan(&patterns, &found, |_| false);
        assert_eq!(plan.devices.len(), 1, "{plan:?}");
        let sources = of_d0.sources();
        assert!(
            matches!(&plan.devices[0].usage, Use::Attach { native_return: false, sources: of, .. } if *of == sources)
        );
    });
}
