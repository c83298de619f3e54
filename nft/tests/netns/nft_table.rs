//! What only the kernel's table has: adoption, ownership, changes by others, chains on demand. Needs root and nft. Each
//! test runs in a network namespace of its own. MUST NOT send packets.

use std::process::Command;

use crate::rows::{any, nth, plain, port, reference, service, sticky};
use crate::ruleset::made_by_nft;
use crate::support::{check_loads, in_namespace, list, run, until, without_lines, without_owner};
use tandem_core::family::{Family, IpFamily, V4, V6};
use tandem_core::plane::{ApplyError, DataPlane, Delta, DetectLocal, Ownership, RuleSettings};
use tandem_core::row::{Pick, Row};
use tandem_nft::{NftTable, OpenError};

fn open<F: Family>() -> NftTable<F> {
    open_with(RuleSettings::default())
}

fn open_with<F: Family>(settings: RuleSettings) -> NftTable<F> {
    NftTable::open(settings).expect("a table")
}

/// Ends a table's ownership. If another test is just starting a program, a closed socket lives on in it until the
/// program's own code begins.
fn close<F: Family>(kernel: NftTable<F>) {
    drop(kernel);
    let family = if F::FAMILY == IpFamily::V4 { "ip" } else { "ip6" };
    until(|| !list(family).contains("flags owner"));
}

fn add<F: Family>(kernel: &mut NftTable<F>, added: Vec<Row<F>>) {
    kernel
        .apply(&Delta {
            added,
            ..Delta::default()
        })
        .expect("rows");
}

fn remove<F: Family>(kernel: &mut NftTable<F>, removed: Vec<Row<F>>) {
    kernel
        .apply(&Delta {
            removed,
            ..Delta::default()
        })
        .expect("rows");
}

fn check<F: Family>(kernel: &mut NftTable<F>, mut expected: Vec<Row<F>>) {
    let mut found = kernel.read().expect("rows");
    expected.sort_by_key(|row| format!("{row:?}"));
    found.sort_by_key(|row| format!("{row:?}"));
    assert_eq!(found, expected);
}

fn chains(family: &str) -> Vec<String> {
    let listing = list(family);
    let names = listing
        .lines()
        .filter_map(|line| line.trim().strip_prefix("chain ")?.strip_suffix(" {"));
    names
        .filter(|name| name.contains(|c: char| c.is_ascii_digit()))
        .map(str::to_owned)
        .collect()
}

/// Whether nft, which is not the owner, can do this.
fn nft(arguments: &str) -> bool {
    Command::new("nft")
        .args(arguments.split(' '))
        .output()
        .expect("nft")
        .status
        .success()
}

#[test]
fn a_restart_takes_over_rows_and_remembered_clients() {
    in_namespace(|| {
        let mut first = open::<V4>();
        add(&mut first, reference());
        let before = list("ip");
        close(first);
        // nft 1.0.6 has no word for the flag of a table that persists without an owner.
        check_loads(&without_lines(&list("ip"), "\tflags \n"));
        // Between the two, nobody owns the table, so this works.
        run(
            "nft",
            &[
                "add",
                "element",
                "ip",
                "tandem",
                "affinity",
                "{ f400:0 . 4711 timeout 1h : f400:1 }",
            ],
        );
        let mut second = open::<V4>();
        let affinity = run("nft", &["list", "map", "ip", "tandem", "affinity"]);
        assert!(affinity.contains(". 4711"), "{affinity}");
        check(&mut second, reference());
        let after = without_lines(&list("ip"), ". 4711");
        assert_eq!(after, before);
    });
}

#[test]
fn a_restart_with_other_settings_replaces_the_rules_and_nothing_else() {
    in_namespace(|| {
        let mut first = open::<V6>();
        add(&mut first, reference());
        close(first);
        let settings = RuleSettings {
            detect_local: DetectLocal::Sources(()),
            ..RuleSettings::default()
        };
        let mut second = open_with::<V6>(settings);
        check(&mut second, reference());
        assert_eq!(without_owner(&list("ip6")), made_by_nft("ruleset-ip6.nft", "ip6"));
    });
}

#[test]
fn a_second_opener_is_told_who_owns_the_table_and_others_cannot_change_it() {
    in_namespace(|| {
        let mut kernel = open::<V4>();
        if let Ownership::Shared(reason) = kernel.ownership() {
            return println!("not owned: {reason}");
        }
        let own = format!("pid {}", std::process::id());
        match NftTable::<V4>::open(RuleSettings::default()) {
            Err(OpenError::Owned { table, owner }) => {
                assert_eq!(table, "ip tandem");
                assert!(owner.starts_with(&own), "{owner}");
            }
            other => panic!("{other:?}"),
        }
        assert!(!nft("add element ip tandem cluster-ips { 10.0.0.1 }"));
        assert!(!nft("delete table ip tandem"));
        assert!(nft("flush ruleset"));
        check(&mut kernel, Vec::new());
    });
}

#[test]
fn both_families_stand_side_by_side() {
    in_namespace(|| {
        let (mut v4, mut v6) = (open::<V4>(), open::<V6>());
        add(&mut v4, reference());
        add(&mut v6, reference());
        check(&mut v4, reference());
        check(&mut v6, reference());
    });
}

#[test]
fn a_table_without_owner_is_adopted_and_stays_shared() {
    in_namespace(|| {
        run(
            "nft",
            &[
                "-f",
                &format!("{}/tests/data/ruleset-ip.nft", env!("CARGO_MANIFEST_DIR")),
            ],
        );
        let settings = RuleSettings {
            detect_local: DetectLocal::Sources(()),
            ..RuleSettings::default()
        };
        let mut kernel = open_with::<V4>(settings);
        assert!(matches!(kernel.ownership(), Ownership::Shared(_)));
        check(&mut kernel, reference());
        remove(&mut kernel, reference());
        check(&mut kernel, Vec::new());
    });
}

#[test]
fn a_table_of_another_layout_is_made_anew_with_its_rows() {
    let text = include_str!("../data/ruleset-ip.nft");
    let older = text.replace(
        "map affinity {",
        "map old-affinity {\n\t\ttypeof ip saddr : meta priority\n\t}\n\tmap affinity {",
    );
    let hooked = text.replace(
        "\tchain prerouting {",
        "\tchain older {\n\t\ttype nat hook prerouting priority -99;\n\t\tjump service-traffic\n\t}\n\tchain prerouting {",
    );
    let other_key = text
        .replace(
            "\t\ttypeof ip daddr\n\t\telements = { 192.168.0.2 }",
            "\t\ttypeof ip daddr . th dport",
        )
        .replace("ip daddr @node-addresses", "ip daddr . th dport @node-addresses");
    let all = reference::<V4>();
    let without_node: Vec<_> = all
        .iter()
        .filter(|row| !matches!(row, Row::NodeAddress { .. }))
        .cloned()
        .collect();
    for (ruleset, rows) in [(older, all.clone()), (hooked, all.clone()), (other_key, without_node)] {
        in_namespace(|| {
            let path = std::env::temp_dir().join(format!("tandem-nft-{}-{}", std::process::id(), ruleset.len()));
            std::fs::write(&path, ruleset).expect("a file");
            run("nft", &["-f", path.to_str().expect("a path")]);
            std::fs::remove_file(&path).expect("the file");
            let settings = RuleSettings {
                detect_local: DetectLocal::Sources(()),
                ..RuleSettings::default()
            };
            let mut kernel = open_with::<V4>(settings);
            check(&mut kernel, rows.clone());
            drop(kernel);
            let mut fresh = list("ip");
            assert!(!fresh.contains("old"), "{fresh}");
            fresh.truncate(40);
        });
    }
}

#[test]
fn elements_that_no_tandem_wrote_are_removed() {
    in_namespace(|| {
        let mut first = open::<V4>();
        add(&mut first, reference());
        close(first);
        for element in [
            "cluster-frontends { 10.96.0.9 . tcp . 80 : 1:2 }",
            "cluster-frontends { 10.96.0.9 . icmp . 80 : f000:200 }",
            "services { f000:ee00 : f000:1 }",
            "services { f000:ec00 : f000:edf0 }",
            "services { 7:7 : 7:8 }",
            "endpoints { f000:200 . 70000 : 10.0.0.1 . 80 }",
            "endpoints { f000:200 . 7 : 10.0.0.1 . 0 }",
            "hairpin { 10.0.0.1 . 10.0.0.2 }",
            "local-pods { 172.16.0.3-172.16.0.9 }",
            "allowed-sources { 203.0.113.7 . tcp . 80-90 . 10.0.0.0/8 }",
            "allowed-sources { 203.0.113.7 . tcp . 91 . 10.0.0.3-10.0.0.4 }",
        ] {
            assert!(nft(&format!("add element ip tandem {element}")), "{element}");
        }
        let mut second = open::<V4>();
        check(&mut second, reference());
        check(&mut second, reference());
        assert!(!list("ip").contains("172.16"));
    });
}

#[test]
fn a_table_that_is_gone_is_said_to_be_gone_and_can_be_opened_again() {
    in_namespace(|| {
        run("nft", &["add", "table", "ip", "tandem"]);
        let mut kernel = open::<V4>();
        add(&mut kernel, reference());
        run("nft", &["delete", "table", "ip", "tandem"]);
        let delta = Delta {
            added: vec![Row::ClusterIp { addr: nth::<V4>(1) }],
            ..Delta::default()
        };
        match kernel.apply(&delta) {
            Err(ApplyError::Failed(cause)) => {
                let reason = cause.to_string();
                assert!(reason.starts_with("table ip tandem is gone"), "{reason}");
            }
            other => panic!("{other:?}"),
        }
        assert!(kernel.read().is_err());
        drop(kernel);
        let mut kernel = open::<V4>();
        check(&mut kernel, Vec::new());
        add(&mut kernel, reference());
        check(&mut kernel, reference());
        assert_eq!(kernel.ownership(), Ownership::Owned);
    });
}

#[test]
fn chains_are_made_when_needed_and_removed_when_idle() {
    in_namespace(|| {
        let mut kernel = open::<V4>();
        let sticks = |n, count| {
            service::<V4>(
                sticky(n),
                Pick::Sticky {
                    count: port(count),
                    seconds: 60,
                },
                "a/b:c",
            )
        };
        let picks = |n, count| service::<V4>(plain(n), any(count), "a/b:c");
        add(&mut kernel, vec![picks(1, 3), picks(2, 3), sticks(1, 2), sticks(2, 3)]);
        assert_eq!(
            chains("ip"),
            ["pick-3", "recall-60s", "remember-60s", "stick-2-60s", "stick-3-60s"]
        );
        kernel.idle().expect("removed");
        let changed = vec![(picks(1, 3), picks(1, 4))];
        kernel
            .apply(&Delta {
                changed,
                removed: vec![sticks(1, 2)],
                ..Delta::default()
            })
            .expect("a change");
        kernel.idle().expect("removed");
        assert_eq!(
            chains("ip"),
            ["pick-3", "recall-60s", "remember-60s", "stick-3-60s", "pick-4"]
        );
        remove(&mut kernel, vec![picks(2, 3), sticks(2, 3)]);
        // After a restart, Tandem knows which chains are unused.
        close(kernel);
        let mut kernel = open::<V4>();
        kernel.idle().expect("removed");
        assert_eq!(chains("ip"), ["pick-4"]);
        add(&mut kernel, vec![sticks(2, 3), picks(2, 3)]);
        check(&mut kernel, vec![picks(1, 4), picks(2, 3), sticks(2, 3)]);
    });
}

#[test]
fn a_refused_change_makes_no_chain_and_the_next_one_does() {
    in_namespace(|| {
        let mut kernel = open::<V4>();
        let row = |count| service::<V4>(plain(1), any(count), "a/b:c");
        let missing = Row::ClusterIp { addr: nth::<V4>(1) };
        let delta = Delta {
            added: vec![row(2)],
            removed: vec![missing],
            ..Delta::default()
        };
        assert!(matches!(kernel.apply(&delta), Err(ApplyError::Rejected(_))));
        assert!(chains("ip").is_empty());
        add(&mut kernel, vec![row(2)]);
        assert_eq!(chains("ip"), ["pick-2"]);
    });
}

#[test]
fn numbers_of_ways_that_nothing_uses_are_used_again() {
    in_namespace(|| {
        let mut kernel = open::<V4>();
        let row = |count| service::<V4>(plain(1), any(count), "a/b:c");
        add(&mut kernel, vec![row(1)]);
        for count in 1..=600 {
            let changed = vec![(row(count), row(count + 1))];
            kernel
                .apply(&Delta {
                    changed,
                    ..Delta::default()
                })
                .expect("one count is in use");
        }
        check(&mut kernel, vec![row(601)]);
    });
}

#[test]
fn a_service_that_needs_one_way_too_many_is_named_and_the_others_stay() {
    in_namespace(|| {
        let mut kernel = open::<V4>();
        let row = |n: u16| service::<V4>(plain(u32::from(n)), any(n), "a/b:c");
        let rows: Vec<_> = (1..=509).map(row).collect();
        add(&mut kernel, rows.clone());
        let delta = Delta {
            added: vec![row(510)],
            ..Delta::default()
        };
        match kernel.apply(&delta) {
            Err(ApplyError::UsedUp(rejections)) => assert_eq!(rejections[0].row, row(510)),
            other => panic!("{other:?}"),
        }
        let ways = kernel.ways();
        assert_eq!(ways.len(), 509);
        assert!((1..=509).all(|count| ways.contains(&any(count))));
        let narrower = service::<V4>(plain(510), any(509), "a/b:c");
        add(&mut kernel, vec![narrower.clone()]);
        check(&mut kernel, rows.into_iter().chain([narrower]).collect());
    });
}
