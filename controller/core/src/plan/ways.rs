//! A plan that uses only the ways to pick an endpoint that exist already. With fewer endpoints, or with another
//! affinity timeout, it serves clients better than the rows that were programmed for the Service before.

use std::collections::{BTreeMap, BTreeSet};

use crate::family::Family;
use crate::row::Pick;
use crate::table::{Limit, capacity};

use super::{PortPlan, Usable};

/// For each affinity timeout, the numbers of endpoints for which a way exists.
type Counts = BTreeMap<Option<u32>, BTreeSet<u16>>;

impl<F: Family> PortPlan<F> {
    /// The same plan with ways from `ways` only, and what it lacks; none if no way fits. It uses as many endpoints as
    /// possible, and then the nearest timeout. It gives up affinity only if no way with affinity fits.
    pub fn within(mut self, ways: &[Pick]) -> Option<(Self, Option<Limit>)> {
        let mut counts = Counts::new();
        for way in ways {
            let (count, seconds) = match way {
                Pick::Any { count } => (count, None),
                Pick::Sticky { count, seconds } => (count, Some(*seconds)),
                Pick::Refuse | Pick::Discard => continue,
            };
            counts.entry(seconds).or_default().insert(count.get());
        }
        let wanted = self.affinity;
        let distance = |seconds: Option<u32>| seconds.unwrap_or(0).abs_diff(wanted.unwrap_or(0));
        let (_, affinity) = counts
            .iter()
            .filter(|(seconds, _)| wanted.is_some() || seconds.is_none())
            .filter_map(|(seconds, counts)| {
                let used = self.used_of(*seconds, counts)?;
                Some(((seconds.is_some(), used, u32::MAX - distance(*seconds)), *seconds))
            })
            .max()?;
        let found = self.found_of(wanted);
        let counts = counts.remove(&affinity)?;
        for usable in [&mut self.all, &mut self.local].into_iter().flatten() {
            if let Usable::Endpoints(endpoints) = usable {
                let used = largest(endpoints.len(), affinity, &counts)?;
                endpoints.truncate(used);
            }
        }
        self.affinity = affinity;
        let used = self.found_of(affinity);
        let limit = (used != found || affinity != wanted).then_some(Limit::Ways {
            found,
            used,
            wanted,
            got: affinity,
        });
        Some((self, limit))
    }

    fn lists(&self) -> impl Iterator<Item = usize> + '_ {
        [&self.all, &self.local]
            .into_iter()
            .flatten()
            .filter_map(|usable| match usable {
                Usable::Endpoints(endpoints) => Some(endpoints.len()),
                Usable::None(_) => None,
            })
    }

    /// How many endpoints that count both lists have.
    fn found_of(&self, affinity: Option<u32>) -> usize {
        self.lists().map(|found| found.min(capacity(affinity.is_some()))).sum()
    }

    /// How many endpoints both lists would use; none if one of them would use none.
    fn used_of(&self, affinity: Option<u32>, counts: &BTreeSet<u16>) -> Option<usize> {
        self.lists().map(|found| largest(found, affinity, counts)).sum()
    }
}

/// The largest number of endpoints, up to `found`, for which a way exists.
fn largest(found: usize, affinity: Option<u32>, counts: &BTreeSet<u16>) -> Option<usize> {
    let found = u16::try_from(found.min(capacity(affinity.is_some()))).unwrap_or(u16::MAX);
    counts.range(..=found).next_back().map(|count| usize::from(*count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::V4;
    use crate::row::Port;
    use crate::samples::*;

    fn plan(endpoints: usize, affinity: Option<u32>) -> PortPlan<V4> {
        let entries: Vec<_> = (1..=endpoints).map(|n| remote(&format!("10.0.2.{n}"))).collect();
        let service = crate::object::Service {
            affinity,
            ..mk_service("web")
        };
        plan_one(&service, &[mk_slice("web", &entries)])
    }

    fn any(count: u16) -> Pick {
        let count = Port::new(count).unwrap();
        Pick::Any { count }
    }

    fn sticky(count: u16, seconds: u32) -> Pick {
        let count = Port::new(count).unwrap();
        Pick::Sticky { count, seconds }
    }

    /// How many endpoints serve the Service, and for how long clients are remembered.
    fn within(plan: PortPlan<V4>, ways: &[Pick]) -> Option<(usize, Option<u32>)> {
        let (plan, _) = plan.within(ways)?;
        Some((plan.lists().next().unwrap_or(0), plan.affinity))
    }

    #[test]
    fn the_largest_number_of_endpoints_that_there_is_a_way_for_serves() {
        let ways = [any(1), any(3), any(7), sticky(5, 60), Pick::Refuse];
        assert_eq!(within(plan(5, None), &ways), Some((3, None)));
        assert_eq!(within(plan(3, None), &ways), Some((3, None)));
        assert_eq!(within(plan(2, None), &[any(3), sticky(1, 60)]), None);
        assert_eq!(
            plan(5, None).within(&ways).unwrap().1.unwrap().to_string(),
            "uses 3 of its 5 endpoints: all 509 numbers for ways to pick an endpoint are in use"
        );
    }

    #[test]
    fn with_affinity_most_endpoints_count_then_the_nearest_timeout_and_none_comes_last() {
        let ways = [sticky(2, 60), sticky(2, 100), sticky(1, 80), any(5)];
        assert_eq!(within(plan(2, Some(90)), &ways), Some((2, Some(100))));
        assert_eq!(within(plan(1, Some(90)), &ways), Some((1, Some(80))));
        assert_eq!(within(plan(5, Some(90)), &[any(4), sticky(6, 90)]), Some((4, None)));
        let (_, limit) = plan(2, Some(90)).within(&ways).unwrap();
        assert_eq!(
            limit.unwrap().to_string(),
            "uses 2 of its 2 endpoints and remembers clients for 100 s instead of 90 s: all 509 numbers for ways to pick an endpoint are in use"
        );
    }

    #[test]
    fn both_lists_need_a_way_and_a_list_without_endpoints_needs_none() {
        let mut both = plan(5, None);
        both.local = Some(Usable::Endpoints(match &both.all {
            Some(Usable::Endpoints(all)) => all[..2].to_vec(),
            _ => panic!("no endpoints"),
        }));
        assert_eq!(within(both.clone(), &[any(3)]), None);
        assert_eq!(within(both, &[any(1), any(3)]), Some((3, None)));
    }
}
