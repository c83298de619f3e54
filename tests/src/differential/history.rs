//! What happens to the Services: random changes, step by step.

use std::collections::BTreeMap;

use fastrand::Rng;

use super::spec::{PODS, Spec, State};

/// How many Services there may be.
pub(super) const SERVICES: u8 = 10;
/// The number of the first one.
const FIRST: u8 = 10;

/// The Services of one moment, by number.
pub(super) type Specs = BTreeMap<u8, Spec>;

/// The numbers that Services may have.
pub(super) fn numbers() -> impl Iterator<Item = u8> {
    FIRST..FIRST + SERVICES
}

/// The Services as they change.
pub(super) struct History {
    pub(super) specs: Specs,
    random: Rng,
    lives: u32,
}

impl History {
    /// The Services of the beginning.
    pub(super) fn new(seed: u64) -> Self {
        let mut history = Self {
            specs: Specs::new(),
            random: Rng::with_seed(seed),
            lives: 0,
        };
        for number in numbers().skip(1) {
            history.make(number);
        }
        history
    }

    fn make(&mut self, number: u8) {
        self.lives += 1;
        let random = &mut self.random;
        let mut spec = Spec {
            number,
            life: self.lives,
            external: random.u8(..4) > 0,
            balanced: random.u8(..4) > 0,
            node_port: random.u8(..4) > 0,
            local: random.u8(..4) == 0,
            ranges: None,
            affinity: random.u8(..4) == 0,
            maglev: random.u8(..4) == 0,
            endpoints: BTreeMap::new(),
        };
        for pod in 0..PODS.len() {
            if random.u8(..5) < 3 {
                spec.endpoints.insert(pod, State::Ready);
            }
        }
        self.specs.insert(number, spec);
    }

    /// One step. The Services whose numbers it gives were deleted and made again.
    pub(super) fn step(&mut self) -> Vec<u8> {
        let mut again = Vec::new();
        for _ in 0..self.random.u8(1..6) {
            let number = FIRST + self.random.u8(..SERVICES);
            match self.specs.get_mut(&number) {
                None => self.make(number),
                Some(_) if self.random.u8(..16) == 0 => drop(self.specs.remove(&number)),
                Some(_) if self.random.u8(..16) == 0 => {
                    self.make(number);
                    again.push(number);
                }
                Some(spec) => change(spec, &mut self.random),
            }
        }
        again.retain(|number| self.specs.contains_key(number));
        again
    }
}

/// Changes one thing about a Service, most often an endpoint.
fn change(spec: &mut Spec, random: &mut Rng) {
    match random.u8(..20) {
        0 => spec.external = !spec.external,
        1 => spec.balanced = !spec.balanced,
        2 => spec.node_port = !spec.node_port,
        3..7 => spec.local = !spec.local,
        7 => spec.affinity = !spec.affinity,
        8 => spec.maglev = !spec.maglev,
        9..11 => {
            // The third range is of no client.
            let ranges: [Option<&[u8]>; 4] = [None, Some(&[0]), Some(&[1]), Some(&[2])];
            let ranges = random.choice(ranges).flatten();
            spec.ranges = ranges.map(<[u8]>::to_vec);
        }
        11 => {
            // All of them at once.
            let state = random
                .choice([None, Some(State::Ready), Some(State::Terminating)])
                .flatten();
            spec.endpoints = (0..PODS.len()).filter_map(|pod| Some((pod, state?))).collect();
        }
        _ => {
            let pod = random.usize(..PODS.len());
            let states = [
                None,
                Some(State::Ready),
                Some(State::Ready),
                Some(State::Terminating),
                Some(State::Unready),
            ];
            match random.choice(states).flatten() {
                None => drop(spec.endpoints.remove(&pod)),
                Some(state) => drop(spec.endpoints.insert(pod, state)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::spec::Way;
    use super::*;

    #[test]
    fn a_seed_makes_one_history_in_which_everything_happens() {
        let (mut one, mut other) = (History::new(7), History::new(7));
        let (mut gone, mut again, mut local, mut limited, mut empty) = (0, 0, 0, 0, 0);
        for _ in 0..200 {
            again += one.step().len();
            other.step();
            assert_eq!(one.specs, other.specs);
            gone += usize::from(SERVICES) - one.specs.len();
            local += one.specs.values().filter(|spec| spec.local).count();
            limited += one.specs.values().filter(|spec| spec.ranges.is_some()).count();
            empty += one
                .specs
                .values()
                .filter(|spec| spec.set(Way::ClusterIp).is_empty())
                .count();
        }
        assert!([gone, again, local, limited, empty].iter().all(|count| *count > 0));
    }
}
