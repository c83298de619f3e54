//! Sockets with small buffers, as a kernel that grants no large ones gives them. Needs root; each test runs in a
//! network namespace of its own. MUST NOT send packets.

use std::collections::{BTreeMap, BTreeSet};

use super::rows::{any, at, endpoint, frontend, nth, plain, service};
use super::support::in_namespace;
use crate::table::nft_table::NftTable;
use crate::wire::socket::Buffers;
use tandem_core::family::{Family, V4, V6};
use tandem_core::plane::{ApplyError, DataPlane, Delta, RuleSettings};
use tandem_core::row::{Class, Protocol, Row};

const SERVICES: u32 = 1000;
/// Room for the rules themselves, and for a fraction of the rows.
const SEND: usize = 40 << 10;

fn open<F: Family>(buffers: Buffers) -> NftTable<F> {
    NftTable::open_with(RuleSettings::default(), buffers).expect("a table")
}

/// Many Services with this many endpoints each.
fn rows<F: Family>(endpoints: u16) -> Vec<Row<F>> {
    let mut rows = Vec::new();
    for n in 1..=SERVICES {
        let id = plain(n);
        let at = at::<F>(nth::<F>(n), Protocol::Tcp, 80);
        for slot in 0..endpoints {
            let endpoint = endpoint(nth::<F>(100_000 + n), 8080 + slot);
            rows.push(Row::Endpoint {
                service: id,
                slot,
                endpoint,
            });
        }
        rows.push(service(id, any(endpoints), "shop/web:http"));
        rows.push(frontend(Class::Cluster, at, id, "shop/web:http"));
    }
    rows.sort_by_key(Row::kind);
    rows
}

fn sorted<F: Family>(rows: impl IntoIterator<Item = Row<F>>) -> Vec<String> {
    let mut rows: Vec<_> = rows.into_iter().map(|row| format!("{row:?}")).collect();
    rows.sort();
    rows
}

fn difference<F: Family>(old: &[Row<F>], new: &[Row<F>]) -> Delta<F> {
    let by_key = |rows: &[Row<F>]| -> BTreeMap<String, Row<F>> {
        let key = |row: &Row<F>| match row {
            Row::Service { service, .. } => format!("{service}"),
            Row::Endpoint { service, slot, .. } => format!("{service} {slot}"),
            Row::Frontend { frontend, .. } => format!("{frontend:?}"),
            other => panic!("{other:?}"),
        };
        rows.iter().map(|row| (key(row), row.clone())).collect()
    };
    let (old, new) = (by_key(old), by_key(new));
    let changed = old.iter().filter_map(|(key, row)| Some((row, new.get(key)?)));
    let changed = changed.filter(|(row, other)| row != other);
    let changed = changed.map(|(row, other)| (row.clone(), other.clone())).collect();
    let without = |some: &BTreeMap<String, Row<F>>, others: &BTreeMap<String, Row<F>>| {
        let missing = some.iter().filter(|(key, _)| !others.contains_key(*key));
        missing.map(|(_, row)| row.clone()).collect()
    };
    Delta {
        changed,
        removed: without(&old, &new),
        added: without(&new, &old),
    }
}

fn goes_through_in_parts<F: Family>() {
    in_namespace(|| {
        let mut kernel = open::<F>(Buffers {
            send: SEND,
            ..Buffers::LARGE
        });
        let mut there = Vec::new();
        for endpoints in [2, 3, 1] {
            let next = rows::<F>(endpoints);
            let delta = difference(&there, &next);
            kernel.apply(&delta).expect("a change");
            assert_eq!(sorted(kernel.read().expect("rows")), sorted(next.clone()));
            there = next;
        }
        let removed = there;
        kernel
            .apply(&Delta {
                removed,
                ..Delta::default()
            })
            .expect("a change");
        assert_eq!(kernel.read().expect("rows"), Vec::new());
    });
}

#[test]
fn changes_larger_than_the_socket_go_through_in_parts() {
    goes_through_in_parts::<V4>();
    goes_through_in_parts::<V6>();
}

#[test]
fn a_change_whose_later_part_is_refused_is_unknown_and_the_rows_read_back_make_sense() {
    in_namespace(|| {
        let mut kernel = open::<V4>(Buffers {
            send: SEND,
            ..Buffers::LARGE
        });
        let all = rows::<V4>(2);
        let last = all.last().cloned().expect("rows");
        kernel
            .apply(&Delta {
                added: vec![last.clone()],
                ..Delta::default()
            })
            .expect("a row");
        let delta = Delta {
            added: all.clone(),
            ..Delta::default()
        };
        assert!(matches!(kernel.apply(&delta), Err(ApplyError::Unknown(_))));
        let there = kernel.read().expect("rows");
        assert!(there.len() > 1, "no part was applied");
        let listed: BTreeSet<String> = there.iter().map(|row| format!("{row:?}")).collect();
        // What the caller does next.
        let added = all
            .into_iter()
            .filter(|row| !listed.contains(&format!("{row:?}")))
            .collect();
        kernel
            .apply(&Delta {
                added,
                ..Delta::default()
            })
            .expect("the rest");
        assert_eq!(sorted(kernel.read().expect("rows")), sorted(rows::<V4>(2)));
    });
}

#[test]
fn a_change_with_more_refusals_than_the_socket_holds_never_passes_for_done() {
    in_namespace(|| {
        // The kernel gives at least some hundred bytes: room for a handful of refusals.
        let mut kernel = open::<V4>(Buffers {
            receive: 1,
            ..Buffers::LARGE
        });
        let all: Vec<Row<V4>> = (0..3000).map(|n| Row::ClusterIp { addr: nth::<V4>(n) }).collect();
        let there: Vec<_> = all.iter().step_by(30).cloned().collect();
        let add = |added| Delta {
            added,
            ..Delta::default()
        };
        kernel.apply(&add(there.clone())).expect("rows");
        let (mut wanted, mut refused) = (all.clone(), 0);
        // Each time at least one of the refusals arrives.
        for _ in 0..=there.len() {
            match kernel.apply(&add(wanted.clone())) {
                Ok(()) => break,
                Err(ApplyError::Rejected(rejections)) => {
                    refused += rejections.len();
                    assert!(rejections.iter().all(|rejection| there.contains(&rejection.row)));
                    wanted.retain(|row| rejections.iter().all(|rejection| rejection.row != *row));
                }
                Err(ApplyError::Unknown(_)) => {}
                Err(error @ (ApplyError::Failed(_) | ApplyError::UsedUp(_))) => panic!("{error}"),
            }
            assert_eq!(sorted(kernel.read().expect("rows")), sorted(there.clone()));
        }
        assert_eq!(refused, there.len());
        assert_eq!(sorted(kernel.read().expect("rows")), sorted(all));
    });
}
