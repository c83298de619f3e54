//! A route to ClusterIPs for the node's own programs, if the node has no default route. A program's packet is routed
//! once before the rules send it to an endpoint. Without any route, the packet is not even made.
//!
//! The ranges of ClusterIPs are routed to `lo` in a table of Tandem's own. A routing rule makes the kernel ask that
//! table last, and only for the node's own packets. So it is used only if no other route leads to a ClusterIP, even if
//! the default route comes and goes. No route of anybody else is touched.
//!
//! The kernel reports if somebody removes a route or a rule. Tandem puts it back within about a second.

mod kernel;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use ipnet::IpNet;
use tandem_core::family::IpFamily;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::engine::Snapshot;
use crate::net::{Group, Monitor, NetError};
use crate::wait::until;

use kernel::concerns_us;
pub use kernel::{KernelRoutes, Routes, RoutesError, TABLE};

/// The routes of a snapshot.
pub fn wanted(snapshot: &Snapshot) -> Routes {
    let source = |family: IpFamily| {
        let primary = snapshot.node.as_ref()?.primary(family)?;
        // The kernel accepts only a source address that the node has.
        snapshot.interfaces.contains(&primary).then_some(primary)
    };
    let v4 = snapshot.node_v4.service_cidrs.iter().map(|range| IpNet::V4(*range));
    let v6 = snapshot.node_v6.service_cidrs.iter().map(|range| IpNet::V6(*range));
    let (source4, source6) = (source(IpFamily::V4), source(IpFamily::V6));
    v4.map(|range| (range, source4))
        .chain(v6.map(|range| (range, source6)))
        .collect()
}

/// The wait after a failure.
const RETRY: Duration = Duration::from_secs(10);
/// At most one repair within this time, because another program may remove the same route again and again.
const REST: Duration = Duration::from_secs(1);

/// Keeps the routes as they must be, until nobody publishes snapshots any more. `enabled` may change at any time. If it
/// is false, all routes are removed, even those that an earlier run left.
pub async fn run(published: Arc<ArcSwap<Snapshot>>, mut news: watch::Receiver<()>, mut enabled: watch::Receiver<bool>) {
    let mut keeper = Keeper::default();
    let mut changes = Changes::default();
    let mut repair: Option<Instant> = None;
    loop {
        let on = *enabled.borrow_and_update();
        let retry = keeper.look(&published.load(), on);
        tokio::select! {
            told = news.changed() => if told.is_err() { return },
            // If nobody is left to change it, it stays as it is.
            Ok(()) = enabled.changed() => {}
            // Changes that others make until then are repaired together.
            () = changes.of_others(), if repair.is_none() => repair = Some(Instant::now() + REST),
            () = until(repair) => {
                keeper.doubt();
                repair = None;
            }
            () = until(retry) => {}
        }
    }
}

/// What is known of the routes in the kernel.
#[derive(Default)]
struct Keeper {
    kernel: KernelRoutes,
    /// The routes in the kernel. None if they must be read.
    known: Option<(Routes, Arc<[IpAddr]>)>,
    complaint: Option<String>,
}

impl Keeper {
    /// Has the routes read again. Other programs may have removed some, for example a network manager that restarts.
    fn doubt(&mut self) {
        self.known = None;
    }

    /// Sets the routes that this snapshot wants. If that fails, returns when to try again.
    fn look(&mut self, snapshot: &Snapshot, on: bool) -> Option<Instant> {
        // An earlier run may have left routes. Until everything was listed once, none of them is removed.
        if snapshot.stands_by || on && !snapshot.complete {
            return None;
        }
        let routes = if on { wanted(snapshot) } else { Routes::new() };
        let now = (routes, snapshot.interfaces.clone());
        if self.known.as_ref() == Some(&now) {
            return None;
        }
        match self.kernel.bring(&now.0) {
            Ok(changed) => {
                if changed {
                    tracing::info!(routes = now.0.len(), table = TABLE, "routes of Service ranges to lo");
                }
                self.complaint = None;
                self.known = Some(now);
                None
            }
            Err(error) => {
                let text = error.to_string();
                if self.complaint.as_ref() != Some(&text) {
                    tracing::warn!(
                        "{text}; without a default route, this node's own programs may not reach ClusterIPs"
                    );
                }
                self.complaint = Some(text);
                Some(Instant::now() + RETRY)
            }
        }
    }
}

/// Changes by others, as the kernel reports them.
#[derive(Default)]
struct Changes {
    monitor: Option<Monitor>,
    complained: bool,
}

impl Changes {
    /// Returns when others may have changed a route or a rule.
    async fn of_others(&mut self) {
        loop {
            let monitor = match &mut self.monitor {
                Some(monitor) => monitor,
                none => match Monitor::open(&[Group::Links, Group::Addresses, Group::Routes, Group::Rules]) {
                    Ok(monitor) => none.insert(monitor),
                    Err(error) => return self.failed(&error).await,
                },
            };
            match monitor.next().await {
                Ok(news) if news.iter().any(concerns_us) => return,
                Ok(_) => {}
                Err(error) => return self.failed(&error).await,
            }
        }
    }

    /// Without a subscription, the routes are checked every 10 s.
    async fn failed(&mut self, error: &NetError) {
        self.monitor = None;
        if !std::mem::replace(&mut self.complained, true) {
            tracing::warn!("routes of Service ranges: {error}; they are looked at every 10 s instead");
        }
        tokio::time::sleep(RETRY).await;
    }
}
