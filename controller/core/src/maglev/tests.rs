use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;
use crate::family::{V4, V6};

type At = (Ipv4Addr, u16);

/// So many endpoints of one Service, as a cluster gives addresses: neighbours.
fn neighbours(count: u32) -> Vec<At> {
    let first = u32::from(Ipv4Addr::new(10, 244, 0, 2));
    (first..).take(count as usize).map(|addr| (addr.into(), 8080)).collect()
}

/// The endpoint in each cell.
fn chosen(endpoints: &[At]) -> Vec<At> {
    let cells = cells::<V4>(endpoints, SEED);
    cells.iter().map(|slot| endpoints[usize::from(*slot)]).collect()
}

/// The least and the largest number of cells of an endpoint.
fn shares(endpoints: &[At]) -> (usize, usize) {
    let mut counts = vec![0; endpoints.len()];
    for slot in cells::<V4>(endpoints, SEED) {
        counts[usize::from(slot)] += 1;
    }
    (
        counts.iter().min().copied().unwrap(),
        counts.iter().max().copied().unwrap(),
    )
}

/// Which part of the cells of others changes, if the endpoint in this slot goes and the size stays.
fn moved_without(endpoints: &[At], slot: usize) -> f64 {
    let (before, gone) = (chosen(endpoints), endpoints[slot]);
    let mut rest = endpoints.to_vec();
    rest.remove(slot);
    let after = chosen(&rest);
    assert_eq!(before.len(), after.len());
    let pairs = before.into_iter().zip(after);
    let others: Vec<_> = pairs.filter(|(before, _)| *before != gone).collect();
    let moved = others.iter().filter(|(before, after)| before != after);
    part(moved.count(), others.len())
}

fn part(some: usize, of: usize) -> f64 {
    f64::from(u32::try_from(some).unwrap()) / f64::from(u32::try_from(of).unwrap())
}

fn endpoints() -> impl Strategy<Value = Vec<At>> {
    let at = (any::<u32>().prop_map(Ipv4Addr::from), 1..=u16::MAX);
    prop::collection::btree_set(at, 1..90).prop_map(|set| set.into_iter().collect())
}

#[test]
fn the_size_is_the_smallest_prime_that_gives_each_endpoint_a_hundred_cells() {
    let sizes = [1, 2, 3, 5, 6, 10, 11, 655, 656, 65_535].map(size);
    assert_eq!(sizes, [251, 251, 509, 509, 1021, 1021, 2039, 65_521, 65_521, 65_521]);
    let is_prime = |size: u16| (2..size).take_while(|n| n * n <= size).all(|n| !size.is_multiple_of(n));
    assert!(SIZES[..8].iter().all(|size| is_prime(*size)));
    assert!((2..256).all(|n| !SIZES[8].is_multiple_of(n)));
}

/// Nodes of different versions agree on these cells. If this test fails, the change must not be made.
#[test]
fn the_cells_are_the_same_for_ever() {
    let three = neighbours(3);
    let found = cells::<V4>(&three, SEED);
    assert_eq!(
        found[..24],
        [0, 0, 2, 2, 2, 1, 1, 1, 1, 2, 0, 2, 0, 0, 0, 2, 2, 1, 0, 1, 2, 0, 0, 1]
    );
    let v6 = [1_u16, 2, 3].map(|last| (Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last), 443));
    let sums = [
        sum(&found),
        sum(&cells::<V6>(&v6, SEED)),
        sum(&cells::<V4>(&neighbours(655), SEED)),
        sum(&cells::<V4>(&three, 7)),
    ];
    assert_eq!(
        sums,
        [
            10_452_103_630_963_875_765,
            11_723_339_428_558_772_130,
            9_982_383_124_922_648_488,
            5_853_587_797_137_171_259
        ]
    );
}

/// One number for many cells.
fn sum(cells: &[u16]) -> u64 {
    cells.iter().fold(0, |sum, slot| mixed(sum ^ u64::from(*slot)))
}

#[test]
fn a_list_without_endpoints_has_no_cells_and_one_endpoint_has_all() {
    assert!(cells::<V4>(&[], SEED).is_empty());
    assert_eq!(*cells::<V4>(&neighbours(1), SEED), [0; 251]);
}

#[test]
fn every_endpoint_has_the_same_share_give_or_take_one_cell() {
    for count in [2, 3, 7, 50, 163, 655, 5_000] {
        let (least, most) = shares(&neighbours(count));
        assert!(most - least <= 1, "{count} endpoints: {least} to {most} cells");
    }
}

#[test]
fn a_list_with_more_endpoints_than_cells_has_no_slot_twice() {
    let (least, most) = shares(&neighbours(65_535));
    assert_eq!((least, most), (0, 1));
}

/// Two endpoints may have orders that are much alike. Then more cells move between a few endpoints, so single lists of
/// few endpoints say little.
#[test]
fn if_one_endpoint_goes_few_cells_of_the_others_change() {
    for count in [4, 9, 40, 160, 650] {
        let lists: Vec<f64> = (0..16)
            .map(|list: u32| {
                let first = mixed(u64::from(list)).to_be_bytes();
                let first = u32::from_be_bytes([10, first[0], first[1], first[2]]);
                let endpoints: Vec<At> = (first..).take(count).map(|addr| (addr.into(), 8080)).collect();
                moved_without(&endpoints, list as usize % count)
            })
            .collect();
        let mean = lists.iter().sum::<f64>() / 16.0;
        assert!(mean < 0.04, "{count} endpoints: {mean} of the cells of others moved");
    }
}

#[test]
fn an_endpoint_that_takes_the_place_of_another_takes_mostly_its_cells() {
    let before = neighbours(60);
    let mut after = before.clone();
    after[17].0 = Ipv4Addr::new(10, 244, 9, 9);
    let pairs: Vec<_> = chosen(&before).into_iter().zip(chosen(&after)).collect();
    let moved = pairs.iter().filter(|(old, new)| old != new && *old != before[17]);
    assert!(moved.count() * 20 < pairs.len());
}

proptest! {
    #[test]
    fn slots_and_the_order_in_which_endpoints_come_change_no_clients_endpoint(
        endpoints in endpoints(),
        turn in any::<prop::sample::Index>(),
    ) {
        let mut other = endpoints.clone();
        other.rotate_left(turn.index(endpoints.len()));
        other.reverse();
        prop_assert_eq!(chosen(&other), chosen(&endpoints));
        prop_assert_eq!(chosen(&endpoints), chosen(&endpoints));
    }

    #[test]
    fn any_endpoints_have_the_same_share_give_or_take_one_cell(endpoints in endpoints()) {
        let (least, most) = shares(&endpoints);
        prop_assert!(most - least <= 1 && least > 0);
    }
}

/// Run by hand, with optimisation: `cargo test --release -p tandem-core maglev -- --ignored --nocapture`.
#[test]
#[ignore = "it measures time"]
#[expect(clippy::disallowed_methods, reason = "it measures time")]
fn how_long_it_takes() {
    for count in [3, 10, 60, 650, 5_000, 65_535] {
        let endpoints = neighbours(count);
        let began = std::time::Instant::now();
        for _ in 0..20 {
            std::hint::black_box(cells::<V4>(std::hint::black_box(&endpoints), SEED));
        }
        println!("{count} endpoints: {:?}", began.elapsed() / 20);
    }
}
