//! Services whose rows the data plane refuses, or has no room for.

use super::*;

/// A Service with this number of endpoints.
fn with(name: &str, n: u8, endpoints: u8) -> [Event; 2] {
    [service(name, n), slice(name, &(1..=endpoints).collect::<Vec<_>>())]
}

fn gone(name: &str) -> [Event; 2] {
    [
        Event::Deleted(ObjectKind::Service, ObjectKey::new("shop", name), Vec::new()),
        Event::Deleted(
            ObjectKind::EndpointSlice,
            ObjectKey::new("shop", format!("{name}-1")),
            Vec::new(),
        ),
    ]
}

fn remembering(seconds: u32, event: Event) -> Event {
    match event {
        Event::Applied(Object::Service(mut service), notices) => {
            service.affinity = Some(seconds);
            Event::Applied(Object::Service(service), notices)
        }
        other => other,
    }
}

/// The reasons of `tandem status`, IPv4.
fn problems(engine: &Engine) -> Vec<String> {
    let status = engine.published().load().v4.clone();
    status.set_aside.into_iter().map(|aside| aside.reason).collect()
}

/// How the Service of this name picks an endpoint.
fn way(node: &Host, name: &str) -> Option<Pick> {
    let rows = node.v4.rows();
    rows.iter().filter(|row| row.label() == Some(name)).find_map(Row::pick)
}

fn any(count: u16) -> Option<Pick> {
    let count = Port::new(count)?;
    Some(Pick::Any { count })
}

fn sticky(count: u16, seconds: u32) -> Option<Pick> {
    let count = Port::new(count)?;
    Some(Pick::Sticky { count, seconds })
}

fn later(tries: u32) -> Instant {
    Instant::now() + Duration::from_mins(2) * tries
}

#[test]
fn a_service_that_is_refused_after_a_restart_keeps_the_rows_that_serve_it_and_no_others_stay() {
    let node = Host::default();
    let objects = [service("web", 1), slice("web", &[1]), service("gone", 2)];
    drop(started(&node, objects));
    node.v4.refuse("web");
    let mut engine = started(&node, [service("web", 1), slice("web", &[1, 2])]);
    assert_eq!(
        node.services().0,
        names(&["shop/web"]),
        "what was deleted meanwhile goes"
    );
    assert_eq!(way(&node, "shop/web"), any(1));

    node.v4.mend();
    engine.step([], at(later(1)));
    assert_eq!(node.services().0, names(&["shop/web"]));
    assert_eq!(way(&node, "shop/web"), any(2));
    assert_eq!(problems(&engine), [""; 0]);
}

#[test]
fn rows_of_another_service_at_the_address_of_one_that_is_set_aside_go() {
    let node = Host::default();
    drop(started(&node, with("old", 1, 1)));
    node.v4.refuse("new");
    drop(started(&node, with("new", 1, 2)));
    assert_eq!(node.services().0, names(&[]));
}

#[test]
fn what_serves_a_service_that_is_set_aside_goes_with_it() {
    let node = Host::default();
    let objects = || with("web", 1, 1).into_iter().chain(with("api", 2, 1));
    drop(started(&node, objects()));
    node.v4.refuse("shop");
    let mut engine = started(&node, with("web", 1, 2).into_iter().chain(with("api", 2, 2)));
    assert_eq!(node.services().0, names(&["shop/web", "shop/api"]));
    engine.step(gone("web"), at(Instant::now()));
    assert_eq!(node.services().0, names(&["shop/api"]));
    assert_eq!(problems(&engine).len(), 1);
}

#[test]
fn a_first_load_whose_last_part_holds_only_refused_services_is_loaded() {
    let node = Host::default();
    let many: Vec<u8> = (1..=200).collect();
    let mut objects: Vec<Event> = Vec::new();
    for n in 0..99u8 {
        objects.extend([service(&format!("s{n:02}"), n), slice(&format!("s{n:02}"), &many)]);
    }
    objects.extend(with("zz", 200, 1));
    node.v4.refuse("zz");
    let mut engine = started(&node, objects);
    assert_eq!(
        node.v4.transactions().len(),
        1,
        "the last part is the refused Service's"
    );

    node.v4.forget_transactions();
    let more = (0..110u8).flat_map(|n| {
        let name = format!("t{n}");
        [service(&name, n), slice(&name, &many)]
    });
    engine.step(more.collect::<Vec<_>>(), at(Instant::now()));
    let transactions = node.v4.transactions();
    assert_eq!(transactions.len(), 1, "a change is one transaction: {transactions:?}");
}

#[test]
fn where_no_room_is_left_a_service_uses_a_way_that_is_there_and_all_its_endpoints_later() {
    let node = Host::default();
    node.v4.limit_ways(2);
    let objects = with("one", 1, 1).into_iter().chain(with("two", 2, 2));
    let mut engine = started(&node, objects.chain(with("x-three", 3, 3)));
    assert_eq!(way(&node, "shop/x-three"), any(2));
    let problem = problems(&engine);
    assert_eq!(problem.len(), 1, "{problem:?}");
    assert!(
        problem[0].starts_with("port shop/x-three uses 2 of its 3 endpoints: all 509"),
        "{problem:?}"
    );

    node.v4.forget_transactions();
    engine.step([], at(later(1)));
    assert_eq!(
        node.v4.transactions(),
        [0; 0],
        "as long as there is no room nothing changes"
    );
    assert_eq!(problems(&engine), problem);

    engine.step(gone("one"), at(later(2)));
    engine.step([], at(later(3)));
    assert_eq!(way(&node, "shop/x-three"), any(3));
    assert_eq!(problems(&engine), [""; 0]);
}

#[test]
fn a_service_that_has_a_way_to_itself_gives_it_up_for_the_one_that_it_needs() {
    let node = Host::default();
    node.v4.limit_ways(2);
    let objects = with("one", 1, 1).into_iter().chain(with("own", 2, 2));
    let mut engine = started(&node, objects);
    engine.step([slice("own", &[1, 2, 3])], at(Instant::now()));
    assert_eq!(way(&node, "shop/own"), any(3));
    assert_eq!(problems(&engine), [""; 0]);
}

#[test]
fn where_no_room_is_left_clients_are_remembered_for_the_nearest_time() {
    let node = Host::default();
    node.v4.limit_ways(2);
    let mut objects: Vec<Event> = Vec::new();
    for (n, (name, seconds)) in (1..).zip([("a", 100), ("b", 900), ("c", 700)]) {
        objects.extend(with(name, n, 1).map(|event| remembering(seconds, event)));
    }
    let mut engine = started(&node, objects);
    assert_eq!(way(&node, "shop/c"), sticky(1, 900));
    let [problem] = &problems(&engine)[..] else {
        panic!("one problem")
    };
    assert!(
        problem.contains("remembers clients for 900 s instead of 700 s"),
        "{problem}"
    );

    engine.step(gone("a"), at(later(1)));
    engine.step([], at(later(2)));
    assert_eq!(way(&node, "shop/c"), sticky(1, 700));
    assert_eq!(problems(&engine), [""; 0]);
}

#[test]
fn a_service_for_which_no_way_would_do_is_set_aside_until_there_is_room() {
    let node = Host::default();
    node.v4.limit_ways(1);
    let mut engine = started(&node, with("big", 1, 3).into_iter().chain(with("few", 2, 1)));
    assert_eq!((way(&node, "shop/big"), way(&node, "shop/few")), (any(3), None));
    let no_room = tandem_core::plane::Reason::NoWayLeft;
    assert_eq!(problems(&engine), [format!("port shop/few: {no_room}")]);
    node.v4.limit_ways(2);
    engine.step([], at(later(1)));
    assert_eq!(way(&node, "shop/few"), any(1));
    assert_eq!(problems(&engine), [""; 0]);
}
