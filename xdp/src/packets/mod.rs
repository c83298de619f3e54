//! Single packets in the kernel's programs: what becomes of them, and what stands in the maps afterwards. `make xdp-packets`
//! runs all cases.

mod cases;
#[cfg(test)]
mod cut;
mod net;
mod network;
mod place;
pub mod race;
mod rows;
mod shape;
pub mod speed;
pub mod stream;

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tandem_xdp_layout::{
    Address4, Address6, Endpoint, Flow, FlowAddress, PacketCount, Reason, Record as _, RecordNumber, RouteGeneration,
    State, StateWord, record,
};

use cases::{Becomes, Before, Case, Event, To};
use net::{Net, VLAN, mac, neighbour};
use place::Place;
use shape::{Shape, What};

/// Why packets are not tried.
pub type Failed = Box<dyn std::error::Error + Send + Sync>;

/// What was found.
#[derive(Debug, Default)]
pub struct Report {
    /// How many cases there are.
    pub cases: usize,
    /// What is wrong, a line for each case.
    pub wrong: Vec<String>,
    /// How many instructions the verifier looked at for each program.
    pub verified: Vec<(&'static str, u32)>,
}

/// The kernel's numbers for verdicts.
const DROP: u32 = 1;
const PASS: u32 = 2;
const REDIRECT: u32 = 4;

/// Runs all cases whose name contains `only`, in both programs.
///
/// # Errors
///
/// If the network or the programs are not to be had.
pub fn run(only: &str) -> Result<Report, Failed> {
    let mut place = Place::new(1)?;
    let mut report = Report {
        verified: place.packets.verified(),
        ..Report::default()
    };
    for case in cases::all().iter().filter(|case| case.name.contains(only)) {
        for parts in [false, true] {
            report.cases += 1;
            let wrong = if case.six {
                Trial::<Address6>::run(&mut place, case, parts)
            } else {
                Trial::<Address4>::run(&mut place, case, parts)
            };
            if let Err(wrong) = wrong {
                let program = if parts { ", in parts" } else { "" };
                report.wrong.push(format!("{}{program}: {wrong}", case.name));
            }
        }
    }
    Ok(report)
}

/// A flow as it stands in a record.
struct Standing<A> {
    number: RecordNumber,
    state: StateWord,
    flow: Flow<A>,
}

/// One case.
struct Trial<'a, A> {
    place: &'a mut Place,
    case: &'a Case,
    parts: bool,
    family: std::marker::PhantomData<A>,
}

/// A family's addresses as the standard library has them.
trait Shown: FlowAddress {
    fn ip(self) -> IpAddr;
}

impl Shown for Address4 {
    fn ip(self) -> IpAddr {
        Ipv4Addr::from(self.0.to_ne_bytes()).into()
    }
}

impl Shown for Address6 {
    fn ip(self) -> IpAddr {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.first.to_ne_bytes());
        bytes[8..].copy_from_slice(&self.second.to_ne_bytes());
        Ipv6Addr::from(bytes).into()
    }
}

fn shown<A: Shown>(end: Endpoint<A>) -> SocketAddr {
    (end.addr.ip(), u16::from_be(end.port)).into()
}

impl<'a, A: Shown> Trial<'a, A> {
    fn run(place: &'a mut Place, case: &'a Case, parts: bool) -> Result<(), Failed> {
        place.packets.forget_all(case.six)?;
        place.packets.set(&place.settings);
        place.switch_rows(true);
        place.readdress(true)?;
        let mut trial = Self {
            place,
            case,
            parts,
            family: std::marker::PhantomData,
        };
        for before in &case.before {
            match before {
                Before::Sent(shape) => {
                    let bytes = trial.filled(shape)?.bytes();
                    trial.place.packets.try_packet(parts, &bytes)?;
                }
                Before::Happens(event) => trial.happens(*event)?,
            }
        }
        trial.judge()
    }

    /// All flows.
    fn flows(&self) -> Result<Vec<Standing<A>>, Failed> {
        let records = self.place.packets.records::<A>(self.case.six)?;
        let standing = records.all().filter_map(|(number, words)| {
            let (state, flow) = record::read(words);
            flow.map(|flow| Standing { number, state, flow })
        });
        Ok(standing.collect())
    }

    /// The flow that a packet is of: the last one of its client.
    fn flow(&self) -> Result<Option<Standing<A>>, Failed> {
        let of_client = |standing: &Standing<A>| {
            let client = shown(standing.flow.client);
            let is_its = client == self.case.packet.from || self.case.packet.from.port() == 0;
            is_its || self.case.packet.to.port() == 0
        };
        let mut flows: Vec<_> = self.flows()?.into_iter().filter(of_client).collect();
        flows.sort_by_key(|standing| (!standing.state.is_closed(), self.used(standing.number)));
        Ok(flows.pop())
    }

    fn used(&self, number: RecordNumber) -> u32 {
        let records = self.place.packets.records::<A>(self.case.six);
        records.map_or(0, |records| records.at(number).map_or(0, record::used::<A>))
    }

    /// A shape with the port of the flow in it.
    fn filled(&self, shape: &Shape) -> Result<Shape, Failed> {
        let port = self
            .flow()?
            .map_or(49_152, |standing| u16::from_be(standing.number.port()));
        let mut shape = shape.clone();
        if shape.to.port() == 0 && matches!(shape.what, What::Tcp(_) | What::Udp(_)) {
            shape.to.set_port(port);
        }
        if let What::Error(about, ..) = &mut shape.what
            && about.from.port() == 0
        {
            about.from.set_port(port);
        }
        Ok(shape)
    }

    fn happens(&mut self, event: Event) -> Result<(), Failed> {
        let mut settings = self.place.settings;
        match event {
            Event::Routes => {
                settings.generation = RouteGeneration::new(settings.generation.get() + 1);
                self.place.packets.set(&settings);
            }
            Event::Off => {
                settings.on = [false; 2];
                self.place.packets.set(&settings);
            }
            Event::Noting => {
                settings.on = [false; 2];
                settings.noting = true;
                self.place.packets.set(&settings);
            }
            Event::Moving => {
                settings.on = [false; 2];
                settings.moving = true;
                self.place.packets.set(&settings);
            }
            Event::NoAddresses => self.place.readdress(false)?,
            Event::On => self.place.packets.turn([true; 2], false),
            Event::RowsOff => self.place.switch_rows(false),
            Event::RowsOn => self.place.switch_rows(true),
            Event::PageFull => {
                let records = self.place.packets.records::<A>(self.case.six)?;
                for (_, words) in records.all() {
                    words.set(0, StateWord::default().claimed().published(State::Held, 0).0);
                }
            }
            Event::TakenOver => {
                let records = self.place.packets.records::<A>(self.case.six)?;
                for standing in self.flows()? {
                    let words = records.at(standing.number).ok_or("there is no such record")?;
                    let mut flow = standing.flow;
                    flow.client.port = 7_u16.to_be();
                    let first = (State::Open, standing.state.protocol());
                    let hops = A::HOPS.map(|at| tandem_xdp_layout::Hop(words.get(at)));
                    record::claim(words, standing.state, &flow, first, hops, record::used::<A>(words));
                }
            }
            Event::Seconds(seconds) => {
                let records = self.place.packets.records::<A>(self.case.six)?;
                for (_, words) in records.all() {
                    if record::state(words).is_flow() {
                        words.set(A::USED, u64::from(record::used::<A>(words).wrapping_sub(seconds)));
                    }
                }
            }
        }
        Ok(())
    }

    fn judge(&mut self) -> Result<(), Failed> {
        let shape = self.filled(&self.case.packet)?;
        let mut packet = shape.bytes();
        if let Some(cut) = self.case.cut {
            packet.truncate(cut);
        }
        let before = self.place.packets.counts()?;
        let answer = self.place.packets.try_packet(self.parts, &packet)?;
        let after = self.place.packets.counts()?;
        let mut counted: Vec<String> = before
            .iter()
            .zip(&after)
            .zip(0..)
            .filter(|((before, after), _)| before != after)
            .map(|((before, after), place)| format!("{} {:+}", name(place), after - before))
            .collect();
        let (action, wanted, count) = self.wanted(&shape, packet)?;
        let mut wrong = String::new();
        if answer.action != action {
            let _ = write!(wrong, "verdict {} instead of {action}; ", answer.action);
        }
        if answer.packet != wanted {
            let _ = write!(
                wrong,
                "the packet is\n    {}\n  and not\n    {}; ",
                hex(&answer.packet),
                hex(&wanted)
            );
        }
        let count: Vec<String> = count
            .into_iter()
            .map(|count| format!("{} +1", name(count.place())))
            .collect();
        if counted != count {
            counted.sort();
            let _ = write!(wrong, "counted {counted:?} instead of {count:?}; ");
        }
        let flows = self.flows()?.len();
        if flows != self.case.flows {
            let _ = write!(wrong, "{flows} flows instead of {}; ", self.case.flows);
        }
        let held = self.place.packets.held(self.case.six)?;
        if held != self.case.held {
            let _ = write!(wrong, "{held} held flows instead of {}; ", self.case.held);
        }
        if let Some((state, closed)) = self.case.state {
            let found = self
                .flow()?
                .map(|standing| (standing.state.state(), standing.state.is_closed()));
            if found != Some((Some(state), closed)) {
                let _ = write!(wrong, "state {found:?} instead of {state:?}, closed: {closed}; ");
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong.into()) }
    }

    /// The verdict, the packet and the count that are wanted.
    fn wanted(&self, shape: &Shape, packet: Vec<u8>) -> Result<(u32, Vec<u8>, Option<PacketCount>), Failed> {
        let family = usize::from(self.case.six);
        let left = |reason: Reason| Some(PacketCount::left(family, reason.number()));
        Ok(match &self.case.becomes {
            Becomes::Nobodys | Becomes::Passed(Reason::NoFrontend) => (PASS, packet, None),
            Becomes::Passed(reason) => (PASS, packet, left(*reason)),
            Becomes::Dropped(reason) => (DROP, packet, left(*reason)),
            Becomes::Chosen(reason, slot) => {
                let mut packet = packet;
                let [low, high] = slot.to_le_bytes();
                packet[6..12].copy_from_slice(&[0x02, 0x74, 0x61, 0x6e, low, high]);
                (PASS, packet, left(*reason))
            }
            Becomes::TooBig(mtu) => {
                let what = What::Error(Box::new(shape.clone()), 8, *mtu);
                let mut answer = Shape::new(shape.to, shape.from, what);
                (answer.id, answer.vlan) = (0, shape.vlan);
                answer.macs = [shape.macs[1], shape.macs[0]];
                (REDIRECT, answer.bytes(), Some(PacketCount::answered(family)))
            }
            Becomes::Sent(to) => {
                let sent = self.sent(shape, *to)?;
                (REDIRECT, sent.bytes(), Some(PacketCount::sent(family)))
            }
        })
    }

    /// The packet as it is to be sent.
    fn sent(&self, shape: &Shape, to: To) -> Result<Shape, Failed> {
        let net = Net { six: self.case.six };
        let standing = self.flow()?.ok_or("there is no flow")?;
        let client = shown(standing.flow.client);
        let frontend = shown(standing.flow.frontend);
        let port = u16::from_be(standing.number.port());
        let (from, to, device) = match to {
            To::Client => (frontend, client, 0),
            To::Endpoint(pod, device) => {
                // Any of them, but the same for all flows of the client.
                let pod = if pod.port() == 0 {
                    let all: Vec<_> = self
                        .flows()?
                        .iter()
                        .map(|standing| shown(standing.flow.endpoint))
                        .collect();
                    if all.iter().any(|pod| *pod != all[0]) {
                        return Err(format!("flows of one client go to {all:?}").into());
                    }
                    all[0]
                } else {
                    pod
                };
                ((net.own(device), port).into(), pod, device)
            }
        };
        let mut sent = shape.translated(from, to);
        sent.macs = [neighbour(device), mac(device)];
        sent.vlan = (device == 3).then_some(VLAN);
        if let What::Error(about, ..) = &mut sent.what {
            // What is inside went the other way.
            (about.from, about.to) = (to, from);
        }
        Ok(sent)
    }
}

fn name(place: u32) -> String {
    for (family, version) in [(0, "IPv4"), (1, "IPv6")] {
        if place == PacketCount::sent(family).place() {
            return format!("{version} sent");
        }
        if place == PacketCount::answered(family).place() {
            return format!("{version} answered");
        }
        for reason in Reason::ALL {
            if place == PacketCount::left(family, reason.number()).place() {
                return format!("{version} {}", reason.words());
            }
        }
    }
    format!("place {place}")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
