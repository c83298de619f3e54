//! What happens to the agent, one step after the other. After each step everything is as it was before.

use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::connections::Connections;
use super::faults::{self, Faults};
use super::load::Load;
use super::probe::Probe;
use super::site::Site;
use crate::eventually;
use crate::manifests::Service;
use crate::nft::FAMILIES;
use crate::tandem::beside;
use crate::traffic::Protocol;

/// A build of Tandem whose maps have another layout.
pub(super) const OTHER_LAYOUT: &str = "tandem-other-layout";
/// What the status says if the kernel refuses a call that is made once in each run.
const NOT_IN_THIS_RUN: &str = "it is asked once in each run of Tandem";
const PATIENCE: Duration = Duration::from_secs(40);
/// So many requests pass before what was changed is changed again.
const SOME: u64 = 300;

/// A step.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Step {
    /// Endpoints change, and nothing else.
    Quiet,
    /// `kill -9`, and a start.
    Killed,
    /// SIGTERM, and a start.
    Restarted,
    /// No agent for a while, with changes meanwhile.
    Down,
    /// `dataPlane` changes while the agent runs.
    Planes,
    /// `socketLoadBalancing` changes while the agent runs.
    Whose,
    /// Another build takes over, whose maps have another layout, and then this one again.
    OtherLayout,
    /// The agent is killed, and somebody deletes the tables.
    TablesDeleted,
    /// The kernel refuses all changes of the tables.
    NftablesRefused,
    /// The kernel refuses to write to maps.
    MapsRefused,
    /// At a start, a call of `bpf` is refused, each time another one.
    BpfRefused,
    /// The pins of links are deleted.
    LinksDeleted,
    /// The pins of maps are deleted.
    MapsDeleted,
    /// All pins and their folders are deleted.
    PinsDeleted,
    /// Kubelet's folder is removed, and made again.
    FolderRemoved,
}

impl Step {
    /// All, in their order.
    pub(super) fn all(short: bool) -> Vec<Self> {
        if short {
            return vec![Self::Killed, Self::Planes, Self::NftablesRefused, Self::PinsDeleted];
        }
        vec![
            Self::Quiet,
            Self::Killed,
            Self::Restarted,
            Self::Down,
            Self::Planes,
            Self::Whose,
            Self::OtherLayout,
            Self::TablesDeleted,
            Self::NftablesRefused,
            Self::MapsRefused,
            Self::BpfRefused,
            Self::LinksDeleted,
            Self::MapsDeleted,
            Self::PinsDeleted,
            Self::FolderRemoved,
        ]
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Quiet => "endpoints change",
            Self::Killed => "the agent is killed",
            Self::Restarted => "the agent is restarted",
            Self::Down => "no agent for a while",
            Self::Planes => "dataPlane changes",
            Self::Whose => "socketLoadBalancing changes",
            Self::OtherLayout => "a build with another layout, and back",
            Self::TablesDeleted => "the tables are deleted",
            Self::NftablesRefused => "nftables is refused",
            Self::MapsRefused => "writes to maps are refused",
            Self::BpfRefused => "bpf is refused at the start",
            Self::LinksDeleted => "pins of links are deleted",
            Self::MapsDeleted => "pins of maps are deleted",
            Self::PinsDeleted => "all pins are deleted",
            Self::FolderRemoved => "kubelet's folder is removed",
        }
    }

    /// Does it.
    pub(super) fn run(
        self,
        site: &mut Site,
        probe: &Probe,
        load: &Load,
        connections: &Connections,
        short: bool,
    ) -> Result<()> {
        match self {
            Self::Quiet => taken(site, probe, load, if short { 5 } else { 30 }),
            Self::Killed => {
                for _ in 0..if short { 1 } else { 5 } {
                    site.tandem.kill()?;
                    again(site, probe, load, Duration::from_secs(1))?;
                }
                Ok(())
            }
            Self::Restarted => {
                for _ in 0..if short { 1 } else { 5 } {
                    site.tandem.terminate()?;
                    again(site, probe, load, Duration::ZERO)?;
                }
                Ok(())
            }
            Self::Down => {
                site.tandem.terminate()?;
                again(site, probe, load, Duration::from_secs(if short { 2 } else { 60 }))
            }
            Self::Planes => {
                for _ in 0..if short { 1 } else { 4 } {
                    for plane in ["nft", "xdp"] {
                        site.turn(plane)?;
                        shifts(site, probe, load, 1)?;
                    }
                }
                Ok(())
            }
            Self::Whose => {
                for whose in ["node", "all", "node", "off", "all"] {
                    site.tandem.change_own_setting("socketLoadBalancing", whose)?;
                    match whose {
                        "off" => site.wait_state("ending")?,
                        "node" => wait_pods(site, false)?,
                        _ => site.tandem.wait_sockets()?,
                    }
                    shifts(site, probe, load, 1)?;
                }
                Ok(())
            }
            Self::OtherLayout => other_layout(site, probe, load),
            Self::TablesDeleted => tables_deleted(site, probe, load, connections, short),
            Self::NftablesRefused => nftables_refused(site, probe, load, short),
            Self::MapsRefused => maps_refused(site, probe, load),
            Self::BpfRefused => bpf_refused(site, probe, load),
            Self::LinksDeleted => pins_deleted(site, probe, load, &["links"]),
            Self::MapsDeleted => pins_deleted(site, probe, load, &["maps"]),
            Self::PinsDeleted => pins_deleted(site, probe, load, &[]),
            Self::FolderRemoved => folder_removed(site, probe, load),
        }
    }
}

/// Endpoints change so often, and each time some requests pass.
fn shifts(site: &mut Site, probe: &Probe, load: &Load, times: usize) -> Result<()> {
    for _ in 0..times {
        site.shift(probe)?;
        probe.wait_for(SOME / 4)?;
        load.wait_for(SOME)?;
    }
    Ok(())
}

/// The agent, which was ended, starts again. Endpoints changed meanwhile.
fn again(site: &mut Site, probe: &Probe, load: &Load, pause: Duration) -> Result<()> {
    site.begin_shift(probe)?;
    sleep(pause);
    site.tandem.restart()?;
    site.end_shift(probe)?;
    load.wait_for(SOME)?;
    site.tandem.wait_ready()?;
    taken(site, probe, load, 2)
}

/// The same while sockets take every new socket: those that have an endpoint leave it with their next datagram.
fn taken(site: &mut Site, probe: &Probe, load: &Load, times: usize) -> Result<()> {
    site.tandem.wait_sockets()?;
    probe.taken(true);
    let shifted = shifts(site, probe, load, times);
    probe.taken(false);
    shifted
}

/// Waits until the pods' programs are attached, or not.
fn wait_pods(site: &Site, attached: bool) -> Result<()> {
    let is_so = || (site.tandem.status().ok()?["sockets"]["pods"]["folder"].is_string() == attached).then_some(());
    eventually(PATIENCE, is_so).with_context(|| format!("the pods' programs are attached: not {attached}"))
}

fn other_layout(site: &mut Site, probe: &Probe, load: &Load) -> Result<()> {
    let other = beside(OTHER_LAYOUT)?;
    ensure!(
        other.exists(),
        "{} is not there: `make xdp-switch` builds it",
        other.display()
    );
    upgrade_without_a_change(site, &other, load)?;
    shifts(site, probe, load, 2)?;
    for _ in 0..2 {
        site.tandem.terminate()?;
        site.tandem.run_program(Some(other.clone()));
        again(site, probe, load, Duration::ZERO)?;
        // This one cannot read the other's maps. It leaves them alone, switches them off, and says so.
        site.tandem.expect_error("was made by a newer Tandem");
        site.tandem.terminate()?;
        site.tandem.run_program(None);
        site.begin_shift(probe)?;
        site.tandem.restart()?;
        site.end_shift(probe)?;
        site.wait_state("failed")?;
        shifts(site, probe, load, 2)?;
    }
    // Once they are gone, it begins anew.
    faults::delete_everything_pinned(site)?;
    site.tandem.wait_sockets()?;
    shifts(site, probe, load, 2)
}

/// If no Service changes meanwhile, one layout's programs answer until the other's do. So nothing comes to nftables.
fn upgrade_without_a_change(site: &mut Site, other: &Path, load: &Load) -> Result<()> {
    site.tandem.wait_sockets()?;
    let forgotten = || (site.translated_by_nftables().ok()? == 0).then_some(());
    eventually(PATIENCE, forgotten).context("nftables still takes connections")?;
    site.tandem.terminate()?;
    site.tandem.run_program(Some(other.to_owned()));
    site.restart()?;
    load.wait_for(SOME)?;
    let tracked = site.translated_by_nftables()?;
    ensure!(tracked == 0, "nftables took {tracked} connections during the upgrade");
    Ok(())
}

/// What sockets take needs no table. So nothing of it is lost until they are there again. Nobody translates what nftables took:
/// the kernel does so only while there are tables.
fn tables_deleted(site: &mut Site, probe: &Probe, load: &Load, connections: &Connections, short: bool) -> Result<()> {
    for _ in 0..if short { 1 } else { 3 } {
        wait_released(site, probe)?;
        connections.use_only_sockets(true)?;
        // The kernel protects them while the agent runs.
        site.tandem.kill()?;
        for family in FAMILIES {
            site.node()?.exec(&["nft", "delete", "table", family, "tandem"])?;
        }
        load.wait_for(SOME)?;
        again(site, probe, load, Duration::from_secs(1))?;
        connections.use_only_sockets(false)?;
    }
    Ok(())
}

/// Waits until no UDP socket is left to nftables any more because nftables served it when sockets were switched on.
fn wait_released(site: &Site, probe: &Probe) -> Result<()> {
    site.tandem.wait_sockets()?;
    // Those that ask all the time would be held all the time. These are new ones.
    probe.taken(true);
    let released = || {
        let status = site.tandem.status().ok()?;
        let maps = status["sockets"]["maps"].as_array()?;
        let empty = |name: &str| {
            maps.iter()
                .any(|map| map["name"] == json!(name) && map["used"] == json!(0))
        };
        (empty("HELD4") && empty("HELD6")).then_some(())
    };
    let released = eventually(PATIENCE, released).context("UDP sockets are held");
    probe.taken(false);
    released
}

/// While the tables do not change, nothing does: the endpoint that they still have goes on answering.
fn nftables_refused(site: &mut Site, probe: &Probe, load: &Load, short: bool) -> Result<()> {
    for error in if short { &["ENOBUFS"][..] } else { &["ENOBUFS", "EPERM"] } {
        site.tandem.expect_error("changes wait; what is in the kernel stays");
        let faults = Faults::start(site, "sendto", error)?;
        site.begin_shift(probe)?;
        probe.only(site.shifted_from());
        sleep(Duration::from_secs(2));
        load.wait_for(SOME)?;
        ensure!(
            !site.is_shifted()?,
            "a change was programmed while nftables was refused"
        );
        probe.either();
        faults.end()?;
        site.end_shift(probe)?;
        shifts(site, probe, load, 1)?;
    }
    site.tandem.wait_ready()?;
    site.tandem.wait_sockets()
}

/// A follower that cannot write is switched off, and goes on later.
fn maps_refused(site: &mut Site, probe: &Probe, load: &Load) -> Result<()> {
    for error in ["ENOMEM", "EPERM"] {
        site.tandem.expect_error("sockets are off: ");
        let faults = Faults::start(site, "bpf", error)?;
        // A frontend is an element of a hash, so a new Service needs a system call.
        let addresses = ["10.96.0.77", "fd00:10:96::77"];
        let more = Service::new("default", "more").cluster_ips(&addresses);
        site.folder
            .write("more.yaml", &[more.port("", Protocol::Tcp, 80, 80).build()])?;
        let behind = || {
            let status = site.tandem.status().ok()?;
            let families = status["families"].as_array()?;
            families
                .iter()
                .all(|family| family["follower"]["state"] == json!("behind"))
                .then_some(())
        };
        eventually(PATIENCE, behind).context("no follower is behind")?;
        shifts(site, probe, load, 2)?;
        faults.end()?;
        site.tandem.wait_sockets()?;
        shifts(site, probe, load, 1)?;
        site.folder.remove("more.yaml")?;
        shifts(site, probe, load, 1)?;
    }
    Ok(())
}

/// With pins and without, so that calls are refused that make, adopt, attach and pin things: about 24 of them each time, spread
/// over the start. (The tests of `tandem-xdp` refuse each one.)
fn bpf_refused(site: &mut Site, probe: &Probe, load: &Load) -> Result<()> {
    let file = site.tandem.log_folder().join("bpf.txt");
    for text in ["sockets: ", "sockets are off: "] {
        site.tandem.expect_error(text);
    }
    for with_pins in [false, true] {
        let prepare = |site: &mut Site, failing| -> Result<()> {
            site.tandem.terminate()?;
            if !with_pins {
                // No program stays attached, so an answer that is under way would come from the endpoint.
                let _rest = load.rest();
                faults::delete_everything_pinned(site)?;
                faults::wait_detached(site)?;
            }
            site.tandem.run_by(faults::wrapper(failing, &file));
            site.tandem.restart()?;
            site.tandem.wait_ready()?;
            eventually(PATIENCE, || {
                (site.tandem.follows() || site.says(NOT_IN_THIS_RUN)).then_some(())
            })
            .context("sockets are not on")
        };
        prepare(site, None)?;
        let calls = faults::most_calls(&file)?;
        let step = (calls / 24).max(1);
        for number in (1..=calls).step_by(step) {
            let error = ["ENOMEM", "EPERM"][number / step % 2];
            prepare(site, Some((number, error)))
                .with_context(|| format!("call {number} of {calls} fails with {error}"))?;
            shifts(site, probe, load, 1).with_context(|| format!("call {number} of {calls} failed with {error}"))?;
        }
    }
    site.tandem.terminate()?;
    site.tandem.run_by(Vec::new());
    site.restart()?;
    shifts(site, probe, load, 2)
}

/// All pins and their folders, if none are named.
fn pins_deleted(site: &mut Site, probe: &Probe, load: &Load, below: &[&str]) -> Result<()> {
    if below.is_empty() {
        faults::delete_everything_pinned(site)?;
    } else {
        faults::delete_pins(site, below)?;
    }
    shifts(site, probe, load, 2)?;
    site.tandem.wait_sockets()?;
    sleep(Duration::from_secs(2)); // the agent looks once a second
    // The next agent begins with what is there now.
    site.tandem.terminate()?;
    again(site, probe, load, Duration::ZERO)
}

fn folder_removed(site: &mut Site, probe: &Probe, load: &Load) -> Result<()> {
    load.end_pods()?;
    probe.end_pods()?;
    faults::remove_pods_folder(site)?;
    wait_pods(site, false)?;
    shifts(site, probe, load, 1)?;
    faults::make_pods_folder(site)?;
    // The pod asks at once, and the programs come a moment later.
    load.start_pods(site)?;
    probe.start_pods(site)?;
    shifts(site, probe, load, 1)?;
    site.tandem.wait_sockets()?;
    shifts(site, probe, load, 1)
}
