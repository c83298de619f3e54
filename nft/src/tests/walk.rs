//! A packet that meets a change ends where the table before or after the change leads it, or it is refused or
//! dropped. Each lookup of a rule sees the sets as they are at that moment, so a packet may see some sets before a
//! change and some after it. The test makes random changes and walks every way through the very rules and elements
//! that are sent. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use tandem_core::family::{Family, IpFamily, V4};
use tandem_core::id::ServiceId;
use tandem_core::node::NodeRows;
use tandem_core::object::ObjectKey;
use tandem_core::plan::{FrontendPlan, NoEndpoints, PortKey, PortPlan, Usable};
use tandem_core::plane::{Ahead, Delta, DetectLocal, RuleSettings, chosen};
use tandem_core::row::{Class, Endpoint, Frontend, L4Address, Port, Protocol, Row};
use tandem_core::table::Table;

use super::machine::{End, Image, Packet, Walk};
use crate::elements::element;
use crate::elements::sets::Set;
use crate::picks::chains::{self, PickChains};
use crate::rules;
use crate::rules::fixed::encode_fixed;
use crate::rules::fixed_chain::FixedChain;
use crate::table::change;
use crate::wire::batch::Batch;

/// A random number generator whose runs can be repeated.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

const SERVICES: u8 = 4;
const NODE: [u8; 4] = [192, 0, 2, 11];
const OUTSIDE: [u8; 4] = [198, 51, 100, 2];
const POD: [u8; 4] = [10, 244, 0, 9];

fn addr(bytes: [u8; 4]) -> <V4 as Family>::Addr {
    V4::addr(Ipv4Addr::from(bytes).into()).unwrap()
}

fn port(number: u16) -> Port {
    Port::new(number).unwrap()
}

fn at(class: Class, bytes: [u8; 4]) -> Frontend<V4> {
    let at = L4Address {
        addr: addr(bytes),
        protocol: Protocol::Tcp,
        port: port(80),
    };
    Frontend::Address { class, at }
}

/// A random plan of one Service. Other Services want some of its addresses too.
fn plan(service: u8, dice: &mut Dice) -> PortPlan<V4> {
    let list = |count: u64, first: u8| {
        let endpoints = (0..count).map(|n| Endpoint {
            addr: addr([10, 244, service + 1, first + u8::try_from(n).unwrap()]),
            port: port(8080),
        });
        Usable::Endpoints(endpoints.collect())
    };
    let local = dice.once_in(2);
    let mut frontends = vec![(at(Class::Cluster, [10, 96, 0, service + 1]), dice.once_in(4))];
    for contested in 0..2 {
        if dice.once_in(3) {
            frontends.push((at(Class::External, [203, 0, 113, contested]), local));
        }
    }
    if dice.once_in(2) {
        let node_port = Frontend::NodePort {
            protocol: Protocol::Tcp,
            port: port(30_000 + u16::from(service) / 2),
        };
        frontends.push((node_port, local));
    }
    let all = match dice.below(4) {
        0 => Usable::None(NoEndpoints::Anywhere),
        count => list(count, 1 + u8::try_from(dice.below(2)).unwrap()),
    };
    let here = match (&all, dice.below(3)) {
        (Usable::None(_), _) => Usable::None(NoEndpoints::Anywhere),
        (_, 0) => Usable::None(NoEndpoints::OnThisNode),
        (_, count) => list(count, 1),
    };
    let uses_local = frontends.iter().any(|(_, local)| *local);
    PortPlan {
        key: PortKey {
            service: ObjectKey::new("shop", format!("s{service}")),
            port: "http".into(),
            protocol: Protocol::Tcp,
        },
        created: i64::from(service),
        frontends: frontends
            .into_iter()
            .map(|(frontend, local)| FrontendPlan {
                frontend,
                local,
                sources: None,
            })
            .collect(),
        all: Some(all),
        local: uses_local.then_some(here),
        hairpin: Vec::new(),
        affinity: dice.once_in(3).then_some(10),
        maglev: false,
        answering: Vec::new(),
    }
}

/// A table in rows and in messages, side by side.
struct World {
    table: Table<V4>,
    chains: PickChains,
    image: Image,
    ahead: Ahead,
}

impl World {
    fn new(settings: RuleSettings) -> Self {
        let (mut batch, mut image) = (Batch::default(), Image::default());
        batch.begin(2, 1);
        for set in Set::ALL {
            set.layout().encode(&mut batch, IpFamily::V4);
        }
        for chain in FixedChain::ALL {
            rules::encode_chain(&mut batch, chain.name(), chain.hook(settings.place));
        }
        for chain in FixedChain::ALL {
            encode_fixed(&mut batch, IpFamily::V4, chain, chain.name(), settings);
        }
        for (number, chain) in chains::FIXED {
            element::add_pick(&mut batch, number, chain);
        }
        batch.end();
        image.apply(&batch);
        let mut table = Table::default();
        table.set_node(NodeRows {
            service_cidrs: ["10.96.0.0/16"].map(net).into(),
            local_pods: ["10.244.0.0/16"].map(net).into(),
            node_addresses: [addr(NODE)].into(),
        });
        let mut world = Self {
            table,
            chains: PickChains::default(),
            image,
            ahead: settings.ahead,
        };
        world.carry_out();
        world
    }

    /// Carries out the changes that wait. Gives the image before.
    fn carry_out(&mut self) -> Image {
        let delta: Delta<V4> = self.table.take();
        let (mut batch, before) = (Batch::default(), self.image.clone());
        batch.begin(2, 1);
        self.chains.begin();
        let (mut messages, mut without_number) = (Vec::new(), Vec::new());
        change::write(
            &mut batch,
            &mut self.chains,
            self.ahead,
            &delta,
            false,
            &mut messages,
            &mut without_number,
        );
        assert!(without_number.is_empty());
        batch.end();
        self.image.apply(&batch);
        self.chains.commit(&delta);
        self.table.commit();
        before
    }

    /// The frontends, each with the list that it leads to.
    fn frontends(&self) -> BTreeMap<Frontend<V4>, ServiceId> {
        let frontend = |row| match row {
            Row::Frontend { frontend, service, .. } => Some((frontend, service.all())),
            _ => None,
        };
        self.table.rows().into_iter().filter_map(frontend).collect()
    }

    /// The lists, each with its endpoints.
    fn endpoints(&self) -> BTreeMap<ServiceId, BTreeSet<Vec<u8>>> {
        let mut endpoints: BTreeMap<_, BTreeSet<Vec<u8>>> = BTreeMap::new();
        for row in self.table.rows() {
            let (service, endpoint) = match row {
                Row::Endpoint { service, endpoint, .. } => (service, endpoint),
                Row::EndpointId { id, endpoint } => (id.service(), endpoint),
                _ => continue,
            };
            let bytes = [V4::octets(&endpoint.addr).as_ref(), &endpoint.port.get().to_be_bytes()].concat();
            endpoints.entry(service.all()).or_default().insert(bytes);
        }
        endpoints
    }
}

fn net(text: &str) -> <V4 as Family>::Net {
    V4::net(text.parse().unwrap()).unwrap()
}

fn packets(frontend: &Frontend<V4>, source_mac: [u8; 6]) -> impl Iterator<Item = Packet> {
    let (daddr, number, to_node) = match frontend {
        Frontend::Address { at, .. } => (V4::octets(&at.addr).as_ref().to_vec(), at.port, false),
        Frontend::NodePort { port, .. } => (NODE.to_vec(), *port, true),
    };
    [(OUTSIDE, false), (POD, false), (NODE, true)]
        .into_iter()
        .map(move |(saddr, from_node)| Packet {
            saddr: saddr.to_vec(),
            daddr: daddr.clone(),
            protocol: 6,
            port: number.get(),
            local: [from_node, to_node],
            source_mac,
        })
}

/// Makes random changes. For each change, walks every packet to a frontend that existed before it or exists after it.
fn walk(seed: u64, changes: usize, in_order: bool, ahead: Ahead) -> BTreeMap<&'static str, usize> {
    let settings = RuleSettings {
        detect_local: DetectLocal::Sources(()),
        ahead,
        ..RuleSettings::default()
    };
    let mut dice = Dice(seed);
    let mut world = World::new(settings);
    let mut tally: BTreeMap<&'static str, usize> = BTreeMap::new();
    for step in 0..changes {
        let (old_frontends, old_endpoints) = (world.frontends(), world.endpoints());
        for service in 0..SERVICES {
            if !dice.once_in(2) {
                continue;
            }
            let plan = plan(service, &mut dice);
            if dice.once_in(4) {
                world.table.remove(&plan.key);
            } else {
                world.table.set(plan);
            }
        }
        let before = world.carry_out();
        let (new_frontends, new_endpoints) = (world.frontends(), world.endpoints());
        let frontends: BTreeSet<_> = old_frontends.keys().chain(new_frontends.keys()).copied().collect();
        for frontend in frontends {
            let (old, new) = (old_frontends.get(&frontend), new_frontends.get(&frontend));
            let lists = [&old_endpoints, &new_endpoints];
            let targets = old
                .into_iter()
                .chain(new)
                .flat_map(|id| lists.map(|lists| lists.get(id)));
            let targets: BTreeSet<_> = targets.flatten().flatten().collect();
            let source_mac = match dice.below(3) {
                0 => [0x02, 0, 0, 0, 0, 1],
                // Lists have up to three endpoints, so the last two slots are not there.
                _ => chosen([0, 1, 2, 3, 300][usize::try_from(dice.below(5)).unwrap()]),
            };
            for packet in packets(&frontend, source_mac) {
                let mut walk = Walk::new(&before, &world.image, packet);
                walk.in_order = in_order;
                walk.room = !dice.once_in(4);
                for end in walk.ends() {
                    let (right, name) = match &end {
                        End::Translated(to) => (targets.contains(to), "translated"),
                        End::Drop => (true, "dropped"),
                        End::Reject => (true, "refused"),
                        // A packet may pass only if no Service has its frontend before or after the change. If a
                        // frontend was found on its way, it may pass only if it was to be refused and no Service has
                        // the frontend now (or had it before, if the order of time does not count).
                        End::Accept { matched: false } => (old.is_none() || new.is_none(), "accepted"),
                        End::Accept { matched: true } => {
                            (new.is_none() || !in_order && old.is_none(), "refused too late")
                        }
                    };
                    assert!(
                        right,
                        "seed {seed}, change {step}: {:?} ends as {end:?}; before {old:?}, after {new:?}: {targets:?}",
                        walk.packet
                    );
                    *tally.entry(name).or_default() += 1;
                }
            }
        }
    }
    tally
}

#[test]
fn a_packet_that_meets_a_change_ends_where_it_belongs_before_or_after_it_or_nowhere() {
    for (seed, in_order, ahead) in [
        (0x7a3d, false, Ahead::Nobody),
        (0x51f2, true, Ahead::Nobody),
        (0x0c0f_fee1, false, Ahead::Nobody),
        (0x00ca_fe05, false, Ahead::Xdp),
        (0x2b1d, true, Ahead::Xdp),
    ] {
        let seen = walk(seed, 60, in_order, ahead);
        for end in ["translated", "dropped", "refused", "accepted"] {
            assert!(seen.get(end).is_some_and(|times| *times > 20), "{end}: {seen:?}");
        }
    }
}
