use proptest::prelude::*;

use super::*;

fn range(text: &str) -> IpNet {
    text.parse().unwrap()
}

/// All holders, found from nothing: who is first takes what nobody before has taken.
fn fresh(claims: &[(IpNet, u32)]) -> BTreeMap<IpNet, u32> {
    let mut claims = claims.to_vec();
    claims.sort_by_key(|(range, who)| (*who, key(*range)));
    let mut held: BTreeMap<IpNet, u32> = BTreeMap::new();
    let mut seen: BTreeSet<IpNet> = BTreeSet::new();
    for (range, who) in claims {
        // Only the first who wants a range competes for it.
        if !seen.insert(range) {
            continue;
        }
        let excludes = |other: &IpNet| other.contains(&range) || range.contains(other);
        if !held.keys().any(excludes) {
            held.insert(range, who);
        }
    }
    held
}

fn holders(claims: &RangeClaims<u32>) -> BTreeMap<IpNet, u32> {
    claims.holders.iter().map(|(key, who)| (net(*key), *who)).collect()
}

#[test]
fn the_older_keeps_a_range_and_the_younger_takes_over_when_it_goes() {
    let mut claims = RangeClaims::default();
    claims.add(range("10.244.2.0/24"), 1);
    assert_eq!(claims.add(range("10.244.2.0/24"), 2), []);
    assert_eq!(
        claims.rival(range("10.244.2.0/24"), &2),
        Some((range("10.244.2.0/24"), &1))
    );
    assert_eq!(
        claims.remove(range("10.244.2.0/24"), &1),
        [Changed {
            what: range("10.244.2.0/24"),
            from: Some(1),
            to: Some(2)
        }]
    );
    assert_eq!(claims.rival(range("10.244.2.0/24"), &2), None);
}

#[test]
fn who_loses_a_range_is_in_nobodys_way() {
    let mut claims = RangeClaims::default();
    for (text, who) in [("10.0.0.0/8", 1), ("0.0.0.0/1", 2), ("11.0.0.0/8", 3)] {
        claims.add(range(text), who);
    }
    // 2 loses against 1, so 3 has its range although 2 is older.
    assert_eq!(claims.holder(range("11.0.0.0/8")), Some(&3));
    assert_eq!(claims.holder(range("0.0.0.0/1")), None);
    let mut changed = claims.remove(range("10.0.0.0/8"), &1);
    changed.sort_by_key(|change| change.what);
    let shown: Vec<_> = changed
        .iter()
        .map(|change| (change.what.to_string(), change.from, change.to))
        .collect();
    assert_eq!(
        shown,
        [
            ("0.0.0.0/1".to_owned(), None, Some(2)),
            ("10.0.0.0/8".to_owned(), Some(1), None),
            ("11.0.0.0/8".to_owned(), Some(3), None)
        ]
    );
}

#[test]
fn families_do_not_meet() {
    let mut claims = RangeClaims::default();
    claims.add(range("0.0.0.0/1"), 1);
    claims.add(range("::/1"), 2);
    assert_eq!(holders(&claims).len(), 2);
}

#[test]
fn a_value_is_the_first_ones_until_it_goes() {
    let mut claims: Claims<u8, u32> = Claims::default();
    let changed = |from, to| Some(Changed { what: 7, from, to });
    assert_eq!(claims.add(7, 2), changed(None, Some(2)));
    assert_eq!(claims.add(7, 3), None);
    assert_eq!(claims.add(7, 1), changed(Some(2), Some(1)));
    assert_eq!(claims.remove(7, &2), None);
    assert_eq!(claims.remove(7, &1), changed(Some(1), Some(3)));
    assert_eq!(claims.remove(7, &3), changed(Some(3), None));
    assert_eq!(claims.holder(7), None);
}

proptest! {
    #[test]
    fn after_any_history_the_holders_are_those_of_a_fresh_start(
        steps in prop::collection::vec((any::<bool>(), 0_u8..8, 0_u8..5, 0_u32..4), 1..60)
    ) {
        let mut claims = RangeClaims::default();
        let mut all: BTreeSet<(IpNet, u32)> = BTreeSet::new();
        let mut known = BTreeMap::new();
        for (add, bits, length, who) in steps {
            // Ranges of a small tree, so that they often meet.
            let addr = IpAddr::from([bits << 5, 0, 0, 0]);
            let range = IpNet::new(addr, length).unwrap().trunc();
            let changed = if add {
                all.insert((range, who));
                claims.add(range, who)
            } else {
                all.remove(&(range, who));
                claims.remove(range, &who)
            };
            let list: Vec<_> = all.iter().copied().collect();
            prop_assert_eq!(holders(&claims), fresh(&list));
            // Whoever follows the changes knows the holders.
            for Changed { what, from, to } in changed {
                prop_assert_eq!(known.get(&what).copied(), from);
                prop_assert_ne!(from, to);
                match to {
                    Some(who) => known.insert(what, who),
                    None => known.remove(&what),
                };
            }
            prop_assert_eq!(&known, &holders(&claims));
        }
    }
}
