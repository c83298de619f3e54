//! A short form of `make sockets`. Needs root.

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

#[test]
fn a_folder_of_pins_that_is_another_one_while_its_programs_end_is_emptied() -> Result<()> {
    let mut world = World::with_pods(&[("web", 1, 10)])?;
    world.give_cgroups()?;
    let scratch = Scratch::new("moved-pins")?;
    let folder = Folder::new(scratch.path().join("manifests"))?;
    let mut objects: Vec<_> = world.nodes.iter().map(manifests::node).collect();
    objects.push(manifests::service_cidr());
    folder.write("cluster.yaml", &objects)?;
    let (first, second) = (BpfFolder::new("pins-first")?, BpfFolder::new("pins-second")?);
    let plan = Tandem::on(world.node(1)?).directory(&folder);
    let mut tandem = plan.sockets(world.groups(1)?, &first).start()?;
    tandem.wait_sockets()?;
    tandem.change_own_setting("dataPlane", "nft")?;
    let ends = || (tandem.status().ok()?["sockets"]["state"] == json!("ending")).then_some(());
    eventually(Duration::from_secs(20), ends).context("sockets do not end")?;
    ensure!(first.path().exists(), "nothing lingers");
    tandem.change_own_setting("bpfFolder", second.path().display().to_string())?;
    tandem.change_own_setting("dataPlane", "xdp")?;
    tandem.wait_sockets()?;
    ensure!(!first.path().exists(), "pins stay in the folder of before");
    ensure!(second.path().exists(), "nothing is pinned");
    tandem.finish()
}
