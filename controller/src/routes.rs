//! A way to ClusterIPs for the node's own programs where it has no default route: a program's packet is routed once before
//! the rules send it to an endpoint, and without any route it is not even made.
//!
//! The ranges of ClusterIPs are routed to `lo` in a table of Tandem's own, which a routing rule behind all others asks
//! last, and for the node's own packets alone. So they are used only if nothing else leads to a ClusterIP, whatever
//! becomes of the default route, and no route of anybody else is touched.
//!
//! The kernel tells when somebody takes a route or a rule away; then it is put back within about a second.

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

use kernel::concerns_us;
pub use kernel::{KernelRoutes, Routes, RoutesError, TABLE};

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

/// The wait after a failure.
const RETRY: Duration = Duration::from_secs(10);
/// At most one repair in this time: another program may take the same route away again and again.
const REST: Duration = Duration::from_secs(1);

/// Keeps the routes as they are to be until nobody publishes any more. `enabled` may change at any time; routes that are
/// not enabled are removed, also those that an earlier run left.
pub async fn run(published: Arc<ArcSwap<Snapshot>>, mut news: watch::Receiver<()>, mut enabled: watch::Receiver<bool>) {
    let mut keeper = Keeper::default();
    let mut changes = Changes::default();
    let mut repair: Option<Instant> = None;
    loop {
        let on = *enabled.borrow_and_update();
        let retry = keeper.look(&published.load(), on);
        tokio::select! {
            told = news.changed() => if told.is_err() { return },
            // Nobody may be left to change it: then it stays as it is.
            Ok(()) = enabled.changed() => {}
            // What else others change until then is repaired in one go.
            () = changes.of_others(), if repair.is_none() => repair = Some(Instant::now() + REST),
            () = until(repair) => {
                keeper.doubt();
                repair = None;
            }
            () = until(retry) => {}
        }
    }
}

/// Returns at that time; never without one.
async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// What is known of the routes in the kernel.
#[derive(Default)]
struct Keeper {
    kernel: KernelRoutes,
    /// What stands there; none if it has to be read.
    known: Option<(Routes, Arc<[IpAddr]>)>,
    complaint: Option<String>,
}

impl Keeper {
    /// Other programs (a network manager that starts again) may have taken routes away.
    fn doubt(&mut self) {
        self.known = None;
    }

    /// Brings the routes to what this snapshot wants. Returns when to try again, if that failed.
    fn look(&mut self, snapshot: &Snapshot, on: bool) -> Option<Instant> {
        // Before everything was listed once, nothing is removed that an earlier run may have left.
        if on && !snapshot.complete {
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

/// What others change, as the kernel tells it.
#[derive(Default)]
struct Changes {
    monitor: Option<Monitor>,
    complained: bool,
}

impl Changes {
    /// Returns once others may have changed a route or a rule.
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

    /// Without a subscription the routes are looked at from time to time.
    async fn failed(&mut self, error: &NetError) {
        self.monitor = None;
        if !std::mem::replace(&mut self.complained, true) {
            tracing::warn!("routes of Service ranges: {error}; they are looked at every 10 s instead");
        }
        tokio::time::sleep(RETRY).await;
    }
}
