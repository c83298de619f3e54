//! UDP sockets that nftables serves when a family is switched on stay with it: they must not change their endpoint.
//!
//! Programs ask for them only while the family's switch says that there are any. That bit is this module's: whoever writes the
//! switch does not know it.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tandem_core::plane::Cause;
use tandem_xdp_layout::{Address, HeldKey, Switch};

use super::hash::Hash;
use super::memory::Words;
use super::programs::{NotEnlarged, Programs};
use crate::store::StoreError;

/// How many entries are released before somebody else may write the switch.
const AT_ONCE: usize = 256;

/// Reads the UDP flows that the kernel tracks.
pub(crate) struct Flows<A: Address>(pub(crate) Box<dyn FnMut() -> Result<Vec<HeldKey<A>>, Cause> + Send>);

impl<A: Address> fmt::Debug for Flows<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Flows")
    }
}

/// A family's switch, and what is held while it is on.
#[derive(Debug)]
pub(crate) struct Gate<A: Address + 'static> {
    switch: Words,
    map: Hash<HeldKey<A>>,
    /// What the map has. Nobody else writes to it.
    keys: HashSet<HeldKey<A>>,
    /// How often the flows were read.
    turn: u64,
}

impl<A: Address + 'static> Gate<A> {
    /// The gate as an earlier run left it.
    pub(crate) fn take(switch: Words, map: Hash<HeldKey<A>>) -> Result<Self, StoreError> {
        let keys = map.all()?.into_iter().map(|(key, _)| key).collect();
        Ok(Self {
            switch,
            map,
            keys,
            turn: 0,
        })
    }

    /// The switch, without the bit that says whether anything is held.
    pub(crate) fn switch(&self) -> Switch {
        Switch(self.switch.get(0).unwrap_or_default()).with_held(false)
    }

    pub(crate) fn set_switch(&self, switch: Switch) {
        self.switch.publish(0, switch.with_held(!self.keys.is_empty()).0);
    }

    /// Writes the bit alone. Until this run's rows are followed, what an earlier run left may be switched off by somebody who does not
    /// know this gate, and it must stay off then.
    fn tell(&self) {
        self.switch.turn(0, Switch::HELD, !self.keys.is_empty());
    }

    /// How many there is room for.
    pub(crate) fn room(&self) -> u32 {
        self.map.room()
    }

    /// Makes room for so many.
    pub(crate) fn make_room(&mut self, programs: &mut Programs, count: usize) -> Result<(), NotEnlarged> {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        if count > self.room() {
            self.map.enlarge(programs, count)?;
        }
        Ok(())
    }

    /// Holds exactly these from now on. The family is off.
    pub(crate) fn hold(&mut self, wanted: &HashSet<HeldKey<A>>) -> Result<(), StoreError> {
        self.turn += 1;
        let gone: Vec<_> = self.keys.difference(wanted).copied().collect();
        for key in gone {
            self.remove(key)?;
        }
        for key in wanted {
            if self.keys.contains(key) {
                continue;
            }
            if let Err(error) = self.map.put(*key, 1) {
                return Err(self.map.refused(error.into()));
            }
            self.keys.insert(*key);
        }
        Ok(())
    }

    /// How many there are with these.
    pub(crate) fn count_with(&self, more: &HashSet<HeldKey<A>>) -> usize {
        self.keys.union(more).count()
    }

    /// Holds these too. The family may be on.
    pub(crate) fn hold_more(&mut self, more: &HashSet<HeldKey<A>>) -> Result<(), StoreError> {
        for key in more {
            if !self.keys.contains(key) {
                self.map.put(*key, 1).map_err(|error| self.map.refused(error.into()))?;
                self.keys.insert(*key);
            }
        }
        self.tell();
        Ok(())
    }

    fn remove(&mut self, key: HeldKey<A>) -> Result<(), StoreError> {
        self.map.remove(key)?;
        self.keys.remove(&key);
        Ok(())
    }
}

/// What is held at a moment.
#[derive(Clone, Debug)]
pub struct HeldNow<A: Address> {
    turn: u64,
    /// The flows. None of them is another family's.
    pub flows: HashSet<HeldKey<A>>,
}

/// The UDP sockets of one family that stay with nftables. Any thread may use this.
#[derive(Debug)]
pub struct Held<A: Address + 'static>(Arc<Mutex<Gate<A>>>);

impl<A: Address + 'static> Clone for Held<A> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<A: Address + 'static> Held<A> {
    pub(crate) fn new(gate: Gate<A>) -> Self {
        Self(Arc::new(Mutex::new(gate)))
    }

    /// Nobody panics while the gate is locked.
    pub(crate) fn gate(&self) -> MutexGuard<'_, Gate<A>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many flows are held.
    pub fn count(&self) -> usize {
        self.gate().keys.len()
    }

    /// The flows that are held. Read this before you read which flows the kernel still tracks.
    pub fn now(&self) -> HeldNow<A> {
        let gate = self.gate();
        HeldNow {
            turn: gate.turn,
            flows: gate.keys.clone(),
        }
    }

    /// Releases those that are gone: the next datagram of such a socket is taken. Returns how many are still held. If the family was
    /// switched on once more since `now`, nothing is released: what was read then is newer.
    pub fn release(&self, now: &HeldNow<A>, is_gone: impl Fn(&HeldKey<A>) -> bool) -> Result<usize, StoreError> {
        let gone: Vec<_> = now.flows.iter().filter(|key| is_gone(key)).collect();
        for some in gone.chunks(AT_ONCE) {
            let mut gate = self.gate();
            if gate.turn != now.turn {
                break;
            }
            for key in some {
                gate.remove(**key)?;
            }
            if gate.keys.is_empty() {
                gate.tell();
            }
        }
        Ok(self.count())
    }
}
