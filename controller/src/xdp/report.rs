//! What readers of the status want to know of the second data plane.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use tandem_core::family::IpFamily;
use tandem_core::id::ServiceId;

use super::outside_report::OutsideState;
use super::settings::{DataPlane, SocketsOf};

/// The newest state. A clone is a handle to the same.
#[derive(Clone, Default)]
pub struct Report(Arc<ArcSwap<State>>);

impl Report {
    /// The state now.
    pub fn load(&self) -> Arc<State> {
        self.0.load_full()
    }

    /// One that stays as it is.
    #[cfg(test)]
    pub(crate) fn of(state: State) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(state)))
    }

    pub(super) fn store(&self, state: State) {
        self.0.store(Arc::new(state));
    }
}

/// The state of socket load balancing.
#[derive(Clone, Default)]
pub struct State {
    /// What the configuration asks for.
    pub wanted: (DataPlane, SocketsOf),
    /// Where it is in its life.
    pub stage: Stage,
    /// The folder of the node's programs.
    pub node: Where,
    /// The folder of the pods' programs.
    pub pods: Where,
    /// Where programs and maps are pinned.
    pub pins: PathBuf,
    /// How many instructions the kernel's verifier looked at.
    pub verified: u64,
    /// What the programs count; none if they are not loaded.
    pub counts: Option<Arc<dyn Counts>>,
    /// Packets from outside.
    pub outside: OutsideState,
}

impl State {
    /// Whether the configuration asks for sockets.
    pub fn wants_sockets(&self) -> bool {
        let (plane, of) = self.wanted;
        plane == DataPlane::Xdp && of != SocketsOf::Off
    }
}

/// Where socket load balancing is in its life.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    /// Nobody asked for it, and nothing is left of it.
    #[default]
    Off,
    /// Nobody asks for it any more. Sockets that it translated still see their frontends until this time.
    Ending {
        /// Until when.
        until: SystemTime,
        /// The folder of their pins, also if the configuration names another one meanwhile.
        pins: PathBuf,
    },
    /// It waits until all lists are complete.
    Waiting {
        /// Since when.
        since: SystemTime,
    },
    /// All lists are complete, and the programs are being loaded.
    Loading {
        /// Since when.
        since: SystemTime,
    },
    /// The programs are loaded and attached.
    On {
        /// Since when.
        since: SystemTime,
    },
    /// It cannot be. nftables answers alone, and it is tried again.
    Failed {
        /// Since when.
        since: SystemTime,
        /// Why.
        why: Arc<str>,
    },
}

/// Where programs are attached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Where {
    /// They need not be anywhere.
    #[default]
    Nowhere,
    /// At a folder.
    At {
        /// Which.
        folder: PathBuf,
        /// Since when.
        since: SystemTime,
    },
    /// They should be at a folder, and are not.
    Not {
        /// Why.
        why: Arc<str>,
    },
}

/// What the programs in the kernel know. It is read when somebody asks.
pub trait Counts: Send + Sync {
    /// How many connections were left to nftables, by reason.
    fn left(&self, family: IpFamily) -> Vec<(String, u64)>;

    /// How many connections to a Service port were translated in sockets, and how many flows from outside.
    fn taken(&self, family: IpFamily, service: ServiceId) -> [u64; 2];

    /// The maps.
    fn maps(&self) -> Vec<MapFill>;

    /// What is below the folders.
    fn below(&self, folder: &std::path::Path) -> Below;
}

/// How full a map is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapFill {
    /// Its name.
    pub name: &'static str,
    /// How many elements it can have; none if it grows with the sockets.
    pub size: Option<u32>,
    /// How many it has, if that is known.
    pub used: Option<u32>,
    /// Its memory in the kernel.
    pub bytes: u64,
}

/// What is below a cgroup folder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Below {
    /// Processes.
    pub processes: usize,
    /// Folders of pods.
    pub pods: usize,
}
