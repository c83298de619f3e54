//! Flows as people and the agent see them.

use tandem_core::row::{Endpoint, Protocol};
use tandem_xdp_layout::{
    FlowAddress as _, Hop, Record as _, RouteGeneration, SLOTS, State, StateWord, Times, claimable, record,
};

use super::clock::now;
use super::error::PacketsError;
use super::maps::PacketMaps;
use crate::convert::{self, Plane};

/// A flow that a record stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowFound<F: Plane> {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Who asked.
    pub client: Endpoint<F>,
    /// What it asked for.
    pub frontend: Endpoint<F>,
    /// Who answers.
    pub endpoint: Endpoint<F>,
    /// The node's address that the endpoint sees.
    pub source: F::Addr,
    /// The port that it sees.
    pub port: u16,
    /// What it is doing.
    pub state: FlowState,
    /// For how many seconds there has been one.
    pub age: u32,
    /// For how many seconds there was no packet.
    pub idle: u32,
    /// Where its packets go next: those to the endpoint, and those to the client.
    pub hops: [Hop; 2],
    /// Whether the hops were found by the routes as they are now.
    pub current: [bool; 2],
}

/// What a flow is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FlowState {
    /// The client asked for a connection.
    SynSent,
    /// The endpoint agreed.
    SynReceived,
    /// The connection stands.
    Established,
    /// One side ended.
    Closing,
    /// Both sides ended.
    Closed,
    /// The last packet broke it off.
    Reset,
    /// UDP: only the client sent.
    Unreplied,
    /// UDP: both sides sent.
    Replied,
}

impl FlowState {
    fn of(word: StateWord) -> Option<Self> {
        Some(match word.state()? {
            State::Sent => Self::Unreplied,
            State::Both => Self::Replied,
            State::Free | State::Claimed | State::Held => return None,
            _ if word.is_ended() => Self::Closed,
            _ if word.is_broken() => Self::Reset,
            _ if word.is_ending() => Self::Closing,
            State::Asked => Self::SynSent,
            State::Answered => Self::SynReceived,
            State::Open => Self::Established,
        })
    }

    /// It in one word, as `conntrack -L` has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::SynSent => "SYN_SENT",
            Self::SynReceived => "SYN_RECV",
            Self::Established => "ESTABLISHED",
            Self::Closing => "CLOSING",
            Self::Closed => "CLOSED",
            Self::Reset => "RESET",
            Self::Unreplied => "UNREPLIED",
            Self::Replied => "REPLIED",
        }
    }
}

/// How full the pages of a family are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PageFill {
    /// The pages.
    pub pages: u32,
    /// The records that stand for flows that are not over.
    pub flows: u32,
    /// The records of flows that are over, which the next flow may take.
    pub over: u32,
    /// The ports that somebody else uses.
    pub held: u32,
    /// The most records that are not free in one page, of 16,384.
    pub fullest: u32,
}

impl PacketMaps {
    /// The flows of a family, one after the other. Those that are over are left out. What changes meanwhile may be missing.
    pub fn flows<F: Plane>(&self, mut each: impl FnMut(FlowFound<F>)) -> Result<(), PacketsError> {
        let Some(settings) = self.settings() else { return Ok(()) };
        let records = self.records::<F::Mapped>(is_six::<F>())?;
        let now = now();
        for (number, words) in records.all() {
            let (state, Some(flow)) = record::read::<F::Mapped>(words) else {
                continue;
            };
            let idle = now.wrapping_sub(record::used::<F::Mapped>(words));
            if claimable(state, idle, &settings.times).is_some() {
                continue;
            }
            let hops = F::Mapped::HOPS.map(|at| Hop(words.get(at)));
            let found = || {
                Some(FlowFound::<F> {
                    protocol: Protocol::from_number(state.protocol())?,
                    client: convert::plain(flow.client)?,
                    frontend: convert::plain(flow.frontend)?,
                    endpoint: convert::plain(flow.endpoint)?,
                    source: F::unmapped(flow.source),
                    port: u16::from_be(number.port()),
                    state: FlowState::of(state)?,
                    age: now.wrapping_sub(record::since::<F::Mapped>(words)),
                    idle,
                    hops,
                    current: hops.map(|hop| hop.is_of(settings.generation)),
                })
            };
            if let Some(found) = found() {
                each(found);
            }
        }
        Ok(())
    }

    /// How full a family's pages are.
    pub fn fill<F: Plane>(&self) -> Result<PageFill, PacketsError> {
        let times = self.settings().map_or_else(Times::default, |settings| settings.times);
        let records = self.records::<F::Mapped>(is_six::<F>())?;
        let now = now();
        let mut fill = PageFill {
            pages: self.pages()[usize::from(is_six::<F>())],
            ..PageFill::default()
        };
        let (mut page, mut used) = (0, 0);
        for (number, words) in records.all() {
            if number.page() != page {
                (page, used) = (number.page(), 0);
            }
            let state = record::state(words);
            match state.state() {
                None | Some(State::Free | State::Claimed) => continue,
                Some(State::Held) => fill.held += 1,
                Some(_) => {
                    let idle = now.wrapping_sub(record::used::<F::Mapped>(words));
                    if claimable(state, idle, &times).is_some() {
                        fill.over += 1;
                    } else {
                        fill.flows += 1;
                    }
                }
            }
            used += 1;
            fill.fullest = fill.fullest.max(used);
        }
        Ok(fill)
    }

    /// Whether a family has a flow that is not over.
    pub fn has_flows<F: Plane>(&self) -> Result<bool, PacketsError> {
        let times = self.settings().map_or_else(Times::default, |settings| settings.times);
        let records = self.records::<F::Mapped>(is_six::<F>())?;
        let now = now();
        let stands = |words| {
            let state = record::state(words);
            state.is_flow() && claimable(state, now.wrapping_sub(record::used::<F::Mapped>(words)), &times).is_none()
        };
        Ok(records.all().any(|(_, words)| stands(words)))
    }

    /// Has hops that were found by routes of long ago be looked up again, before their generation comes round. Returns where packets
    /// went in the last `seconds`.
    pub fn sweep<F: Plane>(&self, seconds: u32, mut each: impl FnMut(Hop)) -> Result<(), PacketsError> {
        let Some(settings) = self.settings() else { return Ok(()) };
        let records = self.records::<F::Mapped>(is_six::<F>())?;
        let now = now();
        let newest = settings.generation;
        for (_, words) in records.all() {
            if !record::state(words).is_flow() {
                continue;
            }
            let lately = now.wrapping_sub(record::used::<F::Mapped>(words)) <= seconds;
            for at in F::Mapped::HOPS {
                let hop = Hop(words.get(at));
                if newest.since(hop.generation()) > RouteGeneration::COUNT / 4 {
                    words.change(at, hop.0, hop.renewed(newest.before()).0);
                }
                if lately && hop.device().get() != 0 {
                    each(hop);
                }
            }
        }
        Ok(())
    }

    /// Keeps ports free that somebody else uses, towards an endpoint or, without one, towards all. Those that were kept before, and
    /// are not named any more, are given back. Returns how many are kept.
    pub fn hold_ports<F: Plane>(&self, used: &[HeldPort<F>]) -> Result<usize, PacketsError> {
        let pages = self.pages()[usize::from(is_six::<F>())];
        if pages == 0 {
            return Ok(0);
        }
        let mut wanted = std::collections::BTreeSet::new();
        for port in used {
            let Some(slot) = port.port.checked_sub(tandem_xdp_layout::FIRST_PORT).map(u32::from) else {
                continue;
            };
            match port.towards {
                Some((endpoint, protocol)) => {
                    let endpoint = convert::endpoint::<F>(endpoint);
                    wanted.insert(tandem_xdp_layout::RecordNumber::new(
                        endpoint,
                        protocol.number(),
                        pages,
                        slot,
                    ));
                }
                None => wanted.extend((0..pages).map(|page| tandem_xdp_layout::RecordNumber::at(page * SLOTS + slot))),
            }
        }
        let records = self.records::<F::Mapped>(is_six::<F>())?;
        let (times, now) = (self.times(), now());
        let mut held = 0;
        for (number, words) in records.all() {
            let state = record::state(words);
            match state.state() {
                Some(State::Held) if !wanted.contains(&number) => drop(record::change(words, state, state.freed())),
                Some(State::Held) => held += 1,
                Some(State::Free) if wanted.contains(&number) => {
                    let kept = state.claimed().published(State::Held, 0);
                    held += usize::from(record::change(words, state, kept));
                }
                // A flow has it already, and was there first. If it is over, nobody misses it.
                Some(_) if wanted.contains(&number) && state.is_flow() => {
                    let idle = now.wrapping_sub(record::used::<F::Mapped>(words));
                    if claimable(state, idle, &times).is_some() {
                        let kept = state.claimed().published(State::Held, 0);
                        held += usize::from(record::change(words, state, kept));
                    }
                }
                _ => {}
            }
        }
        Ok(held)
    }
}

/// A port of this node that somebody else than XDP uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldPort<F: Plane> {
    /// The port.
    pub port: u16,
    /// Towards whom; none if it may be anybody.
    pub towards: Option<(Endpoint<F>, Protocol)>,
}

fn is_six<F: Plane>() -> bool {
    F::FAMILY == tandem_core::family::IpFamily::V6
}
