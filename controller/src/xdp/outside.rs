//! Packets from outside: the loaded programs, and how new flows come to be taken.
//!
//! Flows that nftables has stay with it. So before the first one is taken, the rules learn to follow what XDP chose; then new flows
//! are noted as nftables'; then those that connection tracking has are noted, too; and only then new ones are taken.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use std::{fs, io};

use tandem_core::family::{V4, V6};
use tandem_core::flows::Flow;
use tandem_core::plane::Ahead;
use tandem_core::row::{Endpoint, Protocol};
use tandem_xdp::kernel::{HeldPort, OlderFlows, PacketMaps, PacketSizes, Packets, Sockets};
use tandem_xdp::{PacketSettings, Plane, RouteGeneration, Times};
use tokio::sync::Notify;

use super::attached::Devices;
use super::minded::Minded;
use super::outside_report::OutsideStage;
use super::place::{Problem, words};
use super::reserved::Reserved;
use super::settings::XdpSettings;
use super::used_ports;
use super::ways::Ways;
use crate::backoff::Retry;
use crate::engine::Snapshot;
use crate::flows::each_tracked;

/// How many packets may be answered in a second, by each processor, because they are too big.
const ANSWERS: u32 = 1000;
/// Where connection tracking's times are.
const CONNTRACK: &str = "/proc/sys/net/netfilter";

/// The loaded programs, with what belongs to them.
pub(super) struct Outside {
    packets: Packets,
    pub(super) devices: Devices,
    reserved: Reserved,
    step: Step,
    /// When it is looked next whether ports that somebody else used are free.
    release: Retry,
    held: usize,
    /// Whether there may be flows: an earlier run left some, or this one took some.
    has_flows: bool,
    /// Why it had to begin anew, until new flows are taken, and when it goes on.
    fell_back: Option<(Problem, Retry)>,
    /// Follows routes for as long as this is there.
    ways: Ways,
}

/// How far it has come.
enum Step {
    /// It waits for its ports.
    Ports { why_not: Option<Problem>, retry: Retry },
    /// It waits until the rules follow what it chooses.
    Rules,
    /// New flows are noted as nftables'.
    Noting { since: Instant },
    /// New flows are taken.
    On { since: SystemTime },
}

/// New flows are noted for at least so long before connection tracking is read: a program that began before may still run, and a
/// packet may be on its way to the rules.
const NOTES: Duration = Duration::from_millis(20);

impl Outside {
    /// Loads the programs. What an earlier run attached goes on by its own until [`Self::look`] replaces it.
    pub(super) fn open(
        sockets: &Sockets,
        wanted: &XdpSettings,
        reserved: Reserved,
        nudge: Arc<Notify>,
        older: Option<&OlderFlows>,
    ) -> Result<Self, Problem> {
        let sizes = PacketSizes {
            pages: older.map_or([wanted.pages(); 2], OlderFlows::pages),
            ..PacketSizes::default()
        };
        let packets = sockets.packets(&sizes).map_err(words)?;
        let maps = packets.maps();
        if let Some(older) = older {
            let began = Instant::now();
            older.carry(&packets).map_err(words)?;
            tracing::info!(took = ?began.elapsed(), "xdp: the flows of an older layout are carried over");
        }
        let before = maps.settings();
        let seed = || seed().map_err(|error| format!("ask the kernel for random numbers: {error}"));
        // An earlier run's flows are found by its seeds.
        let settings = PacketSettings {
            times: times(),
            pages: maps.pages(),
            answers: ANSWERS,
            ..match before {
                Some(before) => before,
                None => PacketSettings {
                    on: [false; 2],
                    noting: false,
                    moving: false,
                    generation: RouteGeneration::default(),
                    index_seed: seed()?,
                    pick_seed: seed()?,
                    pages: [0; 2],
                    times: Times::default(),
                    answers: 0,
                },
            }
        };
        maps.set(&settings);
        let ways = Ways::follow(Arc::clone(&maps), nudge)
            .map_err(|error| format!("start the thread that follows routes: {error}"))?;
        let devices = Devices::new(&maps);
        Ok(Self {
            packets,
            devices,
            reserved,
            step: if settings.on == [true; 2] {
                Step::On {
                    since: SystemTime::now(),
                }
            } else {
                Step::Ports {
                    why_not: None,
                    retry: super::place::waits(),
                }
            },
            release: releases(),
            held: 0,
            has_flows: before.is_some(),
            fell_back: None,
            ways,
        })
    }

    /// Lets go of the programs. They stay attached, and take no new flow once that is said.
    pub(super) fn minded(self) -> Minded {
        let Self { packets, ways, .. } = self;
        Minded::of(packets.maps(), packets.pins().clone(), ways)
    }

    /// The maps, for readers.
    pub(super) fn maps(&self) -> Arc<PacketMaps> {
        self.packets.maps()
    }

    /// How many instructions the verifier looked at.
    pub(super) fn verified(&self) -> u64 {
        self.packets.verified().iter().map(|(_, count)| u64::from(*count)).sum()
    }

    /// Who sees packets from outside before the rules do.
    pub(super) fn ahead(&self) -> Ahead {
        match self.step {
            // Who begins anew has rules that follow already. To change them each time would help nobody.
            Step::Ports { .. } if !self.has_flows && self.fell_back.is_none() => Ahead::Nobody,
            Step::Ports { .. } | Step::Rules | Step::Noting { .. } | Step::On { .. } => Ahead::Xdp,
        }
    }

    /// Brings devices and steps to what is wanted. Returns whether anything is different, and whether to look again soon.
    pub(super) fn look(&mut self, wanted: &XdpSettings, snapshot: &Snapshot, news: bool) -> (bool, bool) {
        if let Err(error) = self.packets.pin_again() {
            tracing::debug!("xdp: {error}");
        }
        self.packets.set_times(&times());
        // While flows are taken, what comes by a new device may be nftables' already. So the step goes back to notes before.
        let is_on = matches!(self.step, Step::On { .. });
        let looked = self.devices.look(&self.packets, wanted, news, || {
            if is_on {
                self.packets.turn([false; 2], true);
            }
        });
        if is_on && looked.came {
            self.step = Step::Noting { since: Instant::now() };
        }
        let lost = self.keep_ports();
        let stepped = self.step(snapshot);
        self.release();
        (
            looked.changed | lost | stepped,
            matches!(self.step, Step::Rules | Step::Noting { .. }),
        )
    }

    /// Reserves its ports again if somebody wrote that setting anew, as `sysctl --system` does. If that is refused, no new flow is
    /// taken. Returns whether it was.
    fn keep_ports(&mut self) -> bool {
        if matches!(self.step, Step::Ports { .. }) {
            return false;
        }
        match self.reserved.add() {
            Ok(false) => false,
            Ok(true) => {
                tracing::warn!(
                    "xdp: somebody took the ports 49152-65535 out of the reserved ones: they are reserved again"
                );
                false
            }
            Err(why) => {
                tracing::warn!("xdp: {why}: no new flow is taken; tried again");
                self.fall_back(why);
                true
            }
        }
    }

    /// Begins anew a while later. No new flow is taken meanwhile.
    fn fall_back(&mut self, why: Problem) {
        self.packets.turn([false; 2], false);
        let waits = self
            .fell_back
            .take()
            .map_or_else(super::place::waits, |(_, waits)| waits);
        let retry = waits.failed(Instant::now());
        self.step = Step::Ports {
            why_not: Some(why.clone()),
            retry: retry.clone(),
        };
        self.fell_back = Some((why, retry));
    }

    /// Goes on as far as it can be gone.
    fn step(&mut self, snapshot: &Snapshot) -> bool {
        match &mut self.step {
            Step::Ports { why_not, retry } => {
                if !retry.due(Instant::now()) {
                    return false;
                }
                match self.reserved.add() {
                    Ok(written) => {
                        if written {
                            tracing::info!(
                                "xdp: the ports 49152-65535 are reserved (net.ipv4.ip_local_reserved_ports)"
                            );
                        }
                        self.step = Step::Rules;
                        true
                    }
                    Err(why) => {
                        let new = why_not.as_ref() != Some(&why);
                        if new {
                            tracing::warn!("xdp: {why}: nftables serves packets from outside alone; tried again");
                        }
                        let retry = std::mem::replace(retry, super::place::waits());
                        self.step = Step::Ports {
                            why_not: Some(why),
                            retry: retry.failed(Instant::now()),
                        };
                        new
                    }
                }
            }
            Step::Rules => {
                let follow = [snapshot.v4.ahead, snapshot.v6.ahead];
                if follow != [Some(Ahead::Xdp); 2] || self.devices.is_empty() {
                    return false;
                }
                self.packets.turn([false; 2], true);
                self.step = Step::Noting { since: Instant::now() };
                true
            }
            Step::Noting { since } => {
                if since.elapsed() < NOTES {
                    return false;
                }
                match self.note() {
                    Ok(()) => {
                        (self.has_flows, self.fell_back) = (true, None);
                        self.packets.turn([true; 2], false);
                        tracing::info!("xdp: new flows from outside are taken");
                        self.step = Step::On {
                            since: SystemTime::now(),
                        };
                    }
                    Err(why) => {
                        if self.fell_back.as_ref().is_none_or(|(known, _)| *known != why) {
                            tracing::warn!("xdp: {why}: no flow is taken; tried again");
                        }
                        self.fall_back(why);
                    }
                }
                true
            }
            Step::On { .. } => false,
        }
    }

    /// Notes the flows and ports that others have.
    fn note(&mut self) -> Result<(), Problem> {
        self.held = note::<V4>(&self.packets)? + note::<V6>(&self.packets)?;
        self.release = releases();
        Ok(())
    }

    /// Gives ports back that others used, once they are free.
    fn release(&mut self) {
        if self.held == 0 || !self.release.due(Instant::now()) || !matches!(self.step, Step::On { .. }) {
            return;
        }
        let before = self.held;
        match (hold::<V4>(&self.packets, |_| {}), hold::<V6>(&self.packets, |_| {})) {
            (Ok(v4), Ok(v6)) => self.held = v4 + v6,
            (Err(why), _) | (_, Err(why)) => tracing::debug!("xdp: {why}: ports of others are kept for longer"),
        }
        let release = std::mem::replace(&mut self.release, releases());
        if self.held == before {
            self.release = release.failed(Instant::now());
        }
    }

    /// In words for the status.
    pub(super) fn stage(&self) -> OutsideStage {
        match (&self.step, &self.fell_back) {
            (Step::Ports { why_not: Some(why), .. }, _) | (Step::Rules | Step::Noting { .. }, Some((why, _))) => {
                OutsideStage::Failed {
                    why: why.as_str().into(),
                }
            }
            (Step::Ports { why_not: None, .. }, _) => OutsideStage::Waiting {
                why: "its ports are being reserved".into(),
            },
            (Step::Rules | Step::On { .. }, _) if self.devices.is_empty() => OutsideStage::Failed {
                why: "no device can be used".into(),
            },
            (Step::Rules, None) => OutsideStage::Waiting {
                why: "nftables' rules do not follow it yet".into(),
            },
            (Step::Noting { .. }, None) => OutsideStage::Waiting {
                why: "flows of nftables are being noted".into(),
            },
            (Step::On { since }, _) => OutsideStage::On { since: *since },
        }
    }
}

/// Notes the flows of nftables, and holds the ports that others use. Returns how many ports.
fn note<F: Plane>(maps: &PacketMaps) -> Result<usize, Problem> {
    let mut flows: Vec<(Endpoint<F>, Endpoint<F>, Protocol)> = Vec::new();
    let held = hold::<F>(maps, |flow| {
        // An established connection is told by its packets: only a first packet begins a flow.
        let begins = flow.protocol == Protocol::Udp || flow.opening;
        if begins && flow.to != flow.with {
            flows.push((flow.from, flow.to, flow.protocol));
        }
    })?;
    // What is noted beyond that takes the place of what was noted first, and XDP would take such a flow over.
    let most = PacketSizes::default().noted();
    if flows.len() > most {
        return Err(format!(
            "nftables has {} {} flows that must stay with it, and at most {most} can be noted",
            flows.len(),
            F::FAMILY
        ));
    }
    maps.hold_flows::<F>(flows.into_iter()).map_err(words)?;
    Ok(held)
}

/// Holds the ports that others use at this moment. Returns how many.
fn hold<F: Plane>(maps: &PacketMaps, mut each: impl FnMut(&Flow<F>)) -> Result<usize, Problem> {
    let mut used: Vec<HeldPort<F>> = used_ports::of_sockets(Path::new("/"));
    let read = each_tracked::<F>(|flow| {
        used.extend(used_ports::of_flow::<F>(flow));
        each(flow);
    });
    read.map_err(words)?;
    maps.hold_ports::<F>(&used).map_err(words)
}

/// To read all flows takes time. Ports of long ones are not waited for minute by minute.
fn releases() -> Retry {
    let waits = Retry::new(Duration::from_mins(1), Duration::from_mins(30));
    waits.failed(Instant::now())
}

/// Connection tracking's times: flows live as long here as there.
fn times() -> Times {
    let usual = Times::default();
    let read = |name: &str, usual: u32| {
        let text = fs::read_to_string(Path::new(CONNTRACK).join(name)).unwrap_or_default();
        text.trim().parse().ok().filter(|seconds| *seconds > 0).unwrap_or(usual)
    };
    Times {
        udp: read("nf_conntrack_udp_timeout", usual.udp),
        udp_stream: read("nf_conntrack_udp_timeout_stream", usual.udp_stream),
        established: read("nf_conntrack_tcp_timeout_established", usual.established),
        ending: read("nf_conntrack_tcp_timeout_close_wait", usual.ending),
    }
}

/// A number that nobody can guess.
fn seed() -> io::Result<u32> {
    let mut bytes = [0; 4];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(u32::from_ne_bytes(bytes))
}
