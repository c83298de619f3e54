//! Who has a range, or a MAC address, if several say that it is theirs: what is reserved first, then the oldest Node. Everybody else waits,
//! and takes over in the change in which the holder goes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::Bound;

use ipnet::IpNet;

/// Where a range stands: its first address, and its length. What is inside a range comes right behind it.
type Place = (IpAddr, u8);

/// Claims to ranges. Two ranges exclude each other if one of them is inside the other. `W` is who claims: the smallest one goes
/// first.
#[derive(Clone, Debug)]
pub struct RangeClaims<W> {
    /// Who claims a range.
    claims: BTreeMap<Place, BTreeSet<W>>,
    /// Who has one.
    holders: BTreeMap<Place, W>,
}

impl<W> Default for RangeClaims<W> {
    fn default() -> Self {
        Self {
            claims: BTreeMap::new(),
            holders: BTreeMap::new(),
        }
    }
}

/// A claim whose holder is another one than before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed<K, W> {
    /// What is claimed.
    pub what: K,
    /// Who had it.
    pub from: Option<W>,
    /// Who has it.
    pub to: Option<W>,
}

impl<W: Clone + Ord> RangeClaims<W> {
    /// Adds a claim. Returns which holders change.
    pub fn add(&mut self, range: IpNet, who: W) -> Vec<Changed<IpNet, W>> {
        self.claims.entry(key(range)).or_default().insert(who);
        self.settle(range)
    }

    /// Takes a claim away. Returns which holders change.
    pub fn remove(&mut self, range: IpNet, who: &W) -> Vec<Changed<IpNet, W>> {
        let Some(all) = self.claims.get_mut(&key(range)) else {
            return Vec::new();
        };
        all.remove(who);
        if all.is_empty() {
            self.claims.remove(&key(range));
        }
        self.settle(range)
    }

    /// Whether somebody has a range: this very one.
    pub fn holder(&self, range: IpNet) -> Option<&W> {
        self.holders.get(&key(range))
    }

    /// Who has a range that excludes this one, and which one that is.
    pub fn rival(&self, range: IpNet, who: &W) -> Option<(IpNet, &W)> {
        let outside = around(range).filter_map(|outer| Some((outer, self.holders.get(&key(outer))?)));
        let inside = self
            .holders
            .range(bounds(range))
            .map(|(key, holder)| (net(*key), holder));
        outside
            .chain(inside)
            .find(|(other, holder)| *other != range || *holder != who)
    }

    /// Who claims ranges that exclude this one, whether they have them or not.
    pub fn claimants(&self, range: IpNet) -> impl Iterator<Item = &W> {
        let outside = around(range).filter_map(|outer| self.claims.get(&key(outer)));
        let inside = self.claims.range(bounds(range)).map(|(_, all)| all);
        outside.chain(inside).flatten()
    }

    /// Finds the holders anew of all ranges that this one may decide about: those inside the widest one around it.
    fn settle(&mut self, range: IpNet) -> Vec<Changed<IpNet, W>> {
        let is_known =
            |outer: &IpNet| self.claims.contains_key(&key(*outer)) || self.holders.contains_key(&key(*outer));
        let widest = around(range).filter(is_known).last().unwrap_or(range);
        let mut wishes: Vec<(&W, Place)> = Vec::new();
        for (key, all) in self.claims.range(bounds(widest)) {
            // Of several with one range, only the first one can have it.
            wishes.extend(all.first().map(|who| (who, *key)));
        }
        wishes.sort();
        let mut now: BTreeMap<Place, W> = BTreeMap::new();
        for (who, wish) in wishes {
            let taken = around(net(wish)).any(|outer| now.contains_key(&key(outer)))
                || now.range(bounds(net(wish))).next().is_some();
            if !taken {
                now.insert(wish, who.clone());
            }
        }
        let before: Vec<Place> = self.holders.range(bounds(widest)).map(|(key, _)| *key).collect();
        let mut changed = Vec::new();
        for key in before {
            if let Some(from) = self.holders.remove(&key) {
                let to = now.get(&key).cloned();
                if to.as_ref() == Some(&from) {
                    self.holders.insert(key, from);
                } else {
                    changed.push(Changed {
                        what: net(key),
                        from: Some(from),
                        to,
                    });
                }
            }
        }
        for (key, to) in now {
            if self.holders.get(&key) != Some(&to) {
                self.holders.insert(key, to.clone());
                if !changed.iter().any(|change| change.what == net(key)) {
                    changed.push(Changed {
                        what: net(key),
                        from: None,
                        to: Some(to),
                    });
                }
            }
        }
        changed
    }
}

/// Claims to values that exclude only themselves.
#[derive(Clone, Debug)]
pub struct Claims<K, W> {
    claims: BTreeMap<K, BTreeSet<W>>,
}

impl<K, W> Default for Claims<K, W> {
    fn default() -> Self {
        Self {
            claims: BTreeMap::new(),
        }
    }
}

impl<K: Copy + Ord, W: Clone + Ord> Claims<K, W> {
    /// Adds a claim. Returns whether the holder changes, and from whom.
    pub fn add(&mut self, what: K, who: W) -> Option<Changed<K, W>> {
        self.change(what, |all| {
            all.insert(who);
        })
    }

    /// Takes a claim away. Returns whether the holder changes, and to whom.
    pub fn remove(&mut self, what: K, who: &W) -> Option<Changed<K, W>> {
        self.change(what, |all| {
            all.remove(who);
        })
    }

    /// Who has it.
    pub fn holder(&self, what: K) -> Option<&W> {
        self.claims.get(&what)?.first()
    }

    /// Who claims it, whether they have it or not.
    pub fn claimants(&self, what: K) -> impl Iterator<Item = &W> {
        self.claims.get(&what).into_iter().flatten()
    }

    fn change(&mut self, what: K, change: impl FnOnce(&mut BTreeSet<W>)) -> Option<Changed<K, W>> {
        let all = self.claims.entry(what).or_default();
        let from = all.first().cloned();
        change(all);
        let to = all.first().cloned();
        if all.is_empty() {
            self.claims.remove(&what);
        }
        (from != to).then_some(Changed { what, from, to })
    }
}

fn key(range: IpNet) -> Place {
    (range.network(), range.prefix_len())
}

/// The range of a key. A key is only made from a range.
fn net((addr, length): Place) -> IpNet {
    IpNet::new_assert(addr, length)
}

/// The ranges around one, the smallest first; itself is not among them.
fn around(range: IpNet) -> impl Iterator<Item = IpNet> {
    std::iter::successors(range.supernet(), IpNet::supernet)
}

/// The keys of a range, and of all ranges inside it.
fn bounds(range: IpNet) -> (Bound<Place>, Bound<Place>) {
    (
        Bound::Included((range.network(), range.prefix_len())),
        Bound::Included((range.broadcast(), u8::MAX)),
    )
}

#[cfg(test)]
mod tests;
