//! What every data plane does. The cases run on the data plane in memory and on the kernel, in both families. Needs
//! root. Each kernel case runs in a network namespace of its own. MUST NOT look at how rows are stored.

use crate::rows::{addr, any, at, endpoint, frontend, net, nth, plain, port, reference, service, sticky};
use crate::support::in_namespace;
use tandem_core::family::{Family, V4, V6};
use tandem_core::plane::{ApplyError, DataPlane, Delta, Memory, Reason, RuleSettings};
use tandem_core::row::{Class, Pick, Protocol, Row};
use tandem_nft::NftTable;

/// How many bytes of a label the kernel stores, as a comment.
const COMMENT_LEN: usize = 127;

type Case<F> = fn(&mut dyn DataPlane<F>);

/// Every case, by its sentence.
fn cases<F: Family>() -> Vec<(&'static str, Case<F>)> {
    vec![
        (
            "rows of every kind come back as they were applied",
            every_kind_comes_back,
        ),
        ("ranges at the edges of the address space come back", edges_come_back),
        (
            "a row that is there already is refused and nothing is applied",
            existing_is_refused,
        ),
        (
            "a row that is not there cannot be removed and nothing is applied",
            missing_is_refused,
        ),
        ("all bad rows among many good ones are named", bad_rows_among_many),
        ("a change gives a key another value", change_replaces),
        ("ranges that overlap are refused", overlap_is_refused),
        ("ranges side by side are not refused, in any order", neighbours_stand),
        ("what was added can be removed", all_can_go),
        (
            "a range can be replaced by its halves in one change",
            halves_replace_whole,
        ),
        ("labels are cut at a whole character", long_labels_are_cut),
        ("an empty change is nothing", empty_change),
    ]
}

fn run_all<F: Family>() {
    for (sentence, case) in cases::<F>() {
        println!("{:?}, memory: {sentence}", F::FAMILY);
        case(&mut Memory::<F>::new());
        println!("{:?}, kernel: {sentence}", F::FAMILY);
        in_namespace(|| case(&mut NftTable::<F>::open(RuleSettings::default()).expect("a table")));
    }
}

#[test]
fn memory_and_kernel_do_the_same_with_ipv4() {
    run_all::<V4>();
}

#[test]
fn memory_and_kernel_do_the_same_with_ipv6() {
    run_all::<V6>();
}

fn add<F: Family>(added: Vec<Row<F>>) -> Delta<F> {
    Delta {
        added,
        ..Delta::default()
    }
}

fn remove<F: Family>(removed: Vec<Row<F>>) -> Delta<F> {
    Delta {
        removed,
        ..Delta::default()
    }
}

/// Checks that the data plane holds exactly these rows.
fn check<F: Family>(plane: &mut dyn DataPlane<F>, mut expected: Vec<Row<F>>) {
    let mut found = plane.read().expect("rows");
    expected.sort_by_key(|row| format!("{row:?}"));
    found.sort_by_key(|row| format!("{row:?}"));
    assert_eq!(found, expected);
}

/// Checks that the data plane refuses exactly these rows of a change, for this reason, and stays as it is.
fn check_refused<F: Family>(plane: &mut dyn DataPlane<F>, delta: &Delta<F>, rows: &[Row<F>], reason: &Reason) {
    let before = plane.read().expect("rows");
    match plane.apply(delta) {
        Err(ApplyError::Rejected(rejections)) => {
            let (refused, reasons): (Vec<_>, Vec<_>) = rejections.into_iter().map(|r| (r.row, r.reason)).unzip();
            assert_eq!(refused, rows);
            assert!(reasons.iter().all(|words| words == reason), "{reasons:?}");
        }
        other => panic!("{other:?}"),
    }
    check(plane, before);
}

fn every_kind_comes_back<F: Family>(plane: &mut dyn DataPlane<F>) {
    plane.apply(&add(reference())).expect("rows");
    check(plane, reference());
}

fn edges_come_back<F: Family>(plane: &mut dyn DataPlane<F>) {
    let web = at::<F>(nth::<F>(7), Protocol::Sctp, 65_535);
    let other = at::<F>(nth::<F>(8), Protocol::Udp, 1);
    let rows = vec![
        Row::ServiceCidr {
            net: net::<F>("0.0.0.0/0", "::/0"),
        },
        Row::LocalPods {
            net: net::<F>("0.0.0.0/32", "::/128"),
        },
        Row::LocalPods {
            net: net::<F>("10.0.0.1/32", "2001::1/128"),
        },
        Row::LocalPods {
            net: net::<F>("128.0.0.0/2", "8000::/2"),
        },
        Row::LocalPods {
            net: net::<F>("240.0.0.0/4", "f000::/4"),
        },
        Row::AllowedSource {
            at: web,
            source: net::<F>("0.0.0.0/0", "::/0"),
        },
        Row::AllowedSource {
            at: other,
            source: net::<F>("255.255.255.255/32", "ffff::/16"),
        },
        Row::AllowedSource {
            at: other,
            source: net::<F>("0.0.0.0/32", "::/128"),
        },
    ];
    plane.apply(&add(rows.clone())).expect("rows");
    check(plane, rows.clone());
    plane.apply(&remove(rows)).expect("rows");
    check(plane, Vec::new());
}

fn existing_is_refused<F: Family>(plane: &mut dyn DataPlane<F>) {
    plane.apply(&add(reference())).expect("rows");
    let new = Row::ClusterIp { addr: nth::<F>(99) };
    for row in reference::<F>() {
        let range = matches!(
            row,
            Row::ServiceCidr { .. } | Row::LocalPods { .. } | Row::AllowedSource { .. }
        );
        let reason = if range { Reason::Overlaps } else { Reason::Taken };
        check_refused(plane, &add(vec![new.clone(), row.clone()]), &[row], &reason);
    }
}

fn missing_is_refused<F: Family>(plane: &mut dyn DataPlane<F>) {
    let there = Row::NodeAddress { addr: nth::<F>(99) };
    plane.apply(&add(vec![there.clone()])).expect("a row");
    for row in reference::<F>() {
        check_refused(
            plane,
            &remove(vec![there.clone(), row.clone()]),
            &[row],
            &Reason::NotThere,
        );
    }
    let old = Row::ClusterIp { addr: nth::<F>(1) };
    let delta = Delta {
        changed: vec![(old.clone(), old.clone())],
        ..remove(vec![there])
    };
    check_refused(plane, &delta, &[old], &Reason::NotThere);
}

fn bad_rows_among_many<F: Family>(plane: &mut dyn DataPlane<F>) {
    let bad = vec![
        Row::Endpoint {
            service: plain(5),
            slot: 3,
            endpoint: endpoint(nth::<F>(1), 1),
        },
        Row::Endpoint {
            service: plain(4000),
            slot: 0,
            endpoint: endpoint(nth::<F>(1), 1),
        },
        Row::ClusterIp { addr: nth::<F>(77) },
    ];
    plane.apply(&add(bad.clone())).expect("rows");
    let mut rows: Vec<Row<F>> = Vec::new();
    for n in 1..=5000 {
        for slot in 0..4 {
            rows.push(Row::Endpoint {
                service: plain(n),
                slot,
                endpoint: endpoint(nth::<F>(1), 1),
            });
        }
    }
    rows.extend((1..=5000).map(|n| Row::ClusterIp { addr: nth::<F>(n) }));
    check_refused(plane, &add(rows), &bad, &Reason::Taken);
}

fn change_replaces<F: Family>(plane: &mut dyn DataPlane<F>) {
    let pod = |n| Row::Endpoint {
        service: plain(1),
        slot: 0,
        endpoint: endpoint(nth::<F>(n), 80),
    };
    let picks = [
        any(1),
        any(65_535),
        Pick::Refuse,
        Pick::Sticky {
            count: port(4095),
            seconds: 86_400,
        },
        Pick::Discard,
        Pick::Sticky {
            count: port(2),
            seconds: 86_400,
        },
    ];
    let row = |n: usize| service::<F>(sticky(9).local(), picks[n], &format!("a/b:{n}"));
    plane.apply(&add(vec![pod(0), row(0)])).expect("rows");
    for n in 1..picks.len() {
        let pods = (
            pod(u32::try_from(n - 1).expect("few")),
            pod(u32::try_from(n).expect("few")),
        );
        let changed = vec![pods.clone(), (row(n - 1), row(n))];
        plane
            .apply(&Delta {
                changed,
                ..Delta::default()
            })
            .expect("a change");
        check(plane, vec![pods.1, row(n)]);
    }
}

fn overlap_is_refused<F: Family>(plane: &mut dyn DataPlane<F>) {
    let web = at::<F>(nth::<F>(7), Protocol::Tcp, 80);
    let wide = net::<F>("10.0.0.0/8", "fd00::/16");
    let inside = net::<F>("10.1.0.0/16", "fd00:1::/32");
    plane
        .apply(&add(vec![
            Row::ServiceCidr { net: wide },
            Row::LocalPods { net: inside },
            Row::AllowedSource { at: web, source: wide },
        ]))
        .expect("ranges");
    for row in [
        Row::ServiceCidr { net: inside },
        Row::LocalPods { net: wide },
        Row::AllowedSource {
            at: web,
            source: inside,
        },
    ] {
        check_refused(plane, &add(vec![row.clone()]), &[row], &Reason::Overlaps);
    }
}

fn neighbours_stand<F: Family>(plane: &mut dyn DataPlane<F>) {
    let pods = |v4: &str, v6: &str| Row::<F>::LocalPods { net: net::<F>(v4, v6) };
    let rows = vec![
        pods("10.0.1.0/24", "fd00:1::/64"),
        pods("10.0.0.0/24", "fd00:0::/64"),
        pods("10.0.2.0/23", "fd00:1:0:1::/64"),
    ];
    for row in &rows {
        plane.apply(&add(vec![row.clone()])).expect("a neighbour");
    }
    check(plane, rows.clone());
    plane.apply(&remove(vec![rows[0].clone()])).expect("the middle");
    check(plane, rows[1..].to_vec());
}

fn all_can_go<F: Family>(plane: &mut dyn DataPlane<F>) {
    plane.apply(&add(reference())).expect("rows");
    plane.apply(&remove(reference())).expect("rows");
    check(plane, Vec::new());
    plane.apply(&add(reference())).expect("rows");
    check(plane, reference());
}

fn halves_replace_whole<F: Family>(plane: &mut dyn DataPlane<F>) {
    let pods = |v4: &str, v6: &str| Row::<F>::LocalPods { net: net::<F>(v4, v6) };
    let whole = pods("10.0.0.0/8", "fd00::/16");
    let halves = vec![pods("10.0.0.0/9", "fd00::/17"), pods("10.128.0.0/9", "fd00:8000::/17")];
    plane.apply(&add(vec![whole.clone()])).expect("a range");
    plane
        .apply(&Delta {
            added: halves.clone(),
            removed: vec![whole.clone()],
            changed: Vec::new(),
        })
        .expect("a change");
    check(plane, halves.clone());
    plane
        .apply(&Delta {
            added: vec![whole.clone()],
            removed: halves,
            changed: Vec::new(),
        })
        .expect("a change");
    check(plane, vec![whole]);
}

fn long_labels_are_cut<F: Family>(plane: &mut dyn DataPlane<F>) {
    let row = |label: &str| {
        frontend(
            Class::Cluster,
            at(addr::<F>("10.96.0.1", "fd00:96::1"), Protocol::Tcp, 80),
            plain(1),
            label,
        )
    };
    for label in [
        "",
        "a",
        &"x".repeat(127),
        &"x".repeat(300),
        &format!("{}{}", "x".repeat(126), "ü"),
    ] {
        plane.apply(&add(vec![row(label)])).expect("a row");
        let found = plane.read().expect("rows");
        let [Row::Frontend { label: stored, .. }] = &found[..] else {
            panic!("{found:?}")
        };
        assert!(
            **stored == *label || **stored == label[..label.floor_char_boundary(COMMENT_LEN)],
            "{stored}"
        );
        plane.apply(&remove(vec![row("")])).expect("a row");
    }
}

fn empty_change<F: Family>(plane: &mut dyn DataPlane<F>) {
    plane.apply(&Delta::default()).expect("nothing");
    check(plane, Vec::new());
}
