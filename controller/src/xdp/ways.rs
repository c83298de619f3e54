//! Follows what packets' ways depend on, on a thread of its own: links, addresses, routes, rules and neighbours. If one of them
//! changes, the next packet of each flow asks for its way again.
//!
//! Neighbours that flows use are kept known to the kernel. It forgets a neighbour that its own packets do not go to, and packets in
//! XDP are not its own.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use std::{io, thread};

use tandem_core::family::{V4, V6};
use tandem_xdp::kernel::{PacketMaps, PacketsError};
use tokio::sync::Notify;
use tokio::time::{Instant, interval, sleep, sleep_until};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::neighbourhood::{Effect, Neighbourhood};
use super::place::words;
use crate::net::{Change, Group, Mac, Monitor, Neighbour, Neighbours, NetError, Rtnetlink};

/// Packets ask for their ways again at most this often. A burst of changes is one.
const PACE: Duration = Duration::from_millis(100);
/// How often neighbours are kept known. The kernel checks one that is used after 15 to 45 s without a sign of life, and asks for another MAC
/// address a few seconds after that.
const KEEP: Duration = Duration::from_secs(5);
/// A flow without a packet for so many seconds needs no neighbour.
const LATELY: u32 = 30;
/// Generations of routes come round after 1024. Flows that no packet comes for are looked through before.
const SWEEP_AFTER: u32 = 200;
/// The wait after a failure.
const AGAIN: Duration = Duration::from_secs(1);

/// Something that the ways could not be followed for.
#[derive(Debug, thiserror::Error)]
enum WaysError {
    #[error(transparent)]
    Net(#[from] NetError),
    #[error(transparent)]
    Packets(#[from] PacketsError),
}

/// The thread. It ends with this value.
pub(super) struct Ways(#[expect(dead_code, reason = "ends the thread when it is dropped")] DropGuard);

impl Ways {
    /// Begins to follow. `nudge` is told when something about devices may have changed.
    pub(super) fn follow(maps: Arc<PacketMaps>, nudge: Arc<Notify>) -> io::Result<Self> {
        let end = CancellationToken::new();
        let ended = end.clone();
        thread::Builder::new().name("ways".into()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                tokio::select! {
                    () = ended.cancelled() => {}
                    () = follow_for_ever(&maps, &nudge) => {}
                }
            });
            Ok::<_, io::Error>(())
        })?;
        Ok(Self(end.drop_guard()))
    }
}

async fn follow_for_ever(maps: &PacketMaps, nudge: &Notify) {
    let mut complaint = None;
    loop {
        let Err(error) = follow(maps, nudge).await else { return };
        let why = words(error);
        if complaint.as_ref() != Some(&why) {
            tracing::warn!("xdp: {why}: packets of flows may go by old ways until routes can be followed again");
            complaint = Some(why);
        }
        sleep(AGAIN).await;
    }
}

async fn follow(maps: &PacketMaps, nudge: &Notify) -> Result<(), WaysError> {
    let groups = [
        Group::Links,
        Group::Addresses,
        Group::Routes,
        Group::Rules,
        Group::Neighbours,
    ];
    let (mut monitor, mut kernel) = (Monitor::open(&groups)?, Rtnetlink::open()?);
    let mut known = Neighbourhood::default();
    known.neighbours(kernel.list::<Neighbour>(&Neighbours::default())?);
    let mut raised = Raised::default();
    // Nobody knows what changed before.
    raised.now(maps)?;
    nudge.notify_one();
    let (mut tick, mut sent) = (interval(KEEP), 0);
    loop {
        tokio::select! {
            news = monitor.next() => {
                let mut effect = Effect::default();
                for news in news? {
                    effect = effect.and(known.take(&news));
                }
                if effect.again {
                    known.neighbours(kernel.list::<Neighbour>(&Neighbours::default())?);
                }
                if effect.devices {
                    nudge.notify_one();
                }
                if effect.ways {
                    raised.soon(maps)?;
                }
            }
            () = sleep_until(raised.due.unwrap_or_else(Instant::now)), if raised.due.is_some() => raised.now(maps)?,
            _ = tick.tick() => {
                let count = maps.traffic(tandem_core::family::IpFamily::V4)?.sent
                    + maps.traffic(tandem_core::family::IpFamily::V6)?.sent;
                if count != sent {
                    sent = count;
                    keep(maps, &mut kernel, &known)?;
                }
            }
        }
    }
}

/// When packets were told to ask for their ways again.
#[derive(Default)]
struct Raised {
    last: Option<Instant>,
    /// When they are told next.
    due: Option<Instant>,
    /// How often since all flows were looked through.
    count: u32,
}

impl Raised {
    fn soon(&mut self, maps: &PacketMaps) -> Result<(), WaysError> {
        match self.last {
            Some(last) if last.elapsed() < PACE => self.due = Some(last + PACE),
            _ => self.now(maps)?,
        }
        Ok(())
    }

    fn now(&mut self, maps: &PacketMaps) -> Result<(), WaysError> {
        (self.last, self.due) = (Some(Instant::now()), None);
        maps.raise();
        self.count += 1;
        if self.count >= SWEEP_AFTER {
            self.count = 0;
            maps.sweep::<V4>(0, |_| {})?;
            maps.sweep::<V6>(0, |_| {})?;
        }
        Ok(())
    }
}

/// Has the kernel find out whether the neighbours are still there that packets went to lately.
fn keep(maps: &PacketMaps, kernel: &mut Rtnetlink, known: &Neighbourhood) -> Result<(), WaysError> {
    let mut used = HashSet::new();
    maps.sweep::<V4>(LATELY, |hop| {
        used.insert((hop.device(), hop.mac()));
    })?;
    maps.sweep::<V6>(LATELY, |hop| {
        used.insert((hop.device(), hop.mac()));
    })?;
    let devices = maps.devices();
    let link = |number| {
        devices
            .iter()
            .find(|(of, ..)| *of == number)
            .map(|(_, index, _)| *index)
    };
    let used = used
        .into_iter()
        .filter_map(|(number, mac)| Some((link(number)?, Mac(mac.bytes()))));
    let probes: Vec<Change> = known.at(&used.collect()).map(Change::Probe).collect();
    // Those that the kernel refuses are gone, with their links.
    kernel.apply(&probes)?;
    Ok(())
}
