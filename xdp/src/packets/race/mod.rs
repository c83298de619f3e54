//! Packets of the same records from several processors at once: `make xdp-race`.
//!
//! Threads, each on a processor of its own, give packets of both directions to the kernel's programs. The clients are so many that
//! they take records over from each other all the time. Two counters tell what was before what: each call has a number for its beginning
//! and one for its end. From these, [`judge`] says what may have come out, and what may not.
//!
//! The run has rounds. Between them nothing is sent, and all records are read: each must be whole.

mod flows;
mod judge;
mod records;
mod sender;
#[cfg(test)]
mod tests;

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tandem_xdp_layout::{Address4, Address6, RouteGeneration, Times};

use super::Failed;
use super::place::Place;
use flows::Flows;
use judge::{Event, Known, Round};
use sender::Sender;

/// How often each thread sends in a round: a packet, or the three of a new connection.
const PACKETS: usize = 5_000;
/// How many messages about wrong packets are kept.
const SHOWN: usize = 20;
/// How many seconds a flow must be idle before others take its record: either they take it at once, or it is its own for the round.
const IDLE: [u32; 4] = [0, 0, 0, 2];
/// After so many rounds all is forgotten.
const FORGET: usize = 64;

/// What was found.
#[derive(Debug, Default)]
pub struct RaceReport {
    /// How many packets were given to the programs.
    pub packets: u64,
    /// How many of them were sent on, translated.
    pub sent: u64,
    /// How often a record was given to a flow.
    pub claims: u64,
    /// How often the judge could say that nothing else than what came out could have come out.
    pub certain: u64,
    /// How many packets and records were wrong.
    pub wrong: u64,
    /// Some of them, a line each.
    pub examples: Vec<String>,
}

impl RaceReport {
    fn wrong(&mut self, lines: impl IntoIterator<Item = String>) {
        for line in lines {
            self.wrong += 1;
            if self.examples.len() < SHOWN {
                self.examples.push(line);
            }
        }
    }
}

/// Sends for so long.
///
/// # Errors
///
/// If there is one processor alone, or the network or the programs are not to be had.
pub fn run(time: Duration, seed: u64) -> Result<RaceReport, Failed> {
    let processors = processors()?;
    let mut place = Place::new(1)?;
    let flows = Flows::new();
    let mut random = fastrand::Rng::with_seed(seed);
    let mut report = RaceReport::default();
    let (mut before, mut counted) = (Vec::new(), 0);
    let began = Instant::now();
    for round in 0.. {
        if began.elapsed() >= time {
            break;
        }
        if round % FORGET == 0 {
            place.packets.forget_all(false)?;
            place.packets.forget_all(true)?;
            flows.forget();
            (before, counted) = (Vec::new(), 0);
        }
        let idle = IDLE[random.usize(..IDLE.len())];
        place.settings.times = Times {
            udp: idle,
            udp_stream: idle,
            established: idle,
            ending: idle,
        };
        place.packets.set(&place.settings);
        let picked = flows.pick(&mut random);
        let round_began = Instant::now();
        let (events, end) = send(&mut place, &processors, &flows, &picked, &mut random, &mut report)?;
        let datagrams_go_on = round_began.elapsed().as_secs() < idle.into();
        let mut after = Vec::new();
        let mut claims = look(&place, &flows, &mut after, &mut report)?;
        (claims, counted) = (claims - counted, claims);
        report.claims += claims;
        let round = Round {
            before,
            events,
            after: after.clone(),
            end,
            datagrams_go_on,
        };
        let found = judge::judge(&flows, round);
        report.certain += found.certain;
        report.wrong(found.wrong);
        before = after;
    }
    Ok(report)
}

/// The processors that this process may use.
fn processors() -> Result<Vec<usize>, Failed> {
    let may = sched_getaffinity(None)?;
    let processors: Vec<usize> = (0..CpuSet::MAX_CPU)
        .filter(|processor| may.is_set(*processor))
        .collect();
    if processors.len() < 2 {
        return Err("this machine has one processor, and a race needs two".into());
    }
    Ok(processors)
}

/// A round: all threads send. Meanwhile the routes change now and then.
fn send(
    place: &mut Place,
    processors: &[usize],
    flows: &Flows,
    picked: &[u32],
    random: &mut fastrand::Rng,
    report: &mut RaceReport,
) -> Result<(Vec<Event>, u64), Failed> {
    let stamps = AtomicU64::new(1);
    let seeds: Vec<u64> = processors.iter().map(|_| random.u64(..)).collect();
    let renew = random.bool();
    let (running, together) = (AtomicBool::new(true), Barrier::new(processors.len()));
    let together = &together;
    let Place { packets, settings, .. } = place;
    let packets = &*packets;
    let (four, six) = (packets.records::<Address4>(false)?, packets.records::<Address6>(true)?);
    let mut events = Vec::new();
    let all = thread::scope(|scope| {
        let threads: Vec<_> = seeds
            .into_iter()
            .enumerate()
            .map(|(number, seed)| {
                let sender = Sender::new(packets, flows, &stamps, seed);
                scope.spawn(move || {
                    let mut only = CpuSet::new();
                    only.set(processors[number]);
                    let pinned = sched_setaffinity(None, &only);
                    together.wait();
                    pinned.map_err(|error| error.to_string())?;
                    sender.run(picked, (number, processors.len()), PACKETS)
                })
            })
            .collect();
        let renewing = scope.spawn(|| {
            while running.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_micros(300));
                if renew {
                    settings.generation = RouteGeneration::new(settings.generation.get() + 1);
                    packets.set(settings);
                }
                if settings.times.udp == 0 {
                    records::end(&four, picked.iter().map(|flow| flows.get(*flow)));
                    records::end(&six, picked.iter().map(|flow| flows.get(*flow)));
                }
            }
        });
        let all: Vec<_> = threads.into_iter().map(thread::ScopedJoinHandle::join).collect();
        running.store(false, Ordering::Relaxed);
        renewing.join().map(|()| all)
    });
    for sent in all.map_err(|_| "a thread ended early")? {
        let sent = sent.map_err(|_| "a thread ended early")??;
        report.packets += sent.packets;
        report.sent += sent.translated;
        report.wrong(sent.wrong);
        events.extend(sent.events);
    }
    Ok((events, stamps.into_inner()))
}

/// Who has which record, while nothing is sent. It makes all of them older, and gives how often records were claimed.
fn look(place: &Place, flows: &Flows, standing: &mut Vec<Known>, report: &mut RaceReport) -> Result<u64, Failed> {
    let four = records::walk::<Address4>(place, false, flows, standing)?;
    let six = records::walk::<Address6>(place, true, flows, standing)?;
    report.wrong(four.wrong.into_iter().chain(six.wrong));
    Ok(four.claims + six.claims)
}
