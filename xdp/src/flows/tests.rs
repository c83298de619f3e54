//! Records in memory, which packets change while they are judged.

use std::cell::Cell;

use tandem_core::family::V4;
use tandem_xdp_layout::{Address4, Direction, Endpoint, Flow, FlowAddress as _, Hop, State};

use super::*;

const NOW: u32 = 1000;
const UDP: u8 = 17;
const TCP: u8 = 6;

/// A record, and how often a change of its state fails because a packet comes first.
#[derive(Default)]
struct Memory {
    words: [Cell<u64>; Address4::WORDS as usize],
    contended: Cell<u32>,
}

impl Record for &Memory {
    fn get(self, at: u32) -> u64 {
        self.words[at as usize].get()
    }

    fn set(self, at: u32, word: u64) {
        self.words[at as usize].set(word);
    }

    fn publish(self, at: u32, word: u64) {
        self.set(at, word);
    }

    fn change(self, at: u32, from: u64, to: u64) -> bool {
        let contended = self.contended.get();
        if contended > 0 {
            self.contended.set(contended - 1);
            return false;
        }
        let same = self.get(at) == from;
        if same {
            self.set(at, to);
        }
        same
    }

    fn fence(self) {}
}

fn end(last: u8, port: u16) -> Endpoint<Address4> {
    Endpoint {
        addr: V4::mapped([10, 0, 0, last].into()),
        port: port.to_be(),
    }
}

/// A flow of this client from the frontend 10.0.0.1:53 to an endpoint.
fn begin(words: &Memory, client: u16, endpoint: u8, state: State, protocol: u8) {
    let flow = Flow {
        client: end(200, client),
        frontend: end(1, 53),
        endpoint: end(endpoint, 5353),
        source: end(100, 0).addr,
        delta: 0,
        header_delta: 0,
    };
    let before = record::state(words);
    assert!(record::claim(words, before, &flow, (state, protocol), [Hop(0); 2], NOW));
}

fn records<const N: usize>() -> [Memory; N] {
    std::array::from_fn(|_| Memory::default())
}

/// Cuts flows to this endpoint.
fn cut_those_of(records: &[Memory], endpoint: u8, now: u32) -> Cut {
    cut_datagrams::<V4>(records, now, &Times::default(), |flow| {
        assert_eq!((flow.to.addr.octets(), flow.to.port.get()), ([10, 0, 0, 1], 53));
        assert_eq!(flow.with.port.get(), 5353);
        flow.with.addr.octets()[3] == endpoint
    })
}

fn stands(words: &Memory) -> bool {
    record::state(words).is_flow()
}

#[test]
fn wrong_flows_of_datagrams_are_cut_and_right_ones_and_connections_stay() {
    let records = records::<6>();
    begin(&records[0], 1, 7, State::Sent, UDP);
    begin(&records[1], 2, 8, State::Both, UDP);
    begin(&records[2], 3, 7, State::Both, UDP);
    begin(&records[3], 4, 7, State::Open, TCP);
    records[4].set(0, StateWord::default().claimed().0);
    assert_eq!(cut_those_of(&records, 7, NOW), Cut { read: 3, cut: 2 });
    let standing: Vec<bool> = records.iter().map(stands).collect();
    assert_eq!(standing, [false, true, false, true, false, false]);
    assert_eq!(record::state(&records[0]).state(), Some(State::Free));
    assert_eq!(record::state(&records[4]).state(), Some(State::Claimed));
    assert_eq!(cut_those_of(&records, 7, NOW), Cut { read: 1, cut: 0 });
}

#[test]
fn a_record_that_was_taken_over_while_it_was_judged_stays() {
    let records = records::<2>();
    let [words, freed] = &records;
    begin(words, 1, 7, State::Sent, UDP);
    begin(freed, 2, 7, State::Sent, UDP);
    let cut = cut_datagrams::<V4>(&records, NOW, &Times::default(), |_| {
        if record::state(words).claim() == 1 {
            // The same state of another flow.
            begin(words, 9, 7, State::Sent, UDP);
        } else {
            let state = record::state(freed);
            assert!(record::change(freed, state, state.freed()));
        }
        true
    });
    assert_eq!(cut, Cut { read: 2, cut: 0 });
    assert!(stands(words) && !stands(freed));
    assert_eq!(record::read::<Address4>(words).1.unwrap().client, end(200, 9));
    assert_eq!(record::state(freed).claim(), 2, "freed once");
}

#[test]
fn a_flow_is_cut_though_an_answer_changes_its_state_meanwhile() {
    let records = records::<1>();
    let [words] = &records;
    begin(words, 1, 7, State::Sent, UDP);
    let cut = cut_datagrams::<V4>(&records, NOW, &Times::default(), |_| {
        let state = record::state(words);
        assert!(record::change(words, state, state.after_udp(Direction::Reply)));
        words.contended.set(1);
        true
    });
    assert_eq!(cut, Cut { read: 1, cut: 1 });
    assert!(!stands(words));
}

#[test]
fn a_flow_that_is_over_for_its_client_is_cut_and_not_counted() {
    let records = records::<2>();
    begin(&records[0], 1, 7, State::Sent, UDP);
    begin(&records[1], 2, 7, State::Both, UDP);
    assert_eq!(cut_those_of(&records, 7, NOW + 31), Cut { read: 1, cut: 1 });
    assert!(!records.iter().any(stands));
}
