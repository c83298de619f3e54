//! A way to ClusterIPs for the node's own programs where it has no default route: a program's packet is routed once before
//! the rules send it to an endpoint, and without any route it is not even made.
//!
//! The ranges of ClusterIPs are routed to `lo` in a table of Tandem's own, which a routing rule behind all others asks
//! last, and for the node's own packets alone. So they are used exactly where nothing else leads to a ClusterIP, whatever
//! becomes of the default route, and no route of anybody else is touched.

mod kernel;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use ipnet::IpNet;
use tandem_core::family::IpFamily;
use tokio::sync::watch;

use crate::engine::Snapshot;

pub use kernel::{KernelRoutes, RoutesError, TABLE};

/// The routes that are to be, each with the source address that its packets are to have; none leaves that to the kernel.
pub type Routes = BTreeMap<IpNet, Option<IpAddr>>;

/// The routes of a snapshot.
pub fn wanted(snapshot: &Snapshot) -> Routes {
    let source = |family: IpFamily| {
        let primary = snapshot.node.as_ref()?.primary(family)?;
        // The kernel takes no source address that the node does not have.
        snapshot.interfaces.contains(&primary).then_some(primary)
    };
    let v4 = snapshot.node_v4.service_cidrs.iter().map(|range| IpNet::V4(*range));
    let v6 = snapshot.node_v6.service_cidrs.iter().map(|range| IpNet::V6(*range));
    let (source4, source6) = (source(IpFamily::V4), source(IpFamily::V6));
    v4.map(|range| (range, source4))
        .chain(v6.map(|range| (range, source6)))
        .collect()
}

/// How often it is seen to that they are still there.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// Keeps the routes as they are to be until nobody publishes any more. `enabled` may change at any time; routes that are
/// not enabled are removed, also those that an earlier run left.
pub async fn run(published: Arc<ArcSwap<Snapshot>>, mut news: watch::Receiver<()>, mut enabled: watch::Receiver<bool>) {
    let mut kernel = KernelRoutes::default();
    let mut known: Option<(Routes, Arc<[IpAddr]>)> = None;
    let mut complaint = None;
    loop {
        let on = *enabled.borrow_and_update();
        let snapshot = published.load_full();
        let routes = if on { wanted(&snapshot) } else { Routes::new() };
        let now = (routes, snapshot.interfaces.clone());
        // Before everything was listed once, nothing is removed that an earlier run may have left.
        let ready = snapshot.complete || !on;
        let mut failed = false;
        if ready && known.as_ref() != Some(&now) {
            match kernel.bring(&now.0) {
                Ok(brought) => {
                    if brought {
                        tracing::info!(routes = now.0.len(), table = TABLE, "routes of Service ranges to lo");
                    }
                    complaint = None;
                    known = Some(now);
                }
                Err(error) => {
                    let text = error.to_string();
                    if complaint.as_ref() != Some(&text) {
                        tracing::warn!(
                            "{text}; without a default route, this node's own programs may not reach ClusterIPs"
                        );
                    }
                    complaint = Some(text);
                    failed = true;
                }
            }
        }
        let wait = if failed { kernel::RETRY } else { LOOK_AGAIN };
        tokio::select! {
            changed = news.changed() => if changed.is_err() { return },
            // Nobody may be left to change it: then it stays as it is.
            Ok(()) = enabled.changed() => {}
            // Other programs (a network manager that starts again) may have taken them away.
            () = tokio::time::sleep(wait) => known = None,
        }
    }
}
