//! Tests of bytes: what is written can be read, and nothing that comes in does harm. Pure, except for `buffers`
//! and `check`. MUST NOT open sockets.

mod buffers;
mod check;
mod machine;
#[path = "../tests/netns/rows.rs"]
#[expect(dead_code, reason = "shared with the tests of the whole crate")]
mod rows;
#[path = "../tests/netns/support.rs"]
#[expect(dead_code, reason = "shared with the tests of the whole crate")]
mod support;
mod walk;

use std::fmt::Write;
use std::net::IpAddr;
use std::num::NonZeroU16;

use ipnet::IpNet;
use tandem_core::family::{Family, IpFamily, V4, V6};
use tandem_core::id::ServiceId;
use tandem_core::plane::RuleSettings;
use tandem_core::row::{Class, Endpoint, Frontend, L4Address, Pick, Protocol, Row};
use tandem_netlink::answer::{Content, Messages};

use crate::elements::decode::SetReader;
use crate::elements::element::{self, ForeignElement};
use crate::elements::key::set_of;
use crate::elements::sets::Set;
use crate::elements::udata;
use crate::family::numbers;
use crate::picks::chain::PickChain;
use crate::picks::chains::{PickNumber, PicksByNumber};
use crate::rules::fixed::encode_fixed;
use crate::rules::fixed_chain::FixedChain;
use crate::rules::pick::encode_pick_rules;
use crate::wire::batch::Batch;

fn addr<F: Family>(n: u8) -> F::Addr {
    let v4 = IpAddr::from([10, 0, n, 255]);
    let v6 = IpAddr::from([0xfd00, 0, 0, 1, 0, 0, 0, u16::from(n)]);
    F::addr(if F::FAMILY == IpFamily::V4 { v4 } else { v6 }).unwrap()
}

fn net<F: Family>(bits: u8) -> F::Net {
    F::net(IpNet::new(addr::<F>(7).into(), bits).unwrap().trunc()).unwrap()
}

/// Rows of every kind and form.
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn rows<F: Family>() -> Vec<Row<F>> {
    let port = |n| NonZeroU16::new(n).unwrap();
    let at = |n, protocol| L4Address {
        addr: addr::<F>(n),
        protocol,
        port: port(u16::MAX - u16::from(n)),
    };
    let endpoint = |n| Endpoint {
        addr: addr::<F>(n),
        port: port(1),
    };
    let (plain, sticky) = (
        ServiceId::plain(0xabcd).unwrap(),
        ServiceId::sticky(16_383).unwrap().local(),
    );
    let id = sticky.endpoint(4095).unwrap();
    let frontend = |frontend| Row::Frontend {
        frontend,
        service: sticky,
        label: "a/b:c".into(),
    };
    let service = |service, pick| Row::Service {
        service,
        pick,
        label: "ä/ö:ü".into(),
    };
    let widths: &[u8] = if F::FAMILY == IpFamily::V4 {
        &[0, 1, 24, 32]
    } else {
        &[0, 1, 64, 127, 128]
    };
    let mut rows = vec![
        frontend(Frontend::Address {
            class: Class::Cluster,
            at: at(1, Protocol::Tcp),
        }),
        frontend(Frontend::Address {
            class: Class::External,
            at: at(2, Protocol::Sctp),
        }),
        frontend(Frontend::NodePort {
            protocol: Protocol::Udp,
            port: port(30_000),
        }),
        service(plain, Pick::Any { count: port(1) }),
        service(plain.local(), Pick::Refuse),
        service(
            sticky,
            Pick::Sticky {
                count: port(65_535),
                seconds: u32::MAX,
            },
        ),
        service(sticky.all(), Pick::Discard),
        Row::Endpoint {
            service: plain,
            slot: u16::MAX,
            endpoint: endpoint(3),
        },
        Row::StickyEndpoint {
            service: sticky,
            slot: 0,
            id,
        },
        Row::EndpointId {
            id,
            endpoint: endpoint(4),
        },
        Row::ClusterIp { addr: addr::<F>(5) },
        Row::NodeAddress { addr: addr::<F>(6) },
        Row::LocalEndpoint { addr: addr::<F>(7) },
        Row::Restricted {
            at: at(8, Protocol::Udp),
        },
    ];
    for width in widths {
        rows.push(Row::ServiceCidr { net: net::<F>(*width) });
        rows.push(Row::LocalPods { net: net::<F>(*width) });
        rows.push(Row::AllowedSource {
            at: at(9, Protocol::Tcp),
            source: net::<F>(*width),
        });
    }
    rows
}

/// The picks of the services among [`rows`] have, by number.
fn picks() -> PicksByNumber {
    let port = |number| tandem_core::row::Port::new(number).unwrap();
    let sticky = Pick::Sticky {
        count: port(65_535),
        seconds: u32::MAX,
    };
    [
        (1, Pick::Refuse),
        (2, Pick::Discard),
        (7, Pick::Any { count: port(1) }),
        (511, sticky),
    ]
    .into()
}

fn pick_number<F: Family>(row: &Row<F>) -> PickNumber {
    let Row::Service { pick, .. } = row else { return 0 };
    picks()
        .into_iter()
        .find(|(_, other)| other == pick)
        .map_or(0, |(number, _)| number)
}

fn written<F: Family>(row: &Row<F>) -> Vec<u8> {
    let mut batch = Batch::default();
    batch.begin(numbers(F::FAMILY).nfproto, 1);
    element::add(&mut batch, row, pick_number(row), false);
    batch.end();
    batch.bytes().to_vec()
}

fn read<F: Family>(set: Set, bytes: &[u8]) -> (Vec<Row<F>>, Vec<ForeignElement>) {
    let picks = picks();
    let mut reader = SetReader::<F>::new(set, &picks);
    for message in Messages(bytes) {
        if let Content::Data { body, .. } = message.content {
            reader.message(body);
        }
    }
    let found = reader.finish();
    (found.rows, found.foreign)
}

fn check_round_trip<F: Family>() {
    for row in rows::<F>() {
        assert_eq!(
            read::<F>(set_of(&row), &written(&row)),
            (vec![row.clone()], Vec::new()),
            "{row:?}"
        );
    }
}

#[test]
fn every_row_is_read_as_it_was_written() {
    check_round_trip::<V4>();
    check_round_trip::<V6>();
}

/// A generator with a fixed seed, so that a failure can be repeated.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).unwrap_or(usize::MAX) % limit.max(1)
    }
}

#[test]
fn truncated_and_garbled_answers_do_no_harm() {
    let mut dice = Dice(0x7a6e_6465_6d00_0001);
    for row in rows::<V6>() {
        let whole = written(&row);
        for length in 0..whole.len() {
            read::<V6>(set_of(&row), &whole[..length]);
        }
        for _ in 0..300 {
            let mut garbled = whole.clone();
            for _ in 0..=dice.below(4) {
                let at = dice.below(garbled.len());
                garbled[at] = u8::try_from(dice.below(256)).unwrap();
            }
            garbled.truncate(dice.below(garbled.len() * 4));
            for set in Set::ALL {
                read::<V6>(set, &garbled);
                read::<V4>(set, &garbled);
            }
        }
    }
}

#[test]
fn garbled_elements_are_handed_back_or_are_other_rows() {
    let mut dice = Dice(99);
    let row = &rows::<V4>()[0];
    let whole = written(row);
    for _ in 0..300 {
        let mut garbled = whole.clone();
        // The key, and the bytes after it. The headers of the batch, the message, the lists and the key come before.
        let key = garbled.windows(4).position(|bytes| bytes == [10, 0, 1, 255]).unwrap();
        let at = key + dice.below(12);
        garbled[at] ^= 1 << dice.below(8);
        let (rows, foreign) = read::<V4>(set_of(row), &garbled);
        assert_eq!(rows.len() + foreign.len(), 1);
        assert_ne!(rows.first(), Some(row));
    }
}

/// Taken from what nft 1.0.6 sent for the reference rulesets.
#[test]
fn what_stands_beside_sets_is_byte_for_byte_what_nft_writes() {
    let mut written = String::new();
    for family in [IpFamily::V4, IpFamily::V6] {
        for set in Set::ALL {
            let userdata = set.layout().userdata(family);
            write!(written, "{} {} ", numbers(family).name, set.name()).unwrap();
            for byte in userdata {
                write!(written, "{byte:02x}").unwrap();
            }
            written.push('\n');
        }
    }
    assert_eq!(written, include_str!("../tests/data/set-userdata.txt"));
}

#[test]
fn comments_are_cut_and_read_back() {
    let long = "ü".repeat(100);
    for (label, stored) in [("", ""), ("a/b:c", "a/b:c"), (&long, &long[..126])] {
        let mut bytes = Vec::new();
        udata::element(&mut bytes, 6, label);
        assert_eq!(udata::comment(&bytes[4..]), stored);
        for length in 0..bytes.len() {
            udata::comment(&bytes[length..]);
            udata::comment(&bytes[..length]);
        }
    }
}

#[test]
fn many_elements_share_a_message_that_stays_within_an_attribute() {
    let mut batch = Batch::default();
    batch.begin(2, 5);
    let row = |n: u8| Row::<V4>::ClusterIp { addr: addr::<V4>(n) };
    let mut messages: Vec<u32> = (0..10_000)
        .map(|n: u32| element::add(&mut batch, &row(n.to_le_bytes()[0]), 0, false))
        .collect();
    batch.end();
    messages.dedup();
    assert_eq!(messages, [6, 7, 8]);
    assert_eq!(batch.last_sequence(), 8);
    let rows: Vec<_> = Messages(batch.bytes()).map(|message| message.sequence).collect();
    assert_eq!(rows, [5, 6, 7, 8, 9]);
    assert_eq!(read::<V4>(Set::ClusterIps, batch.bytes()).0.len(), 10_000);
}

#[test]
fn the_same_settings_give_the_same_rules() {
    let written = |settings: RuleSettings| {
        let mut batch = Batch::default();
        batch.begin(2, 1);
        for chain in FixedChain::ALL {
            encode_fixed(&mut batch, IpFamily::V4, chain, chain.name(), settings);
        }
        encode_pick_rules(
            &mut batch,
            IpFamily::V4,
            settings.ahead,
            PickChain::Recall { seconds: 1 },
        );
        batch.end();
        batch.bytes().to_vec()
    };
    let settings = RuleSettings::default();
    assert_eq!(written(settings), written(settings));
    assert_ne!(
        written(settings),
        written(RuleSettings {
            masquerade_bit: 15,
            ..settings
        })
    );
}
