//! What a proxy has programmed on a node.

use std::process::Command;

use anyhow::Result;
use tandem_tests::netns::{Namespace, run_command};

/// How many ClusterIPs a proxy has in the tables of this name. Both proxies call the set `cluster-ips`.
pub fn cluster_ips(node: &Namespace, family: &str, table: &str) -> Result<usize> {
    let list = || run_command(Command::new("nft").args(["list", "set", family, table, "cluster-ips"]));
    // Before the proxy's first transaction, there is no such set.
    Ok(node.run(list)?.map_or(0, |text| elements(&text)))
}

/// The number of elements in the listing of a set.
fn elements(listing: &str) -> usize {
    let inside = listing
        .split_once("elements = {")
        .and_then(|(_, rest)| rest.split_once('}'));
    inside.map_or(0, |(elements, _)| elements.split(',').count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_elements_of_a_listing_are_counted() {
        let listing = "table ip t {\n\tset cluster-ips {\n\t\ttype ipv4_addr\n\t\telements = { 10.96.0.1, 10.96.0.2,\n\t\t\t     10.96.0.3 }\n\t}\n}\n";
        assert_eq!(elements(listing), 3);
        assert_eq!(
            elements("table ip t {\n\tset cluster-ips {\n\t\ttype ipv4_addr\n\t}\n}\n"),
            0
        );
    }
}
