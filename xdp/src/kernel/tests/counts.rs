//! What is counted, and what maps say about themselves.

use tandem_core::plane::Delta;

use super::*;

#[test]
fn a_service_port_counts_what_it_takes_and_the_next_one_of_its_number_begins_from_zero() {
    let place = Place::new();
    let (sockets, mut v4, _) = place.open();
    let rules = RuleSettings::default();
    v4.renew(&rules, &rows4()).unwrap();
    sockets.set_node(place.cookie());
    sockets.attach(Who::Node, &place.cgroup).unwrap();
    let service = ServiceId::plain(1).unwrap();
    let taken = |sockets: &Sockets| [service, service.local()].map(|list| sockets.taken(IpFamily::V4, list)[0]);
    place.python(ASK4);
    place.python(ASK4);
    assert_eq!(taken(&sockets), [2, 2]);
    assert_eq!(sockets.taken(IpFamily::V6, service), [0; 2]);
    drop((sockets, v4));
    // The next run counts on.
    let (sockets, mut v4, _) = place.open();
    v4.renew(&rules, &rows4()).unwrap();
    place.python(ASK4);
    assert_eq!(taken(&sockets), [3, 3]);
    let (own, others): (Vec<_>, Vec<_>) = rows4().into_iter().partition(|row| row.service() == Some(service));
    let change = Delta {
        removed: own.clone(),
        ..Default::default()
    };
    v4.follow(&change).unwrap();
    assert_eq!(taken(&sockets), [0, 0]);
    let change = Delta {
        added: own,
        ..Default::default()
    };
    v4.follow(&change).unwrap();
    place.python(ASK4);
    assert_eq!(taken(&sockets), [1, 1]);
    // A Service port that went while nobody was there leaves nothing either.
    v4.renew(&rules, &others).unwrap();
    assert_eq!(taken(&sockets), [0, 0]);
    sockets.remove().unwrap();
}

#[test]
fn each_map_says_how_large_it_is_how_full_and_how_much_memory_it_takes() {
    let place = Place::new();
    let (sockets, mut v4, _) = place.open();
    v4.renew(&RuleSettings::default(), &rows4()).unwrap();
    let maps = sockets.maps().unwrap();
    let find = |name| maps.iter().find(|map| map.name == name).unwrap();
    let of = |name| (find(name).family, find(name).room, find(name).used);
    assert_eq!(of("NODE"), (None, Some(4), None));
    assert_eq!(of("FRONTENDS4"), (Some(IpFamily::V4), Some(16_384), Some(2)));
    assert_eq!(of("FRONTENDS6"), (Some(IpFamily::V6), Some(16_384), Some(0)));
    assert_eq!(of("SERVICES4"), (Some(IpFamily::V4), Some(294_910), Some(2)));
    assert_eq!(u64::from(of("LISTS4").2.unwrap()), v4.fill().0);
    assert_eq!(of("AFFINITY4"), (Some(IpFamily::V4), Some(16_384), Some(0)));
    assert_eq!(of("PAIRS6"), (Some(IpFamily::V6), None, None));
    assert!(find("SERVICES4").bytes >= 294_910 * 8, "{maps:?}");
    let bytes: u64 = maps.iter().map(|map| map.bytes).sum();
    println!("maps_bytes: {bytes}");
    fs::remove_file(place.pins.join(format!("v{}/maps/LISTS6", tandem_xdp_layout::VERSION))).unwrap();
    let error = sockets.maps().unwrap_err();
    assert!(error.to_string().contains("LISTS6"), "{error}");
}
