//! Changes from one random table to another, cut into parts of every size: the rows make sense after each part. Pure.

use std::collections::BTreeMap;

use tandem_core::family::V4;
use tandem_core::id::ServiceId;
use tandem_core::plane::{DataPlane, Delta};
use tandem_core::row::{Class, Endpoint, Frontend, L4Address, Pick, Port, Protocol, Row, RowKind};

use super::halves;
use crate::elements::key::{keys_of, set_of};
use tandem_core::plane::Memory;

const ROUNDS: u64 = 60;

/// Numbers that look random and are the same in each run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u16) -> u16 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        u16::try_from((self.0 >> 33) % u64::from(end)).unwrap()
    }
}

fn port(number: u16) -> Port {
    Port::new(number + 1).unwrap()
}

fn endpoint(number: u16) -> Endpoint<V4> {
    Endpoint {
        addr: [10, 0, 0, number.to_le_bytes()[0]].into(),
        port: port(80),
    }
}

fn at(number: u16) -> L4Address<V4> {
    L4Address {
        addr: [203, 0, 113, number.to_le_bytes()[0]].into(),
        protocol: Protocol::Tcp,
        port: port(80),
    }
}

fn list(service: ServiceId, sticky: bool, numbers: &mut Numbers, rows: &mut Vec<Row<V4>>) {
    let (count, label) = (numbers.below(5), "a/b:c".into());
    let slots = 0..count;
    let pick = match (count, sticky) {
        (0, _) => [Pick::Refuse, Pick::Discard][usize::from(numbers.below(2))],
        (_, false) => Pick::Any { count: port(count - 1) },
        (_, true) => Pick::Sticky {
            count: port(count - 1),
            seconds: 60,
        },
    };
    rows.push(Row::Service { service, pick, label });
    // The ids of endpoints need not be those of the slots.
    let first = numbers.below(3);
    for slot in slots {
        let endpoint = endpoint(numbers.below(20));
        if sticky {
            let id = service.endpoint(slot + first + 1).unwrap();
            rows.push(Row::EndpointId { id, endpoint });
            rows.push(Row::StickyEndpoint { service, slot, id });
        } else {
            rows.push(Row::Endpoint {
                service,
                slot,
                endpoint,
            });
        }
    }
}

/// A table whose rows make sense together.
fn table(numbers: &mut Numbers) -> Vec<Row<V4>> {
    let mut rows = Vec::new();
    let mut services = Vec::new();
    for n in 0..6 {
        let sticky = n % 2 == 0;
        let id = if sticky {
            ServiceId::sticky(n)
        } else {
            ServiceId::plain(n)
        };
        if numbers.below(3) > 0 {
            list(id.unwrap(), sticky, numbers, &mut rows);
            services.push(id.unwrap());
        }
    }
    for n in 0..6 {
        if services.is_empty() || numbers.below(3) == 0 {
            continue;
        }
        let service = services[usize::from(numbers.below(u16::try_from(services.len()).unwrap()))];
        let class = [Class::Cluster, Class::External][usize::from(numbers.below(2))];
        let frontend = Frontend::Address { class, at: at(n) };
        let label = "a/b:c".into();
        rows.push(Row::Frontend {
            frontend,
            service,
            label,
        });
        rows.push(Row::ClusterIp { addr: at(n).addr });
        if numbers.below(2) == 0 {
            rows.push(Row::Restricted { at: at(n) });
            // One range, or its halves, or a range that overlaps neither.
            let sources: &[&str] = [
                &["10.0.0.0/8"][..],
                &["10.0.0.0/9", "10.128.0.0/9"],
                &["10.0.0.0/9"],
                &["192.0.2.0/24"],
            ][usize::from(numbers.below(4))];
            for source in sources {
                let source = source.parse().unwrap();
                rows.push(Row::AllowedSource { at: at(n), source });
            }
        }
    }
    let pods: &[&str] = [&["10.0.0.0/8"][..], &["10.0.0.0/16", "10.1.0.0/16"], &[]][usize::from(numbers.below(3))];
    for net in pods {
        let net = net.parse().unwrap();
        rows.extend([Row::LocalPods { net }, Row::ServiceCidr { net }]);
    }
    for n in 0..numbers.below(3) {
        let addr = endpoint(n).addr;
        rows.extend([Row::LocalEndpoint { addr }, Row::NodeAddress { addr }]);
    }
    rows
}

fn key(row: &Row<V4>) -> String {
    format!("{:?} {:?}", set_of(row), keys_of(row))
}

fn by_key(rows: &[Row<V4>]) -> BTreeMap<String, Row<V4>> {
    rows.iter().map(|row| (key(row), row.clone())).collect()
}

fn delta(old: &BTreeMap<String, Row<V4>>, new: &BTreeMap<String, Row<V4>>) -> Delta<V4> {
    let mut delta = Delta::default();
    for (key, row) in old {
        match new.get(key) {
            None => delta.removed.push(row.clone()),
            Some(other) if other != row => delta.changed.push((row.clone(), other.clone())),
            Some(_) => {}
        }
    }
    delta.added = new
        .iter()
        .filter(|(key, _)| !old.contains_key(*key))
        .map(|(_, row)| row.clone())
        .collect();
    delta.added.sort_by_key(Row::kind);
    delta
}

/// Parts of at most this number of rows.
fn parts(delta: Delta<V4>, limit: usize) -> Vec<Delta<V4>> {
    if delta.len() <= limit {
        return vec![delta];
    }
    let [first, second] = halves(&delta).unwrap();
    assert_eq!(first.len() + second.len(), delta.len());
    let mut all = parts(first, limit);
    all.extend(parts(second, limit));
    all
}

/// The first fault of these rows, on their way from the old rows to the new ones.
fn wrong(
    rows: &BTreeMap<String, Row<V4>>,
    old: &BTreeMap<String, Row<V4>>,
    new: &BTreeMap<String, Row<V4>>,
) -> Option<String> {
    let has = |row: &Row<V4>| rows.contains_key(&key(row));
    for (key, row) in rows {
        let complaint = match row {
            Row::Frontend { service, frontend, .. } => {
                let there = rows
                    .values()
                    .any(|other| matches!(other, Row::Service { service: other, .. } if other == service));
                let Frontend::Address { at, .. } = frontend else {
                    continue;
                };
                let restricted = Row::Restricted { at: *at };
                // A frontend is as restricted as in the state that it is from.
                let states: Vec<_> = [old, new]
                    .into_iter()
                    .filter(|state| state.get(key) == Some(row))
                    .collect();
                let free = states.iter().any(|state| !state.contains_key(&self::key(&restricted)));
                (!there || states.is_empty() || !free && !has(&restricted))
                    .then_some("leads nowhere, or is open to all")
            }
            Row::Service { service, pick, .. } => {
                let (Pick::Any { count } | Pick::Sticky { count, .. }) = pick else {
                    continue;
                };
                let slots = (0..count.get()).all(|slot| {
                    rows.values().any(|row| match row {
                        Row::Endpoint {
                            service: of, slot: at, ..
                        } => matches!(pick, Pick::Any { .. }) && of == service && *at == slot,
                        Row::StickyEndpoint {
                            service: of,
                            slot: at,
                            id,
                        } => {
                            let endpoint = Row::EndpointId {
                                id: *id,
                                endpoint: endpoint(0),
                            };
                            matches!(pick, Pick::Sticky { .. }) && of == service && *at == slot && has(&endpoint)
                        }
                        _ => false,
                    })
                });
                (!slots).then_some("counts a slot that is not there")
            }
            Row::Restricted { at } => {
                let sources = |state: &BTreeMap<String, Row<V4>>| -> Vec<String> {
                    let of = |row: &&Row<V4>| matches!(row, Row::AllowedSource { at: of, .. } if of == at);
                    state.values().filter(of).map(self::key).collect()
                };
                let (now, before, after) = (sources(rows), sources(old), sources(new));
                let subset = |some: &[String], all: &[String]| some.iter().all(|one| all.contains(one));
                let right = match (old.contains_key(key), new.contains_key(key)) {
                    (true, false) => now == before,
                    (false, true) => now == after,
                    _ => {
                        let kept: Vec<_> = before.iter().filter(|one| after.contains(one)).cloned().collect();
                        subset(&kept, &now) && subset(&now, &[&before[..], &after[..]].concat())
                    }
                };
                (!right).then_some("lets in others than before or after")
            }
            _ => None,
        };
        if let Some(complaint) = complaint {
            return Some(format!("{row:?} {complaint}"));
        }
    }
    None
}

#[test]
fn after_each_part_of_a_change_no_row_points_at_what_is_not_there() {
    let mut torn = 0;
    for seed in 0..ROUNDS {
        let mut numbers = Numbers(seed);
        let (old, new) = (by_key(&table(&mut numbers)), by_key(&table(&mut numbers)));
        assert_eq!(wrong(&old, &old, &old).or(wrong(&new, &new, &new)), None);
        let whole = delta(&old, &new);
        for limit in [1, 2, 3, 5, 8, 13, 21] {
            let mut memory = Memory::<V4>::new();
            let added = old.values().cloned().collect();
            memory
                .apply(&Delta {
                    added,
                    ..Delta::default()
                })
                .unwrap();
            for part in parts(whole.clone(), limit) {
                memory.apply(&part).unwrap();
                let rows = memory.rows();
                let complaint = wrong(&by_key(&rows), &old, &new);
                assert_eq!(complaint, None, "seed {seed}, parts of {limit}, after {part:#?}");
                torn += 1;
            }
            let rows = memory.rows();
            assert_eq!(by_key(&rows), new, "seed {seed}, parts of {limit}");
        }
    }
    assert!(torn > 2000, "{torn}");
}

#[test]
fn ranges_that_take_the_place_of_others_come_in_one_part_with_them() {
    let allowed = |source: &str| Row::<V4>::AllowedSource {
        at: at(1),
        source: source.parse().unwrap(),
    };
    let addresses = |n: u16| Row::<V4>::NodeAddress { addr: endpoint(n).addr };
    let delta = Delta {
        removed: vec![allowed("10.0.0.0/8")],
        added: (0..9)
            .map(addresses)
            .chain(["10.0.0.0/9", "10.128.0.0/9"].map(allowed))
            .collect(),
        changed: Vec::new(),
    };
    for limit in 3..12 {
        let touched: Vec<_> = parts(delta.clone(), limit)
            .into_iter()
            .map(|part| {
                part.added
                    .iter()
                    .chain(&part.removed)
                    .filter(|row| row.kind() == RowKind::AllowedSource)
                    .count()
            })
            .filter(|count| *count > 0)
            .collect();
        assert_eq!(touched, [3], "parts of {limit}");
    }
}

#[test]
fn one_row_cannot_be_halved_and_two_can() {
    let row = |n: u16| Row::<V4>::ClusterIp { addr: endpoint(n).addr };
    let delta = |added| Delta {
        added,
        ..Delta::default()
    };
    assert!(halves(&delta(vec![row(1)])).is_none());
    assert_eq!(
        halves(&delta(vec![row(1), row(2)])),
        Some([delta(vec![row(1)]), delta(vec![row(2)])])
    );
}
