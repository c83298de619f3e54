//! The devices that the programs for packets are attached to, and those by which packets may leave.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use tandem_core::family::{V4, V6};
use tandem_xdp::kernel::{DeviceError, Mode, PacketMaps, Packets, program_name};
use tandem_xdp::{Address6, Mac, Plane as _};

use super::devices::Why;
use super::devices::facts::Sources;
use super::devices::numbers::{Exit, NumberChange, Numbers};
use super::devices::plan::{Plan, Use, plan};
use super::devices::read::read;
use super::outside_report::{DeviceRole, DeviceState};
use super::place::{Problem, waits, words};
use super::settings::{DeviceMode, XdpSettings};
use crate::backoff::Retry;
use crate::net::Rtnetlink;

/// How often it is looked at devices if there is no news of them: offloads change without news.
const EVERY: Duration = Duration::from_secs(10);
/// Packets of devices with a larger MTU may come in parts: one piece of a driver's memory is a page, with room before and after.
const ONE_PIECE: u16 = 3000;

/// The devices.
pub(super) struct Devices {
    numbers: Numbers,
    /// What this run attached, or tried to attach, by index.
    tried: BTreeMap<u32, Tried>,
    shown: Vec<DeviceState>,
    next: Instant,
    /// Why devices could not be read.
    unread: Option<Problem>,
    /// Why a program could not be detached.
    stays: Option<Problem>,
}

/// A device that a program is to be attached to.
struct Tried {
    mode: Mode,
    state: Result<SystemTime, (Problem, Retry)>,
}

/// What a look found.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Looked {
    /// Whether anything is different.
    pub(super) changed: bool,
    /// Whether a device came whose packets nobody looked at before.
    pub(super) came: bool,
}

impl Devices {
    /// None is attached by this run. Packets may leave by those that an earlier run told the programs.
    pub(super) fn new(maps: &PacketMaps) -> Self {
        Self {
            numbers: numbers_of(maps),
            tried: BTreeMap::new(),
            shown: Vec::new(),
            next: Instant::now(),
            unread: None,
            stays: None,
        }
    }

    /// Whether no device's packets are looked at.
    pub(super) fn is_empty(&self) -> bool {
        !self.tried.values().any(|tried| tried.state.is_ok())
    }

    /// For readers of the status.
    pub(super) fn shown(&self) -> Vec<DeviceState> {
        self.shown.clone()
    }

    /// Attaches what is not attached, and detaches what should not be. `comes` is called before packets of a device are looked at that
    /// nobody looked at before.
    pub(super) fn look(&mut self, packets: &Packets, wanted: &XdpSettings, news: bool, comes: impl Fn()) -> Looked {
        if !news && Instant::now() < self.next && self.all_there(packets) {
            return Looked::default();
        }
        self.next = Instant::now() + EVERY;
        let facts = match Rtnetlink::open().and_then(|mut kernel| read(&mut kernel)) {
            Ok(facts) => facts,
            Err(error) => {
                let why = words(error);
                if self.unread.as_ref() != Some(&why) {
                    tracing::warn!("xdp: {why}: devices stay as they are");
                    self.unread = Some(why);
                }
                return Looked::default();
            }
        };
        self.unread = None;
        let ours: Vec<u32> = packets.programs();
        let plan = plan(&wanted.devices, &facts, |program| ours.contains(&program));
        let mode = match wanted.mode {
            DeviceMode::Native => Mode::Native,
            DeviceMode::Generic => Mode::Generic,
        };
        self.bring(packets, mode, &plan, comes)
    }

    /// Whether every device that this run attached still is. Somebody may have detached one, or removed a pin.
    fn all_there(&self, packets: &Packets) -> bool {
        let attached = packets.attached();
        let is_there = |index: &u32| attached.iter().any(|(pin, is)| pin.index == *index && *is);
        let mut mine = self.tried.iter().filter(|(_, tried)| tried.state.is_ok());
        mine.all(|(index, _)| is_there(index))
    }

    fn bring(&mut self, packets: &Packets, mode: Mode, plan: &Plan, comes: impl Fn()) -> Looked {
        let attaches: BTreeMap<u32, (Mac, u16)> = plan
            .devices
            .iter()
            .filter_map(|planned| match planned.usage {
                Use::Attach { mac, mtu, .. } => Some((planned.index, (Mac::of_bytes(mac), mtu))),
                _ => None,
            })
            .collect();
        let shown_before = self.shown.clone();
        let standing = packets.attached();
        for index in standing
            .iter()
            .map(|(pin, _)| pin.index)
            .filter(|index| !attaches.contains_key(index))
        {
            self.detach(packets, index);
        }
        self.tried.retain(|index, _| attaches.contains_key(index));
        let mut came = false;
        for (index, (mac, mtu)) in attaches {
            let is_there = standing
                .iter()
                .any(|(pin, is)| (pin.index, pin.mode, *is) == (index, mode, true));
            came |= self.attach(packets, (index, mode), mtu, is_there, &comes);
            packets.set_ingress(index, self.is_attached(index).then_some(mac));
        }
        let exits = plan.devices.iter().filter_map(Exit::of);
        let exits: Vec<Exit> = exits.filter(|exit| self.is_attached(exit.device.index)).collect();
        let changes = self.numbers.bring(&exits);
        for change in &changes {
            let told = match change {
                NumberChange::Set(number, Exit { index, device, sources }) => packets
                    .clear_device(*number)
                    .and_then(|()| packets.set_device(*number, *index, *device, mapped(*sources))),
                NumberChange::Clear(number) => packets.clear_device(*number),
            };
            if let Err(error) = told {
                tracing::warn!(
                    "xdp: {}: packets do not leave by every device by which they might",
                    words(error)
                );
                // What stands there now is written anew at the next look.
                self.numbers = numbers_of(packets);
            }
        }
        if !changes.is_empty() {
            packets.raise();
        }
        self.shown = self.show(plan, mode);
        self.say(&shown_before);
        Looked {
            changed: self.shown != shown_before,
            came,
        }
    }

    fn is_attached(&self, index: u32) -> bool {
        self.tried.get(&index).is_some_and(|tried| tried.state.is_ok())
    }

    /// Attaches the program to a device, unless this run did so already and it is still there. Returns whether nobody looked at the
    /// device's packets before.
    fn attach(
        &mut self,
        packets: &Packets,
        (index, mode): (u32, Mode),
        mtu: u16,
        is_there: bool,
        comes: impl Fn(),
    ) -> bool {
        let before = self.tried.remove(&index).filter(|tried| tried.mode == mode);
        let retry = match before {
            Some(Tried { state: Ok(since), .. }) if is_there => {
                let state = Ok(since);
                self.tried.insert(index, Tried { mode, state });
                return false;
            }
            Some(Tried {
                state: Err((why, retry)),
                ..
            }) if !retry.due(Instant::now()) => {
                let state = Err((why, retry));
                self.tried.insert(index, Tried { mode, state });
                return false;
            }
            Some(Tried {
                state: Err((_, retry)), ..
            }) => retry,
            _ => waits(),
        };
        if !is_there {
            comes();
        }
        let large = mtu > ONE_PIECE;
        let mut attached = packets.attach(index, mode, large);
        if !large && matches!(attached, Err(DeviceError::NotNative(_))) {
            // Drivers have limits of their own for packets that are in one piece.
            attached = packets.attach(index, mode, true);
        }
        let state = match attached {
            Ok(_) => Ok(SystemTime::now()),
            Err(error) => Err((error.to_string(), retry.failed(Instant::now()))),
        };
        let came = state.is_ok() && !is_there;
        self.tried.insert(index, Tried { mode, state });
        came
    }

    fn detach(&mut self, packets: &Packets, index: u32) {
        packets.set_ingress(index, None);
        match packets.detach(index) {
            Ok(()) => self.stays = None,
            Err(error) => {
                let why = words(error);
                if self.stays.as_ref() != Some(&why) {
                    tracing::warn!("xdp: {why}: the program stays attached; tried again");
                    self.stays = Some(why);
                }
            }
        }
    }

    fn show(&self, plan: &Plan, mode: Mode) -> Vec<DeviceState> {
        let name = |index| {
            let planned = plan.devices.iter().find(|planned| planned.index == index);
            planned.map_or_else(|| format!("device {index}"), |planned| planned.name.to_string())
        };
        let refused = |why: String| DeviceRole::Refused { why: why.into() };
        let not_tried = || refused("not attached yet".to_owned());
        let mut shown = Vec::new();
        for planned in &plan.devices {
            let role = match &planned.usage {
                Use::Attach { .. } => match self.tried.get(&planned.index).map(|tried| &tried.state) {
                    Some(Ok(since)) => DeviceRole::Attached {
                        mode: mode_name(mode),
                        since: *since,
                    },
                    Some(Err((why, _))) => refused(why.clone()),
                    None => not_tried(),
                },
                Use::WayOut { carrier, vlan, .. } if self.is_attached(*carrier) => DeviceRole::WayOut {
                    vlan: *vlan,
                    carrier: name(*carrier),
                },
                Use::WayOut { carrier, .. } => refused(format!("{} is not used", name(*carrier))),
                Use::Refused(Why::Foreign { program }) => refused(format!(
                    "{} ({})",
                    Why::Foreign { program: *program },
                    program_name(*program)
                )),
                Use::Refused(why) => refused(why.to_string()),
            };
            shown.push(DeviceState {
                name: planned.name.to_string(),
                index: planned.index,
                role,
            });
        }
        shown.extend(plan.unmatched.iter().map(|pattern| DeviceState {
            name: pattern.to_string(),
            index: 0,
            role: refused(Why::unmatched(pattern).to_string()),
        }));
        shown
    }

    /// Logs what is new about devices.
    fn say(&self, before: &[DeviceState]) {
        for device in self.shown.iter().filter(|device| !before.contains(device)) {
            let name = &device.name;
            match &device.role {
                DeviceRole::Attached { mode, .. } => tracing::info!("xdp: {name}: packets are looked at ({mode})"),
                DeviceRole::WayOut { vlan, carrier } => {
                    tracing::info!("xdp: {name}: packets may leave by VLAN {vlan} on {carrier}");
                }
                DeviceRole::Refused { why } => tracing::warn!("xdp: {name}: {why}"),
            }
        }
        let gone = |device: &&DeviceState| !self.shown.iter().any(|now| now.name == device.name);
        for device in before.iter().filter(gone) {
            tracing::info!("xdp: {}: not used any more", device.name);
        }
    }
}

fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Native => "native",
        Mode::Generic => "generic",
    }
}

/// The numbers that stand in the map.
fn numbers_of(maps: &PacketMaps) -> Numbers {
    let found = maps.devices().into_iter();
    Numbers::adopt(found.map(|(number, _, device)| (number, device.index, device.vlan)))
}

/// Source addresses as they stand in the map: IPv4's, and the two words of IPv6's. 0 is none.
fn mapped(sources: Sources) -> [u64; 3] {
    let v4 = sources.v4.map_or(0, |addr| u64::from(V4::mapped(addr).0));
    let Address6 { first, second } = sources.v6.map_or(Address6 { first: 0, second: 0 }, V6::mapped);
    [v4, first, second]
}
