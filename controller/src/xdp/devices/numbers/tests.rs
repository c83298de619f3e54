use std::collections::HashMap;

use super::*;

/// A way out by the device of this index and VLAN.
fn exit(index: u32, vlan: u16) -> Exit {
    Exit {
        index: index + 1000 * u32::from(vlan != 0),
        device: Device {
            index,
            vlan,
            mtu: 1500,
            mac: Mac::of_bytes([2, 0, 0, 0, 0, 1]),
            returns: vlan == 0,
        },
        sources: Sources::default(),
    }
}

fn number(number: u8) -> DeviceNumber {
    DeviceNumber::new(number).unwrap()
}

fn set(n: u8, exit: Exit) -> NumberChange {
    NumberChange::Set(number(n), exit)
}

fn clear(n: u8) -> NumberChange {
    NumberChange::Clear(number(n))
}

#[test]
fn only_what_differs_is_written() {
    let mut numbers = Numbers::default();
    let (eth0, tagged, eth1) = (exit(2, 0), exit(2, 5), exit(3, 0));
    assert_eq!(numbers.bring(&[eth0, tagged]), [set(1, eth0), set(2, tagged)]);
    assert_eq!(numbers.bring(&[tagged, eth0]), []);
    assert_eq!(numbers.bring(&[eth0, tagged, eth1]), [set(3, eth1)]);
    assert_eq!((numbers.number(2, 5), numbers.number(2, 6)), (Some(number(2)), None));
    let mut small = eth0;
    small.device.mtu = 1400;
    // The VLAN device was made anew: routes name another index now.
    let renewed = Exit { index: 77, ..tagged };
    let mut moved = eth1;
    moved.sources.v4 = "192.0.2.1".parse().ok();
    let changes = [set(1, small), set(2, renewed), set(3, moved)];
    assert_eq!(numbers.bring(&[small, renewed, moved]), changes);
    assert_eq!(numbers.bring(&[moved]), [clear(1), clear(2)]);
    assert_eq!(numbers.bring(&[]), [clear(3)]);
}

#[test]
fn a_freed_number_is_given_out_again_after_all_others() {
    let mut numbers = Numbers::default();
    let _ = numbers.bring(&[exit(1, 0), exit(2, 0)]);
    assert_eq!(numbers.bring(&[exit(2, 0)]), [clear(1)]);
    for index in 3..=63 {
        let wanted = [exit(2, 0), exit(100 + u32::from(index), 0)];
        let changes = numbers.bring(&wanted);
        assert_eq!(changes.last(), Some(&set(index, wanted[1])));
    }
    let wanted = [exit(2, 0), exit(300, 0)];
    assert_eq!(numbers.bring(&wanted), [clear(63), set(1, wanted[1])]);
}

#[test]
fn numbers_of_an_earlier_run_stay_and_are_written_again() {
    let mut numbers = Numbers::adopt([(number(7), 2, 0), (number(40), 2, 5), (number(9), 8, 0)]);
    assert_eq!(numbers.number(2, 5), Some(number(40)));
    let wanted = [exit(2, 0), exit(2, 5), exit(3, 0)];
    let changes = [set(7, wanted[0]), set(40, wanted[1]), clear(9), set(41, wanted[2])];
    assert_eq!(numbers.bring(&wanted), changes);
    assert_eq!(numbers.bring(&wanted), []);
}

#[test]
fn one_way_out_that_an_earlier_run_numbered_twice_keeps_one_number() {
    let mut numbers = Numbers::adopt([(number(4), 2, 0), (number(3), 2, 0)]);
    assert_eq!(numbers.bring(&[exit(2, 0)]), [set(3, exit(2, 0)), clear(4)]);
}

#[test]
fn without_a_free_number_a_way_out_gets_none() {
    let mut numbers = Numbers::default();
    let many: Vec<Exit> = (1..=70).map(|index| exit(index, 0)).collect();
    assert_eq!(numbers.bring(&many).len(), 63);
    assert_eq!(numbers.number(64, 0), None);
    // One goes, and its number is needed at once.
    let changes = numbers.bring(&many[1..]);
    assert_eq!(changes, [clear(1), set(1, many[63])]);
}

#[test]
fn a_planned_device_becomes_a_way_out_unless_it_is_refused() {
    let name = tandem_core::node::InterfaceName::parse("eth0").unwrap();
    let of = |usage| Exit::of(&Planned { index: 9, name, usage });
    let (mac, mtu, sources) = ([2, 0, 0, 0, 0, 1], 1500, Sources::default());
    let found = of(Use::Attach {
        mac,
        mtu,
        native_return: true,
        sources,
    });
    assert_eq!(found, Some(Exit { index: 9, ..exit(9, 0) }));
    let found = of(Use::WayOut {
        carrier: 2,
        vlan: 5,
        mac,
        mtu,
        sources,
    });
    assert_eq!(found, Some(Exit { index: 9, ..exit(2, 5) }));
    assert_eq!(of(Use::Refused(super::super::Why::Down)), None);
}

/// A map as the changes make it, and when each number was freed.
#[derive(Default)]
struct Model {
    map: HashMap<u8, Exit>,
    freed: HashMap<u8, u32>,
}

impl Model {
    fn apply(&mut self, changes: &[NumberChange], now: u32) {
        for change in changes {
            match *change {
                NumberChange::Set(number, exit) => {
                    let number = number.get();
                    let before = self.map.insert(number, exit);
                    assert_ne!(before, Some(exit), "written for nothing");
                    if before.is_none() {
                        let unused = (1..64).filter(|other| *other != number && !self.map.contains_key(other));
                        let oldest = unused.map(|other| self.freed.get(&other).copied().unwrap_or(0)).min();
                        let freed = self.freed.get(&number).copied().unwrap_or(0);
                        assert!(
                            oldest.is_none_or(|oldest| freed <= oldest),
                            "{number} is given out too early"
                        );
                    }
                }
                NumberChange::Clear(number) => {
                    assert!(self.map.remove(&number.get()).is_some(), "cleared for nothing");
                    self.freed.insert(number.get(), now);
                }
            }
        }
    }
}

#[test]
fn a_walk_keeps_numbers_and_frees_them_for_long() {
    for seed in 0..8 {
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut numbers, mut model) = (Numbers::default(), Model::default());
        let mut wanted: Vec<Exit> = Vec::new();
        for now in 1..400 {
            let before: Vec<_> = wanted
                .iter()
                .map(Exit::key)
                .map(|key| (key, numbers.number(key.0, key.1)))
                .collect();
            for _ in 0..random.usize(0..4) {
                if !wanted.is_empty() && random.bool() {
                    wanted.swap_remove(random.usize(..wanted.len()));
                }
                let new = exit(random.u32(1..40), random.u16(0..3));
                if wanted.len() < 63 && wanted.iter().all(|exit| exit.key() != new.key()) {
                    wanted.push(new);
                }
            }
            if let Some(exit) = wanted.first_mut() {
                exit.device.mtu = random.u16(1400..1404);
            }
            model.apply(&numbers.bring(&wanted), now);
            assert_eq!(model.map.len(), wanted.len());
            for exit in &wanted {
                let number = numbers.number(exit.device.index, exit.device.vlan).unwrap();
                assert_eq!(model.map[&number.get()], *exit);
                let known = before.iter().find(|(key, _)| *key == exit.key());
                assert!(known.is_none_or(|(_, before)| *before == Some(number)), "it moved");
            }
        }
    }
}
