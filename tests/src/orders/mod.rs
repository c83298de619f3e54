//! Orders in which Tandem and the real kube-proxy start and end on one node, for `make orders`. Whoever is left at the
//! end follows what changes then, and only its rules decide. No request to a Service that does not change is lost
//! meanwhile.

mod order;
mod site;

use std::collections::BTreeMap;
use std::sync::Mutex;

use anyhow::{Result, anyhow};
use serde_json::json;

use crate::cluster::Cluster;
pub use order::{Mode, Order, Pace, Step, all, short};
use site::{NAMESPACE, Site};

/// What came out.
#[derive(Debug, Default)]
pub struct Figures {
    /// Orders that were run.
    pub orders: usize,
    /// Requests to Services that never change.
    pub requests: u64,
    /// Those of them that were lost.
    pub lost: u64,
    /// The orders that were wrong, each with why.
    pub wrong: BTreeMap<String, String>,
}

/// Runs orders on this number of nodes at once. `tell` hears of each that is done.
pub fn run(orders: &[Order], nodes: u8, tell: impl Fn(&Order, Option<&str>) + Sync) -> Result<Figures> {
    let cluster = Cluster::start(nodes)?;
    cluster
        .api()
        .create(&json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE } }))?;
    let (rest, figures) = (Mutex::new(orders.iter().enumerate()), Mutex::new(Figures::default()));
    let work = |number: u8| -> Result<()> {
        let site = Site::new(&cluster, number)?;
        loop {
            let next = rest
                .lock()
                .map_err(|_| anyhow!("another node's orders panicked"))?
                .next();
            let Some((index, order)) = next else {
                return Ok(());
            };
            let outcome = site.run(index, order);
            let mut figures = figures.lock().map_err(|_| anyhow!("another node's orders panicked"))?;
            figures.orders += 1;
            let wrong = match outcome {
                Ok(tally) => {
                    figures.requests += tally.sent();
                    figures.lost += tally.lost();
                    (tally.lost() > 0).then(|| format!("requests to a Service that does not change were lost: {tally}"))
                }
                Err(error) => Some(format!("{error:#}")),
            };
            tell(order, wrong.as_deref());
            if let Some(wrong) = wrong {
                figures.wrong.insert(order.to_string(), wrong);
            }
            site.clean()?;
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (1..=nodes).map(|number| scope.spawn(move || work(number))).collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().map_err(|_| anyhow!("the orders of a node panicked"))?)
    })?;
    figures
        .into_inner()
        .map_err(|_| anyhow!("the orders of a node panicked"))
}
