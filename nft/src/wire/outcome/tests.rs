//! Answers in every order. They may be lost, be cut off or belong to something else. Pure.

use super::{Answers, LostError, Outcome};

const FIRST: u32 = u32::MAX - 1;
/// Numbers wrap: this is five messages on.
const LAST: u32 = 3;

/// What can happen at the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// The last message is acknowledged.
    Acknowledged,
    /// A message of the transaction is refused.
    Refused(u32),
    /// The socket was full (`ENOBUFS`).
    Overrun,
    /// Half of an answer.
    Cut,
    /// An answer to an earlier transaction.
    Stranger,
    /// An answer that acknowledges a message in the middle.
    Between,
    /// Something that is no answer, with the last message's number.
    Data,
}

use Event::{Acknowledged, Between, Cut, Data, Overrun, Refused, Stranger};

fn message(kind: u16, sequence: u32, errno: i32) -> Vec<u8> {
    let mut bytes = 36_u32.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(0x100_u16.to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend((-errno).to_ne_bytes());
    bytes.extend([0; 16]);
    bytes
}

fn bytes(event: Event) -> Vec<u8> {
    match event {
        Acknowledged => message(2, LAST, 0),
        Refused(sequence) => message(2, sequence, libc::EEXIST),
        Cut => message(2, LAST, 0)[..18].to_vec(),
        Stranger => message(2, FIRST.wrapping_sub(1), libc::EEXIST),
        Between => message(2, FIRST.wrapping_add(1), 0),
        Data => message(0xa03, LAST, 0),
        Overrun => Vec::new(),
    }
}

/// The outcome of these events. The socket stops listening once no more answers will come.
fn outcome(events: &[Event]) -> Outcome {
    let mut answers = Answers::new(FIRST, LAST);
    for event in events {
        if *event == Overrun {
            answers.lose(LostError::Overrun);
        } else if answers.take(&bytes(*event)) {
            break;
        }
    }
    answers.end()
}

/// All ways to line up to `length` of these events.
fn orders(events: &[Event], length: usize) -> Vec<Vec<Event>> {
    let mut all = vec![Vec::new()];
    let mut from = 0;
    for _ in 0..length {
        let longer: Vec<Vec<Event>> = all[from..]
            .iter()
            .flat_map(|order| events.iter().map(move |event| [&order[..], &[*event]].concat()))
            .collect();
        from = all.len();
        all.extend(longer);
    }
    all
}

#[test]
fn a_transaction_counts_as_done_only_where_no_answer_is_missing() {
    let events = [
        Acknowledged,
        Refused(FIRST),
        Refused(LAST),
        Overrun,
        Cut,
        Stranger,
        Between,
        Data,
    ];
    let mut seen = [0; 3];
    for order in orders(&events, 4) {
        // The socket reads up to the answer to the last message.
        let end = order
            .iter()
            .position(|event| matches!(event, Acknowledged | Refused(LAST)));
        let read = &order[..end.map_or(order.len(), |end| end + 1)];
        let refused = read.iter().any(|event| matches!(event, Refused(_)));
        let lost = read.iter().any(|event| matches!(event, Overrun | Cut));
        match outcome(&order) {
            Outcome::Refused(_) => {
                seen[0] += 1;
                assert!(refused, "{order:?}");
            }
            Outcome::Done => {
                seen[1] += 1;
                assert!(read.contains(&Acknowledged) && !refused && !lost, "{order:?}");
            }
            Outcome::Lost(_) => {
                seen[2] += 1;
                assert!(!refused && (lost || end.is_none()), "{order:?}");
            }
            Outcome::NotSent(error) => panic!("{order:?}: {error}"),
        }
    }
    assert!(seen.iter().all(|count| *count > 100), "{seen:?}");
}

#[test]
fn an_acknowledgement_after_an_overrun_says_nothing_about_the_rest() {
    assert!(matches!(
        outcome(&[Overrun, Acknowledged]),
        Outcome::Lost(LostError::Overrun)
    ));
    assert!(matches!(outcome(&[Acknowledged]), Outcome::Done));
}

#[test]
fn one_refusal_says_that_nothing_was_carried_out_whatever_else_is_missing() {
    for order in [
        &[Overrun, Refused(FIRST)][..],
        &[Refused(1), Overrun],
        &[Refused(1), Cut],
        &[Refused(1), Overrun, Acknowledged],
        &[Overrun, Refused(LAST)],
    ] {
        match outcome(order) {
            Outcome::Refused(refusals) => assert_eq!(refusals.len(), 1, "{order:?}"),
            other => panic!("{order:?}: {other:?}"),
        }
    }
}

#[test]
fn answers_to_something_else_are_no_answers() {
    assert!(matches!(outcome(&[Stranger]), Outcome::Lost(LostError::NoAnswer)));
    assert!(matches!(outcome(&[Data]), Outcome::Lost(_)));
    assert!(matches!(outcome(&[Between]), Outcome::Lost(_)));
    assert!(matches!(outcome(&[Stranger, Data, Acknowledged]), Outcome::Done));
}

#[test]
fn several_answers_in_one_datagram_are_all_read() {
    let mut answers = Answers::new(FIRST, LAST);
    let datagram = [bytes(Refused(0)), bytes(Refused(1)), bytes(Acknowledged)].concat();
    assert!(answers.take(&datagram));
    assert!(matches!(answers.end(), Outcome::Refused(refusals) if refusals.len() == 2));
    for length in 1..datagram.len() {
        let mut answers = Answers::new(FIRST, LAST);
        answers.take(&datagram[..length]);
        assert!(!matches!(answers.end(), Outcome::Done), "{length} bytes");
    }
}
