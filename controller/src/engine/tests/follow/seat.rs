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

/// What knows only the switch of what an earlier run left.
struct StandIn(Mirror<V4>);

impl Follower<V4> for StandIn {
    fn renew(&mut self, _: &RuleSettings, _: &[Row<V4>]) -> Result<(), Behind> {
        panic!("it cannot be renewed")
    }

    fn follow(&mut self, _: &Delta<V4>) -> Result<(), Behind> {
        panic!("it cannot follow")
    }

    fn switch_off(&mut self) {
        self.0.switch_off();
    }

    fn fits(&self, rules: &RuleSettings) -> bool {
        self.0.fits(rules)
    }

    fn left(&self) -> &BTreeMap<ServiceId, Left> {
        self.0.left()
    }

    fn taken(&self) -> usize {
        0
    }

    fn ready(&self) -> bool {
        false
    }
}

#[test]
fn what_an_earlier_run_left_answers_until_the_follower_is_there_if_nothing_changes() {
    let (host, mirror) = (Host::default(), Mirror::new());
    drop(current(&host, &mirror, web()));
    let (mut engine, seat) = engine(&host, &mirror);
    seat.put(StandIn(mirror.clone()));
    assert_eq!(
        mirror.take_seen(),
        [Seen::Off],
        "one that is ready is replaced by one that is not"
    );
    let mirror = Mirror::found(host.v4.rules().unwrap(), host.v4.rows());
    seat.put(StandIn(mirror.clone()));
    let wake = engine.step(lists(web()), at(Instant::now()));
    assert_eq!(mirror.take_seen(), []);
    assert!(mirror.is_on());
    assert!(wake.at > Instant::now(), "the engine does not spin");
    assert!(matches!(status(&engine).state, FollowState::Waiting { off: false, .. }));
    put(&seat, &host, &mirror);
    engine.step([], at(Instant::now()));
    assert_eq!(mirror.take_seen(), [Seen::Renew(host.v4.rows().len())]);
    assert!(is_on(&engine));
}

#[test]
fn what_an_earlier_run_left_is_off_as_soon_as_something_changes() {
    let (host, mirror) = (Host::default(), Mirror::new());
    drop(current(&host, &mirror, web()));
    let (mut engine, seat) = engine(&host, &Mirror::new());
    let mirror = Mirror::found(host.v4.rules().unwrap(), host.v4.rows());
    seat.put(StandIn(mirror.clone()));
    engine.step(lists([service("web", 1), slice("web", &[2])]), at(Instant::now()));
    assert_eq!(mirror.take_seen(), [Seen::Off]);
    engine.step([slice("web", &[2, 3])], at(Instant::now()));
    assert_eq!(mirror.take_seen(), []);
    put(&seat, &host, &mirror);
    engine.step([], at(Instant::now()));
    assert_eq!(mirror.take_seen(), [Seen::Renew(host.v4.rows().len()), Seen::On]);
}

#[test]
fn a_stand_in_that_is_replaced_before_the_engine_looks_is_not_switched_off() {
    let (host, mirror) = (Host::default(), Mirror::new());
    drop(current(&host, &mirror, web()));
    let (mut engine, seat) = engine(&host, &Mirror::new());
    let mirror = Mirror::found(host.v4.rules().unwrap(), host.v4.rows());
    seat.put(StandIn(mirror.clone()));
    put(&seat, &host, &mirror);
    engine.step(lists(web()), at(Instant::now()));
    assert_eq!(mirror.take_seen(), [Seen::Renew(host.v4.rows().len())]);
    seat.put(StandIn(mirror.clone()));
    seat.clear();
    assert_eq!(mirror.take_seen(), [Seen::Off]);
}
