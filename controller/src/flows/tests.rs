//! What a reconciler asks its worker to check (the test takes the worker's place), and how entries are named to the
//! kernel.

use std::net::Ipv4Addr;

use tandem_core::family::V4;
use tandem_core::plan::{FrontendPlan, PortKey};
use tandem_core::row::{Class, Endpoint, Frontend, L4Address, Port};

use super::*;

mod records;

/// The test's handle, in place of the worker.
#[derive(Clone)]
pub(crate) struct Probe<F: Family>(Arc<Shared<F>>);

impl<F: Family> Reconciler<F> {
    /// A reconciler whose worker is the test.
    pub(crate) fn probed() -> (Self, Probe<F>) {
        let reconciler = Self::without_worker();
        let probe = Probe(reconciler.shared.clone());
        (reconciler, probe)
    }
}

impl<F: Family> Probe<F> {
    /// What the worker was asked to check since the last call; none if nothing was asked.
    pub(crate) fn asked(&self) -> Option<FlowCheck<F>> {
        let mut state = self.0.lock();
        std::mem::take(&mut state.asked).then(|| std::mem::take(&mut state.look))
    }

    /// Whether the comparison of flows waits.
    pub(crate) fn waits(&self) -> bool {
        self.0.lock().applying
    }

    /// Whether a flow may have this endpoint.
    pub(crate) fn allows(&self, destination: Destination<F>, endpoint: Endpoint<F>) -> Option<bool> {
        self.0.lock().ledger.allows(&destination, endpoint)
    }
}

const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);

fn port(number: u16) -> Port {
    Port::new(number).unwrap()
}

fn endpoint(last: u8) -> Endpoint<V4> {
    Endpoint {
        addr: [10, 0, 0, last].into(),
        port: port(5353),
    }
}

fn key() -> ObjectKey {
    ObjectKey::new("shop", "dns")
}

fn plan(protocol: Protocol, endpoints: &[u8]) -> PortPlan<V4> {
    let at = L4Address {
        addr: ADDRESS,
        protocol,
        port: port(53),
    };
    let frontend = FrontendPlan {
        frontend: Frontend::Address {
            class: Class::Cluster,
            at,
        },
        local: false,
        sources: None,
    };
    PortPlan {
        key: PortKey {
            service: key(),
            port: "".into(),
            protocol,
        },
        created: 0,
        frontends: vec![frontend],
        all: None,
        local: None,
        hairpin: Vec::new(),
        affinity: None,
        maglev: false,
        answering: endpoints.iter().map(|last| endpoint(*last)).collect(),
    }
}

fn destination() -> Destination<V4> {
    Destination::Address(ADDRESS, port(53))
}

#[test]
fn flows_are_not_judged_while_rows_are_on_their_way_or_may_be_there_unknown() {
    let (mut reconciler, probe) = Reconciler::<V4>::probed();
    for (unknown, waits) in [(false, false), (true, true), (false, true)] {
        reconciler.stage(&key(), &[plan(Protocol::Udp, &[1])]);
        reconciler.begin(&Delta::default());
        assert!(probe.waits());
        reconciler.abandon(unknown);
        assert_eq!(probe.waits(), waits);
    }
    assert_eq!(probe.allows(destination(), endpoint(1)), None, "it did not go through");
    reconciler.commit();
    assert!(!probe.waits());
}

#[test]
fn a_service_without_udp_is_not_kept_unless_it_had_some() {
    let (mut reconciler, probe) = Reconciler::<V4>::probed();
    reconciler.stage(&key(), &[plan(Protocol::Tcp, &[]), plan(Protocol::Sctp, &[])]);
    assert!(reconciler.staged.is_empty());

    reconciler.stage(&key(), &[plan(Protocol::Udp, &[1])]);
    reconciler.commit();
    assert_eq!(probe.allows(destination(), endpoint(1)), Some(true));
    reconciler.stage(&key(), &[plan(Protocol::Tcp, &[])]);
    reconciler.commit();
    assert_eq!(probe.allows(destination(), endpoint(1)), None);
    assert!(reconciler.known.is_empty());
}

#[test]
fn other_node_addresses_are_worth_a_look_at_everything_and_the_same_ones_are_not() {
    let (mut reconciler, probe) = Reconciler::<V4>::probed();
    let addresses = |last: u8| BTreeSet::from([Ipv4Addr::new(192, 0, 2, last)]);
    reconciler.stage_addresses(addresses(11));
    reconciler.commit();
    reconciler.all_loaded();
    assert_eq!(probe.asked(), None, "there is nothing to look at");
    reconciler.stage_addresses(addresses(11));
    reconciler.commit();
    assert_eq!(probe.asked(), None);
    reconciler.stage_addresses(addresses(13));
    reconciler.commit();
    assert_eq!(probe.asked(), None, "no Service has UDP");
    reconciler.stage(&key(), &[plan(Protocol::Udp, &[1])]);
    reconciler.commit();
    probe.asked();
    reconciler.stage_addresses(addresses(12));
    reconciler.commit();
    assert!(probe.asked().unwrap().everything);
}

#[test]
fn the_worker_ends_with_the_reconciler() {
    let reconciler = Reconciler::<V4>::without_worker();
    let shared = reconciler.shared.clone();
    let worker = std::thread::spawn(move || worker::run(&shared, &mut Entries::default()));
    drop(reconciler);
    worker.join().unwrap();
}

#[test]
fn addresses_that_take_node_ports_no_more_are_told_also_those_of_an_earlier_run() {
    let (mut reconciler, probe) = Reconciler::<V4>::probed();
    let addresses = |last: &[u8]| last.iter().map(|last| Ipv4Addr::new(192, 0, 2, *last)).collect();
    let left = |last: u8| BTreeSet::from([Ipv4Addr::new(192, 0, 2, last)]);
    let removed = Row::NodeAddress {
        addr: Ipv4Addr::new(192, 0, 2, 10),
    };
    reconciler.stage(&key(), &[plan(Protocol::Udp, &[1])]);
    reconciler.stage_addresses(addresses(&[11, 12]));
    reconciler.orphaned(&Delta {
        removed: vec![removed],
        ..Delta::default()
    });
    reconciler.commit();
    reconciler.all_loaded();
    assert_eq!(probe.asked().unwrap().left, left(10));
    reconciler.stage_addresses(addresses(&[12]));
    reconciler.commit();
    assert_eq!(probe.asked().unwrap().left, left(11));
}

#[test]
fn frontends_that_may_have_come_with_a_change_of_which_nobody_knows_come_with_the_next() {
    let (mut reconciler, probe) = Reconciler::<V4>::probed();
    reconciler.all_loaded();
    let frontend = Frontend::NodePort {
        protocol: Protocol::Tcp,
        port: port(30_080),
    };
    let delta = Delta {
        added: vec![Row::Frontend {
            frontend,
            service: tandem_core::id::ServiceId::plain(1).unwrap(),
            label: "shop/web".into(),
        }],
        ..Delta::default()
    };
    for (unknown, comes) in [(false, false), (true, true)] {
        reconciler.begin(&delta);
        assert!(probe.waits());
        reconciler.abandon(unknown);
        reconciler.commit();
        assert_eq!(probe.asked().is_some_and(|look| look.arrivals), comes);
        assert!(!probe.waits());
    }
}
