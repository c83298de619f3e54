//! Random changes of a table, followed in a [`Model`]: for the test of this crate and for `make xdp-model`.

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::sync::Arc;

use tandem_core::id::ServiceId;
use tandem_core::node::NodeRows;
use tandem_core::object::ObjectKey;
use tandem_core::plan::{FrontendPlan, NoEndpoints, PortKey, PortPlan, Usable};
use tandem_core::plane::{Delta, Left, RuleSettings};
use tandem_core::row::{Class, Endpoint, Frontend, Key, L4Address, Label, Protocol, Row};
use tandem_core::table::Table;

use crate::convert::Plane;
use crate::model::{Answers, Model};
use crate::rows::Rows;

/// A family whose addresses a test can make from small numbers.
pub trait Sampled: Plane {
    /// An address.
    fn sample(number: u8) -> Self::Addr;

    /// The address of loopback.
    fn loopback() -> Self::Addr;
}

impl Sampled for tandem_core::family::V4 {
    fn sample(number: u8) -> Self::Addr {
        [10, 0, 0, number].into()
    }

    fn loopback() -> Self::Addr {
        Self::Addr::LOCALHOST
    }
}

impl Sampled for tandem_core::family::V6 {
    fn sample(number: u8) -> Self::Addr {
        [0xfd00, 0, 0, 0, 0, 0, 0, u16::from(number)].into()
    }

    fn loopback() -> Self::Addr {
        Self::Addr::LOCALHOST
    }
}

/// A table that changes at random, and maps that follow it.
#[derive(Debug)]
pub struct Walk<F: Sampled> {
    random: fastrand::Rng,
    table: Table<F>,
    /// The rows that nftables holds.
    rows: BTreeMap<Key<F>, Row<F>>,
    held: Rows<F, Model<F>>,
    /// Whether nodePorts are on loopback.
    loopback: bool,
    /// How often the maps were renewed.
    renewals: usize,
    /// Whether there is too little room now, so that Service ports may be left.
    tight: bool,
    /// Which Service port has each number and has counted a connection by it.
    counted: BTreeMap<ServiceId, Label>,
}

impl<F: Sampled> Walk<F> {
    /// A walk that is always the same for one seed.
    pub fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let words = random.u32(8..200);
        let loopback = random.bool();
        let mut model = Model::new(words);
        // A stranger's address, one that the node has at times, and one that Services have.
        let others = [F::loopback(), F::sample(251), F::sample(210), F::sample(200)];
        model.ask_elsewhere(others.map(F::mapped).into());
        Self {
            random,
            table: Table::default(),
            rows: BTreeMap::new(),
            held: Rows::new(model, loopback),
            loopback,
            renewals: 0,
            tight: false,
            counted: BTreeMap::new(),
        }
    }

    /// How many single writes there were.
    pub fn writes(&self) -> u64 {
        self.held.store().writes()
    }

    /// How often the maps were renewed.
    pub fn renewals(&self) -> usize {
        self.renewals
    }

    /// What was wrong.
    pub fn wrong(&self) -> &[String] {
        self.held.store().wrong()
    }

    /// Makes a change and follows it. Now and then a write fails, the agent ends in the middle, somebody damages the
    /// maps, or the tables are made anew; then the maps are renewed. Returns what is wrong afterwards.
    pub fn step(&mut self) -> Result<(), String> {
        if self.random.u8(..30) == 0 {
            self.tight = !self.tight;
            let (frontends, words) = if self.tight { (6, 0) } else { (usize::MAX, u32::MAX) };
            self.held.store_mut().limit(frontends, words);
        }
        let old = self.answers();
        let delta = self.change();
        let new = self.answers();
        if self.random.u8(..4) == 0 {
            self.held.store_mut().start_slow(&mut self.random);
        }
        self.held.store_mut().expect(Some(vec![old.clone(), new.clone()]));
        let event = self.random.u8(..20);
        let followed = match event {
            0..=1 if self.held.on => {
                let after = self.random.u64(..12);
                self.held.store_mut().break_after(Some(after));
                self.held.follow(&delta)
            }
            _ if self.held.on => self.held.follow(&delta),
            _ => Ok(()),
        };
        self.held.store_mut().break_after(None);
        if followed.is_err() && self.held.store().is_on() {
            return Err("it is behind, and still on".to_owned());
        }
        match event {
            1 => self.begin_again(),
            2 => self.held.store_mut().damage(&mut self.random),
            3 => {
                // Frontends tell whose a count is, and here they change hands together with the numbers.
                self.held.store_mut().count_nothing();
                self.make_tables_anew();
            }
            4 => {
                self.begin_again();
            }
            _ => {}
        }
        if let Some(wrong) = self.wrong().first() {
            return Err(format!("while it followed, before event {event}: {wrong}\n{delta}"));
        }
        let now = self.answers();
        if followed.is_err() || event <= 4 || !self.held.on {
            if event != 2 {
                self.held.store_mut().expect(Some(vec![old, new, now.clone()]));
            }
            self.renew(event)?;
        }
        if self.random.bool() {
            self.held.store_mut().end_slow();
        }
        self.compare(&now)
    }

    fn answers(&self) -> Answers<F> {
        Answers::of(self.rows.values())
    }

    /// The agent starts anew with the maps as they are.
    fn begin_again(&mut self) {
        self.held.store_mut().end_slow();
        let store = std::mem::replace(self.held.store_mut(), Model::new(1));
        self.held = Rows::new(store, self.loopback);
    }

    /// Somebody deleted the tables: the numbers of Service ports are given anew.
    fn make_tables_anew(&mut self) {
        let old = std::mem::take(&mut self.table);
        self.table.set_node(old.node().clone());
        let mut ports: Vec<PortKey> = old.rows().iter().filter_map(|row| old.owner_of(row)).cloned().collect();
        ports.sort_unstable();
        ports.dedup();
        self.random.shuffle(&mut ports);
        for port in ports {
            let plan = self.plan(port);
            self.table.set(plan);
        }
        self.table.take();
        self.table.commit();
        self.rows = self.table.rows().into_iter().map(|row| (row.key(), row)).collect();
    }

    fn renew(&mut self, event: u8) -> Result<(), String> {
        self.renewals += 1;
        let rules = RuleSettings::default();
        let mut rows: Vec<Row<F>> = self.rows.values().cloned().collect();
        self.random.shuffle(&mut rows);
        if self.random.u8(..4) == 0 {
            // A renewal that fails on its way.
            let after = self.random.u64(..20);
            self.held.store_mut().break_after(Some(after));
            let failed = self.held.renew(&rules, &rows).is_err();
            self.held.store_mut().break_after(None);
            if failed && self.held.store().is_on() {
                return Err(format!("a renewal after event {event} failed, and it is still on"));
            }
        }
        self.held
            .renew(&rules, &rows)
            .map_err(|error| format!("a renewal after event {event} failed: {error}"))?;
        if self.tight || self.random.bool() {
            return Ok(()); // what one renewal leaves must do
        }
        let before = self.held.store().writes();
        self.held
            .renew(&rules, &rows)
            .map_err(|error| format!("a second renewal failed: {error}"))?;
        let more = self.held.store().writes() - before;
        if more > 0 {
            return Err(format!("a second renewal wrote {more} times, after event {event}"));
        }
        Ok(())
    }

    /// At rest, readers get exactly what the rows say.
    fn compare(&mut self, now: &Answers<F>) -> Result<(), String> {
        self.held.store_mut().expect(Some(vec![now.clone()]));
        if !self.held.store().is_on() {
            return Err("it is off at rest".to_owned());
        }
        let left = self.held.left().clone();
        if let Some(wrong) = self
            .held
            .store()
            .differs(now, |service| left.contains_key(&service.all()))
        {
            return Err(format!("at rest: {wrong}"));
        }
        if left.keys().any(|all| {
            !self
                .rows
                .values()
                .any(|row| row.service().is_some_and(|one| one.all() == *all))
        }) {
            return Err(format!("{left:?} are left, some of which are gone"));
        }
        if self.held.frontends() != self.held.store().frontend_count() {
            return Err(format!(
                "{} frontends are counted, {} are there",
                self.held.frontends(),
                self.held.store().frontend_count()
            ));
        }
        let ports = self.rows.values().filter_map(|row| match row {
            Row::Frontend {
                frontend: Frontend::NodePort { port, .. },
                ..
            } => Some(port.get()),
            _ => None,
        });
        let ports: Vec<u16> = ports.collect();
        let ends = ports.iter().min().copied().zip(ports.iter().max().copied());
        let (_, may) = self.held.store().node();
        if may != ends {
            return Err(format!("nodePorts from and to {may:?} instead of {ends:?}"));
        }
        self.count(&left)?;
        match self.wrong().first() {
            Some(wrong) => Err(wrong.clone()),
            None => Ok(()),
        }
    }

    /// Each Service port that is taken counts a connection. None has those of another one.
    fn count(&mut self, left: &BTreeMap<ServiceId, Left>) -> Result<(), String> {
        let ports = self.rows.values().filter_map(|row| match row {
            Row::Service { service, label, .. } => Some((service.all(), Arc::clone(label))),
            _ => None,
        });
        let ports: BTreeMap<ServiceId, Label> = ports.collect();
        let before = std::mem::take(&mut self.counted);
        for (all, label) in &ports {
            let store = self.held.store_mut();
            let same = before.get(all) == Some(label);
            if store.taken(*all) > 0 && !same {
                return Err(format!("{label} has what another Service port counted as {all}"));
            }
            if !left.contains_key(all) {
                store.take(*all, 1);
            }
        }
        self.counted = ports;
        Ok(())
    }

    /// Changes one to three Service ports and perhaps the node's addresses, in one change.
    fn change(&mut self) -> Delta<F> {
        for _ in 0..self.random.u8(1..4) {
            let port = self.port();
            if self.random.u8(..5) == 0 {
                self.table.remove(&port);
            } else {
                let plan = self.plan(port);
                self.table.set(plan);
            }
        }
        if self.random.u8(..4) == 0 {
            let count = self.random.usize(..4);
            let addresses = (0..count).map(|_| F::sample(self.random.u8(208..212)));
            let node_addresses = addresses.collect();
            self.table.set_node(NodeRows {
                node_addresses,
                ..NodeRows::default()
            });
        }
        let delta = self.table.take();
        self.table.commit();
        for row in delta.old_rows() {
            self.rows.remove(&row.key());
        }
        for row in delta.new_rows() {
            self.rows.insert(row.key(), row.clone());
        }
        delta
    }

    fn port(&mut self) -> PortKey {
        let name = format!("s{}", self.random.u8(..9));
        PortKey {
            service: ObjectKey::new("ns", name),
            port: "p".into(),
            protocol: Protocol::Tcp,
        }
    }

    fn plan(&mut self, key: PortKey) -> PortPlan<F> {
        let mut frontends = Vec::new();
        for _ in 0..self.random.u8(1..4) {
            let frontend = self.frontend();
            let external = matches!(
                frontend,
                Frontend::Address {
                    class: Class::External,
                    ..
                }
            );
            let restricted = external && self.random.u8(..4) == 0;
            frontends.push(FrontendPlan {
                frontend,
                local: self.random.bool(),
                sources: restricted.then(|| [F::host(F::sample(250))].into()),
            });
        }
        let from_outside = |plan: &FrontendPlan<F>| {
            let cluster = matches!(
                plan.frontend,
                Frontend::Address {
                    class: Class::Cluster,
                    ..
                }
            );
            !cluster && !plan.local
        };
        let maglev = self.random.u8(..4) == 0 && frontends.iter().any(from_outside);
        let affinity = (self.random.u8(..3) == 0).then(|| self.random.u32(1..9));
        PortPlan {
            key,
            created: self.random.i64(..100),
            frontends,
            all: Some(self.usable()),
            local: Some(self.usable()),
            hairpin: Vec::new(),
            affinity,
            maglev,
            answering: Vec::new(),
        }
    }

    fn frontend(&mut self) -> Frontend<F> {
        if self.random.u8(..4) == 0 {
            return Frontend::NodePort {
                protocol: Protocol::Tcp,
                port: port(30_000 + self.random.u16(..8)),
            };
        }
        Frontend::Address {
            class: if self.random.bool() {
                Class::Cluster
            } else {
                Class::External
            },
            at: L4Address {
                addr: F::sample(self.random.u8(200..206)),
                protocol: Protocol::Tcp,
                port: port(80),
            },
        }
    }

    fn usable(&mut self) -> Usable<F> {
        match self.random.u8(..8) {
            0 => Usable::None(NoEndpoints::Anywhere),
            1 => Usable::None(NoEndpoints::OnThisNode),
            _ => {
                let count = if self.random.u8(..30) == 0 { 60 } else { 7 };
                let mut endpoints: Vec<Endpoint<F>> = (0..self.random.u8(1..count))
                    .map(|_| Endpoint {
                        addr: F::sample(self.random.u8(1..100)),
                        port: port(8080),
                    })
                    .collect();
                endpoints.sort_unstable();
                endpoints.dedup();
                Usable::Endpoints(endpoints)
            }
        }
    }
}

fn port(number: u16) -> NonZeroU16 {
    NonZeroU16::new(number).unwrap_or(NonZeroU16::MIN)
}

#[cfg(test)]
mod tests {
    use tandem_core::family::{V4, V6};

    use super::*;

    const STEPS: usize = 60;

    fn walk<F: Sampled>(seed: u64) {
        let mut walk: Walk<F> = Walk::new(seed);
        for step in 0..STEPS {
            if let Err(wrong) = walk.step() {
                panic!("seed {seed}, step {step}: {wrong}");
            }
        }
    }

    #[test]
    fn after_every_write_of_a_random_change_readers_find_the_old_answer_the_new_one_or_pass() {
        for seed in 0..4 {
            walk::<V4>(seed);
            walk::<V6>(seed + 1_000);
        }
    }
}
