//! Another agent, or a kube-proxy, on the same node.

use tandem_core::plane::Place;

use super::*;
use crate::event::{KubeProxy, Neighbour, NodeFact};

fn kube_proxy(neighbour: Neighbour, place: Place) -> Event {
    Event::NodeFact(NodeFact::KubeProxy(KubeProxy {
        neighbour,
        place,
        ..KubeProxy::default()
    }))
}

#[test]
fn an_agent_that_stands_by_reaches_no_plane_and_takes_over_with_all_that_it_knows() {
    let host = Host::default();
    let mut engine = host.start();
    engine.stand_by();
    let objects = lists([service("web", 1), slice("web", &[1, 2])]).into_iter();
    let without_node = objects.filter(|event| !matches!(event, Event::Applied(Object::Node(_), _)));
    engine.step(without_node, at(Instant::now()));
    let snapshot = engine.published().load_full();
    assert!(snapshot.listed && snapshot.stands_by && !snapshot.complete);
    assert_eq!((host.v4.opened(), host.v6.opened()), (0, 0));
    assert!(snapshot.problems.is_empty(), "{:?}", snapshot.problems);

    engine.step([Event::TakeOver], at(Instant::now()));
    let snapshot = engine.published().load_full();
    assert!(snapshot.complete && !snapshot.stands_by);
    assert_eq!(host.services().0, names(&["shop/web"]));
    // Nobody listed a Node.
    let name = "node1".to_owned();
    assert_eq!(snapshot.problems[..], [NodeProblem::NoNode { name }]);
}

#[test]
fn the_tables_are_opened_anew_when_the_rules_change_their_place_and_not_for_other_news() {
    let host = Host::default();
    let mut engine = started(&host, [service("web", 1), slice("web", &[1])]);
    let opened = host.v4.opened();
    let mut step = |neighbour, place| {
        engine.step([kube_proxy(neighbour, place)], at(Instant::now()));
        (
            host.v4.opened() - opened,
            engine.published().load().kube_proxy.is_some(),
        )
    };
    assert_eq!(step(Neighbour::None, Place::First), (0, true));
    assert_eq!(step(Neighbour::Appeared, Place::Second), (1, true));
    assert_eq!(step(Neighbour::Runs, Place::Second), (1, true));
    assert_eq!(step(Neighbour::None, Place::First), (2, true));
    assert_eq!(host.v4.transactions().len(), 1, "the rows stay");
}
