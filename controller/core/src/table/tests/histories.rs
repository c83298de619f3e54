//! Random histories of a small cluster, with changes that fail and restarts in between. After every step, the data
//! plane holds exactly the table's rows, and these are what the objects ask for. No id belongs to another Service port
//! than one change before.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::model::{Model, Uses};
use super::*;
use crate::object::{Conditions, EndpointSlice, ServicePort, TrafficPolicy};
use crate::plan::FrontendPlan;
use crate::row::{Pick, Port, Protocol};

const SERVICES: usize = 4;

#[derive(Clone, Debug)]
enum Change {
    Service(usize, Option<Service>),
    Slice(usize, usize, Vec<SliceEndpoint>),
    NodeAddresses(Vec<u8>),
}

/// What happens to the changes of a step.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Applied,
    /// The data plane refuses it once.
    Refused,
    /// The data plane is opened again afterwards, as at a restart.
    Restarted,
}

/// The objects that exist.
#[derive(Clone, Default)]
struct World {
    services: BTreeMap<usize, Service>,
    slices: BTreeMap<(usize, usize), EndpointSlice>,
    node_addresses: Vec<u8>,
}

impl World {
    fn change(&mut self, change: &Change) {
        match change {
            Change::Service(n, Some(service)) => drop(self.services.insert(*n, service.clone())),
            Change::Service(n, None) => drop(self.services.remove(n)),
            Change::Slice(n, slice, entries) => {
                let ports = [
                    mk_slice_port("http", Protocol::Tcp, 8080),
                    mk_slice_port("dns", Protocol::Udp, 53),
                ];
                let slice_of = EndpointSlice {
                    ports: ports.into(),
                    ..mk_slice(&name(*n), entries)
                };
                self.slices.insert((*n, *slice), slice_of);
            }
            Change::NodeAddresses(addresses) => self.node_addresses.clone_from(addresses),
        }
    }

    fn plans(&self) -> BTreeMap<PortKey, PortPlan<V4>> {
        let plan = |(n, service): (&usize, &Service)| {
            let slices: Vec<EndpointSlice> = self.slices.range((*n, 0)..(n + 1, 0)).map(|(_, s)| s.clone()).collect();
            plans::<V4>(service, &slices)
        };
        let plans = self.services.iter().flat_map(plan);
        plans.map(|plan| (plan.key.clone(), plan)).collect()
    }

    /// Makes the table hold what the objects ask for. It sets only plans that differ from `before`, as the index does.
    fn program(&self, before: &BTreeMap<PortKey, PortPlan<V4>>, table: &mut Table<V4>) {
        let plans = self.plans();
        for key in before.keys().filter(|key| !plans.contains_key(*key)) {
            table.remove(key);
        }
        for (key, plan) in plans {
            if before.get(&key) != Some(&plan) {
                assert_eq!(table.set(plan), None);
            }
        }
        let addresses = self.node_addresses.iter().map(|n| Ipv4Addr::from([192, 0, 2, *n]));
        table.set_node(NodeRows {
            node_addresses: addresses.collect(),
            ..NodeRows::default()
        });
    }
}

fn name(n: usize) -> String {
    format!("s{n}")
}

fn policy() -> impl Strategy<Value = TrafficPolicy> {
    select(vec![TrafficPolicy::Cluster, TrafficPolicy::Local])
}

fn addresses(all: &'static [&'static str]) -> impl Strategy<Value = Vec<std::net::IpAddr>> {
    subsequence(all, 0..=all.len()).prop_map(|chosen| ips(&chosen))
}

fn service(n: usize) -> impl Strategy<Value = Service> {
    let port = |name: &'static str, protocol| {
        let node_port = proptest::option::of(select(vec![30001, 30002]));
        (select(vec![53, 80]), node_port).prop_map(move |(number, node_port)| ServicePort {
            node_port: node_port.and_then(Port::new),
            ..mk_port(name, protocol, number)
        })
    };
    let ports = (port("http", Protocol::Tcp), port("dns", Protocol::Udp));
    let ports = ports.prop_flat_map(|(http, dns)| subsequence(vec![http, dns], 1..=2));
    let cluster_ips = select(vec!["10.96.0.1", "10.96.0.2", "10.96.0.3", "fd00::1"]);
    let ranges = ["0.0.0.0/0", "192.0.2.0/24", "100.64.0.0/10"].map(|range| nets(&[range])[0]);
    let affinity = proptest::option::of(select(vec![10, 20]));
    (
        (0..3i64, cluster_ips, affinity, ports),
        addresses(&["198.51.100.1", "203.0.113.1", "fd01::1"]),
        addresses(&["203.0.113.1", "203.0.113.2"]),
        (subsequence(ranges.to_vec(), 0..=3), any::<bool>()),
        (policy(), policy()),
    )
        .prop_map(move |(basics, external_ips, ingress_ips, ranges, policies)| Service {
            created: basics.0,
            cluster_ips: ips(&[basics.1]),
            affinity: basics.2,
            ports: basics.3,
            external_ips,
            ingress_ips,
            source_ranges: ranges.0,
            restricted: closed(ranges.1),
            internal_policy: policies.0,
            external_policy: policies.1,
            ..mk_service(&name(n))
        })
}

fn entry() -> impl Strategy<Value = SliceEndpoint> {
    (1..8u8, any::<[bool; 3]>(), any::<bool>()).prop_map(|(last, [ready, serving, terminating], local)| SliceEndpoint {
        addr: [10, 0, 1, last].into(),
        conditions: Conditions {
            ready,
            serving,
            terminating,
        },
        local,
    })
}

fn change_of_one() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => (0..SERVICES).prop_flat_map(|n| service(n).prop_map(move |service| Change::Service(n, Some(service)))),
        1 => (0..SERVICES).prop_map(|n| Change::Service(n, None)),
        4 => (0..SERVICES, 0..2usize, vec(entry(), 0..5)).prop_map(|(n, slice, e)| Change::Slice(n, slice, e)),
        1 => vec(1..4u8, 0..3).prop_map(Change::NodeAddresses),
    ]
}

fn step() -> impl Strategy<Value = (Vec<Change>, Fate)> {
    let fate = prop_oneof![6 => Just(Fate::Applied), 1 => Just(Fate::Refused), 1 => Just(Fate::Restarted)];
    (vec(change_of_one(), 1..4), fate)
}

/// What rows mean to clients, without ids and slots.
fn meaning(rows: &[Row<V4>]) -> BTreeSet<String> {
    let (mut lists, mut ids): (BTreeMap<ServiceId, BTreeSet<String>>, _) = (BTreeMap::new(), BTreeMap::new());
    for row in rows {
        if let Row::EndpointId { id, endpoint } = row {
            ids.insert(*id, format!("{}:{}", endpoint.addr, endpoint.port));
        }
    }
    for row in rows {
        let (service, text) = match row {
            Row::Endpoint { service, endpoint, .. } => (service, format!("{}:{}", endpoint.addr, endpoint.port)),
            Row::StickyEndpoint { service, id, .. } => (service, ids[id].clone()),
            _ => continue,
        };
        lists.entry(*service).or_default().insert(text);
    }
    let list = |id: &ServiceId| if id.is_local() { "local" } else { "all" };
    let meaning = |row: &Row<V4>| match row {
        Row::Endpoint { .. } | Row::StickyEndpoint { .. } | Row::EndpointId { .. } => None,
        Row::Frontend {
            frontend,
            service,
            label,
        } => Some(format!("{} : {label} {}", frontend_text(frontend), list(service))),
        Row::Service { service, pick, label } => {
            let endpoints = lists.get(service).into_iter().flatten();
            let endpoints: Vec<&str> = endpoints.map(String::as_str).collect();
            Some(format!("{label} {} : {pick:?} {}", list(service), endpoints.join(" ")))
        }
        other => Some(other.to_string()),
    };
    rows.iter().filter_map(meaning).collect()
}

/// The same, computed from the plans alone.
fn expected(world: &World) -> BTreeSet<String> {
    let plans = world.plans();
    let mut lines = BTreeSet::new();
    let mut held: BTreeMap<Frontend<V4>, (&PortPlan<V4>, &FrontendPlan<V4>)> = BTreeMap::new();
    for plan in plans.values() {
        for (list, usable) in [("all", &plan.all), ("local", &plan.local)] {
            let Some(usable) = usable else { continue };
            let count = match usable {
                Usable::Endpoints(endpoints) => u16::try_from(endpoints.len()).ok().and_then(Port::new),
                Usable::None(_) => None,
            };
            let text = list_text(Some(usable));
            let pick = match (count, plan.affinity) {
                (None, _) if text == "refused" => Pick::Refuse,
                (None, _) => Pick::Discard,
                (Some(count), None) => Pick::Any { count },
                (Some(count), Some(seconds)) => Pick::Sticky { count, seconds },
            };
            let mut endpoints: Vec<&str> = text.split(' ').filter(|_| count.is_some()).collect();
            endpoints.sort_unstable();
            lines.insert(format!("{} {list} : {pick:?} {}", plan.key, endpoints.join(" ")));
        }
        lines.extend(plan.hairpin.iter().map(|addr| format!("hairpin {addr}")));
        for frontend in &plan.frontends {
            let holder = held.entry(frontend.frontend).or_insert((plan, frontend));
            if (plan.created, &plan.key) < (holder.0.created, &holder.0.key) {
                *holder = (plan, frontend);
            }
        }
    }
    for (frontend, (plan, choice)) in held {
        let list = if choice.local { "local" } else { "all" };
        lines.insert(format!("{} : {} {list}", frontend_text(&frontend), plan.key));
        let Frontend::Address { class, at } = frontend else {
            continue;
        };
        if class == Class::Cluster {
            lines.insert(Row::<V4>::ClusterIp { addr: at.addr }.to_string());
        }
        if let Some(sources) = &choice.sources {
            lines.insert(Row::<V4>::Restricted { at }.to_string());
            let sources = sources
                .iter()
                .map(|source| Row::<V4>::AllowedSource { at, source: *source });
            lines.extend(sources.map(|row| row.to_string()));
        }
    }
    lines.extend(world.node_addresses.iter().map(|n| format!("node-address 192.0.2.{n}")));
    lines
}

/// Opens the data plane again: the table is made from its rows, and every object is new.
fn restart(world: &World, model: &mut Model, uses: &mut Uses, before: &Table<V4>) -> Table<V4> {
    let (mut table, strays) = Table::adopt_again(model.rows(), before);
    assert!(strays.is_empty(), "{strays:#?}");
    world.program(&BTreeMap::new(), &mut table);
    table.drop_orphans(nobody);
    let delta = table.take();
    assert!(delta.is_empty() || has_rivals(world), "{:#?}", delta_text(&delta));
    uses.assert_apart(model, &delta);
    model.apply(&delta);
    table.commit();
    if !has_rivals(world) {
        world
            .plans()
            .keys()
            .for_each(|key| assert_eq!(table.id(key), before.id(key), "{key}"));
    }
    table
}

/// Whether two ports want one ClusterIP and port. No API server allows that. Rows then do not say which port they
/// belonged to, and a restart may swap ids.
fn has_rivals(world: &World) -> bool {
    let plans = world.plans();
    let mut seen = BTreeSet::new();
    let mut frontends = plans.values().flat_map(|plan| &plan.frontends);
    frontends.any(|plan| {
        let inside = frontend_text(&plan.frontend).starts_with("cluster");
        inside && !seen.insert(plan.frontend)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_data_plane_holds_what_the_objects_ask_for(history in vec(step(), 1..14)) {
        let (mut world, mut table, mut model) = (World::default(), Table::<V4>::default(), Model::default());
        let mut uses = Uses::default();
        for (changes, fate) in &history {
            let before = world.plans();
            for change in changes {
                world.change(change);
            }
            if let Fate::Refused = fate {
                world.program(&before, &mut table);
                table.take();
                table.rollback();
                assert_eq!(rows_text(&table.rows()), model.text(), "after a rollback");
            }
            world.program(&before, &mut table);
            let delta = table.take();
            uses.assert_apart(&model, &delta);
            model.apply(&delta);
            table.commit();
            if let Fate::Restarted = fate {
                table = restart(&world, &mut model, &mut uses, &table);
            }
            assert_eq!(rows_text(&table.rows()), model.text());
            model.assert_sound();
            assert_eq!(meaning(&model.rows()), expected(&world));
        }
        let mut fresh = Table::default();
        world.program(&BTreeMap::new(), &mut fresh);
        assert_eq!(meaning(&fresh.rows()), meaning(&model.rows()));
        assert_eq!(fresh.rows().len(), model.len());
        World::default().program(&world.plans(), &mut table);
        model.apply(&table.take());
        assert_eq!(model.len(), 0, "nothing is left where no object is");
    }
}
