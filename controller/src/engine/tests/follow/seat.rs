//! Followers that are put in and taken out while the engine runs.

use super::*;

#[test]
fn one_that_is_taken_out_is_off_and_one_that_is_put_in_is_renewed_at_once() {
    let (host, mirror) = (Host::default(), Mirror::new());
    let (mut engine, seat) = current(&host, &mirror, web());
    seat.clear();
    engine.step([], at(Instant::now()));
    assert_eq!(mirror.take_seen(), [Seen::Off]);
    engine.step([slice("web", &[1, 2, 3])], at(Instant::now()));
    assert_eq!(mirror.take_seen(), []);
    assert_eq!(status(&engine).state, FollowState::Off);
    assert_eq!(status(&engine).taken, 0);

    put(&seat, &host, &mirror);
    engine.step([], at(Instant::now()));
    assert_eq!(mirror.take_seen(), [Seen::Renew(host.v4.rows().len()), Seen::On]);
    assert!(is_on(&engine));
    engine.step([slice("web", &[1])], at(Instant::now()));
    assert!(matches!(mirror.take_seen()[..], [Seen::Follow(_)]));
}

#[test]
fn an_engine_without_a_follower_takes_one() {
    let (host, mirror) = (Host::default(), Mirror::new());
    let (mut engine, seat) = current(&host, &mirror, web());
    seat.clear();
    engine.step([], at(Instant::now()));
    let other = Mirror::new();
    put(&seat, &host, &other);
    let wake = engine.step([], at(Instant::now()));
    assert_eq!(other.take_seen(), [Seen::Renew(host.v4.rows().len()), Seen::On]);
    assert!(wake.at > Instant::now(), "the engine does not spin");
}

#[test]
fn one_that_is_replaced_is_off_before_the_other_is_on() {
    let (host, first) = (Host::default(), Mirror::new());
    let (mut engine, seat) = current(&host, &first, web());
    let second = Mirror::new();
    put(&seat, &host, &second);
    engine.step([slice("web", &[1])], at(Instant::now()));
    assert_eq!(first.take_seen(), [Seen::Off]);
    assert_eq!(second.take_seen(), [Seen::Renew(host.v4.rows().len()), Seen::On]);
}

#[test]
fn one_that_is_taken_out_before_the_engine_looks_is_off_too() {
    let (host, mirror) = (Host::default(), Mirror::new());
    drop(current(&host, &mirror, web()));
    let (mut engine, seat) = engine(&host, &mirror);
    assert!(mirror.is_on());
    seat.clear();
    assert_eq!(mirror.take_seen(), [Seen::Off]);
    engine.step(lists(web()), at(Instant::now()));
    assert_eq!(mirror.take_seen(), []);
}

#[test]
fn one_that_is_put_in_while_the_data_plane_fails_is_off_until_it_is_renewed() {
    let (host, mirror) = (Host::default(), Mirror::new());
    let (mut engine, seat) = current(&host, &mirror, web());
    let now = Instant::now();
    host.v4.break_down("no");
    engine.step([slice("web", &[1])], at(now));
    seat.clear();
    engine.step([], at(now + Duration::from_millis(20)));
    assert_eq!(mirror.take_seen(), [Seen::Off], "it is taken out at once");

    // Whoever puts this one in has left it on.
    let other = Mirror::found(host.v4.rules().unwrap(), Vec::new());
    put(&seat, &host, &other);
    engine.step([], at(now + Duration::from_millis(40)));
    assert_eq!(other.take_seen(), [Seen::Off]);
    host.v4.mend();
    engine.step([], at(now + Duration::from_secs(1)));
    assert_eq!(other.take_seen(), [Seen::Renew(host.v4.rows().len()), Seen::On]);
}

#[test]
fn the_end_of_the_engine_leaves_it_on() {
    let (host, mirror) = (Host::default(), Mirror::new());
    drop(current(&host, &mirror, web()));
    assert_eq!(mirror.take_seen(), []);
    assert!(mirror.is_on());
}
