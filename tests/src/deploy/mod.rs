//! The whole life of an installation on real kubelets, one step after the other, under traffic: for `make deploy-test`.
//!
//! Traffic never stops ([`load`]), and the endpoints of one Service change all the time ([`changes`]). A step is right
//! if the cluster is afterwards as it should be, every node's rules follow a change, and no connection was lost meanwhile.

mod arrivals;
mod bad_input;
mod changes;
mod load;
mod measure;
mod registry;
mod site;
mod step;
mod steps;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use load::Load;
pub use measure::Install;
use site::Site;
pub use step::Step;
pub use steps::{all, bad_inputs, kube_proxy_alone, short, starts};

/// The number of nodes.
const NODES: u8 = 3;

/// What came out.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Steps that were taken.
    pub steps: usize,
    /// Those that were wrong, each with why.
    pub wrong: Vec<(String, String)>,
    /// What was lost while nothing was done.
    pub lost_without_steps: Option<u64>,
    /// Connections and datagrams.
    pub connections: u64,
    /// Messages on connections that stay.
    pub messages: u64,
    /// Connections, datagrams and messages that were lost.
    pub lost: u64,
    /// Installations on one node without rules.
    pub installs: Vec<Install>,
    /// One on all nodes, which share the processors.
    pub install_everywhere: Option<Install>,
    /// An agent's process starts → first answer, on a node without rules.
    pub start_to_answer: Vec<Duration>,
    /// The longest times to follow a change during an upgrade: the image is on the nodes, and it is not.
    pub update_gaps: Vec<(&'static str, Duration)>,
    /// The memory of the agents at ten Services, in MB.
    pub resident: Option<f64>,
    /// What was left after an uninstallation, if there was one.
    pub leftovers: Option<Vec<String>>,
}

/// Takes these steps. `tell` hears of each that is done, and of why it was wrong.
pub fn run(steps: &[Step], interval: Duration, tell: impl Fn(&str, Duration, Option<&str>)) -> Result<Figures> {
    let mut site = Site::new(NODES, steps::TAGS).context("start the nodes")?;
    let mut figures = Figures::default();
    for step in steps {
        let began = Instant::now();
        let result = step
            .take(&mut site, &mut figures, interval)
            .and_then(|()| site.rules_follow(figures.steps));
        let broken = result.is_err();
        let mut reasons: Vec<String> = result.err().map(|error| format!("{error:#}")).into_iter().collect();
        let lost = site.load.as_mut().map_or(Ok(Vec::new()), Load::lost)?;
        reasons.extend(lost.iter().map(ToString::to_string));
        figures.steps += 1;
        let why = (!reasons.is_empty()).then(|| reasons.join("; "));
        tell(step.name, began.elapsed(), why.as_deref());
        if step.name == steps::NOTHING {
            *figures.lost_without_steps.get_or_insert(0) += lost.iter().map(|loss| loss.count).sum::<u64>();
        }
        if let Some(why) = why {
            figures.wrong.push((step.name.to_owned(), why));
        }
        if broken {
            break; // the next step needs what this one should have done
        }
    }
    site.stop_load(&mut figures)?;
    Ok(figures)
}
