//! A build without programs for the kernel.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use tandem_core::family::{V4, V6};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::report::{Report, Stage, State};
use crate::config::Settings;
use crate::engine::{Seat, Snapshot};

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
        _published: Arc<arc_swap::ArcSwap<Snapshot>>,
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

    /// Follows the configuration.
    pub fn run(mut self, end: CancellationToken) -> std::io::Result<()> {
        loop {
            let wanted = self.settings.borrow_and_update().xdp.clone();
            let stage = if wanted.wants_sockets() {
                let why =
                    "this tandem was built without programs for the kernel (cargo feature xdp): nftables serves alone";
                tracing::warn!("dataPlane: xdp: {why}");
                Stage::Failed {
                    since: SystemTime::now(),
                    why: why.into(),
                }
            } else {
                Stage::Off
            };
            self.report.store(State {
                wanted: (wanted.data_plane, wanted.sockets),
                stage,
                ..State::default()
            });
            tokio::select! {
                changed = self.settings.changed() => if changed.is_err() { return },
                () = end.cancelled() => return,
            }
        }
    }
}

/// Nothing of it is left.
pub fn clean(_pins: &Path) -> Result<bool, String> {
    Ok(false)
}
