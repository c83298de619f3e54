//! What kube-proxy has programmed on a node.

use std::process::Command;

use anyhow::Result;
use tandem_tests::netns::{Namespace, run_command};

/// How many ClusterIPs kube-proxy has programmed.
pub fn cluster_ips(node: &Namespace, family: &str) -> Result<usize> {
    let list = || run_command(Command::new("nft").args(["list", "set", family, "kube-proxy", "cluster-ips"]));
    // Before its first sync, there is no such set.
    Ok(node
        .run(list)?
        .map_or(0, |text| text.split(['{', ',']).count().saturating_sub(2)))
}
