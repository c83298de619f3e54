//! A follower that fails.

use super::*;

#[test]
fn its_failure_holds_nothing_up_and_it_is_off_before_it_is_behind() {
    let (host, mirror) = (Host::default(), Mirror::new());
    let (mut engine, _) = current(&host, &mirror, web());
    let now = Instant::now();
    mirror.break_down("out of memory");
    host.v4.forget_transactions();
    let opened = host.v4.opened();
    let wake = engine.step([slice("web", &[1, 2, 3])], at(now));
    assert_eq!(mirror.take_seen(), [Seen::Follow(2), Seen::Off, Seen::Behind]);
    assert_eq!(host.v4.transactions(), [2], "the tables have the change");
    let published = engine.published().load_full();
    assert!(published.v4.set_aside.is_empty() && published.v4.last_error.is_none());
    let FollowState::Behind { why, .. } = &published.v4.followed.state else {
        panic!("{:?}", published.v4.followed);
    };
    assert_eq!(&**why, "out of memory");
    assert_eq!(wake.at, now + Duration::from_millis(100));
    assert_eq!((published.v4.followed.failures, published.v4.followed.taken), (1, 0));

    // More changes do not reach it, and neither does the time before its own.
    engine.step([service("api", 2)], at(now + Duration::from_millis(10)));
    assert_eq!(mirror.take_seen(), []);

    mirror.mend();
    engine.step([], at(now + Duration::from_millis(100)));
    assert_eq!(mirror.take_seen(), [Seen::Renew(host.v4.rows().len()), Seen::On]);
    assert_eq!(by_key(&mirror.rows()), by_key(&host.v4.rows()));
    assert!(is_on(&engine));
    assert_eq!(host.v4.transactions().len(), 2, "the tables were not touched for it");
    assert_eq!(host.v4.opened(), opened);
    engine.step([slice("api", &[7])], at(now + Duration::from_millis(200)));
    assert!(matches!(mirror.take_seen()[..], [Seen::Follow(_)]));
}

#[test]
fn a_renewal_that_fails_is_tried_again_and_waits_longer_each_time() {
    let (host, mirror) = (Host::default(), Mirror::new());
    mirror.break_down("no");
    let (mut engine, _) = engine(&host, &mirror);
    let (start, mut now) = (Instant::now(), Instant::now());
    let mut waits = Vec::new();
    engine.step(lists(web()), at(now));
    let since = match status(&engine).state {
        FollowState::Behind { since, .. } => since,
        other => panic!("{other:?}"),
    };
    assert_eq!(host.services().0, names(&["shop/web"]));
    while now < start + Duration::from_mins(4) {
        mirror.take_seen();
        let before = now;
        while mirror.take_seen().is_empty() {
            now += Duration::from_millis(100);
            assert!(now < before + Duration::from_mins(2), "it is never tried again");
            let wake = engine.step([], at(now));
            assert!(wake.at > now, "the engine does not spin");
        }
        waits.push((now - before).as_millis());
    }
    assert_eq!(waits[..5], [100, 200, 400, 800, 1600]);
    assert_eq!(waits.last(), Some(&60_000));
    assert!(
        matches!(status(&engine).state, FollowState::Behind { since: still, .. } if still == since),
        "it has been behind since the first failure"
    );

    mirror.mend();
    engine.step([], at(now + Duration::from_mins(1)));
    assert!(is_on(&engine));
}

#[test]
fn one_that_fails_at_each_change_is_renewed_less_and_less_often_until_it_is_calm() {
    let (host, mirror) = (Host::default(), Mirror::new());
    let (mut engine, _) = current(&host, &mirror, web());
    let mut now = Instant::now() + Duration::from_secs(10);
    let mut endpoint = 2;
    // A failed change, then the time until it is on again.
    let mut round = |engine: &mut Engine, now: &mut Instant| {
        mirror.fail_at(1);
        endpoint += 1;
        engine.step([slice("web", &[1, 2, endpoint])], at(*now));
        assert!(!mirror.is_on());
        let failed = *now;
        while !mirror.is_on() {
            *now += Duration::from_millis(100);
            assert!(*now < failed + Duration::from_mins(2), "it is never renewed");
            engine.step([], at(*now));
        }
        *now += Duration::from_millis(100);
        (*now - failed).as_millis() - 100
    };
    let waits: Vec<u128> = (0..4).map(|_| round(&mut engine, &mut now)).collect();
    assert_eq!(waits, [100, 200, 400, 800]);
    now += Duration::from_mins(2);
    assert_eq!(round(&mut engine, &mut now), 100);
}

#[test]
fn a_data_plane_that_fails_is_not_tried_sooner_because_a_follower_is_behind() {
    let (host, mirror) = (Host::default(), Mirror::new());
    let (mut engine, _) = current(&host, &mirror, web());
    let now = Instant::now();
    mirror.break_down("no");
    engine.step([slice("web", &[1])], at(now));
    mirror.take_seen();
    host.v4.break_down("no");
    let later = now + Duration::from_millis(90);
    engine.step([slice("web", &[2])], at(later));
    let opened = host.v4.opened();
    mirror.mend();
    let wake = engine.step([], at(now + Duration::from_millis(150)));
    assert_eq!(host.v4.opened(), opened);
    assert_eq!(mirror.take_seen(), [], "while the tables fail, nothing is renewed");
    assert_eq!(wake.at, later + Duration::from_millis(100), "the engine does not spin");

    host.v4.mend();
    engine.step([], at(wake.at));
    assert_eq!(mirror.take_seen(), [Seen::Renew(host.v4.rows().len()), Seen::On]);
}
