//! Which news of the kernel's network change where packets go. Pure.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use crate::net::{Link, Mac, Neighbour, NeighbourState, News, Object};

/// So many neighbours are remembered. A node with more has their changes told as if they had all changed.
const MOST: usize = 65_536;

/// What news mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Effect {
    /// Packets must ask for their ways again.
    pub(super) ways: bool,
    /// Something about a device changed.
    pub(super) devices: bool,
    /// Some news were lost: all neighbours are to be read again.
    pub(super) again: bool,
}

impl Effect {
    const WAYS: Self = Self {
        ways: true,
        devices: false,
        again: false,
    };
    const DEVICES: Self = Self {
        ways: true,
        devices: true,
        again: false,
    };
    const ALL: Self = Self {
        ways: true,
        devices: true,
        again: true,
    };

    pub(super) fn and(self, other: Self) -> Self {
        Self {
            ways: self.ways | other.ways,
            devices: self.devices | other.devices,
            again: self.again | other.again,
        }
    }
}

/// What is known of links and neighbours, so that news which change nothing are told from those that do.
#[derive(Debug, Default)]
pub(super) struct Neighbourhood {
    links: HashMap<u32, Link>,
    /// The last MAC address of each neighbour, also of those that do not answer any more: packets go on to be sent there.
    neighbours: HashMap<(u32, IpAddr), Mac>,
}

impl Neighbourhood {
    /// Notes the neighbours that there are.
    pub(super) fn neighbours(&mut self, all: impl IntoIterator<Item = Neighbour>) {
        for neighbour in all {
            if let Some(mac) = neighbour.mac {
                self.note((neighbour.link, neighbour.address), mac);
            }
        }
    }

    fn note(&mut self, key: (u32, IpAddr), mac: Mac) -> Option<Mac> {
        if self.neighbours.len() >= MOST && !self.neighbours.contains_key(&key) {
            self.neighbours.clear();
        }
        self.neighbours.insert(key, mac)
    }

    /// Takes news, and says what they mean.
    pub(super) fn take(&mut self, news: &News) -> Effect {
        match news {
            News::Lost => Effect::ALL,
            News::Come(Object::Link(link)) => match self.links.insert(link.index, link.clone()) {
                Some(before) if before == *link => Effect::default(),
                _ => Effect::DEVICES,
            },
            News::Gone(Object::Link(link)) => {
                self.links.remove(&link.index);
                self.neighbours.retain(|(of, _), _| *of != link.index);
                Effect::DEVICES
            }
            News::Come(Object::Address(_)) | News::Gone(Object::Address(_)) => Effect::DEVICES,
            News::Come(Object::Route(_) | Object::Rule(_)) | News::Gone(Object::Route(_) | Object::Rule(_)) => {
                Effect::WAYS
            }
            News::Come(Object::Neighbour(neighbour)) => self.neighbour(neighbour),
            // A neighbour that was forgotten may be asked for again at any time. Until then, packets go where it was.
            News::Gone(Object::Neighbour(_) | Object::Fdb(_)) | News::Come(Object::Fdb(_)) => Effect::default(),
        }
    }

    fn neighbour(&mut self, neighbour: &Neighbour) -> Effect {
        let key = (neighbour.link, neighbour.address);
        match neighbour.mac {
            Some(mac) => match self.note(key, mac) {
                // Who asked for a neighbour that was not known was passed, and asks again by itself.
                None => Effect::default(),
                Some(before) if before == mac => Effect::default(),
                Some(_) => Effect::WAYS,
            },
            None if neighbour.state == NeighbourState::FAILED && self.neighbours.contains_key(&key) => Effect::WAYS,
            None => Effect::default(),
        }
    }

    /// The neighbours that have these MAC addresses on these links.
    pub(super) fn at(&self, used: &HashSet<(u32, Mac)>) -> impl Iterator<Item = Neighbour> {
        let known = self.neighbours.iter();
        known
            .filter(|((link, _), mac)| used.contains(&(*link, **mac)))
            .map(|((link, address), mac)| Neighbour {
                link: *link,
                address: *address,
                mac: Some(*mac),
                state: NeighbourState(0),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn neighbour(last: u8, mac: Option<u8>, state: u16) -> News {
        News::Come(Object::Neighbour(Neighbour {
            link: 2,
            address: [10, 0, 0, last].into(),
            mac: mac.map(|mac| Mac([2, 0, 0, 0, 0, mac])),
            state: NeighbourState(state),
        }))
    }

    #[test]
    fn packets_ask_again_if_a_neighbour_has_another_address_or_does_not_answer_and_not_when_it_is_checked() {
        let mut known = Neighbourhood::default();
        let (reachable, stale, failed) = (2, 4, NeighbourState::FAILED.0);
        for (news, ways) in [
            (neighbour(1, Some(1), reachable), false),
            (neighbour(1, Some(1), stale), false),
            (neighbour(1, Some(1), reachable), false),
            (neighbour(1, Some(7), reachable), true),
            (neighbour(1, None, failed), true),
            (neighbour(1, Some(7), reachable), false),
            (neighbour(2, None, failed), false),
            (neighbour(2, Some(2), reachable), false),
        ] {
            assert_eq!(known.take(&news).ways, ways, "{news:?}");
        }
    }

    #[test]
    fn a_link_counts_if_anything_about_it_is_new() {
        let mut known = Neighbourhood::default();
        let link = |mtu| {
            News::Come(Object::Link(Link {
                index: 2,
                mtu,
                up: true,
                ..Link::default()
            }))
        };
        assert_eq!(known.take(&link(1500)), Effect::DEVICES);
        assert_eq!(known.take(&link(1500)), Effect::default());
        assert_eq!(known.take(&link(1400)), Effect::DEVICES);
        assert_eq!(known.take(&News::Lost), Effect::ALL);
    }

    #[test]
    fn a_neighbour_that_packets_go_to_is_found_by_its_address_until_its_link_is_gone() {
        let mut known = Neighbourhood::default();
        known.take(&neighbour(1, Some(1), 2));
        known.take(&neighbour(1, None, NeighbourState::FAILED.0));
        let used = HashSet::from([(2, Mac([2, 0, 0, 0, 0, 1])), (3, Mac([2, 0, 0, 0, 0, 9]))]);
        let found: Vec<IpAddr> = known.at(&used).map(|neighbour| neighbour.address).collect();
        assert_eq!(found, [IpAddr::from([10, 0, 0, 1])]);
        let gone = Link {
            index: 2,
            ..Link::default()
        };
        assert_eq!(known.take(&News::Gone(Object::Link(gone))), Effect::DEVICES);
        assert_eq!(known.at(&used).count(), 0);
    }
}
