//! A short form of `make sockets`. Needs root.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tandem_tests::bpffs::BpfFolder;
use tandem_tests::eventually;
use tandem_tests::manifests::{self, Folder};
use tandem_tests::scratch::Scratch;
use tandem_tests::sockets::{self, Options, Took};
use tandem_tests::tandem::Tandem;
use tandem_tests::topology::World;

#[test]
fn sockets_answer_as_the_rules_do_and_the_right_plane_takes_them() -> Result<()> {
    let options = Options {
        every: Some(11),
        only: None,
    };
    let mut lines = Vec::new();
    let report = sockets::run(&options, |line| lines.push(line.to_owned()))?;
    ensure!(report.wrong() == 0, "{}\n{report}", lines.join("\n"));
    // Agreement must not be agreement about nothing.
    ensure!(
        report.taken(Took::Sockets) > 50 && report.taken(Took::Nftables) > 50,
        "{report}"
    );
    Ok(())
}

/// How long a state may take to come. The longest wait of the agent before it tries something again is half a minute.
const PATIENCE: Duration = Duration::from_mins(1);

/// Two nodes and a pod.
fn world() -> Result<World> {
    let mut world = World::with_pods(&[("web", 1, 10)])?;
    world.give_cgroups()?;
    Ok(world)
}

/// The cluster without Services.
fn cluster(world: &World, scratch: &Scratch) -> Result<Folder> {
    let folder = Folder::new(scratch.path().join("manifests"))?;
    let mut objects: Vec<_> = world.nodes.iter().map(manifests::node).collect();
    objects.push(manifests::service_cidr());
    folder.write("cluster.yaml", &objects)?;
    Ok(folder)
}

/// Waits until the status says why sockets are off, with these words, and that it is a problem.
fn wait_reason(tandem: &Tandem, words: &str) -> Result<()> {
    let mut last = json!(null);
    let said = eventually(PATIENCE, || {
        last = tandem.status().ok()?;
        let reason = last["sockets"]["reason"].as_str()?;
        (reason.contains(words) && last["problems"].to_string().contains(words)).then_some(())
    });
    said.with_context(|| format!("the status does not say {words:?}:\n{last:#}"))
}

/// Runs bpftool with these words. Returns what it printed.
fn bpftool(words: &[&str]) -> Result<String> {
    let output = Command::new("bpftool").args(words).output()?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "bpftool {words:?}: {complaint}");
    Ok(String::from_utf8(output.stdout)?)
}

/// Attaches a program that allows no other beside it. It is one of another node, whose number the kernel knows. Returns the number.
fn attach_alone(folder: &str, from: &str) -> Result<String> {
    let shown = bpftool(&["-j", "cgroup", "show", from])?;
    let shown: serde_json::Value = serde_json::from_str(&shown).context("read what bpftool shows")?;
    let mut programs = shown.as_array().into_iter().flatten();
    let program = programs
        .find(|program| program["name"] == json!("recvmsg4"))
        .context("nothing is attached to the other node's folder")?;
    let id = program["id"].to_string();
    bpftool(&["cgroup", "attach", folder, "recvmsg4", "id", &id, "override"])?;
    Ok(id)
}

#[test]
fn what_belongs_to_somebody_else_keeps_sockets_off_and_the_status_says_whose_it_is() -> Result<()> {
    let world = world()?;
    let scratch = Scratch::new("others")?;
    let folder = cluster(&world, &scratch)?;
    let (others, own) = (BpfFolder::new("pins-others")?, BpfFolder::new("pins-own")?);
    let plan = Tandem::on(world.node(2)?).directory(&folder);
    let other = plan.sockets(world.groups(2)?, &others).start()?;
    other.wait_sockets()?;
    // The pins of another Tandem that runs.
    let plan = Tandem::on(world.node(1)?).directory(&folder);
    let plan = plan.expect_error("is in use by another Tandem that runs");
    let mut tandem = plan.sockets(world.groups(1)?, &others).start()?;
    tandem.wait_ready()?;
    wait_reason(&tandem, "is in use by another Tandem that runs")?;
    ensure!(other.follows(), "the other one's sockets are off");
    // A program that allows no other.
    let node = world.groups(1)?.path().display().to_string();
    let id = attach_alone(&node, &world.groups(2)?.path().display().to_string())?;
    tandem.change_own_setting("bpfFolder", own.path().display().to_string())?;
    wait_reason(&tandem, "a program that allows no other is attached to")?;
    bpftool(&["cgroup", "detach", &node, "recvmsg4", "id", &id])?;
    tandem.wait_sockets()?;
    ensure!(other.follows(), "the other one's sockets are off");
    tandem.finish()?;
    other.finish()
}

#[test]
fn a_folder_of_pins_that_is_another_one_while_its_programs_end_is_emptied() -> Result<()> {
    let world = world()?;
    let scratch = Scratch::new("moved-pins")?;
    let folder = cluster(&world, &scratch)?;
    let (first, second) = (BpfFolder::new("pins-first")?, BpfFolder::new("pins-second")?);
    let plan = Tandem::on(world.node(1)?).directory(&folder);
    let mut tandem = plan.sockets(world.groups(1)?, &first).start()?;
    tandem.wait_sockets()?;
    tandem.change_own_setting("dataPlane", "nft")?;
    let ends = || (tandem.status().ok()?["sockets"]["state"] == json!("ending")).then_some(());
    eventually(PATIENCE, ends).context("sockets do not end")?;
    ensure!(first.path().exists(), "nothing lingers");
    tandem.change_own_setting("bpfFolder", second.path().display().to_string())?;
    tandem.change_own_setting("dataPlane", "xdp")?;
    tandem.wait_sockets()?;
    ensure!(!first.path().exists(), "pins stay in the folder of before");
    ensure!(second.path().exists(), "nothing is pinned");
    tandem.finish()
}

#[test]
fn what_an_earlier_run_pinned_is_removed_if_another_folder_is_set_before_the_programs_are_loaded() -> Result<()> {
    let world = world()?;
    let scratch = Scratch::new("moved-early")?;
    let folder = cluster(&world, &scratch)?;
    let (first, second) = (BpfFolder::new("pins-earlier")?, BpfFolder::new("pins-later")?);
    let plan = Tandem::on(world.node(1)?).directory(&folder);
    let mut tandem = plan.sockets(world.groups(1)?, &first).start()?;
    tandem.wait_sockets()?;
    tandem.kill()?;
    // A map of another size keeps the programs from being loaded.
    let maps = std::fs::read_dir(first.path())?
        .next()
        .context("no pins")??
        .path()
        .join("maps");
    let strange = maps.join("FRONTENDS4");
    std::fs::remove_file(&strange)?;
    let (pin, kind) = (
        strange.display().to_string(),
        "type hash key 8 value 64 entries 16 name strange",
    );
    let words: Vec<&str> = ["map", "create", &pin].into_iter().chain(kind.split(' ')).collect();
    bpftool(&words)?;
    let why = "its keys and values have 8 and 64 bytes instead of 8 and 8";
    tandem.expect_error(why);
    tandem.restart()?;
    wait_reason(&tandem, why)?;
    tandem.change_own_setting("bpfFolder", second.path().display().to_string())?;
    let emptied = || (!first.path().exists()).then_some(());
    eventually(PATIENCE, emptied).context("pins stay in the folder of before")?;
    tandem.wait_sockets()?;
    ensure!(second.path().exists(), "nothing is pinned");
    tandem.finish()
}
