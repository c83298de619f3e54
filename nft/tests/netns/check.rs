//! The check of the kernel. Needs root and nft. Each test runs in a network namespace of its own. MUST NOT send packets.

use tandem_core::family::V4;
use tandem_core::plane::RuleSettings;
use tandem_nft::{NftTable, check_kernel};

use crate::support::{in_namespace, run};

fn ruleset() -> String {
    run("nft", &["list", "ruleset"])
}

#[test]
fn the_check_leaves_a_node_without_rules_as_it_was() {
    in_namespace(|| {
        check_kernel().expect("this kernel has all that the rules need");
        assert_eq!(ruleset(), "");
    });
}

#[test]
fn the_check_leaves_tables_that_are_there_as_they_are() {
    in_namespace(|| {
        let table = NftTable::<V4>::open(RuleSettings::default()).expect("opens");
        let before = ruleset();
        assert!(before.contains("table ip tandem"), "{before}");
        check_kernel().expect("another program's table is not in the way");
        assert_eq!(ruleset(), before);
        drop(table);
        let left = ruleset();
        check_kernel().expect("a table that nobody keeps is not in the way");
        assert_eq!(ruleset(), left);
    });
}
