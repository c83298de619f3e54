//! A follower beside the data plane. At every call of a change, a witness checks that the follower is on only if it
//! holds the data plane's rows under the data plane's rules.

mod faults;
mod histories;
mod reopened;
mod seat;
mod spread;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use tandem_core::id::ServiceId;
use tandem_core::plane::{Behind, Delta, Follower, Left, Mirror, RuleSettings, Seen};

use super::*;

/// A mirror that is told of what the data plane holds already, and of nothing else.
struct Told<F: Family> {
    mirror: Mirror<F>,
    plane: Memory<F>,
}

impl<F: Family> Follower<F> for Told<F> {
    fn renew(&mut self, rules: &RuleSettings, rows: &[Row<F>]) -> Result<(), Behind> {
        assert!(rows.is_sorted_by_key(Row::kind));
        assert_eq!(by_key(rows), by_key(&self.plane.rows()));
        assert_eq!(Some(*rules), self.plane.rules());
        self.mirror.renew(rules, rows)
    }

    fn follow(&mut self, delta: &Delta<F>) -> Result<(), Behind> {
        let rows = by_key(&self.plane.rows());
        assert!(
            delta.stored().new_rows().all(|row| rows.contains(&text(row))),
            "told before the data plane was:\n{delta}"
        );
        self.mirror.follow(delta)
    }

    fn switch_off(&mut self) {
        self.mirror.switch_off();
    }

    fn fits(&self, rules: &RuleSettings) -> bool {
        self.mirror.fits(rules)
    }

    fn left(&self) -> &BTreeMap<ServiceId, Left> {
        self.mirror.left()
    }

    fn taken(&self) -> usize {
        self.mirror.taken()
    }
}

/// It stands where the flows' observer stands: after the follower.
struct Witness<F: Family> {
    mirror: Mirror<F>,
    plane: Memory<F>,
}

impl<F: Family> Witness<F> {
    fn look(&self) {
        never_stale(&self.mirror, &self.plane);
    }
}

impl<F: Family> Observer<F> for Witness<F> {
    fn applying(&mut self, _: &Delta<F>) {
        self.look();
    }

    fn committed(&mut self, _: &Delta<F>, _: bool) {
        self.look();
    }

    fn abandoned(&mut self, _: bool) {
        self.look();
    }

    fn reopened(&mut self, _: &Delta<F>) {
        // The first opening may only ask the tables who is a pod. One that is found answers under its rules meanwhile.
        same_rows(&self.mirror, &self.plane);
    }

    fn loaded(&mut self, _: &tandem_core::table::Table<F>, _: &RuleSettings) {
        self.look();
    }
}

fn text(value: &impl Debug) -> String {
    format!("{value:?}")
}

/// The rows that a data plane stores.
fn by_key<F: Family>(rows: &[Row<F>]) -> BTreeSet<String> {
    rows.iter().filter(|row| row.kind().is_stored()).map(text).collect()
}

fn never_stale<F: Family>(mirror: &Mirror<F>, plane: &Memory<F>) {
    same_rows(mirror, plane);
    if mirror.is_on() && plane.opened() > 0 {
        assert_eq!(mirror.rules(), plane.rules(), "on under other rules");
    }
}

fn same_rows<F: Family>(mirror: &Mirror<F>, plane: &Memory<F>) {
    if mirror.is_on() {
        assert_eq!(by_key(&mirror.rows()), by_key(&plane.rows()), "on with other rows");
    }
}

/// An engine with a seat for a follower of IPv4. The mirror is in it.
fn engine(host: &Host, mirror: &Mirror<V4>) -> (Engine, Seat<V4>) {
    let mut engine = host.start();
    let (follow_v4, seat) = Follow::new(at(Instant::now()));
    let (follow_v6, _) = Follow::new(at(Instant::now()));
    engine.observe(follow_v4, follow_v6);
    let witness_v4 = Witness {
        mirror: mirror.clone(),
        plane: host.v4.clone(),
    };
    let witness_v6 = Witness {
        mirror: Mirror::new(),
        plane: host.v6.clone(),
    };
    engine.observe(witness_v4, witness_v6);
    put(&seat, host, mirror);
    (engine, seat)
}

fn put(seat: &Seat<V4>, host: &Host, mirror: &Mirror<V4>) {
    seat.put(Told {
        mirror: mirror.clone(),
        plane: host.v4.clone(),
    });
}

/// An engine that has everything loaded, and a follower that is on. What the follower saw until then is forgotten.
fn current(host: &Host, mirror: &Mirror<V4>, objects: impl IntoIterator<Item = Event>) -> (Engine, Seat<V4>) {
    let (mut engine, seat) = engine(host, mirror);
    engine.step(lists(objects), at(Instant::now()));
    assert!(mirror.is_on());
    mirror.take_seen();
    (engine, seat)
}

fn status(engine: &Engine) -> FollowStatus {
    engine.published().load().v4.followed.clone()
}

fn is_on(engine: &Engine) -> bool {
    matches!(status(engine).state, FollowState::On { .. })
}

fn web() -> [Event; 2] {
    [service("web", 1), slice("web", &[1, 2])]
}

#[test]
fn it_is_renewed_once_everything_is_loaded_and_not_before() {
    let (host, mirror) = (Host::default(), Mirror::new());
    let (mut engine, _) = engine(&host, &mirror);
    let mut events = lists(web());
    let last = events.pop();
    engine.step(events, at(Instant::now()));
    assert_eq!(mirror.take_seen(), []);
    assert!(matches!(status(&engine).state, FollowState::Waiting { .. }));
    engine.step(last, at(Instant::now()));
    assert_eq!(mirror.take_seen(), [Seen::Renew(host.v4.rows().len()), Seen::On]);
    let status = status(&engine);
    assert!(matches!(status.state, FollowState::On { .. }));
    assert_eq!((status.taken, status.renewals, status.changes), (1, 1, 0));
    assert!(status.last_change.is_some());
}

#[test]
fn without_a_follower_the_state_is_off() {
    let host = Host::default();
    let engine = started(&host, web());
    assert_eq!(status(&engine).state, FollowState::Off);
}

#[test]
fn a_first_load_in_several_transactions_reaches_it_as_one() {
    let objects = || {
        let many: Vec<u8> = (1..=200).collect();
        (0..150u8).flat_map(move |n| [service(&format!("s{n}"), n), slice(&format!("s{n}"), &many)])
    };
    let host = Host::default();
    let mirror = Mirror::new();
    let (mut first, _) = engine(&host, &mirror);
    first.step(lists(objects()), at(Instant::now()));
    assert!(host.v4.transactions().len() >= 2);
    assert_eq!(mirror.take_seen(), [Seen::Renew(host.v4.rows().len()), Seen::On]);
}

#[test]
fn a_change_reaches_it_after_the_data_plane_acknowledged_it() {
    let (host, mirror) = (Host::default(), Mirror::new());
    let (mut engine, _) = current(&host, &mirror, web());
    engine.step([slice("web", &[1, 2, 3])], at(Instant::now()));
    assert_eq!(mirror.take_seen(), [Seen::Follow(2)]);
    assert_eq!(by_key(&mirror.rows()), by_key(&host.v4.rows()));
    assert_eq!(status(&engine).changes, 1);
    engine.step([], at(Instant::now() + Duration::from_mins(5)));
    assert_eq!(mirror.take_seen(), [], "nothing to do");
}

#[test]
fn a_change_that_the_data_plane_refuses_does_not_reach_it_and_a_service_that_is_set_aside_does_later() {
    let (host, mirror) = (Host::default(), Mirror::new());
    let (mut engine, _) = current(&host, &mirror, web());
    host.v4.refuse("bad");
    engine.step(
        [service("bad", 2), service("good", 3), slice("web", &[1])],
        at(Instant::now()),
    );
    assert_eq!(engine.v4().status().set_aside.len(), 1);
    assert_eq!(status(&engine).changes, 1);
    assert!(is_on(&engine));
    assert_eq!(by_key(&mirror.rows()), by_key(&host.v4.rows()));
    mirror.take_seen();

    host.v4.mend();
    engine.step([], at(Instant::now() + Duration::from_secs(1)));
    assert!(matches!(mirror.take_seen()[..], [Seen::Follow(_)]));
    assert_eq!(by_key(&mirror.rows()), by_key(&host.v4.rows()));
    assert_eq!(status(&engine).taken, 3);
}

#[test]
fn a_service_that_is_set_aside_from_the_beginning_does_not_keep_it_waiting() {
    let (host, mirror) = (Host::default(), Mirror::new());
    host.v4.refuse("bad");
    let (engine, _) = current(&host, &mirror, web().into_iter().chain([service("bad", 2)]));
    assert!(is_on(&engine));
    assert_eq!(status(&engine).taken, 1);
}

#[test]
fn what_it_leaves_to_the_data_plane_is_named() {
    let (host, mirror) = (Host::default(), Mirror::new());
    mirror.limit(1);
    let objects = web().into_iter().chain([service("xenon", 2), slice("xenon", &[3])]);
    let (mut engine, _) = current(&host, &mirror, objects);
    let left = |engine: &Engine| -> Vec<String> {
        let left = status(engine).left;
        left.iter().map(|(port, left)| format!("{port}: {left}")).collect()
    };
    assert_eq!(
        left(&engine),
        ["shop/xenon: there is no room for its endpoints: the mirror has room for 1 and takes no more"]
    );
    assert!(is_on(&engine), "the others are taken");
    assert_eq!(status(&engine).taken, 1);

    engine.step([service("yak", 3)], at(Instant::now()));
    assert_eq!(left(&engine).len(), 2);
    mirror.limit(2);
    engine.step([slice("yak", &[4])], at(Instant::now()));
    assert_eq!(
        left(&engine),
        ["shop/yak: there is no room for its endpoints: the mirror has room for 2 and takes no more"]
    );
    mirror.mend();
    engine.step([slice("yak", &[4, 5])], at(Instant::now()));
    assert_eq!(left(&engine), [""; 0]);
    assert_eq!(status(&engine).taken, 3);
}

#[test]
fn what_had_no_room_is_tried_again_after_waits_that_double_and_changes_do_not_put_it_off() {
    let (host, mirror) = (Host::default(), Mirror::new());
    mirror.limit(1);
    let began = Instant::now();
    let later = |milliseconds| at(began + Duration::from_millis(milliseconds));
    let (mut engine, _) = engine(&host, &mirror);
    let objects = web().into_iter().chain([service("xenon", 2), slice("xenon", &[3])]);
    engine.step(lists(objects), at(began));
    assert_eq!((status(&engine).left.len(), status(&engine).renewals), (1, 1));
    assert_eq!(engine.next_try(), Some(began + Duration::from_millis(100)));
    engine.step([slice("web", &[1, 2, 3])], later(50));
    assert_eq!((status(&engine).renewals, status(&engine).changes), (1, 1));
    engine.step([], later(100));
    assert_eq!((status(&engine).left.len(), status(&engine).renewals), (1, 2));
    assert!(is_on(&engine), "the others are taken meanwhile");
    assert_eq!(engine.next_try(), Some(began + Duration::from_millis(300)));
    mirror.limit(2);
    engine.step([], later(300));
    assert_eq!((status(&engine).left.len(), status(&engine).renewals), (0, 3));
    assert_eq!(engine.next_try(), None, "nothing is left");
}
