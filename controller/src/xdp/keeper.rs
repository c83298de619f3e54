//! Loads, attaches, watches and takes back the programs, on a thread of its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use tandem_core::family::{V4, V6};
use tandem_xdp::kernel::{Found, PinError};
use tokio::sync::mpsc::Sender;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::outside_keeper::OutsideKeeper;
use super::place::Problem;
use super::report::{Report, Stage, State};
use super::reserved::Reserved;
use super::settings::XdpSettings;
use super::sockets::{LINGER, Loaded};
use crate::backoff::Retry;
use crate::config::Settings;
use crate::engine::{Seat, Snapshot};
use crate::event::Event;
use crate::flows::RecordsSeat;

/// How often it is looked whether the folders are there, whether they are the same, and whether lists are complete.
const EVERY: Duration = Duration::from_secs(1);
/// The same until the programs are loaded for the first time.
const SOON: Duration = Duration::from_millis(20);
/// The longest wait after a failure. The first is [`EVERY`].
const LONGEST: Duration = Duration::from_mins(1);

/// Keeps the programs as the configuration wants them.
pub struct Keeper {
    settings: watch::Receiver<Arc<Settings>>,
    seats: (Seat<V4>, Seat<V6>),
    published: Arc<ArcSwap<Snapshot>>,
    report: Report,
    stage: Stage,
    loaded: Option<Loaded>,
    /// The settings that the programs are loaded by.
    used: Option<XdpSettings>,
    /// Where an earlier run's switches are pinned that are in the seats, until the programs are loaded.
    stands_in: Option<PathBuf>,
    /// When a failure is tried again.
    retry: Option<Retry>,
    /// Why pins that nobody needs any more could not be removed.
    stays: Option<String>,
    outside: OutsideKeeper,
}

impl Keeper {
    /// Nothing happens before [`Self::begin`].
    pub fn new(
        settings: watch::Receiver<Arc<Settings>>,
        seats: (Seat<V4>, Seat<V6>),
        records: (RecordsSeat<V4>, RecordsSeat<V6>),
        published: Arc<ArcSwap<Snapshot>>,
        events: Sender<Event>,
    ) -> Self {
        let reserved = Reserved::new(Path::new("/"), &settings.borrow().socket);
        Self {
            outside: OutsideKeeper::new(events, reserved, records),
            settings,
            seats,
            published,
            report: Report::default(),
            stage: Stage::Off,
            loaded: None,
            used: None,
            stands_in: None,
            retry: None,
            stays: None,
        }
    }

    /// Where its state can be read.
    pub fn report(&self) -> Report {
        self.report.clone()
    }

    /// This agent serves from now on. What an earlier run left must not answer by old rows: its switches are given to the
    /// engine before the engine changes anything. This takes microseconds, or up to a second if another agent has the pins.
    pub fn begin(&mut self) {
        let settings = self.settings.borrow().clone();
        let found = look_patiently(&settings.xdp.pins).and_then(|found| {
            if found.is_nothing() {
                return Ok(());
            }
            if found.has_devices() || found.has_devices_of_others() {
                self.outside.begin();
            }
            if settings.xdp.wants_programs() {
                let [v4, v6] = found.switches(settings.node_port_loopback)?;
                self.seats.0.put(v4);
                self.seats.1.put(v6);
                self.stands_in = Some(settings.xdp.pins.clone());
                return Ok(());
            }
            found.switch_off()
        });
        if let Err(error) = found {
            tracing::warn!("what an earlier run pinned may go on to answer by its rows: {error}");
        }
        self.tell(&settings.xdp);
    }

    /// Keeps the programs on a thread until the agent ends. They stay as they are then.
    pub fn run(mut self, end: CancellationToken) -> std::io::Result<()> {
        thread::Builder::new().name("sockets".into()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
            runtime.block_on(async {
                loop {
                    let wake = self.look();
                    tokio::select! {
                        () = tokio::time::sleep(wake) => {}
                        () = self.outside.news() => {}
                        // If nobody is left to change it, it stays as it is.
                        Ok(()) = self.settings.changed() => self.retry = None,
                        () = end.cancelled() => return,
                    }
                }
            });
            Ok::<_, std::io::Error>(())
        })?;
        Ok(())
    }

    /// Brings everything to what the settings say now. Returns when to look again.
    fn look(&mut self) -> Duration {
        let settings = self.settings.borrow_and_update().clone();
        let (wanted, before) = (&settings.xdp, self.stage.clone());
        let moved = self.used.as_ref().is_some_and(|used| used.pins != wanted.pins);
        // What ends in another folder is not taken over, and nobody would remove it later.
        if let Stage::Ending { pins, .. } = &self.stage
            && wanted.wants_programs()
            && *pins != wanted.pins
        {
            leave(pins);
            self.stage = Stage::Off;
        }
        // What stands in for programs that are loaded elsewhere would never be told of a change.
        if let Some(pins) = self.stands_in.take_if(|pins| *pins != wanted.pins) {
            self.seats.0.clear();
            self.seats.1.clear();
            leave(&pins);
        }
        let mut changed = false;
        if moved {
            self.outside.forget();
        }
        if self.loaded.is_some() && (moved || !wanted.wants_programs()) {
            changed = true;
            self.unload(moved);
        }
        let mut soon = false;
        if wanted.wants_programs() {
            changed |= self.keep_on(&settings);
            soon = self.stage == Stage::Off || matches!(self.stage, Stage::Waiting { .. });
        } else {
            self.keep_off(wanted);
        }
        let snapshot = self.published.load_full();
        let sockets = self.loaded.as_ref().map(Loaded::sockets);
        let outside = self.outside.look(wanted, sockets, &snapshot);
        changed |= outside.changed;
        let wake = if soon || outside.soon { SOON } else { EVERY };
        if changed || self.stage != before || self.report.load().wanted != (wanted.data_plane, wanted.sockets) {
            self.tell(wanted);
        }
        wake
    }

    /// Loads what is not loaded, and attaches what is not attached. Returns whether anything is different.
    fn keep_on(&mut self, settings: &Settings) -> bool {
        let wanted = &settings.xdp;
        if self.loaded.is_none() {
            if self.retry.as_ref().is_some_and(|retry| !retry.due(Instant::now())) {
                return false;
            }
            let snapshot = self.published.load();
            if !snapshot.complete {
                if !matches!(self.stage, Stage::Waiting { .. }) {
                    self.stage = Stage::Waiting {
                        since: SystemTime::now(),
                    };
                }
                return false;
            }
            if !matches!(self.stage, Stage::Failed { .. }) {
                // The verifier takes its time.
                let since = SystemTime::now();
                self.stage = Stage::Loading { since };
                self.tell(wanted);
            }
            match Loaded::open(wanted, settings.node_port_loopback, &snapshot) {
                Ok(loaded) => (self.loaded, self.stands_in) = (Some(loaded), None),
                Err(why) => {
                    self.fail(why);
                    return true;
                }
            }
        }
        let Some(loaded) = &mut self.loaded else { return false };
        let changed = loaded.attach(wanted);
        loaded.sit(&self.seats);
        loaded.release();
        loaded.forget_older(wanted);
        self.used = Some(wanted.clone());
        self.retry = None;
        let now = SystemTime::now();
        self.stage = match (&self.stage, loaded.why_not()) {
            (Stage::Failed { since, .. }, Some(why)) => Stage::Failed { since: *since, why },
            (_, Some(why)) => Stage::Failed { since: now, why },
            (Stage::On { since }, None) => Stage::On { since: *since },
            (_, None) => Stage::On { since: now },
        };
        changed
    }

    fn fail(&mut self, why: Problem) {
        let now = Instant::now();
        let retry = self.retry.take().unwrap_or_else(|| Retry::new(EVERY, LONGEST));
        let retry = retry.failed(now);
        let wait = retry.at().map_or(EVERY, |at| at.saturating_duration_since(now));
        let same = matches!(&self.stage, Stage::Failed { why: known, .. } if **known == *why);
        if !same {
            tracing::error!(
                "sockets: {why}: nftables serves alone; tried again in {} s",
                wait.as_secs()
            );
        }
        self.retry = Some(retry);
        // What an earlier run left is of no use, and must not answer.
        self.seats.0.clear();
        self.seats.1.clear();
        let since = match &self.stage {
            Stage::Failed { since, .. } => *since,
            _ => SystemTime::now(),
        };
        self.stage = Stage::Failed { since, why: why.into() };
    }

    /// Switches everything off. Sockets that were translated are shown their frontends for a while.
    fn unload(&mut self, moved: bool) {
        self.outside.let_go();
        self.seats.0.clear();
        self.seats.1.clear();
        if let Some(loaded) = self.loaded.take() {
            match loaded.stop() {
                Ok(()) => tracing::info!("sockets: switched off: nftables serves alone"),
                Err(why) => tracing::warn!("sockets: {why}: the programs stay, and are switched off"),
            }
        }
        self.stage = Stage::Off;
        if let (true, Some(used)) = (moved, self.used.take()) {
            leave(&used.pins);
        }
    }

    /// Nobody wants the programs.
    fn keep_off(&mut self, wanted: &XdpSettings) {
        let now = SystemTime::now();
        self.used = None;
        match &self.stage {
            Stage::Off => {}
            Stage::Ending { until, .. } if *until > now => return,
            Stage::Ending { pins, .. } => {
                self.outside.forget();
                match clean(pins) {
                    Ok(_) => (self.stage, self.stays) = (Stage::Off, None),
                    Err(why) if self.stays.as_ref() != Some(&why) => {
                        tracing::warn!("sockets: {why}: its pins stay; tried again");
                        self.stays = Some(why);
                    }
                    Err(_) => {}
                }
                return;
            }
            _ => self.stage = Stage::Off,
        }
        // An earlier run may have left something, too.
        match Found::look(&wanted.pins) {
            Ok(found) if found.is_nothing() => {}
            Ok(found) => {
                if let Err(error) = found.stop() {
                    tracing::warn!("sockets: {error}: the programs stay, and are switched off");
                }
                self.stage = Stage::Ending {
                    until: now + LINGER,
                    pins: wanted.pins.clone(),
                };
            }
            // Nothing can be pinned where nothing can be read.
            Err(error) => tracing::debug!("sockets: {error}"),
        }
    }

    fn tell(&self, wanted: &XdpSettings) {
        let loaded = self.loaded.as_ref();
        self.report.store(State {
            wanted: (wanted.data_plane, wanted.sockets),
            stage: self.stage.clone(),
            node: loaded.map(Loaded::node).unwrap_or_default(),
            pods: loaded.map(Loaded::pods).unwrap_or_default(),
            pins: match &self.stage {
                Stage::Ending { pins, .. } => pins.clone(),
                _ => wanted.pins.clone(),
            },
            verified: loaded.map(Loaded::verified).unwrap_or_default(),
            counts: loaded.map(Loaded::counts),
            outside: self.outside.state(
                wanted,
                match &self.stage {
                    Stage::Failed { why, .. } if loaded.is_none() => Some(why),
                    _ => None,
                },
            ),
        });
    }
}

/// Looks into the folder of pins. Another agent that has just ended may hold them for a moment longer.
fn look_patiently(pins: &Path) -> Result<Found, PinError> {
    let until = Instant::now() + EVERY;
    loop {
        match Found::look(pins) {
            Err(PinError::Taken(_)) if Instant::now() < until => thread::sleep(SOON),
            found => return found,
        }
    }
}

/// Removes everything that is pinned in a folder that is used no more.
fn leave(pins: &Path) {
    if let Err(why) = clean(pins) {
        tracing::warn!(
            "sockets: {why}: what is pinned in {} stays; `tandem run --cleanup` removes it",
            pins.display()
        );
    }
}

/// Removes everything that is pinned in this folder, and detaches the programs so. Returns whether anything was there.
pub fn clean(pins: &Path) -> Result<bool, String> {
    let found = Found::look(pins).map_err(|error| error.to_string())?;
    found.remove().map_err(|error| error.to_string())?;
    Ok(!found.is_nothing())
}
