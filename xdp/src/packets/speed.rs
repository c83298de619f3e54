//! How long the programs need for a packet.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tandem_xdp_layout::{Address4, Address6, FlowAddress, record};

pub use super::Failed;
use super::net::{Net, mac, neighbour, port};
use super::place::Place;
use super::shape::{Shape, What};
use super::{Shown, shown};

/// Nanoseconds, each the middle of many.
#[derive(Clone, Copy, Debug, Default)]
pub struct Speed {
    /// A packet of a client whose flow stands.
    pub established: f64,
    /// A packet of an endpoint.
    pub reply: f64,
    /// A packet that is nobody's.
    pub not_ours: f64,
    /// The first packet of a flow.
    pub new: f64,
}

/// What was measured.
#[derive(Debug)]
pub struct Speeds {
    /// What a program that passes every packet measures. All others are without it.
    pub pass: f64,
    /// The number of flows, and IPv4's and IPv6's figures.
    pub at: Vec<(usize, [Speed; 2])>,
    /// How long it takes to read all records of IPv4, if there are as many flows as in the last measurement.
    pub list: Duration,
    /// The kernel's memory for flows in bytes, in maps of the usual sizes.
    pub memory: u64,
}

/// The first packet of a connection, and the later ones.
const SYN: u8 = 2;
const ACK: u8 = 16;
/// How many packets of each kind are measured.
const PACKETS: usize = 20_000;
/// How often all flows are read.
const LISTS: usize = 11;

/// Measures with so many flows, one number after the other.
///
/// # Errors
///
/// If the network or the programs are not to be had, or a packet is not sent.
pub fn measure(flows: &[usize]) -> Result<Speeds, Failed> {
    let mut place = Place::new(16)?;
    let stranger = arrives(Shape::new(
        Net { six: false }.client(1, 40_000),
        (Net { six: false }.vip(), 22).into(),
        What::Tcp(ACK),
    ));
    place.packets.load_pass()?;
    let mut passed = Vec::new();
    for _ in 0..PACKETS {
        passed.push(place.packets.pass_packet(&stranger)?.took);
    }
    let pass = middle(&mut passed);
    let (mut at, mut lists) = (Vec::new(), Vec::new());
    let memory = place.packets.flow_memory()?;
    for count in flows {
        let four = one::<Address4>(&mut place, false, *count, pass)?;
        let six = one::<Address6>(&mut place, true, *count, pass)?;
        at.push((*count, [four, six]));
        lists = (0..LISTS).map(|_| list(&place, *count)).collect::<Result<_, _>>()?;
    }
    lists.sort_unstable();
    let list = lists.get(LISTS / 2).copied().unwrap_or_default();
    Ok(Speeds { pass, at, list, memory })
}

/// How long it takes to read all flows of IPv4.
fn list(place: &Place, count: usize) -> Result<Duration, Failed> {
    let began = Instant::now();
    let records = place.packets.records::<Address4>(false)?;
    let flows: Vec<_> = records
        .all()
        .filter_map(|(number, words)| Some((number, record::read::<Address4>(words).1?)))
        .collect();
    let took = began.elapsed();
    if flows.len() < count {
        return Err(format!("there are {} flows instead of {count}", flows.len()).into());
    }
    Ok(took)
}

fn arrives(mut shape: Shape) -> Vec<u8> {
    shape.macs = [mac(0), neighbour(0)];
    shape.load = 0;
    shape.bytes()
}

/// The clients of so many flows.
fn client(net: Net, number: usize) -> SocketAddr {
    net.client((number % 250) as u8 + 1, 1024 + (number / 250) as u16)
}

fn one<A: Shown + FlowAddress>(place: &mut Place, six: bool, count: usize, pass: f64) -> Result<Speed, Failed> {
    let net = Net { six };
    let vip: SocketAddr = (net.vip(), port::MANY).into();
    place.packets.forget_all(six)?;
    let mut new = Vec::new();
    for number in 0..count {
        let packet = arrives(Shape::new(client(net, number), vip, What::Tcp(SYN)));
        new.push(sent(place, &packet)?);
    }
    let mut replies = Vec::new();
    let records = place.packets.records::<A>(six)?;
    for (number, words) in records.all() {
        if let (_, Some(flow)) = record::read::<A>(words) {
            let to = (net.own(1), u16::from_be(number.port())).into();
            replies.push(arrives(Shape::new(shown(flow.endpoint), to, What::Tcp(SYN | ACK))));
        }
    }
    for packet in &replies {
        sent(place, packet)?;
    }
    for number in 0..count {
        let packet = arrives(Shape::new(client(net, number), vip, What::Tcp(ACK)));
        sent(place, &packet)?;
    }
    let mut random = fastrand::Rng::with_seed(1);
    let (mut established, mut answered, mut strange) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..PACKETS {
        let number = random.usize(0..count);
        let packet = arrives(Shape::new(client(net, number), vip, What::Tcp(ACK)));
        established.push(sent(place, &packet)?);
        let mut reply = replies[random.usize(0..replies.len())].clone();
        let flags = if six { 14 + 40 + 13 } else { 14 + 20 + 13 };
        // The checksum is wrong by that, which nobody looks at.
        reply[flags] = ACK;
        answered.push(sent(place, &reply)?);
        let packet = arrives(Shape::new(client(net, number), (net.vip(), 22).into(), What::Tcp(ACK)));
        strange.push(place.packets.try_packet(false, &packet)?.took);
    }
    let net_of = |took: &mut Vec<Duration>| middle(took) - pass;
    Ok(Speed {
        established: net_of(&mut established),
        reply: net_of(&mut answered),
        not_ours: net_of(&mut strange),
        new: net_of(&mut new),
    })
}

/// How long a packet took that must be sent.
fn sent(place: &Place, packet: &[u8]) -> Result<Duration, Failed> {
    const REDIRECT: u32 = 4;
    let answer = place.packets.try_packet(false, packet)?;
    if answer.action == REDIRECT {
        Ok(answer.took)
    } else {
        let counts = place.packets.counts()?;
        let counted: Vec<String> = (0..)
            .zip(counts)
            .filter(|(_, count)| *count > 0)
            .map(|(place, count)| format!("{}: {count}", super::name(place)))
            .collect();
        let action = answer.action;
        Err(format!(
            "a packet was not sent: its verdict is {action}; counted so far: {}",
            counted.join(", ")
        )
        .into())
    }
}

/// The middle of durations, in nanoseconds.
fn middle(took: &mut [Duration]) -> f64 {
    took.sort_unstable();
    took.get(took.len() / 2).map_or(0.0, |took| took.as_secs_f64() * 1e9)
}
