//! The configuration changes while Tandem runs, and requests go on.

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tandem_tests::eventually;
use tandem_tests::manifests::{self, Policy};
use tandem_tests::stage::{Ip, Stage, node_port_service, slices};
use tandem_tests::tandem::Tandem;
use tandem_tests::traffic::{Protocol, Request};

const NODE_PORT: u16 = 30_080;
const PATIENCE: Duration = Duration::from_secs(20);

fn web() -> Vec<Value> {
    let mut objects = vec![
        node_port_service("web", 10, NODE_PORT)
            .external_policy(Policy::Cluster)
            .build(),
    ];
    objects.extend(slices("web", &["web-1"]));
    objects
}

/// Replaces the file as an editor does, with these fields added to the usual ones.
fn configure(tandem: &Tandem, fields: &Value) -> Result<()> {
    let mut configuration = manifests::configuration();
    for (name, value) in fields.as_object().context("no fields")? {
        configuration[name] = value.clone();
    }
    replace(tandem, &manifests::to_yaml(&configuration)?)
}

fn replace(tandem: &Tandem, text: &str) -> Result<()> {
    let file = tandem.configuration();
    let new = file.with_extension("new");
    fs::write(&new, text)?;
    Ok(fs::rename(new, file)?)
}

/// Waits until each family takes nodePort traffic on exactly this address.
fn wait_for_addresses(stage: &Stage, wanted: [IpAddr; 2]) -> Result<()> {
    let [v4, v6] = wanted.map(|address| json!([address.to_string()]));
    let taken = || {
        let status = stage.tandem.status().ok()?;
        let of = |family: usize| &status["families"][family]["nodePortAddresses"];
        (*of(0) == v4 && *of(1) == v6).then_some(())
    };
    eventually(PATIENCE, taken).with_context(|| format!("not {wanted:?}: {:?}", stage.tandem.status()))
}

#[test]
fn node_port_addresses_change_in_the_file_while_requests_go_on_and_a_broken_file_changes_nothing() -> Result<()> {
    let mut stage = Stage::new(&web())?;
    let second: [IpAddr; 2] = ["192.0.2.101".parse()?, "2001:db8:2::101".parse()?];
    stage
        .node()
        .address("eth0", &["192.0.2.101/24", "2001:db8:2::101/64"])?;
    let first = Ip::BOTH.map(|family| stage.node_address(1, family));
    let mut running = Vec::new();
    for family in Ip::BOTH {
        let to = (family.cluster_ip(10), 80);
        running.push(Request::new(Protocol::Tcp, to.into()).repeat(stage.pod("web-2"))?);
    }
    wait_for_addresses(&stage, first)?;

    configure(
        &stage.tandem,
        &json!({ "nodePortAddresses": ["192.0.2.100/30", "2001:db8:2::100/126"] }),
    )?;
    wait_for_addresses(&stage, second)?;
    for family in Ip::BOTH {
        let to = (family.of(second), NODE_PORT);
        assert_eq!(
            stage.ask(stage.client(), 3, Protocol::Tcp, to)?.names(),
            ["web-1"],
            "{family:?}"
        );
        let outcome = stage.send(stage.client(), Protocol::Tcp, (family.of(first), NODE_PORT))?;
        assert!(outcome.answer().is_none(), "{family:?}: {outcome}");
    }

    replace(&stage.tandem, "nodePortAddresses: [")?;
    stage.tandem.wait_log("the configuration in use stays", PATIENCE)?;
    stage.settle()?;
    wait_for_addresses(&stage, second)?;
    let status = stage.tandem.status()?;
    let rejected = status["configuration"]["rejected"].as_str().context("not rejected")?;
    assert!(rejected.contains("unclosed bracket"), "{rejected}");
    let problem = &status["problems"][0];
    assert_eq!(problem["object"], json!("configuration"), "{problem}");

    configure(
        &stage.tandem,
        &json!({ "hostnameOverride": "other", "bindAddressHardFail": true }),
    )?;
    let line = stage.tandem.wait_log("takes effect at the next start", PATIENCE)?;
    assert!(
        line.contains("bindAddressHardFail") && !line.contains("hostnameOverride"),
        "{line}"
    );
    wait_for_addresses(&stage, first)?;
    assert_eq!(
        stage.tandem.status()?["configuration"],
        json!({ "rejected": null, "waiting": ["bindAddressHardFail: \"false\" becomes \"true\""] })
    );
    let text = stage.tandem.command(&["status"])?;
    assert!(text.contains("At the next start:     bindAddressHardFail"), "{text}");
    for requests in running {
        requests.wait_for(20, PATIENCE)?;
        let tally = requests.stop()?;
        assert_eq!(tally.lost(), 0, "{tally:?}");
    }
    let complaints = stage.tandem.log();
    let complaints = complaints
        .iter()
        .filter(|line| line.contains("the configuration in use stays"));
    assert_eq!(complaints.count(), 1, "told once");
    Ok(())
}

fn udp_timeout(stage: &Stage) -> Result<String> {
    let file = "/proc/sys/net/netfilter/nf_conntrack_udp_timeout";
    Ok(stage.node().run(|| fs::read_to_string(file))??.trim().to_owned())
}

#[test]
fn kernel_settings_are_written_at_the_start_and_when_they_change_and_one_that_cannot_be_is_named() -> Result<()> {
    let stage = Stage::with(&[], |plan| {
        plan.setting("conntrack", json!({ "udpTimeout": "77s", "min": 1_000_003 }))
    })?;
    assert_eq!(udp_timeout(&stage)?, "77");
    configure(&stage.tandem, &json!({ "conntrack": { "udpTimeout": "78s" } }))?;
    let changed = || (udp_timeout(&stage).ok()? == "78").then_some(());
    eventually(PATIENCE, changed).context("the change was not written")?;
    // Only the first network namespace may set how many connections are tracked.
    let file = Path::new("/proc/sys/net/netfilter/nf_conntrack_max");
    let line = stage.tandem.wait_log(&file.display().to_string(), PATIENCE)?;
    assert!(
        line.contains("WARN") && line.contains("1000003") && line.contains("cannot be written"),
        "{line}"
    );
    Ok(())
}

#[test]
fn tandems_own_file_is_noticed_when_it_comes_to_lie_beside_the_other() -> Result<()> {
    let stage = Stage::new(&web())?;
    let file = stage.tandem.configuration().with_file_name("tandem.conf");
    fs::write(
        &file,
        "apiVersion: tandem.config/v1alpha1\nkind: TandemConfiguration\ndropInvalid: true\nlog: {level: debug}\n",
    )?;
    let invalid = || {
        let rules = stage.node().exec(&["nft", "list", "table", "ip6", "tandem"]).ok()?;
        rules.contains("ct state invalid").then_some(())
    };
    eventually(PATIENCE, invalid).context("dropInvalid did nothing")?;
    fs::remove_file(&file)?;
    let valid = || invalid().is_none().then_some(());
    eventually(PATIENCE, valid).context("dropInvalid is not gone with its file")?;
    Ok(())
}
