//! Both worlds, step by step: a change, then what stayed open goes on, then new clients ask.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use fastrand::Rng;

use super::case::{Case, Favourite};
use super::claims::Claims;
use super::flows::{Flow, Rule, answers};
use super::history::History;
use super::judge::Question;
use super::pairs::{self, Pair};
use super::place::Place;
use super::spec::{client, is_here};
use super::talk::{Seen, Talk};
use super::tally::Tally;
use crate::patience;

/// How much stays open at most.
const OPEN: usize = 60;
/// How long it may take until flows are cut whose endpoint is gone.
const CUT: Duration = Duration::from_secs(5);
/// The first port that XDP gives to its flows.
const XDP_PORTS: u16 = 49_152;
/// The client's ports. So many are more than those that are asked from while the kernel remembers one.
const PORTS: std::ops::Range<u16> = 10_000..49_000;

/// Both worlds: nft's and xdp's.
pub(super) struct Twins {
    flows: Vec<Flow>,
    places: [Place; 2],
    history: History,
    claims: Claims,
    random: Rng,
    port: u16,
}

impl Twins {
    pub(super) fn new(seed: u64) -> Result<Self> {
        let mut places = [Place::new(false)?, Place::new(true)?];
        places.iter_mut().try_for_each(Place::ready)?;
        Ok(Self {
            flows: Vec::new(),
            places,
            history: History::new(seed),
            claims: Claims::default(),
            random: Rng::with_seed(seed ^ 0x7777),
            port: PORTS.start,
        })
    }

    /// One step, with so many new clients.
    pub(super) fn step(&mut self, clients: usize, tally: &mut Tally) -> Result<()> {
        let before = self.history.specs.clone();
        let again = if tally.step() > 1 {
            self.history.step()
        } else {
            Vec::new()
        };
        let specs = &self.history.specs;
        thread::scope(|scope| {
            let works = self
                .places
                .each_mut()
                .map(|place| scope.spawn(|| place.apply(specs, &again)));
            works
                .into_iter()
                .try_for_each(|work| work.join().map_err(|_| anyhow!("a world's thread ended"))?)
        })?;
        self.claims.renew(&before, specs);
        self.go_on(tally)?;
        self.begin(clients, tally)
    }

    /// What stayed open goes on.
    fn go_on(&mut self, tally: &mut Tally) -> Result<()> {
        let specs = &self.history.specs;
        let until = Instant::now() + patience(CUT);
        for flow in &mut self.flows {
            flow.pair.is_served = (0..2).any(|world| flow.rule(world, specs) == Rule::Stays);
        }
        let mut late: Vec<usize> = (0..self.flows.len()).collect();
        while !late.is_empty() {
            let mut asked = Vec::new();
            for (at, flow) in self.flows.iter_mut().enumerate() {
                if late.contains(&at) {
                    let lengths = flow.case.lengths;
                    asked.push((&mut flow.pair, lengths[self.random.usize(..lengths.len())]));
                }
            }
            tally.sent_again(pairs::ask(&mut asked)?);
            let is_late = |at: &usize| self.flows[*at].is_late(specs);
            late.retain(is_late);
            if Instant::now() > until {
                break;
            }
        }
        let mut open = Vec::new();
        for flow in self.flows.drain(..) {
            let set = flow.case.set(specs);
            let judged = flow.judge(
                &question(&self.places[0], &flow.case, &set, flow.case.spec(specs).is_some()),
                specs,
            );
            let now = answers(flow.pair.seen());
            tally.note(&flow.case, true, now.iter().all(Option::is_some), judged);
            let is_known = (0..2).all(|world| flow.rule(world, specs) != Rule::Unknown);
            for (world, (now, (before, _))) in now.into_iter().zip(flow.before).enumerate() {
                if now.map(|(by, _)| by) != Some(before) {
                    self.claims.forget(world, &flow.case);
                }
            }
            if is_known && self.random.u8(..10) > 0 {
                open.extend(flow.next());
            }
        }
        self.flows = open;
        Ok(())
    }

    /// New clients ask.
    fn begin(&mut self, clients: usize, tally: &mut Tally) -> Result<()> {
        let specs = &self.history.specs;
        let favourite = Favourite::choose(specs, &mut self.random);
        let cases: Vec<Case> = (0..clients)
            .map(|_| Case::choose(specs, favourite, &mut self.random))
            .collect();
        let mut pairs = self.open(&cases)?;
        let mut asked: Vec<_> = pairs
            .iter_mut()
            .zip(&cases)
            .map(|(pair, case)| (pair, case.lengths[0]))
            .collect();
        tally.sent_again(pairs::ask(&mut asked)?);
        let first: Vec<[Seen; 2]> = pairs.iter().map(Pair::seen).collect();
        // The second question of a client that was answered goes the same way.
        let both = |seen: &[Seen; 2]| answers(*seen).iter().all(Option::is_some);
        let again = pairs.iter_mut().zip(&cases).zip(&first).filter(|(_, seen)| both(seen));
        let mut asked: Vec<_> = again.map(|((pair, case), _)| (pair, case.lengths[1])).collect();
        tally.sent_again(pairs::ask(&mut asked)?);
        for ((pair, case), first) in pairs.into_iter().zip(cases).zip(first) {
            let judged = self.judge(&case, first, tally).and_then(|()| {
                if both(&first) && pair.seen() != first {
                    return Err(format!("{first:?} at first, and {:?} then", pair.seen()));
                }
                Ok(())
            });
            tally.note(&case, false, both(&first), judged);
            // Few flows are nftables' in both worlds and could become XDP's.
            let is_local = case.is_udp
                && case
                    .spec(&self.history.specs)
                    .is_some_and(|spec| spec.is_local(case.way));
            let one_of = if is_local { 2 } else { 8 };
            if self.flows.len() < OPEN && self.random.u8(..one_of) == 0 {
                self.flows.extend(Flow::new(pair, case, &self.history.specs));
            }
        }
        Ok(())
    }

    /// What is wrong about the first answers to a client.
    fn judge(&mut self, case: &Case, seen: [Seen; 2], tally: &mut Tally) -> Result<(), String> {
        let specs = &self.history.specs;
        let set = case.set(specs);
        question(&self.places[0], case, &set, case.spec(specs).is_some()).compare(seen)?;
        let Some(spec) = case.spec(specs) else { return Ok(()) };
        for (world, answer) in answers(seen).into_iter().enumerate() {
            let Some((by, source)) = answer else { continue };
            self.claims.check(world, case, specs, by)?;
            tally.shares.note(world, case, spec, &set, by);
            if world == 1 && case.is_xdps(specs) && !is_here(by) {
                tally.may_take(source.port() >= XDP_PORTS);
            }
        }
        Ok(())
    }

    /// Sockets for these cases in both worlds.
    fn open(&mut self, cases: &[Case]) -> Result<Vec<Pair>> {
        let specs = &self.history.specs;
        let mut ends: Vec<(SocketAddr, SocketAddr, bool)> = Vec::new();
        for case in cases {
            self.port = if self.port + 1 < PORTS.end {
                self.port + 1
            } else {
                PORTS.start
            };
            let own = SocketAddr::new(client(case.family, case.client), self.port);
            ends.push((own, case.to(self.places[0].node(case.family)[0]), case.is_udp));
        }
        let open = |place: &Place| {
            place.client().run(|| {
                let open = |(own, to, is_udp): &(SocketAddr, SocketAddr, bool)| {
                    Talk::open(*own, *to, *is_udp).with_context(|| format!("open a socket of {own} to {to}"))
                };
                ends.iter().map(open).collect::<Result<Vec<Talk>>>()
            })?
        };
        let [nft, xdp] = self.places.each_ref().map(open);
        let talks = nft?.into_iter().zip(xdp?).zip(cases);
        let pair = |((nft, xdp), case): ((Talk, Talk), &Case)| Pair::new([nft, xdp], !case.set(specs).is_empty());
        Ok(talks.map(pair).collect())
    }

    /// Ends both agents, and checks what they said.
    pub(super) fn finish(self) -> Result<()> {
        drop(self.flows);
        self.places.into_iter().try_for_each(Place::finish)
    }
}

fn question<'a>(place: &Place, case: &Case, set: &'a [usize], is_known: bool) -> Question<'a> {
    Question {
        client: client(case.family, case.client),
        node: place.node(case.family),
        set,
        is_known,
    }
}
