//! Tandem replaces kube-proxy on a node where kube-proxy ran before.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tandem_tests::eventually;
use tandem_tests::netns::{Namespace, feed_command};
use tandem_tests::stage::{Ip, Stage, service, slices};
use tandem_tests::traffic::Protocol;

/// Makes rules like those that kube-proxy's nftables mode leaves. They send a ClusterIP to an endpoint that is gone.
fn leave_rules(node: &Namespace) -> Result<()> {
    for (table, family) in [("ip", Ip::V4), ("ip6", Ip::V6)] {
        let [address, gone] = [
            family.cluster_ip(10),
            family.of(["10.244.1.99".parse()?, "fd00:10:244:1::99".parse()?]),
        ];
        let rules = format!(
            "table {table} kube-proxy {{\n chain nat-prerouting {{\n type nat hook prerouting priority -100;\n \
             {table} daddr {address} dnat to {gone}\n }}\n chain nat-output {{\n type nat hook output priority -100;\n \
             {table} daddr {address} dnat to {gone}\n }}\n}}\n"
        );
        let mut command = std::process::Command::new("nft");
        command.args(["-f", "-"]);
        node.run(|| feed_command(&mut command, &rules))??;
    }
    Ok(())
}

fn tables(node: &Namespace) -> Result<String> {
    node.exec(&["nft", "list", "tables"])
}

fn web() -> Vec<serde_json::Value> {
    let mut objects = vec![service("web", 10).build()];
    objects.extend(slices("web", &["web-3"]));
    objects
}

#[test]
fn what_kube_proxy_left_is_removed_once_everything_is_programmed() -> Result<()> {
    let mut stage = Stage::new(&web())?;
    stage.tandem.terminate()?;
    leave_rules(stage.node())?;
    stage.tandem.restart()?;
    stage.tandem.wait_ready()?;
    eventually(Duration::from_secs(5), || {
        tables(stage.node())
            .is_ok_and(|tables| !tables.contains("kube-proxy"))
            .then_some(())
    })
    .with_context(|| format!("{:?}", tables(stage.node())))?;
    for family in Ip::BOTH {
        for from in [stage.client(), stage.pod("web-1"), stage.node()] {
            let answers = stage.ask(from, 5, Protocol::Tcp, (family.cluster_ip(10), 80))?;
            ensure!(
                answers.names() == ["web-3"],
                "{family:?} from {}: {:?}",
                from.name(),
                answers.names()
            );
        }
    }
    Ok(())
}

#[test]
fn what_kube_proxy_left_stays_where_the_settings_say_so() -> Result<()> {
    let mut stage = Stage::with(&web(), |plan| plan.own_setting("removeKubeProxyRules", false))?;
    stage.tandem.terminate()?;
    leave_rules(stage.node())?;
    stage.tandem.restart()?;
    stage.tandem.wait_ready()?;
    stage.settle()?;
    let tables = tables(stage.node())?;
    ensure!(
        tables.contains("table ip kube-proxy") && tables.contains("table ip6 kube-proxy"),
        "{tables}"
    );
    Ok(())
}

#[test]
fn rules_of_iptables_mode_are_warned_of() -> Result<()> {
    let mut stage = Stage::new(&web())?;
    stage.tandem.terminate()?;
    stage
        .node()
        .exec(&["nft", "add table ip nat; add chain ip nat KUBE-SERVICES"])?;
    stage.tandem.restart()?;
    stage.tandem.wait_log("kube-proxy --cleanup", Duration::from_secs(5))?;
    stage.tandem.wait_ready()
}
