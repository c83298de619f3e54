//! The judge, with calls as they may be and as they may not be.

use super::flows::Flows;
use super::judge::{Event, Known, Round, What, judge};

/// Two clients of one frontend, of which one thread sends each; the third one is another frontend's.
const FLOWS: [u32; 2] = [1, 9];

fn event(what: What, flow: u32, start: u64, end: u64) -> Event {
    let (slot, pod) = (5, 1);
    Event {
        what,
        flow,
        slot,
        pod,
        start,
        end,
    }
}

/// Events of the flows by their numbers here.
fn judged(events: &[(What, usize, u64, u64)], after: &[(usize, bool)], datagrams_go_on: bool) -> Vec<String> {
    let flows = Flows::new();
    for flow in FLOWS {
        assert!(flows.learn(flow, 1));
    }
    let of = |(what, flow, start, end): &(What, usize, u64, u64)| event(*what, FLOWS[*flow], *start, *end);
    let known = |(flow, is_led_to): &(usize, bool)| Known {
        flow: FLOWS[*flow],
        slot: 5,
        pod: 1,
        is_led_to: *is_led_to,
    };
    let round = Round {
        before: Vec::new(),
        events: events.iter().map(of).collect(),
        after: after.iter().map(known).collect(),
        end: 100,
        datagrams_go_on,
    };
    judge(&flows, round).wrong
}

const SENT: What = What::Sent { may_begin: true };
const LATER: What = What::Sent { may_begin: false };
const LEFT: What = What::Left { may_begin: true };
use What::{Answered, Unanswered};

#[test]
fn an_answer_goes_to_whoever_may_have_the_record_and_to_nobody_else() {
    for (events, right) in [
        // The flow had it, or took it during the call.
        (vec![(SENT, 0, 1, 2), (Answered, 0, 3, 4)], true),
        (vec![(Answered, 0, 1, 4), (SENT, 0, 2, 3)], true),
        (vec![(Answered, 0, 1, 3), (SENT, 0, 2, 4)], true),
        // It never had it, or took it afterwards.
        (vec![(Answered, 0, 1, 2)], false),
        (vec![(Answered, 0, 1, 2), (SENT, 0, 3, 4)], false),
        // Another one took it over before, or at the same time.
        (vec![(SENT, 0, 1, 2), (SENT, 1, 3, 4), (Answered, 0, 5, 6)], false),
        (vec![(SENT, 0, 1, 2), (SENT, 1, 3, 6), (Answered, 0, 5, 7)], true),
        (vec![(SENT, 0, 1, 4), (SENT, 1, 2, 3), (Answered, 0, 5, 6)], true),
        // Another one's answer says so, too.
        (
            vec![
                (SENT, 0, 1, 2),
                (SENT, 1, 3, 6),
                (Answered, 1, 4, 5),
                (Answered, 0, 7, 8),
            ],
            false,
        ),
        // It took it back.
        (
            vec![(SENT, 0, 1, 2), (SENT, 1, 3, 4), (SENT, 0, 5, 6), (Answered, 0, 7, 8)],
            true,
        ),
        // It may have taken it and lost it.
        (vec![(LEFT, 0, 1, 2), (Answered, 0, 3, 4)], true),
    ] {
        assert_eq!(judged(&events, &[], false).is_empty(), right, "{events:?}");
    }
}

#[test]
fn an_answer_is_passed_only_if_the_record_may_have_been_taken_over() {
    for (events, right) in [
        (vec![(SENT, 0, 1, 2), (Unanswered, 0, 3, 4)], false),
        (vec![(SENT, 0, 1, 4), (Unanswered, 0, 2, 3)], true),
        (vec![(SENT, 0, 1, 2), (SENT, 1, 3, 4), (Unanswered, 0, 5, 6)], true),
        (vec![(SENT, 0, 1, 2), (Unanswered, 0, 3, 5), (SENT, 1, 4, 6)], true),
        (vec![(SENT, 0, 1, 2), (LEFT, 1, 3, 4), (Unanswered, 0, 5, 6)], true),
    ] {
        assert_eq!(judged(&events, &[], false).is_empty(), right, "{events:?}");
    }
}

#[test]
fn a_packet_of_a_client_comes_out_by_the_record_that_its_flow_has() {
    let tcp = |event: Event| {
        let flows = Flows::new();
        // The second of each pair of flows is of TCP.
        assert!(flows.get(1).tcp && flows.learn(1, 1));
        let round = Round {
            before: Vec::new(),
            events: vec![self::event(SENT, 1, 1, 2), event],
            after: Vec::new(),
            end: 100,
            datagrams_go_on: false,
        };
        judge(&flows, round).wrong.is_empty()
    };
    assert!(tcp(event(LATER, 1, 3, 4)));
    assert!(!tcp(event(What::Left { may_begin: false }, 1, 3, 4)));
    assert!(!tcp(Event {
        slot: 6,
        ..event(LATER, 1, 3, 4)
    }));
    assert!(tcp(Event {
        slot: 6,
        ..event(SENT, 1, 3, 4)
    }));
}

#[test]
fn whoever_has_a_record_in_the_end_may_have_it_and_is_led_to_it() {
    assert_eq!(judged(&[(SENT, 0, 1, 2)], &[(0, true)], false), [""; 0]);
    assert_eq!(judged(&[(SENT, 0, 1, 2)], &[(0, false)], false).len(), 1);
    assert_eq!(judged(&[(SENT, 0, 1, 2)], &[(1, true)], false).len(), 1);
    assert_eq!(
        judged(&[(SENT, 0, 1, 2), (SENT, 1, 3, 4)], &[(0, true)], false).len(),
        1
    );
    // A packet that may have begun another flow may have had the index lead elsewhere.
    assert_eq!(
        judged(&[(SENT, 0, 1, 2), (LEFT, 0, 3, 4)], &[(0, false)], false),
        [""; 0]
    );
}
