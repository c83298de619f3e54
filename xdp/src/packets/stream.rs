//! How many packets a second the program sends from one device to another, beside a program that redirects every packet and does
//! nothing else.
//!
//! The kernel makes the packets (live frames of `BPF_PROG_TEST_RUN`) and sends them to one end of a pair of devices (veth). At the other
//! end is the program. It sends them to the end of a second pair, at whose other end they are dropped and counted.

use std::fs;
use std::time::Instant;

use super::Failed;
use super::net::{Net, mac, neighbour, port};
use super::network::link_index;
use super::place::Place;
use super::shape::{Shape, What};
use crate::kernel::packets::{LOSE, NOTHING, PROGRAMS};

/// Packets a second.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    /// Through the program.
    pub translated: f64,
    /// Through the program that does nothing.
    pub nothing: f64,
}

/// How often each of both is measured, one after the other.
const TURNS: usize = 7;
/// How many packets are sent at a time.
const PACKETS: u32 = 400_000;

/// Measures with one flow.
///
/// # Errors
///
/// If the devices or the programs are not to be had, or packets get lost.
pub fn rates() -> Result<Rates, Failed> {
    let mut place = Place::new(16)?;
    let index = |name: &str| -> Result<u32, Failed> { Ok(link_index(name)?.trim().parse()?) };
    let (input, output) = (index("in")?, index("out")?);
    place
        .packets
        .set_ingress(input, Some(tandem_xdp_layout::Mac::of_bytes(mac(0))));
    let words = |index: u32| [u64::from(index), 0, 0, 0, 0, 0, 0, 0];
    place.packets.set_words(61, words(output))?;
    place.packets.set_words(62, words(index("in-peer")?))?;
    place.packets.set_words(63, packet()?)?;
    place.packets.attach_sample(LOSE, index("out-peer")?)?;
    let mut rates = [Vec::new(), Vec::new()];
    for _ in 0..TURNS {
        for (program, rates) in [PROGRAMS[0], NOTHING].into_iter().zip(&mut rates) {
            let link = place.packets.attach_sample(program, input)?;
            rates.push(rate(&mut place)?);
            place.packets.detach_sample(program, link)?;
        }
    }
    let [translated, nothing] = rates.map(|mut rates| {
        rates.sort_unstable_by(f64::total_cmp);
        rates[TURNS / 2]
    });
    Ok(Rates { translated, nothing })
}

/// A packet of 64 bytes, as words.
fn packet() -> Result<[u64; 8], Failed> {
    let net = Net { six: false };
    let mut shape = Shape::new(net.client(1, 4000), (net.vip(), port::OUT).into(), What::Udp(true));
    shape.macs = [mac(0), neighbour(0)];
    shape.load = 64 - 14 - 20 - 8;
    let bytes: [u8; 64] = shape.bytes().try_into().map_err(|_| "a packet has another length")?;
    Ok(std::array::from_fn(|at| {
        u64::from_ne_bytes(std::array::from_fn(|byte| bytes[8 * at + byte]))
    }))
}

/// Packets a second, as the last device counts them.
fn rate(place: &mut Place) -> Result<f64, Failed> {
    place.packets.generate(PACKETS / 10)?;
    let (before, began) = (received()?, Instant::now());
    place.packets.generate(PACKETS)?;
    let (count, took) = (received()? - before, began.elapsed());
    if count < f64::from(PACKETS) / 2.0 {
        return Err(format!("of {PACKETS} packets, {count} arrived").into());
    }
    Ok(count / took.as_secs_f64())
}

/// How many packets the last device received.
fn received() -> Result<f64, Failed> {
    let devices = fs::read_to_string("/proc/thread-self/net/dev")?;
    let line = devices.lines().find_map(|line| line.trim().strip_prefix("out-peer:"));
    let count = line
        .and_then(|line| line.split_whitespace().nth(1))
        .ok_or("the device is gone")?;
    Ok(count.parse()?)
}
