//! The programs and maps in the kernel.

mod able;
mod cgroups;
mod counts;
mod foreign;
mod found;
mod grace;
mod hash;
mod held;
mod line;
mod link;
mod maps;
mod memory;
mod mount;
mod network;
mod object;
mod outside;
pub(crate) mod packets;
mod pin;
mod pinned;
mod programs;
mod sparse;
mod switches;
mod sys;
mod usage;

use std::collections::HashSet;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aya::maps::{Array, MapError, PerCpuArray};
use tandem_core::family::IpFamily;
use tandem_core::id::ServiceId;
use tandem_xdp_layout::{Address, Address4, Address6, HeldKey, Node, Reason, Switch};

pub use able::{Unable, able};
pub use cgroups::{CgroupError, Folder};
pub use foreign::named as program_name;
pub use found::{Found, Older, has_packets};
pub use held::{Held, HeldNow};
pub use link::{AttachError, Attached};
pub use maps::{KernelMaps, MapsError};
pub use mount::MountError;
pub use network::network;
pub use object::{LoadError, Object, Sizes};
#[cfg(any(test, feature = "samples"))]
pub use packets::Answer;
pub use packets::{
    CarryError, DeviceError, DevicePin, FlowFound, FlowState, HeldPort, Mapped, Mode, OlderFlows, PacketMaps,
    PacketSizes, Packets, PacketsError, PageFill, Records, Traffic, now, remove_packets,
};
pub use pin::{PinError, Pins};
pub use pinned::Strange;
pub use programs::Who;
pub use switches::{Succession, Switches};
pub use usage::{MapUse, UsageError};

use crate::convert;
use crate::store::StoreError;
use counts::Counts;
use grace::Waiter;
use memory::Words;
use programs::{NotEnlarged, Programs};

/// Socket load balancing: the loaded programs, and what they know of the node.
#[derive(Debug)]
pub struct Sockets {
    /// Shared with the maps: one that is full is enlarged, and the programs with it.
    programs: Arc<Mutex<Programs>>,
    node: Words,
    /// How many connections each Service port has taken, in IPv4 and IPv6.
    taken: [Arc<Counts>; 2],
    pins: Pins,
}

/// Why socket load balancing is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The programs were not loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A map cannot be used.
    #[error(transparent)]
    Maps(#[from] MapsError),
    /// The thread that waits for programs to end was not started.
    #[error("start the thread that waits for programs to end: {0}")]
    Thread(#[source] io::Error),
    /// The map of it was not made.
    #[error("make the map by which grace periods are waited for: {error}", error = line::line(.0))]
    Grace(MapError),
}

impl Sockets {
    /// Loads the programs, with the maps that are pinned. Those that are not there are made in these sizes. Programs of an earlier
    /// run go on until [`Self::attach`] replaces them.
    pub fn open(sizes: &Sizes, pins: Pins) -> Result<(Self, KernelMaps<Address4>, KernelMaps<Address6>), OpenError> {
        let object = Object::load(sizes, &pins)?;
        let programs = Arc::new(Mutex::new(Programs::new(object, pins.clone())));
        let mut loaded = lock(&programs);
        let ebpf = &mut loaded.object.ebpf;
        let mut map = |name: &str| ebpf.take_map(name).ok_or_else(|| MapsError::Missing(name.to_owned()));
        let outer = map("GRACE")?.try_into().map_err(OpenError::Grace)?;
        let node = maps::words("NODE", map("NODE")?)?;
        let inner = Array::create(1, 0).map_err(OpenError::Grace)?;
        let grace = Arc::new(Waiter::start(outer, inner).map_err(OpenError::Thread)?);
        let v4 = KernelMaps::take(ebpf, maps::V4, &grace, &programs)?;
        let v6 = KernelMaps::take(ebpf, maps::V6, &grace, &programs)?;
        drop(loaded);
        let taken = [v4.taken(), v6.taken()];
        let sockets = Self {
            programs,
            node,
            taken,
            pins,
        };
        Ok((sockets, v4, v6))
    }

    /// Tells the programs which network namespace is the node's, by its cookie. Before that they take nothing.
    pub fn set_node(&self, cookie: u64) {
        self.node.publish(Node::Cookie as u32, cookie);
    }

    /// Tells the programs which folder is kubelet's.
    pub fn set_pods(&self, folder: &Folder) {
        self.node.set(Node::PodLevel as u32, folder.level);
        self.node.publish(Node::PodFolder as u32, folder.id);
    }

    /// Attaches the programs to a folder: by the links that are pinned, or by new ones, which are pinned then.
    pub fn attach(&self, who: Who, folder: &Path) -> Result<Attached, AttachError> {
        lock(&self.programs).attach(who, folder)
    }

    /// Pins again what was pinned and is not any more, as far as this run can: the maps in which sockets are remembered.
    /// [`Self::attach`] pins links.
    pub fn pin_again(&self) -> Result<(), PinError> {
        lock(&self.programs).pin_again()
    }

    /// Leaves UDP sockets of these flows to nftables too, as long as nobody releases them. What is attached afterwards does not
    /// take them.
    pub fn hold<A: Address>(&self, held: &Held<A>, flows: &HashSet<HeldKey<A>>) -> Result<(), StoreError> {
        let mut programs = lock(&self.programs);
        let mut gate = held.gate();
        let count = gate.count_with(flows);
        if let Err(NotEnlarged::Torn(cause)) = gate.make_room(&mut programs, count) {
            // The next change gives all programs the same map.
            gate.set_switch(Switch::OFF);
            return Err(StoreError::Failed(cause));
        }
        // Without a larger map, it says itself how much there is room for.
        gate.hold_more(flows)
    }

    /// Detaches what translates the calls of these. What shows frontends stays.
    pub fn detach(&self, who: Who) -> Result<(), PinError> {
        lock(&self.programs).detach(who)
    }

    /// Whether this run attached the programs to this folder, and they still are, by links that are pinned.
    pub fn is_attached(&self, who: Who, folder: &Folder) -> bool {
        lock(&self.programs).is_attached(who, folder.id)
    }

    /// Whether programs of this run or of an earlier one are attached to this folder, by links that are pinned.
    pub fn is_linked(&self, who: Who, folder: &Folder) -> bool {
        lock(&self.programs).is_linked(who, folder.id)
    }

    /// Loads the programs for packets. Maps of theirs that are not pinned are made in these sizes. They answer by the same rows.
    pub fn packets(&self, sizes: &PacketSizes) -> Result<Packets, PacketsError> {
        Packets::open(Arc::clone(&self.programs), sizes, &self.pins)
    }

    /// The flows of packets that an older layout has, if there are any.
    pub fn older_flows(&self) -> Option<OlderFlows> {
        OlderFlows::find(&self.pins)
    }

    /// Detaches all programs, and removes all pins.
    pub fn remove(self) -> Result<(), PinError> {
        lock(&self.programs).remove()
    }

    /// How many connections and UDP sockets a Service port has taken since it has its number, and how many flows from outside.
    pub fn taken(&self, family: IpFamily, service: ServiceId) -> [u64; 2] {
        let taken = &self.taken[usize::from(family == IpFamily::V6)];
        taken.get(convert::index(service)).unwrap_or_default()
    }

    /// How many connections were left to nftables, by reason.
    pub fn left(&self, family: IpFamily) -> Result<Vec<(Reason, u64)>, MapError> {
        let programs = lock(&self.programs);
        let Some(map) = programs.object.ebpf.map("LEFT") else {
            return Ok(Vec::new());
        };
        let counts: PerCpuArray<_, u64> = map.try_into()?;
        let first = if family == IpFamily::V4 { 0 } else { counts.len() / 2 };
        let mut left = Vec::new();
        for reason in Reason::ALL {
            let count: u64 = counts.get(&(first + reason.number()), 0)?.iter().sum();
            if count > 0 {
                left.push((reason, count));
            }
        }
        Ok(left)
    }

    /// How large each map is, how full, and how much memory it takes. This counts the elements one by one.
    pub fn maps(&self) -> Result<Vec<MapUse>, UsageError> {
        usage::all(&self.pins)
    }

    /// How many instructions the verifier looked at for each program.
    pub fn verified(&self) -> Vec<(&'static str, u32)> {
        lock(&self.programs).object.verified()
    }
}

/// Threads that control, and threads that answer questions, use the programs at the same time.
const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<Sockets>();
    shared::<Held<Address4>>();
    shared::<Held<Address6>>();
};

/// Nobody panics while the programs are locked: the lock only keeps two enlargements apart.
fn lock(programs: &Mutex<Programs>) -> MutexGuard<'_, Programs> {
    programs.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
