//! Finds other programs' chains that drop forwarded packets, among many chains that do not.

use tandem_core::family::{V4, V6};
use tandem_core::plane::RuleSettings;
use tandem_nft::{NftTable, forward_drops};

use crate::support::{in_namespace, run};

fn found() -> Vec<String> {
    let found = forward_drops().expect("chains");
    found.iter().map(ToString::to_string).collect()
}

#[test]
fn filter_chains_of_hook_forward_with_policy_drop_are_found_and_no_others() {
    in_namespace(|| {
        let kernels = (
            NftTable::<V4>::open(RuleSettings::default()).expect("a table"),
            NftTable::<V6>::open(RuleSettings::default()).expect("a table"),
        );
        assert_eq!(found(), [""; 0], "its own chains");
        let chains = [
            (
                "ip filter",
                "FORWARD",
                "type filter hook forward priority 0; policy drop;",
            ),
            ("ip filter", "INPUT", "type filter hook input priority 0; policy drop;"),
            (
                "ip filter",
                "OUTPUT",
                "type filter hook output priority 0; policy drop;",
            ),
            (
                "ip6 filter",
                "FORWARD",
                "type filter hook forward priority 0; policy drop;",
            ),
            ("ip6 filter", "DOCKER-USER", ""),
            ("inet fw", "late", "type filter hook forward priority 300; policy drop;"),
            ("inet fw", "open", "type filter hook forward priority 0; policy accept;"),
            (
                "bridge frames",
                "forward",
                "type filter hook forward priority 0; policy drop;",
            ),
        ];
        for (table, chain, hook) in chains {
            run("nft", &[&format!("add table {table}")]);
            run("nft", &[&format!("add chain {table} {chain} {{ {hook} }}")]);
        }
        assert_eq!(found(), ["inet fw late", "ip filter FORWARD", "ip6 filter FORWARD"]);
        // The command that the status recommends.
        run(
            "nft",
            &["chain inet fw late '{ policy accept; }'".replace('\'', "").as_str()],
        );
        assert_eq!(found(), ["ip filter FORWARD", "ip6 filter FORWARD"]);
        drop(kernels);
    });
}
