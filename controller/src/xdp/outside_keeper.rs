//! Keeps packets from outside as the configuration wants them: opened, minded until their flows end, or gone.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tandem_core::family::{IpFamily, V4, V6};
use tandem_core::plane::Ahead;
use tandem_xdp::kernel::{Found, PacketMaps, Records, Sockets};
use tandem_xdp::{Plane, Times};
use tokio::sync::Notify;
use tokio::sync::mpsc::Sender;

use super::minded::Minded;
use super::outside::Outside;
use super::outside_counts::Kernels;
use super::outside_report::{OutsideStage, OutsideState};
use super::place::Problem;
use super::records::XdpRecords;
use super::reserved::Reserved;
use super::settings::XdpSettings;
use super::sockets::LINGER;
use crate::backoff::Retry;
use crate::engine::{FamilyStatus, FollowState, Snapshot};
use crate::event::{Event, NodeFact};
use crate::flows::RecordsSeat;

/// How often it is looked at what others have attached.
const EVERY: Duration = Duration::from_secs(1);

/// What there is of packets from outside.
enum Part {
    /// Nothing.
    None,
    /// Flows that go on.
    Minded(Minded),
    /// Programs of this run.
    Open(Box<Outside>),
}

/// The keeper.
pub(super) struct OutsideKeeper {
    part: Part,
    events: Sender<Event>,
    reserved: Reserved,
    /// Told when something about devices may have changed.
    nudge: Arc<Notify>,
    news: bool,
    /// What the engine was told.
    ahead: Ahead,
    /// Why the programs are not open, and when it is tried again.
    why_not: Option<(Problem, Retry)>,
    /// Why what is over could not be removed.
    stays: Option<Problem>,
    /// Whether it was looked for what an earlier run left.
    looked: bool,
    /// Whether programs are attached to devices that nobody minds: those of another layout, or of this one if it could not be
    /// begun to mind them.
    others: bool,
    /// When devices are taken from programs of a newer layout, if there are any.
    newer_until: Option<SystemTime>,
    /// When it is looked again whether those are there.
    look_at: Instant,
    /// Where those find the flows who cut wrong ones, and which are there.
    records: (RecordsSeat<V4>, RecordsSeat<V6>),
    seated: Option<Arc<PacketMaps>>,
}

/// What a look found.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Looked {
    /// Whether anything is different.
    pub(super) changed: bool,
    /// Whether it has something to do soon.
    pub(super) soon: bool,
}

impl OutsideKeeper {
    pub(super) fn new(events: Sender<Event>, reserved: Reserved, records: (RecordsSeat<V4>, RecordsSeat<V6>)) -> Self {
        Self {
            part: Part::None,
            events,
            reserved,
            nudge: Arc::default(),
            news: true,
            ahead: Ahead::Nobody,
            why_not: None,
            stays: None,
            looked: false,
            others: false,
            newer_until: None,
            look_at: Instant::now(),
            records,
            seated: None,
        }
    }

    /// An earlier run's programs are attached: the rules are to follow what they choose from the beginning.
    pub(super) fn begin(&mut self) {
        self.tell(Ahead::Xdp);
    }

    /// Waits for news of devices.
    pub(super) async fn news(&mut self) {
        self.nudge.notified().await;
        self.news = true;
    }

    /// The programs are let go of. Their flows go on.
    pub(super) fn let_go(&mut self) {
        if let Part::Open(_) = &self.part
            && let Part::Open(outside) = std::mem::replace(&mut self.part, Part::None)
        {
            self.part = Part::Minded(outside.minded());
        }
    }

    /// What was pinned is removed by somebody else.
    pub(super) fn forget(&mut self) {
        self.part = Part::None;
        (self.looked, self.others, self.newer_until) = (false, false, None);
    }

    /// Brings everything to what is wanted.
    pub(super) fn look(&mut self, wanted: &XdpSettings, sockets: Option<&Sockets>, snapshot: &Snapshot) -> Looked {
        let before = self.stage();
        self.find(wanted);
        let mut looked = Looked::default();
        if wanted.wants_devices() {
            if let Some(sockets) = sockets {
                self.open(wanted, sockets, snapshot);
            }
            let news = std::mem::take(&mut self.news);
            if let Part::Open(outside) = &mut self.part {
                (looked.changed, looked.soon) = outside.look(wanted, snapshot, news);
            }
        } else {
            self.why_not = None;
            self.let_go();
            self.end();
        }
        self.seat();
        let ahead = match &self.part {
            Part::None if !self.others => Ahead::Nobody,
            Part::None | Part::Minded(_) => Ahead::Xdp,
            Part::Open(outside) => outside.ahead(),
        };
        // Before the first look, nobody knows what an earlier run left.
        if self.looked {
            self.tell(ahead);
        }
        looked.changed |= self.stage() != before;
        looked
    }

    fn maps(&self) -> Option<Arc<PacketMaps>> {
        match &self.part {
            Part::None => None,
            Part::Minded(minded) => Some(minded.maps()),
            Part::Open(outside) => Some(outside.maps()),
        }
    }

    /// Shows the flows that there are to those who cut wrong ones.
    fn seat(&mut self) {
        let maps = self.maps();
        if maps.as_ref().map(Arc::as_ptr) == self.seated.as_ref().map(Arc::as_ptr) {
            return;
        }
        if let Some(maps) = &maps {
            self.records.0.put(XdpRecords::new(reader::<V4>(maps)));
            self.records.1.put(XdpRecords::new(reader::<V6>(maps)));
        } else {
            self.records.0.clear();
            self.records.1.clear();
        }
        self.seated = maps;
    }

    /// Minds the flows of an earlier run, and of programs of a newer layout. What cannot be read now is looked at again.
    fn find(&mut self, wanted: &XdpSettings) {
        let now = Instant::now();
        if self.looked && !self.others || now < self.look_at {
            return;
        }
        let found = match Found::look(&wanted.pins) {
            Ok(found) => found,
            Err(error) => {
                tracing::debug!("xdp: {error}: it is looked again whether an earlier run left flows");
                return;
            }
        };
        self.look_at = now + EVERY;
        (self.looked, self.others) = (true, found.has_devices_of_others());
        self.end_newer(&found);
        if !matches!(self.part, Part::None) || !found.has_devices() {
            return;
        }
        match Minded::found(wanted, Arc::clone(&self.nudge)) {
            Ok(minded) => self.part = Part::Minded(minded),
            Err(why) => {
                self.others = true;
                tracing::warn!("xdp: {why}: flows of an earlier run go on by the routes as they were; tried again");
            }
        }
    }

    /// Gives the flows of a newer layout an hour, as of programs that were switched off. Nobody here can read them.
    fn end_newer(&mut self, found: &Found) {
        if !found.has_devices_of_newer() {
            self.newer_until = None;
            return;
        }
        let until = *self.newer_until.get_or_insert_with(|| {
            tracing::info!("xdp: programs of a newer layout have flows: their devices are taken from them in an hour");
            SystemTime::now() + LINGER
        });
        if until > SystemTime::now() {
            return;
        }
        match found.detach_newer_devices() {
            Ok(()) => tracing::info!("xdp: the devices are taken from the programs of a newer layout"),
            Err(error) => tracing::warn!("xdp: {error}: programs of a newer layout keep their devices; tried again"),
        }
    }

    fn open(&mut self, wanted: &XdpSettings, sockets: &Sockets, snapshot: &Snapshot) {
        let not_yet = |(_, retry): &(Problem, Retry)| !retry.due(Instant::now());
        if matches!(self.part, Part::Open(_)) || self.why_not.as_ref().is_some_and(not_yet) {
            return;
        }
        // The older programs go on until these have rows to choose by.
        let older = sockets.older_flows();
        if older.is_some() && !(is_on(&snapshot.v4) && is_on(&snapshot.v6)) {
            return;
        }
        let (reserved, nudge) = (self.reserved.clone(), Arc::clone(&self.nudge));
        match Outside::open(sockets, wanted, reserved, nudge, older.as_ref()) {
            Ok(outside) => {
                self.part = Part::Open(Box::new(outside));
                (self.why_not, self.news) = (None, true);
            }
            Err(why) => {
                let before = self.why_not.take();
                if before.as_ref().is_none_or(|(known, _)| *known != why) {
                    tracing::error!("xdp: {why}: nftables serves packets from outside alone; tried again");
                }
                let retry = before.map_or_else(
                    || Retry::new(Duration::from_secs(1), Duration::from_mins(1)),
                    |(_, retry)| retry,
                );
                self.why_not = Some((why, retry.failed(Instant::now())));
            }
        }
    }

    /// Ends what goes on, if it is over.
    fn end(&mut self) {
        let Part::Minded(minded) = &mut self.part else {
            // As long as anybody has flows, their ports are kept.
            if matches!(self.part, Part::None) && self.looked && !self.others {
                self.give_ports_back();
            }
            return;
        };
        minded.end();
        if !minded.is_over() {
            return;
        }
        match minded.remove() {
            Ok(()) => {
                tracing::info!("xdp: its flows are over: the programs for packets from outside are detached");
                (self.part, self.stays) = (Part::None, None);
                self.give_ports_back();
            }
            Err(why) => {
                if self.stays.as_ref() != Some(&why) {
                    tracing::warn!("xdp: {why}: what is pinned stays; tried again");
                    self.stays = Some(why);
                }
            }
        }
    }

    fn give_ports_back(&self) {
        match self.reserved.remove() {
            Ok(true) => tracing::info!("xdp: the ports 49152-65535 are not reserved any more"),
            Ok(false) => {}
            Err(why) => tracing::debug!("xdp: {why}: the ports stay reserved"),
        }
    }

    /// Tells the engine who sees packets before the rules do. If it has too much to do, it is told at the next look.
    fn tell(&mut self, ahead: Ahead) {
        if ahead != self.ahead && self.events.try_send(Event::NodeFact(NodeFact::Ahead(ahead))).is_ok() {
            self.ahead = ahead;
        }
    }

    fn stage(&self) -> OutsideStage {
        match (&self.part, &self.why_not) {
            (Part::Open(outside), _) => outside.stage(),
            (_, Some((why, _))) => OutsideStage::Failed {
                why: why.as_str().into(),
            },
            (Part::Minded(minded), None) => match minded.until() {
                Some(until) => OutsideStage::Ending { until },
                None => OutsideStage::Waiting {
                    why: "the programs of an earlier run go on meanwhile".into(),
                },
            },
            (Part::None, None) if self.others => match self.newer_until {
                Some(until) => OutsideStage::Ending { until },
                None => OutsideStage::Waiting {
                    why: "the programs of an earlier run go on meanwhile".into(),
                },
            },
            (Part::None, None) => OutsideStage::Off,
        }
    }

    /// For readers of the status. `not_loaded` says why no programs are loaded at all.
    pub(super) fn state(&self, wanted: &XdpSettings, not_loaded: Option<&Arc<str>>) -> OutsideState {
        let stage = match (self.stage(), not_loaded) {
            (OutsideStage::Off | OutsideStage::Waiting { .. }, Some(why)) if wanted.wants_devices() => {
                OutsideStage::Failed { why: Arc::clone(why) }
            }
            (OutsideStage::Off, None) if wanted.wants_devices() => OutsideStage::Waiting {
                why: "the programs are not loaded".into(),
            },
            (stage, _) => stage,
        };
        OutsideState {
            wanted: wanted.wants_devices(),
            stage,
            devices: match &self.part {
                Part::Open(outside) => outside.devices.shown(),
                _ => Vec::new(),
            },
            verified: match &self.part {
                Part::Open(outside) => outside.verified(),
                _ => 0,
            },
            counts: self.maps().map(|maps| Arc::new(Kernels(maps)) as Arc<_>),
        }
    }
}

/// Maps the records of a family when somebody reads them.
fn reader<F: Plane>(
    maps: &Arc<PacketMaps>,
) -> impl Fn() -> io::Result<(Records<F::Mapped>, Times)> + Send + Sync + use<F> {
    let maps = Arc::clone(maps);
    move || {
        let records = maps.records::<F::Mapped>(F::FAMILY == IpFamily::V6);
        Ok((records.map_err(io::Error::other)?, maps.times()))
    }
}

/// Whether the maps hold every row of a family.
fn is_on(status: &FamilyStatus) -> bool {
    matches!(status.followed.state, FollowState::On { .. })
}
