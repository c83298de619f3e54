//! Rows that only followers hold: lists that Maglev picks from.

use tandem_core::object::Choice;

use super::*;

/// A Service with a nodePort, and what its annotation says.
fn exposed(name: &str, number: u8, choice: Option<Choice>) -> Event {
    let Event::Applied(Object::Service(mut plain), notices) = service(name, number) else {
        panic!("not a Service")
    };
    plain.choice = choice;
    plain.ports[0].node_port = Port::new(30_000 + u16::from(number));
    Event::Applied(Object::Service(plain), notices)
}

fn spread(mirror: &Mirror<V4>) -> usize {
    let rows = mirror.rows();
    rows.iter().filter(|row| matches!(row, Row::Spread { .. })).count()
}

fn step(engine: &mut Engine, event: Event) {
    engine.step([event], at(Instant::now()));
}

#[test]
fn to_spread_a_list_is_no_transaction_and_the_follower_is_told() {
    let (host, mirror) = (Host::default(), Mirror::new());
    let (mut engine, _) = current(&host, &mirror, [exposed("web", 1, None), slice("web", &[1, 2])]);
    mirror.take_seen();
    let (rows, transactions) = (engine.v4().status().rows, host.v4.transactions());
    for (choice, wanted) in [
        (Some(Choice::Maglev), 1),
        (Some(Choice::Random), 0),
        (Some(Choice::Maglev), 1),
    ] {
        step(&mut engine, exposed("web", 1, choice));
        assert_eq!(spread(&mirror), wanted);
        assert_eq!(mirror.take_seen(), [Seen::Follow(1)]);
    }
    assert_eq!(host.v4.transactions(), transactions);
    assert_eq!(engine.v4().status().rows, rows, "rows of the data plane are counted");
    assert!(engine.v4().status().set_aside.is_empty());

    step(&mut engine, slice("web", &[1, 2, 3]));
    assert_eq!(
        mirror.take_seen(),
        [Seen::Follow(2)],
        "an endpoint, and how many there are"
    );
    assert_eq!(spread(&mirror), 1);
}

#[test]
fn after_a_restart_one_that_is_found_with_spread_lists_answers_on() {
    let (host, mirror) = (Host::default(), Mirror::new());
    let objects = || [exposed("web", 1, Some(Choice::Maglev)), slice("web", &[1, 2])];
    drop(current(&host, &mirror, objects()));
    assert_eq!(spread(&mirror), 1);
    let transactions = host.v4.transactions();
    let found = Mirror::found(host.v4.rules().unwrap(), mirror.rows());
    let (mut engine, _) = engine(&host, &found);
    engine.step(lists(objects()), at(Instant::now()));
    assert_eq!(
        found.take_seen(),
        [Seen::Renew(mirror.rows().len())],
        "it was never off"
    );
    assert_eq!(spread(&found), 1);
    assert_eq!(host.v4.transactions(), transactions, "nothing is missing");
}

#[test]
fn the_usual_choice_changes_while_it_runs_for_services_that_say_nothing() {
    let (host, mirror) = (Host::default(), Mirror::new());
    let objects = [
        exposed("silent", 1, None),
        slice("silent", &[1]),
        exposed("own", 2, Some(Choice::Random)),
        slice("own", &[2]),
        service("inside", 3),
        slice("inside", &[3]),
    ];
    let (mut engine, _) = current(&host, &mirror, objects);
    let transactions = host.v4.transactions();
    for (usual_choice, wanted) in [(Choice::Maglev, 1), (Choice::Random, 0)] {
        let settings = NodeSettings {
            usual_choice,
            ..Host::settings()
        };
        step(&mut engine, Event::Configured(Box::new(settings)));
        assert_eq!(spread(&mirror), wanted);
        assert_eq!(engine.published().load().usual_choice, usual_choice);
    }
    assert_eq!(host.v4.transactions(), transactions);
}
