//! The table that is made over netlink equals the one that nft makes from the reference text, as nft lists them. Needs
//! root and nft. MUST NOT look at bytes (unit tests do) or send packets.

use crate::support::{check_loads, in_namespace, list, run, without_owner};
use tandem_core::family::{Family, V4, V6};
use tandem_core::node::InterfaceName;
use tandem_core::plane::{DataPlane, Delta, DetectLocal, RuleSettings};
use tandem_nft::NftTable;

pub(crate) fn made_by_kernel<F: Family>(settings: RuleSettings, family: &str) -> String {
    in_namespace(|| {
        let mut kernel = NftTable::<F>::open(settings).expect("a table");
        let delta = Delta {
            added: crate::rows::reference::<F>(),
            ..Delta::default()
        };
        kernel.apply(&delta).expect("rows");
        run("nft", &["-j", "list", "table", family, "tandem"]);
        list(family)
    })
}

pub(crate) fn made_by_nft(file: &str, family: &str) -> String {
    in_namespace(|| {
        run(
            "nft",
            &["-f", &format!("{}/tests/data/{file}", env!("CARGO_MANIFEST_DIR"))],
        );
        list(family)
    })
}

pub(crate) fn local() -> RuleSettings {
    RuleSettings {
        detect_local: DetectLocal::Sources(()),
        ..RuleSettings::default()
    }
}

#[test]
fn the_ipv4_table_is_the_one_that_nft_makes_from_the_reference() {
    let made = made_by_kernel::<V4>(local(), "ip");
    assert_eq!(without_owner(&made), made_by_nft("ruleset-ip.nft", "ip"));
    check_loads(&made);
}

#[test]
fn the_ipv6_table_is_the_one_that_nft_makes_from_the_reference() {
    let made = made_by_kernel::<V6>(local(), "ip6");
    assert_eq!(without_owner(&made), made_by_nft("ruleset-ip6.nft", "ip6"));
    check_loads(&made);
}

#[test]
fn settings_change_only_the_rules_that_depend_on_them() {
    let all = RuleSettings {
        masquerade_bit: 20,
        masquerade_all: true,
        ..RuleSettings::default()
    };
    let by = |name: &str, how: fn(InterfaceName) -> DetectLocal| RuleSettings {
        detect_local: how(InterfaceName::parse(name).expect("a name")),
        ..RuleSettings::default()
    };
    let drop_invalid = RuleSettings {
        drop_invalid: true,
        ..local()
    };
    for (settings, name) in [
        (RuleSettings::default(), "defaults"),
        (all, "masquerade_all_bit_20"),
        (by("cni0", DetectLocal::Interface), "bridge_interface"),
        (by("veth", DetectLocal::InterfacePrefix), "interface_name_prefix"),
        (drop_invalid, "drop_invalid"),
    ] {
        let made = made_by_kernel::<V4>(settings, "ip");
        check_loads(&made);
        let made = without_owner(&made);
        let local = without_owner(&made_by_kernel::<V4>(local(), "ip"));
        insta::assert_snapshot!(format!("settings_{name}"), difference(&local, &made));
    }
}

/// The lines that occur more often in one of two texts than in the other.
pub(crate) fn difference(before: &str, after: &str) -> String {
    let only = |sign, a: &str, b: &str| {
        let mut others: Vec<&str> = b.lines().collect();
        a.lines().fold(String::new(), |text, line| {
            match others.iter().position(|other| *other == line) {
                Some(at) => {
                    others.remove(at);
                    text
                }
                None => text + sign + line.trim() + "\n",
            }
        })
    };
    only("- ", before, after) + &only("+ ", after, before)
}
