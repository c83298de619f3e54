//! Whatever happens, in any order, the tables depend only on the final objects.

mod cluster;
mod expected;
mod meaning;
mod objects;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::subsequence;
use tandem::event::ObjectKind;
use tandem_core::plane::Fault;

use crate::host::Host;
use cluster::Cluster;
use objects::{Id, SERVICES, Version, change};

/// A step of a history: a change of an object, or something else.
#[derive(Clone, Debug)]
enum Step {
    Change(Id, Version),
    /// The engine updates the tables.
    Sync,
    /// A list of one kind. It does not name these objects, so they are gone.
    List(ObjectKind, Vec<Id>),
    /// The next change in the IPv4 or the IPv6 tables has this fault.
    Fault(bool, Fault),
    /// Tandem ends and starts again.
    Restart,
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        2 => (0..SERVICES).prop_map(|n| Fault::Refused(format!("shop/s{n}"))),
        1 => Just(Fault::Failed),
        1 => Just(Fault::AppliedUnknown),
        1 => Just(Fault::FailedUnknown),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let lists = (0..ObjectKind::ALL.len(), subsequence(Id::all(), 0..4))
        .prop_map(|(kind, gone)| Step::List(ObjectKind::ALL[kind], gone));
    prop_oneof![
        12 => change().prop_map(|(id, version)| Step::Change(id, version)),
        4 => Just(Step::Sync),
        1 => lists,
        2 => (any::<bool>(), fault()).prop_map(|(v4, fault)| Step::Fault(v4, fault)),
        1 => Just(Step::Restart),
    ]
}

/// The same changes, with the objects in another order. The changes of one object keep their order.
fn reordered(changes: &[(Id, Version)], order: &[usize]) -> Vec<(Id, Version)> {
    let mut queues: Vec<(Id, std::collections::VecDeque<Version>)> = Vec::new();
    for (id, version) in changes {
        match queues.iter_mut().find(|(other, _)| other == id) {
            Some((_, queue)) => queue.push_back(version.clone()),
            None => queues.push((*id, [version.clone()].into())),
        }
    }
    let whose: Vec<Id> = order.iter().map(|at| changes[*at].0).collect();
    whose
        .into_iter()
        .map(|id| {
            let (_, queue) = queues.iter_mut().find(|(other, _)| *other == id).unwrap();
            (id, queue.pop_front().unwrap())
        })
        .collect()
}

/// Changes, and another order for them.
fn two_orders() -> impl Strategy<Value = (Vec<(Id, Version)>, Vec<usize>)> {
    vec(change(), 1..40).prop_flat_map(|changes| {
        let order: Vec<usize> = (0..changes.len()).collect();
        (Just(changes), Just(order).prop_shuffle())
    })
}

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 256,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_tables_are_the_same_after_any_order_of_the_same_events(
        (changes, order) in two_orders(), listed in 0..40usize, rounds in 1..6usize,
    ) {
        // The first cluster gets all changes in one list. The second gets some in a list, and the rest in another order
        // and in several rounds.
        let (one, other) = (Host::default(), Host::default());
        let mut first = Cluster::start(&one, &changes);
        first.settle();
        let shuffled = reordered(&changes, &order);
        let (early, late) = shuffled.split_at(listed.min(shuffled.len()));
        let mut second = Cluster::start(&other, early);
        for (count, (id, version)) in late.iter().enumerate() {
            second.change(*id, version);
            if count % rounds == 0 {
                second.sync();
            }
        }
        second.settle();
        prop_assert_eq!(first.meaning(), second.meaning());
    }

    #[test]
    fn whatever_came_between_the_tables_are_those_of_the_last_objects_alone(steps in vec(step(), 1..60)) {
        let host = Host::default();
        let mut cluster = Cluster::start(&host, &[]);
        for step in &steps {
            match step {
                Step::Change(id, version) => cluster.change(*id, version),
                Step::Sync => cluster.sync(),
                Step::List(kind, gone) => cluster.list(*kind, gone),
                Step::Fault(true, fault) => host.v4.next([fault.clone()]),
                Step::Fault(false, fault) => host.v6.next([fault.clone()]),
                Step::Restart => cluster.restart(),
            }
        }
        cluster.settle();
        let fresh = Host::default();
        let mut scratch = Cluster::start(&fresh, &cluster.objects());
        scratch.settle();
        prop_assert_eq!(cluster.meaning(), scratch.meaning());
    }

    #[test]
    fn every_frontend_of_a_usable_service_has_a_row_and_no_row_is_of_no_service(changes in vec(change(), 1..40)) {
        let host = Host::default();
        let mut cluster = Cluster::start(&host, &[]);
        for (id, version) in &changes {
            cluster.change(*id, version);
        }
        cluster.settle();
        let objects = cluster.objects();
        let expected = expected::frontends(&objects);
        prop_assert_eq!(cluster.frontends(), expected.owners);
        prop_assert_eq!(cluster.lists(), expected.lists);
    }
}
