//! Removes tables for good. Needs root and nft. Each test runs in a network namespace of its own.

use std::time::Duration;

use tandem_core::family::{V4, V6};
use tandem_core::plane::{DataPlane, Delta, Ownership, RuleSettings};
use tandem_nft::{NftTable, RemoveError, remove};

use crate::rows::reference;
use crate::support::{in_namespace, run};

fn tables() -> String {
    run("nft", &["list", "tables"])
}

/// If another test is just starting a program, the socket of a dropped table lives on in it for a moment.
fn removed<F: tandem_core::family::Family>() -> Result<bool, RemoveError> {
    for _ in 0..200 {
        match remove::<F>() {
            Err(RemoveError::Owned { .. }) => std::thread::sleep(Duration::from_millis(10)),
            result => return result,
        }
    }
    remove::<F>()
}

#[test]
fn each_table_is_removed_with_all_that_is_in_it_and_nothing_else() {
    in_namespace(|| {
        let (mut v4, mut v6) = (
            NftTable::<V4>::open(RuleSettings::default()).expect("a table"),
            NftTable::<V6>::open(RuleSettings::default()).expect("a table"),
        );
        let (rows4, rows6) = (reference(), reference());
        v4.apply(&Delta {
            added: rows4,
            ..Delta::default()
        })
        .expect("rows");
        v6.apply(&Delta {
            added: rows6,
            ..Delta::default()
        })
        .expect("rows");
        run("nft", &["add", "table", "ip", "kube-proxy"]);
        drop((v4, v6));
        assert!(removed::<V4>().expect("removed"));
        assert_eq!(tables(), "table ip6 tandem\ntable ip kube-proxy\n");
        assert!(removed::<V6>().expect("removed"));
        assert_eq!(tables(), "table ip kube-proxy\n");
        assert!(!remove::<V4>().expect("none is no error"));
        assert!(!remove::<V6>().expect("none is no error"));
    });
}

#[test]
fn a_table_without_owner_is_removed_too() {
    in_namespace(|| {
        let file = format!("{}/tests/data/ruleset-ip.nft", env!("CARGO_MANIFEST_DIR"));
        run("nft", &["-f", &file]);
        assert!(remove::<V4>().expect("removed"));
        assert_eq!(tables(), "");
    });
}

#[test]
fn a_table_whose_owner_lives_is_left_alone_and_its_owner_named() {
    in_namespace(|| {
        let kernel = NftTable::<V4>::open(RuleSettings::default()).expect("a table");
        if let Ownership::Shared(reason) = kernel.ownership() {
            return println!("not owned: {reason}");
        }
        match remove::<V4>() {
            Err(RemoveError::Owned { table, owner }) => {
                assert_eq!(table, "ip tandem");
                assert!(owner.starts_with(&format!("pid {}", std::process::id())), "{owner}");
            }
            other => panic!("{other:?}"),
        }
        assert!(tables().contains("table ip tandem"));
    });
}
