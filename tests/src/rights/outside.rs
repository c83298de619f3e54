//! Packets from outside, on the device of an agent that may not reserve their ports itself.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use crate::eventually;
use crate::stage::{Ip, Stage, service, slices};
use crate::traffic::{Protocol, Request};

use super::ask::{TIMES, every_family};

/// The node's device.
pub(super) const DEVICE: &str = "eth0";
/// A Service that is asked from outside, and its only endpoint, which is on another node.
const NAME: &str = "far";
const NUMBER: u8 = 13;
const ENDPOINT: &str = "web-3";
/// The first port that XDP gives to its flows.
const FIRST_PORT: u16 = 49_152;
/// How long the verifier and a state may take. The longest wait of the agent before it tries something again is half a minute.
const PATIENCE: Duration = Duration::from_mins(1);
const PROTOCOLS: [Protocol; 2] = [Protocol::Tcp, Protocol::Udp];

/// The Service.
pub(super) fn objects() -> Vec<Value> {
    let external = Ip::BOTH.map(|family| family.external_ip(NUMBER).to_string());
    let far = service(NAME, NUMBER).external_ips(&external.each_ref().map(String::as_str));
    let mut objects = vec![far.build()];
    objects.extend(slices(NAME, &[ENDPOINT]));
    objects
}

/// Whether packets from outside pass in XDP. Without its programs, or before its ports are reserved, nftables must serve them, and
/// the status must say why: if the programs cannot be loaded, these words are the error.
pub(super) fn check(stage: &mut Stage) -> Result<()> {
    let why = wait(stage, "failed")?;
    every_family(|family| served(stage, family, false)).context("nftables does not serve them")?;
    if !why.contains("are not reserved") {
        bail!("{why}");
    }
    for part in [
        "/proc/sys/net/ipv4/ip_local_reserved_ports: Read-only file system",
        "`tandem run --init-only`",
    ] {
        ensure!(why.contains(part), "the status does not say {part:?}: {why}");
    }
    let said = stage.tandem.init_only()?;
    ensure!(said.contains("the ports 49152-65535 are reserved"), "{said}");
    wait(stage, "on")?;
    pass(stage)?;
    // The next agent takes over what is attached.
    stage.tandem.kill()?;
    stage.tandem.restart()?;
    stage.tandem.wait_ready()?;
    wait(stage, "on")?;
    pass(stage).context("after a restart")?;
    foreign(stage)
}

/// Somebody else's program is found, and left alone. Only a process with more rights could say its name.
fn foreign(stage: &mut Stage) -> Result<()> {
    const OTHER: &str = "other0";
    let node = stage.node();
    node.ip("link add other0 type veth peer name other1\nlink set other1 up\nlink set other0 up\n")?;
    let device = node.exec(&["ip", "link", "show", DEVICE])?;
    let id = device
        .split("prog/xdp id ")
        .nth(1)
        .and_then(|rest| rest.split_whitespace().next());
    let id = id.with_context(|| format!("no program is attached: {device}"))?;
    node.exec(&["bpftool", "net", "attach", "xdp", "id", id, "dev", OTHER])?;
    // The program is another one's as soon as the agent has loaded its own again.
    stage.tandem.kill()?;
    stage.tandem.restart()?;
    stage.tandem.wait_ready()?;
    wait(stage, "on")?;
    stage
        .tandem
        .change_own_setting("xdp", json!({ "devices": [DEVICE, OTHER] }))?;
    let mut last = Value::Null;
    let named = eventually(PATIENCE, || {
        last = stage.tandem.status().ok()?["outside"]["devices"].take();
        let refused = last.as_array()?.iter().find(|device| device["name"] == OTHER)?;
        let reason = refused["reason"].as_str()?;
        reason.contains("another XDP program is attached").then_some(())
    });
    named.with_context(|| format!("the other program is not named: {last:#}"))?;
    pass(stage).context("beside another program")
}

/// Whether all pass in XDP. The first packets teach the node the MAC addresses of its neighbours.
fn pass(stage: &Stage) -> Result<()> {
    let passes = || {
        every_family(|family| served(stage, family, true))
            .map_err(|error| format!("{error:#}"))
            .err()
    };
    let mut last = None;
    let all = eventually(PATIENCE, || {
        last = passes();
        last.is_none().then_some(())
    });
    all.with_context(|| format!("they do not pass in XDP: {}", last.unwrap_or_default()))?;
    let status = stage.tandem.status()?;
    let families = status["outside"]["families"].as_array().context("no families")?;
    let sent = families.iter().filter(|family| family["sent"].as_u64() > Some(0));
    ensure!(sent.count() == Ip::BOTH.len(), "{families:#?}");
    Ok(())
}

/// Waits for this state of packets from outside. Returns the reason that the status gives.
fn wait(stage: &Stage, wanted: &str) -> Result<String> {
    let mut last = Value::Null;
    let there = eventually(PATIENCE, || {
        last = stage.tandem.status().ok()?["outside"].clone();
        (last["state"] == wanted).then_some(())
    });
    there.with_context(|| format!("the status does not say {wanted}: {last:#}"))?;
    Ok(last["reason"].as_str().unwrap_or_default().to_owned())
}

/// Whether the endpoint answers the client, and sees the node. If XDP served it, it sees a port of XDP's.
fn served(stage: &Stage, family: Ip, by_xdp: bool) -> Result<()> {
    for protocol in PROTOCOLS {
        for _ in 0..TIMES {
            let to = SocketAddr::new(family.external_ip(NUMBER), 80);
            let outcome = Request::new(protocol, to).send(stage.client())?;
            let answer = outcome.answer().with_context(|| format!("{protocol}: {outcome}"))?;
            ensure!(answer.by == ENDPOINT, "{protocol}: answered by {}", answer.by);
            ensure!(
                answer.source.ip() == stage.node_address(1, family) && (answer.source.port() >= FIRST_PORT || !by_xdp),
                "{protocol}: the endpoint saw {}",
                answer.source
            );
        }
    }
    Ok(())
}
