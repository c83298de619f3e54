//! Golden rulesets: the tables that the agent makes from the manifests in `tests/data/golden`, as nft lists them.
//!
//! Each scenario is a file of manifests. Its snapshot has both tables, without the fixed rules. To accept changes, run
//! `INSTA_UPDATE=always cargo test -p tandem-tests --test golden`, and then look at the difference.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use insta::{Settings, assert_snapshot};
use serde_json::json;
use tandem_tests::manifests::{self, Folder};
use tandem_tests::netns::Namespace;
use tandem_tests::nft;
use tandem_tests::scratch::Scratch;
use tandem_tests::tandem::{Plan, Tandem};

/// The tables as nft lists them, IPv4 first, when the agent has programmed this scenario.
fn run(scenario: &str, settings: impl FnOnce(Plan) -> Plan) -> Result<[String; 2]> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("data/golden")
        .join(format!("{scenario}.yaml"));
    let text = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    let scratch = Scratch::new("golden")?;
    let folder = Folder::new(scratch.path().join("manifests"))?;
    folder.write_text("scenario.yaml", &text)?;
    folder.write("cluster.yaml", &[node(), manifests::service_cidr()])?;

    let namespace = Namespace::new("golden")?;
    namespace.address("lo", &["192.0.2.11/24", "192.0.2.111/24", "2001:db8:2::11/64"])?;
    let mut tandem = settings(Tandem::in_namespace(&namespace, "node1").directory(&folder)).start()?;
    tandem.wait_ready()?;
    let [v4, v6] = nft::FAMILIES.map(|family| nft::text(&namespace, family));
    tandem.finish()?;
    Ok([v4?, v6?])
}

fn node() -> serde_json::Value {
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": { "name": "node1" },
        "spec": { "podCIDRs": ["10.244.1.0/24", "fd00:10:244:1::/64"] },
        "status": { "addresses": [
            { "type": "InternalIP", "address": "192.0.2.11" },
            { "type": "InternalIP", "address": "2001:db8:2::11" },
        ] },
    })
}

fn hold(scenario: &str, snapshot: &str) {
    let mut settings = Settings::clone_current();
    settings.set_omit_expression(true);
    settings.bind(|| assert_snapshot!(scenario, snapshot));
}

fn check(scenario: &str) -> Result<()> {
    check_with(scenario, |plan| plan)
}

fn check_with(scenario: &str, settings: impl FnOnce(Plan) -> Plan) -> Result<()> {
    let tables = run(scenario, settings)?;
    hold(scenario, &tables.map(|table| nft::picture(&table)).join("\n"));
    Ok(())
}

#[test]
fn a_cluster_ip_is_three_kinds_of_rows() -> Result<()> {
    check("cluster_ip")
}

#[test]
fn services_of_one_family_are_in_one_table() -> Result<()> {
    check("single_stack")
}

#[test]
fn every_kind_of_address_leads_to_one_list() -> Result<()> {
    check("every_kind_of_address")
}

#[test]
fn policy_local_has_a_list_of_its_own() -> Result<()> {
    check("traffic_policy_local")
}

#[test]
fn services_with_the_same_affinity_share_chains() -> Result<()> {
    check("affinity")
}

#[test]
fn source_ranges_are_without_overlaps() -> Result<()> {
    check("source_ranges")
}

#[test]
fn empty_lists_say_why_they_are_empty() -> Result<()> {
    check("no_endpoints")
}

#[test]
fn endpoints_are_those_that_may_be_used_each_once() -> Result<()> {
    check("states_and_slices")
}

#[test]
fn an_address_that_several_claim_is_the_oldests() -> Result<()> {
    check("one_address_two_services")
}

#[test]
fn each_port_has_its_own_list() -> Result<()> {
    check("several_ports")
}

#[test]
fn what_is_not_ours_leaves_no_trace() -> Result<()> {
    check("not_ours")
}

#[test]
fn ranges_choose_the_addresses_of_node_ports() -> Result<()> {
    check_with("node_port_ranges", |plan| {
        plan.setting("nodePortAddresses", json!(["192.0.2.96/27", "2001:db8:2::/64"]))
    })
}

#[test]
fn the_whole_table_is_as_nft_lists_it() -> Result<()> {
    let version = nft::version()?;
    if version != "1.0.6" {
        println!("skipped: the snapshot is as nft 1.0.6 lists it, and this is {version}");
        return Ok(());
    }
    let tables = run("whole_table", |plan| {
        plan.setting("nftables", json!({ "masqueradeAll": true, "masqueradeBit": 15 }))
    })?;
    hold("whole_table", &tables.join("\n"));
    Ok(())
}
