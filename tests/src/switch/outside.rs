//! Flows of packets from outside in XDP, a hundred thousand of them, while the agent, its device, the routes and the neighbours are
//! not what they were a moment ago. Each flow must stay with its endpoint, and none may be lost.
//!
//! Most flows are datagrams of sockets that keep their ports. A few hundred are connections that stay open.

mod clients;
mod place;
mod servers;

use std::fmt;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use crate::interrupt;
use crate::tandem::beside;

use super::Options;
use super::steps::OTHER_LAYOUT;
use clients::Clients;
use place::Place;

/// How many flows of datagrams and how many connections there are, of the whole run and of the short one.
const DATAGRAMS: [usize; 2] = [100_000, 4_000];
const CONNECTIONS: [usize; 2] = [500, 50];
/// How long flows may be silent after their device, or a neighbour's address, was another one for a moment.
const SILENCE: Duration = Duration::from_mins(2);

/// The sums.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Flows that went on with their endpoint, added up over all steps.
    pub carried: u64,
    /// Flows of datagrams that went to another endpoint, or that nobody answers any more.
    pub moved: u64,
    /// Connections that ended.
    pub lost: u64,
    /// How many of the flows XDP had at the beginning.
    pub by_xdp: u64,
    /// How many flows there were.
    pub flows: u64,
    /// How long it took.
    pub took: Duration,
}

/// What happens.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Step {
    Killed,
    OtherLayout,
    Planes,
    DeviceDown,
    Route,
    Neighbour,
    TableFull,
    Foreign,
}

impl Step {
    fn all(short: bool) -> Vec<Self> {
        let short_ones = vec![Self::Killed, Self::Planes, Self::DeviceDown, Self::Route];
        if short {
            return short_ones;
        }
        let long_ones = [Self::OtherLayout, Self::Neighbour, Self::TableFull, Self::Foreign];
        short_ones.into_iter().chain(long_ones).collect()
    }

    fn name(self) -> &'static str {
        match self {
            Self::Killed => "flows: the agent is killed",
            Self::OtherLayout => "flows: a build with another layout, and back",
            Self::Planes => "flows: dataPlane changes",
            Self::DeviceDown => "flows: the device is down for a moment",
            Self::Route => "flows: the route to the endpoints changes",
            Self::Neighbour => "flows: a neighbour has another MAC address",
            Self::TableFull => "flows: more flows to one endpoint than there are ports",
            Self::Foreign => "flows: another program masquerades",
        }
    }

    fn run(self, place: &mut Place, clients: &mut Clients) -> Result<()> {
        match self {
            Self::Killed => {
                place.tandem.kill()?;
                clients.all_answer("while no agent runs")?;
                place.tandem.restart()?;
                place.wait_on()
            }
            Self::OtherLayout => {
                let other = beside(OTHER_LAYOUT)?;
                ensure!(
                    other.exists(),
                    "{} is not there: `make xdp-switch` builds it",
                    other.display()
                );
                place.tandem.terminate()?;
                place.tandem.run_program(Some(other));
                place.tandem.restart()?;
                place.wait_on()?;
                clients.all_answer("after the upgrade")?;
                // This one cannot read the other's maps. The other's programs go on with the flows that they have.
                place.tandem.expect_error("was made by a newer Tandem");
                place.tandem.terminate()?;
                place.tandem.run_program(None);
                place.tandem.restart()?;
                place.tandem.wait_ready()?;
                clients.all_answer("after the downgrade")?;
                let other = beside(OTHER_LAYOUT)?;
                place.tandem.terminate()?;
                place.tandem.run_program(Some(other));
                place.tandem.restart()?;
                place.wait_on()
            }
            Self::Planes => {
                place.tandem.change_own_setting("dataPlane", "nft")?;
                place.wait_state("ending")?;
                clients.all_answer("while XDP ends")?;
                place.tandem.change_own_setting("dataPlane", "xdp")?;
                place.wait_on()
            }
            Self::DeviceDown => {
                place.carrier(false)?;
                sleep(Duration::from_secs(1));
                place.carrier(true)?;
                clients.wait_for_answers(SILENCE)
            }
            Self::Route => {
                place.route_by_second_address()?;
                clients.all_answer("by the other route")?;
                place.route_by_first_address()
            }
            Self::Neighbour => {
                place.other_mac_address()?;
                clients.wait_for_answers(SILENCE)
            }
            Self::TableFull => {
                let before = place.passed("no free port towards the endpoint")?;
                clients.crowd()?;
                let after = place.passed("no free port towards the endpoint")?;
                ensure!(after > before, "the table was never full");
                Ok(())
            }
            Self::Foreign => {
                place.masquerade_others()?;
                clients.all_answer("beside another program that masquerades")
            }
        }
    }
}

/// Makes the flows, and runs the steps. Tells what each one did.
pub fn run(options: &Options, mut tell: impl FnMut(&str)) -> Result<Report> {
    let began = Instant::now();
    let size = |sizes: [usize; 2]| sizes[usize::from(options.short)];
    let mut place = Place::new()?;
    let mut clients = Clients::new(&place)?;
    clients.open(size(DATAGRAMS), size(CONNECTIONS))?;
    let flows = place.flows()?;
    let mut report = Report {
        by_xdp: flows,
        flows: clients.count(),
        ..Report::default()
    };
    tell(&format!(
        "# flows: {} made in {:.1} s, {flows} by XDP",
        clients.count(),
        began.elapsed().as_secs_f64()
    ));
    for step in Step::all(options.short) {
        let chosen = options.only.as_ref().is_none_or(|only| step.name().contains(only));
        if !chosen || interrupt::came() {
            continue;
        }
        let started = Instant::now();
        let ran = step.run(&mut place, &mut clients);
        let ran = ran.and_then(|()| clients.all_answer("at the end"));
        let seconds = started.elapsed().as_secs_f64();
        let (carried, moved, lost) = clients.counts();
        tell(&format!(
            "# {}: {seconds:.1} s, {carried} carried so far, {moved} moved, {lost} lost",
            step.name()
        ));
        (report.carried, report.moved, report.lost) = (carried, moved, lost);
        ran.with_context(|| step.name().to_owned())?;
    }
    report.took = began.elapsed();
    place.tandem.finish()?;
    Ok(report)
}

impl Report {
    /// Whether nothing was noticed, and XDP had nearly all of the flows.
    pub fn is_good(&self) -> bool {
        self.moved == 0 && self.lost == 0 && self.carried > 0 && self.by_xdp * 100 >= self.flows * 95
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "flows_made: {}", self.flows)?;
        writeln!(formatter, "flows_by_xdp: {}", self.by_xdp)?;
        writeln!(formatter, "flows_carried: {}", self.carried)?;
        writeln!(formatter, "udp_moved: {}", self.moved)?;
        writeln!(formatter, "flows_seconds: {:.0}", self.took.as_secs_f64())
    }
}

/// The setting of devices.
fn devices() -> serde_json::Value {
    json!({ "devices": ["eth0"] })
}
