//! Flows that XDP has while no new ones are taken: an earlier run's, until its programs are replaced, and those that are left when
//! XDP was switched off. Their ways are followed until they end.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tandem_core::family::{V4, V6};
use tandem_xdp::kernel::{PacketMaps, Pins, remove_packets};
use tokio::sync::Notify;

use super::place::{Problem, words};
use super::settings::XdpSettings;
use super::sockets::LINGER;
use super::ways::Ways;

/// How often it is looked whether any flow is left.
const EVERY: Duration = Duration::from_secs(5);

/// The flows.
pub(super) struct Minded {
    maps: Arc<PacketMaps>,
    pins: Pins,
    /// When they are ended by force. None if they are to be taken over.
    until: Option<SystemTime>,
    next: Instant,
    /// Follows routes for as long as this is there.
    _ways: Ways,
}

impl Minded {
    /// Those that an earlier run left.
    pub(super) fn found(wanted: &XdpSettings, nudge: Arc<Notify>) -> Result<Self, Problem> {
        let pins = Pins::open(&wanted.pins).map_err(words)?;
        let maps = Arc::new(PacketMaps::open(&pins).map_err(words)?);
        let ways = Ways::follow(Arc::clone(&maps), nudge).map_err(words)?;
        Ok(Self::of(maps, pins, ways))
    }

    /// Those of programs that are let go of.
    pub(super) fn of(maps: Arc<PacketMaps>, pins: Pins, ways: Ways) -> Self {
        Self {
            maps,
            pins,
            until: None,
            next: Instant::now(),
            _ways: ways,
        }
    }

    /// Has no new one be taken, and all of them end in an hour.
    pub(super) fn end(&mut self) {
        if self.until.is_none() {
            self.maps.turn([false; 2], false);
            self.until = Some(SystemTime::now() + LINGER);
        }
    }

    /// When they end by force, if they are to end.
    pub(super) fn until(&self) -> Option<SystemTime> {
        self.until
    }

    /// The maps, for readers.
    pub(super) fn maps(&self) -> Arc<PacketMaps> {
        Arc::clone(&self.maps)
    }

    /// Whether they are to end, and have ended or must.
    pub(super) fn is_over(&mut self) -> bool {
        let Some(until) = self.until else { return false };
        if until <= SystemTime::now() {
            return true;
        }
        if Instant::now() < self.next {
            return false;
        }
        self.next = Instant::now() + EVERY;
        let has = self
            .maps
            .has_flows::<V4>()
            .and_then(|v4| Ok(v4 || self.maps.has_flows::<V6>()?));
        match has {
            Ok(has) => !has,
            Err(error) => {
                tracing::debug!("xdp: {}", words(error));
                false
            }
        }
    }

    /// Detaches the programs, and removes what they knew.
    pub(super) fn remove(&self) -> Result<(), Problem> {
        remove_packets(&self.pins).map_err(words)
    }
}
