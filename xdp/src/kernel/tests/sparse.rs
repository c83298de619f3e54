//! Arrays that are mapped in parts.

use aya::maps::{Array, IterableMap as _};

use super::super::sparse::SparseWords;

const MMAPABLE: u32 = 1 << 10;
const LEN: u32 = 40_000;

#[test]
fn words_of_parts_that_are_not_mapped_are_zeros_and_a_write_maps_its_part() {
    let mut map: Array<_, u64> = Array::create(LEN, MMAPABLE).unwrap();
    map.set(20_000, 7, 0).unwrap();
    let words = SparseWords::open(map.map().fd(), LEN).unwrap();
    let found = |words: &SparseWords| words.all().filter(|(_, word)| *word != 0).collect::<Vec<_>>();
    assert_eq!(found(&words), [(20_000, 7)]);
    assert_eq!([0, 20_000, 39_999].map(|at| words.get(at)), [Some(0), Some(7), Some(0)]);
    assert_eq!((words.get(LEN), words.all().count()), (None, 16_384));
    words.set(39_999, 1).unwrap();
    words.publish(0, 2).unwrap();
    words.set(LEN, 3).unwrap();
    assert_eq!([0, 39_999].map(|at| map.get(&at, 0).unwrap()), [2, 1]);
    assert_eq!(found(&words), [(0, 2), (20_000, 7), (39_999, 1)]);
}

#[test]
fn what_others_write_into_a_part_that_is_not_mapped_is_found_by_the_next_look() {
    let mut map: Array<_, u64> = Array::create(LEN, MMAPABLE).unwrap();
    let words = SparseWords::open(map.map().fd(), LEN).unwrap();
    map.set(5, 7, 0).unwrap();
    assert_eq!(words.get(5), Some(0));
    words.look().unwrap();
    assert_eq!(words.get(5), Some(7));
}
