//! A build without programs for the kernel.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use tandem_core::family::{V4, V6};
use tokio::sync::mpsc::Sender;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::outside_report::{OutsideStage, OutsideState};
use super::report::{Report, Stage, State};
use crate::config::Settings;
use crate::engine::{Seat, Snapshot};
use crate::event::Event;
use crate::flows::RecordsSeat;

/// Says that there are no programs, if the configuration asks for them.
pub struct Keeper {
    settings: watch::Receiver<Arc<Settings>>,
    report: Report,
}

impl Keeper {
    /// Nothing happens yet.
    pub fn new(
        settings: watch::Receiver<Arc<Settings>>,
        _seats: (Seat<V4>, Seat<V6>),
        _records: (RecordsSeat<V4>, RecordsSeat<V6>),
        _published: Arc<arc_swap::ArcSwap<Snapshot>>,
        _events: Sender<Event>,
    ) -> Self {
        Self {
            settings,
            report: Report::default(),
        }
    }

    /// Where its state can be read.
    pub fn report(&self) -> Report {
        self.report.clone()
    }

    /// There is nothing to stand in for.
    pub fn begin(&mut self) {}

    /// Follows the configuration until the agent ends.
    pub fn run(self, end: CancellationToken) -> std::io::Result<()> {
        tokio::spawn(async move { end.run_until_cancelled(self.follow()).await });
        Ok(())
    }

    async fn follow(mut self) {
        loop {
            let wanted = self.settings.borrow_and_update().xdp.clone();
            let stage = if wanted.wants_programs() {
                tracing::warn!("dataPlane: xdp: {WHY}: nftables serves alone");
                Stage::Failed {
                    since: SystemTime::now(),
                    why: WHY.into(),
                }
            } else {
                Stage::Off
            };
            let outside = OutsideState {
                wanted: wanted.wants_devices(),
                stage: if wanted.wants_devices() {
                    OutsideStage::Failed { why: WHY.into() }
                } else {
                    OutsideStage::Off
                },
                ..OutsideState::default()
            };
            self.report.store(State {
                wanted: (wanted.data_plane, wanted.sockets),
                outside,
                stage,
                ..State::default()
            });
            if self.settings.changed().await.is_err() {
                return;
            }
        }
    }
}

/// What the status says.
const WHY: &str = "this tandem was built without programs for the kernel (cargo feature xdp)";

/// Nothing is attached to devices.
pub fn has_packets(_pins: &Path) -> bool {
    false
}

/// Nothing of it is left.
pub fn clean(_pins: &Path) -> Result<bool, String> {
    Ok(false)
}
