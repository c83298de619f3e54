//! A data plane that fails, gets other rules, or is taken over from an earlier run.

use tandem_core::plane::{Fault, OpenError};

use super::*;

fn configured(change: impl FnOnce(&mut NodeSettings)) -> Event {
    let mut settings = Host::settings();
    change(&mut settings);
    Event::Configured(Box::new(settings))
}

#[test]
fn while_the_data_plane_fails_it_goes_on_with_what_it_holds_and_is_renewed_afterwards() {
    let (host, mirror) = (Host::default(), Mirror::new());
    let (mut engine, _) = current(&host, &mirror, web());
    let (now, opened) = (Instant::now(), host.v4.opened());
    host.v4.break_down("out of memory");
    engine.step([slice("web", &[1])], at(now));
    engine.step([], at(now + Duration::from_millis(100)));
    assert_eq!(host.v4.opened(), opened + 1, "it was opened again, and failed again");
    assert_eq!(mirror.take_seen(), [], "the old rows are still in the tables");
    assert!(mirror.is_on());

    host.v4.mend();
    engine.step([], at(now + Duration::from_secs(1)));
    let renewed = Seen::Renew(host.v4.rows().len());
    assert_eq!(mirror.take_seen(), [Seen::Off, renewed, Seen::On]);
    assert!(is_on(&engine));
}

#[test]
fn where_it_is_unknown_whether_a_change_was_applied_it_is_off_until_it_is_known() {
    for fault in [Fault::AppliedUnknown, Fault::FailedUnknown] {
        let (host, mirror) = (Host::default(), Mirror::new());
        let (mut engine, _) = current(&host, &mirror, web());
        let now = Instant::now();
        host.v4.next([fault]);
        engine.step([slice("web", &[1])], at(now));
        assert_eq!(mirror.take_seen(), [Seen::Off]);
        assert!(matches!(status(&engine).state, FollowState::Waiting { off: true, .. }));
        engine.step([], at(now + Duration::from_millis(100)));
        assert_eq!(mirror.take_seen(), [Seen::Renew(host.v4.rows().len()), Seen::On]);
    }
}

#[test]
fn other_rules_reach_it_with_the_rows_and_it_is_not_on_under_the_old_ones() {
    let (host, mirror) = (Host::default(), Mirror::new());
    let (mut engine, _) = current(&host, &mirror, web());
    let everything_masqueraded = || configured(|settings| settings.masquerade_all = true);
    engine.step([everything_masqueraded()], at(Instant::now()));
    let renewed = Seen::Renew(host.v4.rows().len());
    assert_eq!(mirror.take_seen(), [Seen::Off, renewed, Seen::On]);
    assert!(mirror.rules().unwrap().masquerade_all);
    engine.step([everything_masqueraded()], at(Instant::now()));
    assert_eq!(mirror.take_seen(), []);
}

#[test]
fn it_is_off_before_the_data_plane_gets_other_rules() {
    let (host, mirror) = (Host::default(), Mirror::<V4>::new());
    let (mut open, seen) = (host.v4.opener(), mirror.clone());
    let opener: Open<V4> = Box::new(move |rules| {
        if rules.masquerade_all {
            assert!(!seen.is_on());
            return Err(OpenError::new("no"));
        }
        open(rules)
    });
    let mut engine = Engine::new(Host::settings(), opener, host.v6.opener(), at(Instant::now()));
    let ((follow_v4, seat), (follow_v6, _)) = (Follow::new(at(Instant::now())), Follow::new(at(Instant::now())));
    engine.observe(follow_v4, follow_v6);
    put(&seat, &host, &mirror);
    engine.step(lists(web()), at(Instant::now()));
    assert!(mirror.is_on());
    mirror.take_seen();
    let now = Instant::now();
    engine.step([configured(|settings| settings.masquerade_all = true)], at(now));
    assert_eq!(mirror.take_seen(), [Seen::Off]);
    engine.step([configured(|_| {})], at(now + Duration::from_secs(1)));
    assert_eq!(mirror.take_seen(), [Seen::Renew(host.v4.rows().len()), Seen::On]);
}

#[test]
fn a_reopening_that_changes_no_row_does_not_switch_it_off() {
    let (host, mirror) = (Host::default(), Mirror::new());
    let (mut engine, _) = current(&host, &mirror, web());
    let now = Instant::now();
    host.v4.next([Fault::Failed]);
    engine.step([slice("web", &[1])], at(now));
    let FollowState::On { since } = status(&engine).state else {
        panic!("{:?}", status(&engine));
    };
    engine.step([slice("web", &[1, 2])], at(now + Duration::from_secs(1)));
    assert_eq!(mirror.take_seen(), [Seen::Renew(host.v4.rows().len())]);
    assert_eq!(status(&engine).state, FollowState::On { since });
}

#[test]
fn an_undisturbed_restart_finds_it_on_and_leaves_it_on() {
    let (host, mirror) = (Host::default(), Mirror::new());
    drop(current(&host, &mirror, web()));
    host.v4.forget_transactions();
    let (mut engine, _) = engine(&host, &mirror);
    engine.step([], at(Instant::now()));
    assert!(mirror.is_on());
    assert!(matches!(status(&engine).state, FollowState::Waiting { off: false, .. }));
    engine.step(lists(web()), at(Instant::now()));
    assert_eq!(mirror.take_seen(), [Seen::Renew(host.v4.rows().len())]);
    assert_eq!(host.v4.transactions(), [0; 0]);
}

#[test]
fn one_that_is_found_on_is_switched_off_by_the_first_change_and_renewed() {
    let (host, mirror) = (Host::default(), Mirror::new());
    drop(current(&host, &mirror, web()));
    let (mut engine, _) = engine(&host, &mirror);
    engine.step(lists([service("web", 1), slice("web", &[2])]), at(Instant::now()));
    let renewed = Seen::Renew(host.v4.rows().len());
    assert_eq!(mirror.take_seen(), [Seen::Off, renewed, Seen::On]);
}

#[test]
fn one_that_is_found_with_other_rows_or_rules_is_put_right() {
    let whole = Host::default();
    drop(started(&whole, web()));
    let (rows, rules) = (whole.v4.rows(), whole.v4.rules().unwrap());
    let other_rules = RuleSettings {
        masquerade_all: true,
        ..rules
    };
    let without_last = rows[..rows.len() - 1].to_vec();
    for (rules, rows) in [(rules, without_last), (other_rules, rows), (rules, Vec::new())] {
        // This one has no witness: it is found as the run before could not have left it.
        let mirror = Mirror::found(rules, rows);
        let mut engine = whole.start();
        let ((follow_v4, seat), (follow_v6, _)) = (Follow::new(at(Instant::now())), Follow::new(at(Instant::now())));
        engine.observe(follow_v4, follow_v6);
        put(&seat, &whole, &mirror);
        engine.step(lists(web()), at(Instant::now()));
        let renewed = Seen::Renew(whole.v4.rows().len());
        let mut seen = mirror.take_seen();
        seen.sort_by_key(|seen| *seen == renewed || *seen == Seen::On);
        assert_eq!(seen, [Seen::Off, renewed, Seen::On]);
        never_stale(&mirror, &whole.v4);
    }
}

#[test]
fn tables_that_were_deleted_are_loaded_and_it_is_off_meanwhile() {
    let (host, mirror) = (Host::default(), Mirror::new());
    drop(current(&host, &mirror, web()));
    let rows = host.v4.rows();
    host.v4.lose(|_| true);
    let mirror = Mirror::found(host.v4.rules().unwrap(), rows);
    let mut engine = host.start();
    let ((follow_v4, seat), (follow_v6, _)) = (Follow::new(at(Instant::now())), Follow::new(at(Instant::now())));
    engine.observe(follow_v4, follow_v6);
    put(&seat, &host, &mirror);
    engine.step(lists([service("api", 3), service("web", 1)]), at(Instant::now()));
    let renewed = Seen::Renew(host.v4.rows().len());
    assert_eq!(mirror.take_seen(), [Seen::Off, renewed, Seen::On]);
    never_stale(&mirror, &host.v4);
}

#[test]
fn rows_that_made_no_sense_are_put_right_in_both() {
    let (host, mirror) = (Host::default(), Mirror::new());
    drop(current(&host, &mirror, web()));
    host.v4.put(Row::Endpoint {
        service: ServiceId::plain(77).unwrap(),
        slot: 3,
        endpoint: tandem_core::row::Endpoint {
            addr: [10, 0, 0, 9].into(),
            port: Port::new(1).unwrap(),
        },
    });
    let found = Mirror::found(host.v4.rules().unwrap(), host.v4.rows());
    let (mut engine, _) = engine(&host, &found);
    engine.step(lists(web()), at(Instant::now()));
    let renewed = Seen::Renew(host.v4.rows().len());
    assert_eq!(found.take_seen(), [Seen::Off, renewed, Seen::On]);
    assert_eq!(by_key(&found.rows()), by_key(&mirror.rows()));
}
