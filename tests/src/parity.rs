//! Tandem against the real kube-proxy: same objects, same packets, same answers.
//!
//! A scenario is a file in `tests/data/parity/` (its README says how to write one): objects, changes, and flows. Both
//! programs get the same `KubeProxyConfiguration` and follow the same API server. Each has a world of its own: a set of
//! namespaces, with the same nodes, pods, clients and addresses. Every flow is sent in both worlds. The suite compares
//! who answered, which sources were seen, what was refused, how soon, and what was dropped. If Tandem differs on
//! purpose, `docs/differences.md` says why.
//!
//! | module | what it has |
//! |---|---|
//! | `scenario`, `flow`, `action`, `configuration` | the content of a file |
//! | `differences` | the list of intended differences |
//! | `twins`, `side`, `forward`, `responder` | two worlds and the programs in them |
//! | `objects`, `slices` | the objects that a scenario makes at the API server |
//! | `walk`, `measure`, `answer` | sends the flows and compares the results |
//! | `took` | who translated a flow, if Tandem has two data planes |
//! | `untouched` | a Service that no scenario touches, and that must notice nothing |
//! | `report` | the table |

mod action;
pub mod answer;
mod configuration;
pub mod differences;
mod flow;
mod forward;
mod measure;
mod objects;
pub mod report;
mod responder;
pub mod scenario;
mod sender;
mod side;
mod slices;
#[cfg(test)]
mod tests;
pub mod took;
mod twins;
mod untouched;
mod walk;
mod words;

use std::collections::BTreeSet;
use std::time::Instant;

use anyhow::{Result, bail, ensure};

pub use configuration::Configuration;
use report::Report;
pub(crate) use responder::Responder;
use scenario::Scenario;
use twins::Twins;
use untouched::Untouched;
use walk::Walk;

use crate::data_plane::DataPlane;

/// Which scenarios are run.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Only those whose name contains one of these; all if there are none.
    pub scenarios: Vec<String>,
    /// The data plane of Tandem's world.
    pub data_plane: DataPlane,
}

/// How many of a thousand flows sockets must translate, if all scenarios are run.
const BY_SOCKETS: usize = 300;
/// How many flows XDP must translate, if all scenarios are run.
const BY_XDP: usize = 200;

/// The scenarios that these options select, sorted by name.
pub fn choose(options: &Options) -> Result<Vec<Scenario>> {
    let mut chosen = scenario::load(&scenario::folder())?;
    differences::check_keys(&chosen, &differences::load()?)?;
    if !options.scenarios.is_empty() {
        let is_chosen = |name: &str| options.scenarios.iter().any(|part| name.contains(part));
        chosen.retain(|scenario| is_chosen(&scenario.name));
    }
    ensure!(
        !chosen.is_empty(),
        "no such scenario in {}",
        scenario::folder().display()
    );
    Ok(chosen)
}

/// Runs the scenarios, each with all its configurations. `show` gets the lines of the table as they come. An interrupt
/// (see [`crate::interrupt`]) ends the run between two scenarios.
pub fn run(options: &Options, show: impl Fn(&str)) -> Result<Report> {
    let started = Instant::now();
    let scenarios = choose(options)?;
    let mut twins = Twins::start(options.data_plane)?;
    let mut untouched = Untouched::new(&twins)?;
    let mut report = Report {
        data_plane: options.data_plane,
        ..Report::default()
    };
    show(&report::heading());
    let configurations: BTreeSet<Configuration> = scenarios
        .iter()
        .flat_map(|scenario| scenario.configurations.iter().copied())
        .collect();
    for configuration in configurations {
        twins.start_programs(configuration)?;
        untouched.start(&twins)?;
        for scenario in &scenarios {
            if !scenario.configurations.contains(&configuration) {
                continue;
            }
            if crate::interrupt::came() {
                bail!("interrupted");
            }
            walk(&mut twins, scenario, configuration, &mut report, &show)?;
            note(&untouched, &scenario.name, &mut report);
        }
        untouched.stop()?;
        note(&untouched, "a whole configuration", &mut report);
        for (reason, packets) in twins.passed()? {
            *report.passed.entry(reason).or_default() += packets;
        }
        if let Err(error) = twins.stop_programs() {
            report.failures.push(format!("{}: {error:#}", configuration.name()));
        }
    }
    (
        report.untouched_requests,
        report.untouched_failed,
        report.untouched_slowest,
    ) = untouched.counts();
    report.least_by_sockets = match options.data_plane {
        DataPlane::Nft => 0,
        DataPlane::Xdp if options.scenarios.is_empty() => report.rows.len() * BY_SOCKETS / 1000,
        DataPlane::Xdp => 1,
    };
    report.least_by_xdp = match options.data_plane {
        DataPlane::Xdp if options.scenarios.is_empty() => BY_XDP,
        DataPlane::Nft | DataPlane::Xdp => 0,
    };
    report.took = started.elapsed();
    Ok(report)
}

fn walk(
    twins: &mut Twins,
    scenario: &Scenario,
    configuration: Configuration,
    report: &mut Report,
    show: impl Fn(&str),
) -> Result<()> {
    let mut walk = Walk::new(twins, scenario, configuration);
    let walked = walk.walk();
    let rows = std::mem::take(&mut walk.rows);
    report.steps += walk.steps;
    report.asked_again += walk.asked_again;
    show(&report::table(&rows));
    report.rows.extend(rows);
    if let Err(error) = walked {
        show(&format!("SCENARIO WRONG: {error:#}\n"));
        report.failures.push(format!("{error:#}"));
    }
    twins.check_programs()
}

/// Notes what the untouched Service lost, and during which step.
fn note(untouched: &Untouched, beside: &str, report: &mut Report) {
    let lost = untouched.news().into_iter();
    report
        .failures
        .extend(lost.map(|what| format!("the untouched Service, beside {beside}: {what}")));
}
