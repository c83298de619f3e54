//! Which Services are picked from by Maglev.

use crate::family::V4;
use crate::object::{Choice, Service, TrafficPolicy};
use crate::plan::plan;
use crate::samples::*;

fn is_maglev(service: &Service, usual: Choice) -> bool {
    let slices = [mk_slice("web", &[remote("10.0.2.1")])];
    let plans = plan::<V4>(service, &slices.iter(), &mk_node(), usual).unwrap();
    plans[0].maglev
}

fn exposed(choice: Option<Choice>) -> Service {
    Service {
        choice,
        ..mk_exposed("web")
    }
}

#[test]
fn a_services_own_choice_comes_before_the_usual_one() {
    use Choice::{Maglev, Random};
    let cases = [None, Some(Random), Some(Maglev)].map(|own| [Random, Maglev].map(|usual| (own, usual)));
    let found = cases.map(|of| of.map(|(own, usual)| is_maglev(&exposed(own), usual)));
    assert_eq!(found, [[false, true], [false, false], [true, true]]);
}

#[test]
fn only_a_list_that_packets_from_outside_pick_from_is_spread() {
    let inside = Service {
        choice: Some(Choice::Maglev),
        ..mk_service("web")
    };
    assert!(!is_maglev(&inside, Choice::Maglev), "there is a ClusterIP alone");
    let local = Service {
        external_policy: TrafficPolicy::Local,
        ..exposed(Some(Choice::Maglev))
    };
    assert!(
        !is_maglev(&local, Choice::Maglev),
        "packets from outside use another list"
    );
}
