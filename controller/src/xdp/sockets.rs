//! Socket load balancing as it is loaded: where it is attached, and what it counts.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tandem_core::family::{IpFamily, V4, V6};
use tandem_core::id::ServiceId;
use tandem_xdp::kernel::{self, Folder, Found, Held, KernelMaps, Older, Pins, Sizes, Sockets, Succession, Who, able};
use tandem_xdp::{Address4, Address6, HeldKey, Plane, Rows, held_key};

use crate::backoff::Retry;

use super::below::below;
use super::place::{Place, Problem, waits, words};
use super::report::{Below, Counts, MapFill, Where};
use super::settings::{SocketsOf, XdpSettings};
use crate::engine::{Seat, Snapshot};
use crate::flows::{TrackedError, tracked};

/// How long sockets that were translated are shown their frontends after their programs are switched off.
pub(super) const LINGER: Duration = Duration::from_hours(1);

/// The loaded programs.
pub(super) struct Loaded {
    sockets: Arc<Sockets>,
    /// UDP sockets that nftables served when sockets were switched on.
    held: (Held<Address4>, Held<Address6>),
    /// What follows nftables' rows, until it is in its seat.
    followers: Option<(Following<V4>, Following<V6>)>,
    /// When it is looked next whether some of them may be released.
    release: Retry,
    /// The folders that they are attached to. Without what shows frontends, nothing translates.
    answers: Place,
    node: Place,
    pods: Place,
    older: Passing,
    /// When it is tried again to remove what an older layout left, and why it could not be removed.
    older_stays: Option<(Retry, Problem)>,
}

/// One family's rows, which come after what an earlier run left.
type Following<F> = Succession<Rows<F, KernelMaps<<F as Plane>::Mapped>>>;

/// Programs of an older layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Passing {
    /// They may answer, until the engine has renewed the followers.
    Unknown,
    /// Until then, sockets that they translated are shown their frontends.
    Until(Instant),
    /// There are none.
    Gone,
}

impl Loaded {
    /// Loads the programs. Those of an earlier run go on until [`Self::attach`] replaces them, and those of an older layout until
    /// the followers are in their seats and hold every row.
    pub(super) fn open(settings: &XdpSettings, loopback: bool, snapshot: &Snapshot) -> Result<Self, Problem> {
        able(&settings.pins).map_err(words)?;
        let pins = Pins::open(&settings.pins).map_err(words)?;
        let sizes = Sizes::of_rows([snapshot.v4.rows, snapshot.v6.rows]);
        let (sockets, mut v4, mut v6) = Sockets::open(&sizes, pins).map_err(words)?;
        v4.hold_by(|| Ok(flows::<V4>()?.into_iter().collect()));
        v6.hold_by(|| Ok(flows::<V6>()?.into_iter().collect()));
        let held = (v4.held(), v6.held());
        sockets.set_node(kernel::network().map_err(|error| format!("read the cookie of the node's network: {error}"))?);
        let found = Found::look(&settings.pins).map_err(words)?;
        let [older4, older6] = found.older(loopback).map_err(words)?;
        if settings.sockets != SocketsOf::All {
            found.detach_older_pods().map_err(words)?;
        }
        let followers = (
            older4.before(Rows::new(v4, loopback)),
            older6.before(Rows::new(v6, loopback)),
        );
        Ok(Self {
            sockets: Arc::new(sockets),
            held,
            followers: Some(followers),
            release: waits(),
            answers: Place::default(),
            node: Place::default(),
            pods: Place::default(),
            older: Passing::Unknown,
            older_stays: None,
        })
    }

    /// The loaded programs, for those of packets.
    pub(super) fn sockets(&self) -> &Sockets {
        &self.sockets
    }

    /// Puts the followers into their seats, if they are not there yet. This comes after the programs are attached: as soon as the
    /// followers hold every row, those of an older layout are off.
    pub(super) fn sit(&mut self, seats: &(Seat<V4>, Seat<V6>)) {
        if let Some((v4, v6)) = self.followers.take() {
            seats.0.put(v4);
            seats.1.put(v6);
        }
    }

    /// Attaches the programs to the folders that are there now, if they are not attached to them already. Returns whether
    /// anything is different.
    pub(super) fn attach(&mut self, settings: &XdpSettings) -> bool {
        if let Err(error) = self.sockets.pin_again() {
            // If links cannot be pinned either, that is told below.
            tracing::debug!("sockets: {error}");
        }
        let sockets = &self.sockets;
        if settings.sockets == SocketsOf::Off {
            let nowhere = || Ok(None);
            let detached = self.pods.bring(sockets, Who::Pods, nowhere(), || Ok(()));
            return self.node.bring(sockets, Who::Node, nowhere(), || Ok(())) | detached;
        }
        let topmost = topmost(settings.node_cgroup.as_deref());
        let mut changed = self
            .answers
            .bring(sockets, Who::Answers, topmost.clone().map(Some), || Ok(()));
        let topmost = match &self.answers.why_not {
            Some(why) => Err(Arc::clone(why)),
            None => topmost,
        };
        let pods = match settings.sockets {
            SocketsOf::All => topmost
                .clone()
                .and_then(|topmost| kubelets(&topmost, settings.pod_cgroup.as_deref()).map(Some)),
            SocketsOf::Node | SocketsOf::Off => Ok(None),
        };
        // UDP sockets that nftables serves until now stay with it.
        let hold = || {
            let (v4, v6) = (flows::<V4>().map_err(words)?, flows::<V6>().map_err(words)?);
            sockets.hold(&self.held.0, &v4).map_err(words)?;
            sockets.hold(&self.held.1, &v6).map_err(words)
        };
        // The pods' programs come first, and so does what they know of their folder: a pod's call must not be taken for that of a
        // container that is no pod.
        changed |= self.pods.bring(sockets, Who::Pods, pods, hold);
        changed |= self.node.bring(sockets, Who::Node, topmost.map(Some), hold);
        changed
    }

    /// Releases UDP sockets whose flows nftables has forgotten: from now on they are translated.
    pub(super) fn release(&mut self) {
        let held = || self.held.0.count() + self.held.1.count();
        let before = held();
        if before == 0 || !self.release.due(Instant::now()) {
            return;
        }
        for released in [release::<V4>(&self.held.0), release::<V6>(&self.held.1)] {
            if let Err(error) = released {
                tracing::debug!("sockets: {error}: UDP sockets stay with nftables for longer");
            }
        }
        // To read all flows takes time. Long ones are not waited for second by second.
        let release = std::mem::replace(&mut self.release, waits());
        if held() == before {
            self.release = release.failed(Instant::now());
        }
    }

    /// Removes what an older layout left: what translates, once it is off; the rest, once the time for it is over.
    pub(super) fn forget_older(&mut self, settings: &XdpSettings) {
        let not_due = |(retry, _): &(Retry, Problem)| !retry.due(Instant::now());
        if self.older_stays.as_ref().is_some_and(not_due) {
            return;
        }
        let left = match self.older {
            Passing::Unknown => {
                Found::look(&settings.pins).and_then(|found| found.retire_older(settings.wants_devices()))
            }
            Passing::Until(until) if Instant::now() >= until => Found::look(&settings.pins)
                .and_then(|found| found.remove_older())
                .map(|()| Older::None),
            Passing::Until(_) | Passing::Gone => return,
        };
        match left {
            Ok(Older::On) => {}
            Ok(Older::Shows) => {
                tracing::info!("sockets: the programs of an older layout are detached");
                (self.older, self.older_stays) = (Passing::Until(Instant::now() + LINGER), None);
            }
            Ok(Older::None) => (self.older, self.older_stays) = (Passing::Gone, None),
            Err(error) => {
                let (why, before) = (words(error), self.older_stays.take());
                if before.as_ref().is_none_or(|(_, known)| *known != why) {
                    tracing::warn!("sockets: {why}: what an older layout left stays; tried again");
                }
                let retry = before.map_or_else(waits, |(retry, _)| retry);
                self.older_stays = Some((retry.failed(Instant::now()), why));
            }
        }
    }

    /// Detaches what translates. What shows frontends stays.
    pub(super) fn stop(&self) -> Result<(), Problem> {
        self.sockets.detach(Who::Pods).map_err(words)?;
        self.sockets.detach(Who::Node).map_err(words)
    }

    /// Why nothing translates; none if the node's programs do, or the pods'.
    pub(super) fn why_not(&self) -> Option<Arc<str>> {
        let translates = self.node.at.is_some() || self.pods.at.is_some();
        self.node.why_not.clone().filter(|_| !translates)
    }

    pub(super) fn node(&self) -> Where {
        self.node.shown()
    }

    pub(super) fn pods(&self) -> Where {
        self.pods.shown()
    }

    pub(super) fn verified(&self) -> u64 {
        self.sockets.verified().iter().map(|(_, count)| u64::from(*count)).sum()
    }

    pub(super) fn counts(&self) -> Arc<dyn Counts> {
        Arc::new(Kernels(Arc::clone(&self.sockets)))
    }
}

/// The UDP flows that nftables translates, as maps have them.
fn flows<F: Plane>() -> Result<HashSet<HeldKey<F::Mapped>>, TrackedError> {
    let key = |(addr, port, own)| held_key::<F>(addr, port, own);
    Ok(tracked::<F>()?.into_iter().map(key).collect())
}

fn release<F: Plane>(held: &Held<F::Mapped>) -> Result<(), Problem> {
    if held.count() == 0 {
        return Ok(());
    }
    // What is held is read first: a flow that comes meanwhile is never taken for one that is gone.
    let now = held.now();
    let flows = flows::<F>().map_err(words)?;
    held.release(&now, |key| !flows.contains(key)).map_err(words)?;
    Ok(())
}

/// The topmost folder: the one that is given, or the one in the table of mounts.
fn topmost(given: Option<&Path>) -> Result<Folder, Arc<str>> {
    let mounts =
        fs::read_to_string("/proc/self/mountinfo").map_err(|error| format!("read /proc/self/mountinfo: {error}"))?;
    let found = match given {
        Some(path) => Folder::given(path, &mounts),
        None => Folder::topmost(&mounts),
    };
    found.map_err(|error| words(error).into())
}

/// Kubelet's folder.
fn kubelets(topmost: &Folder, given: Option<&Path>) -> Result<Folder, Arc<str>> {
    match topmost.pods(given) {
        Ok(Some(folder)) => Ok(folder),
        Ok(None) => Err(no_kubelets(&topmost.path, given).into()),
        Err(error) => Err(words(error).into()),
    }
}

/// What is said if kubelet's folder is not there.
fn no_kubelets(topmost: &Path, given: Option<&Path>) -> String {
    let below = |name: &Path| topmost.join(name.strip_prefix("/").unwrap_or(name));
    match given {
        Some(given) => format!(
            "kubelet's cgroup folder was not found: {} does not exist (podCgroup)",
            below(given).display()
        ),
        None => format!(
            "kubelet's cgroup folder was not found: neither {} nor {} exists (set podCgroup if kubelet's cgroupRoot is not /)",
            below(Path::new("kubepods.slice")).display(),
            below(Path::new("kubepods")).display()
        ),
    }
}

/// The counts in the kernel.
struct Kernels(Arc<Sockets>);

impl Counts for Kernels {
    fn left(&self, family: IpFamily) -> Vec<(String, u64)> {
        let left = self.0.left(family).unwrap_or_default().into_iter();
        left.map(|(reason, count)| (reason.words().to_owned(), count)).collect()
    }

    fn taken(&self, family: IpFamily, service: ServiceId) -> [u64; 2] {
        self.0.taken(family, service)
    }

    fn maps(&self) -> Vec<MapFill> {
        let maps = self.0.maps().unwrap_or_else(|error| {
            tracing::warn!("sockets: {}", words(error));
            Vec::new()
        });
        let fill = |map: kernel::MapUse| MapFill {
            name: map.name,
            size: map.room,
            used: map.used,
            bytes: map.bytes,
        };
        maps.into_iter().map(fill).collect()
    }

    fn below(&self, folder: &Path) -> Below {
        below(folder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_kubelet_that_is_missing_is_named_with_each_path_that_was_looked_at() {
        let topmost = Path::new("/sys/fs/cgroup");
        assert_eq!(
            no_kubelets(topmost, None),
            "kubelet's cgroup folder was not found: neither /sys/fs/cgroup/kubepods.slice nor /sys/fs/cgroup/kubepods exists \
             (set podCgroup if kubelet's cgroupRoot is not /)"
        );
        for given in ["kubelet.slice", "/kubelet.slice"] {
            assert_eq!(
                no_kubelets(topmost, Some(Path::new(given))),
                "kubelet's cgroup folder was not found: /sys/fs/cgroup/kubelet.slice does not exist (podCgroup)"
            );
        }
    }
}
