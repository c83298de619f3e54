//! The table if XDP programs choose before the rules do: its text, and how it comes and goes. Needs root and nft. Each test
//! runs in a network namespace of its own. MUST NOT send packets.

use crate::rows::reference;
use crate::ruleset::{difference, local, made_by_kernel};
use crate::support::{check_loads, in_namespace, list, run, until, without_owner};
use tandem_core::family::{Family, IpFamily, V4, V6};
use tandem_core::plane::{Ahead, DataPlane, Delta, RuleSettings};
use tandem_nft::NftTable;

fn with_xdp() -> RuleSettings {
    RuleSettings {
        ahead: Ahead::Xdp,
        ..local()
    }
}

/// The table as nft lists it, and the expressions of its rules, as nft reads them from the kernel. nft loads what it hashes
/// into another register that is free, and converts the order of a number of one byte.
fn listed(family: &str) -> [String; 2] {
    let all = run("nft", &["--debug=netlink", "list", "table", family, "tandem"]);
    let expressions = all.lines().filter(|line| line.starts_with("  [ "));
    let expressions = expressions.filter(|line| !line.contains("[ byteorder"));
    // Sets without a name are numbered in the order in which they were made.
    let expressions = expressions.map(|line| line.split("set __set").next().unwrap_or(line).to_owned() + "\n");
    let expressions = expressions.map(|line| line.replace("reg 14", "reg 2"));
    [without_owner(&list(family)), expressions.collect()]
}

/// The same of what `nft` makes of this listing.
fn made_by_nft(listing: &str, family: &str) -> [String; 2] {
    in_namespace(|| {
        let path = std::env::temp_dir().join(format!("tandem-ahead-{}-{family}", std::process::id()));
        std::fs::write(&path, listing).expect("a file");
        run("nft", &["-f", path.to_str().expect("a path")]);
        std::fs::remove_file(&path).expect("the file");
        let all = run("nft", &["--debug=netlink", "list", "table", family, "tandem"]);
        assert!(all.contains("  [ limit rate"), "{all}");
        let [_, expressions] = listed(family);
        [list(family), expressions]
    })
}

/// What XDP changes in the listing. nft makes the same of it.
fn differences<F: Family>(family: &str) -> String {
    let made = in_namespace(|| {
        let mut kernel = NftTable::<F>::open(with_xdp()).expect("a table");
        let delta = Delta {
            added: reference::<F>(),
            ..Delta::default()
        };
        kernel.apply(&delta).expect("rows");
        check_loads(&list(family));
        listed(family)
    });
    assert_eq!(made_by_nft(&made[0], family), made);
    difference(&without_owner(&made_by_kernel::<F>(local(), family)), &made[0])
}

#[test]
fn rules_follow_xdp_and_keep_off_its_ports_and_nft_loads_what_it_lists() {
    insta::assert_snapshot!("ahead_xdp_ip", differences::<V4>("ip"));
    insta::assert_snapshot!("ahead_xdp_ip6", differences::<V6>("ip6"));
}

fn comes_and_goes<F: Family>() {
    in_namespace(|| {
        let family = if F::FAMILY == IpFamily::V4 { "ip" } else { "ip6" };
        let open = |settings| NftTable::<F>::open(settings).expect("a table");
        let close = |kernel| {
            drop(kernel);
            until(|| !list(family).contains("flags owner"));
        };
        let check = |kernel: &mut NftTable<F>| {
            let sorted = |rows: Vec<_>| {
                let mut rows: Vec<String> = rows.iter().map(|row| format!("{row:?}")).collect();
                rows.sort();
                rows
            };
            assert_eq!(sorted(kernel.read().expect("rows")), sorted(reference::<F>()));
        };
        let mut first = open(local());
        let delta = Delta {
            added: reference::<F>(),
            ..Delta::default()
        };
        first.apply(&delta).expect("rows");
        let without = list(family);
        close(first);
        // While nobody owns the table, a client can be remembered by hand.
        let element = "{ f400:0 . 4711 timeout 1h : f400:1 }";
        run("nft", &["add", "element", family, "tandem", "affinity", element]);
        let without_remembered = || {
            let listing = list(family);
            let (before, rest) = listing
                .split_once("\t\telements = { f400:0 . 4711")
                .expect("remembered");
            let (_, after) = rest.split_once('\n').expect("a line");
            format!("{before}{after}")
        };
        let mut second = open(with_xdp());
        check(&mut second);
        let with = without_remembered();
        assert_ne!(with, without);
        close(second);
        let mut third = open(with_xdp());
        check(&mut third);
        assert_eq!(without_remembered(), with);
        close(third);
        let mut fourth = open(local());
        check(&mut fourth);
        assert_eq!(without_remembered(), without);
    });
}

#[test]
fn a_restart_with_or_without_xdp_replaces_the_rules_and_keeps_rows_and_remembered_clients() {
    comes_and_goes::<V4>();
    comes_and_goes::<V6>();
}
