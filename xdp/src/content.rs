//! What a list holds, outside the maps.

use tandem_core::id::ServiceId;
use tandem_core::row::{Pick, Row};
use tandem_xdp_layout::{Address, Endpoint, Generation, Header, List, ListIndex, Maps, ServiceWord, Way, Writer};

use crate::convert::{self, Plane};

/// What a list holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Content<A> {
    pub(crate) answer: Answer<A>,
    /// Whether packets from outside pick from it by Maglev.
    pub(crate) spread: bool,
}

/// How a list answers, and its endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer<A> {
    /// The connection is refused.
    Refuse,
    /// The packet is dropped.
    Discard,
    /// The endpoints by slot.
    Any(Vec<Endpoint<A>>),
    /// The endpoints by slot, each with its number, and how long a client is remembered.
    Sticky(Vec<(u16, Endpoint<A>)>, u32),
}

impl<A: Address> Content<A> {
    /// How it answers.
    pub(crate) fn way(&self) -> Way {
        match self.answer {
            Answer::Refuse => Way::Refuse,
            Answer::Discard => Way::Discard,
            Answer::Any(_) => Way::Any,
            Answer::Sticky(..) => Way::Sticky,
        }
    }

    /// The endpoints by slot.
    #[cfg(any(test, feature = "samples"))]
    pub(crate) fn endpoints(&self) -> Vec<Endpoint<A>> {
        match &self.answer {
            Answer::Refuse | Answer::Discard => Vec::new(),
            Answer::Any(endpoints) => endpoints.clone(),
            Answer::Sticky(entries, _) => entries.iter().map(|(_, endpoint)| *endpoint).collect(),
        }
    }

    /// The words of the list; none if it has none.
    pub(crate) fn words<F: Plane<Mapped = A>>(&self, index: ListIndex, generation: Generation) -> Option<Vec<u64>> {
        let (numbers, endpoints, seconds): (Vec<u16>, Vec<Endpoint<A>>, u32) = match &self.answer {
            Answer::Refuse | Answer::Discard => return None,
            Answer::Any(endpoints) => (Vec::new(), endpoints.clone(), 0),
            Answer::Sticky(entries, seconds) => {
                let (numbers, endpoints) = entries.iter().copied().unzip();
                (numbers, endpoints, *seconds)
            }
        };
        // A list has at most 65,535 endpoints, and with affinity 4,095: see `tandem_core::id`.
        let count = u16::try_from(endpoints.len()).unwrap_or(u16::MAX);
        let mut order: Vec<u16> = (0..count).collect();
        order.sort_unstable_by_key(|slot| endpoints[usize::from(*slot)]);
        let mut slots = vec![0; numbers.iter().max().map_or(0, |largest| usize::from(*largest) + 1)];
        for (slot, number) in (1..).zip(&numbers) {
            slots[usize::from(*number)] = slot;
        }
        let cells = if self.spread {
            convert::cells::<F>(&endpoints)
        } else {
            Box::default()
        };
        let header = Header {
            index,
            generation,
            sticky: self.way() == Way::Sticky,
            count,
            seconds,
            numbers: u16::try_from(slots.len()).unwrap_or(u16::MAX),
            cells: u16::try_from(cells.len()).unwrap_or(u16::MAX),
        };
        let mut words = Vec::with_capacity(header.size::<A>() as usize);
        let writer = Writer {
            header,
            endpoints: &endpoints,
            order: &order,
            numbers: &numbers,
            slots: &slots,
            cells: &cells,
        };
        writer.write(|word| words.push(word));
        Some(words)
    }
}

/// A list while rows of it come and go.
#[derive(Debug)]
pub(crate) struct Draft<A> {
    pick: Option<Pick>,
    spread: bool,
    /// Without affinity: the endpoints by slot.
    endpoints: Sparse<Endpoint<A>>,
    /// With affinity: which number is in each slot, and which endpoint has each number.
    numbers: Sparse<u16>,
    by_number: Sparse<Endpoint<A>>,
}

/// Values by small numbers, some of which are missing.
#[derive(Debug)]
struct Sparse<T>(Vec<Option<T>>);

impl<T: Copy> Sparse<T> {
    fn set(&mut self, at: u16, value: Option<T>) {
        let at = usize::from(at);
        if at >= self.0.len() {
            self.0.resize(at + 1, None);
        }
        self.0[at] = value;
    }

    fn get(&self, at: u16) -> Option<T> {
        self.0.get(usize::from(at)).copied().flatten()
    }
}

impl<A: Address> Default for Draft<A> {
    fn default() -> Self {
        Self {
            pick: None,
            spread: false,
            endpoints: Sparse(Vec::new()),
            numbers: Sparse(Vec::new()),
            by_number: Sparse(Vec::new()),
        }
    }
}

impl<A: Address> Draft<A> {
    /// The list of a number as it is in the maps. None if it makes no sense.
    pub(crate) fn read(maps: &impl Maps<A>, word: ServiceWord) -> Option<Self> {
        let mut draft = Self::default();
        match word.way() {
            None => return Some(draft),
            Some(Way::Refuse) => draft.pick = Some(Pick::Refuse),
            Some(Way::Discard) => draft.pick = Some(Pick::Discard),
            Some(Way::Any | Way::Sticky) => draft.read_list(maps, &List::at(maps, word.place())?)?,
        }
        Some(draft)
    }

    fn read_list(&mut self, maps: &impl Maps<A>, list: &List<A>) -> Option<()> {
        for slot in 0..list.header.count {
            let endpoint = list.endpoint(maps, slot)?;
            if list.header.sticky {
                let number = list.number(maps, slot)?;
                self.numbers.set(slot, Some(number));
                self.by_number.set(number, Some(endpoint));
            } else {
                self.endpoints.set(slot, Some(endpoint));
            }
        }
        let count = list.header.count.try_into().ok()?;
        let seconds = list.header.seconds;
        let sticky = list.header.sticky;
        self.spread = list.header.cells > 0;
        self.pick = Some(if sticky {
            Pick::Sticky { count, seconds }
        } else {
            Pick::Any { count }
        });
        Some(())
    }

    /// Takes a row away.
    pub(crate) fn remove<F: Plane<Mapped = A>>(&mut self, row: &Row<F>) {
        match row {
            Row::Service { .. } => self.pick = None,
            Row::Spread { .. } => self.spread = false,
            Row::Endpoint { slot, .. } => self.endpoints.set(*slot, None),
            Row::StickyEndpoint { slot, .. } => self.numbers.set(*slot, None),
            Row::EndpointId { id, .. } => self.by_number.set(id.number(), None),
            _ => {}
        }
    }

    /// Puts a row in, in place of one with the same key.
    pub(crate) fn put<F: Plane<Mapped = A>>(&mut self, row: &Row<F>) {
        match row {
            Row::Service { pick, .. } => self.pick = Some(*pick),
            Row::Spread { .. } => self.spread = true,
            Row::Endpoint { slot, endpoint, .. } => self.endpoints.set(*slot, Some(convert::endpoint(*endpoint))),
            Row::StickyEndpoint { slot, id, .. } => self.numbers.set(*slot, Some(id.number())),
            Row::EndpointId { id, endpoint } => self.by_number.set(id.number(), Some(convert::endpoint(*endpoint))),
            _ => {}
        }
    }

    /// What the list holds now: `Ok(None)` if it is gone, and an error if its rows do not make a list.
    pub(crate) fn finish(&self) -> Result<Option<Content<A>>, Incomplete> {
        let Some(pick) = self.pick else { return Ok(None) };
        let answer = match pick {
            Pick::Refuse => Answer::Refuse,
            Pick::Discard => Answer::Discard,
            Pick::Any { count } => {
                let endpoint = |slot| self.endpoints.get(slot).ok_or(Incomplete);
                Answer::Any((0..count.get()).map(endpoint).collect::<Result<_, _>>()?)
            }
            Pick::Sticky { count, seconds } => {
                let entry = |slot| {
                    let number = self.numbers.get(slot)?;
                    Some((number, self.by_number.get(number)?))
                };
                let entries = (0..count.get()).map(|slot| entry(slot).ok_or(Incomplete));
                Answer::Sticky(entries.collect::<Result<_, _>>()?, seconds)
            }
        };
        Ok(Some(Content {
            answer,
            spread: self.spread,
        }))
    }
}

/// The rows of a list do not make one: a slot or a number is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Incomplete;

/// The list that a row belongs to; none for rows that belong to no list, and for frontends.
pub(crate) fn list_of<F: Plane>(row: &Row<F>) -> Option<ServiceId> {
    match row {
        Row::Frontend { .. } => None,
        row => row.service(),
    }
}

#[cfg(test)]
mod tests {
    use tandem_core::family::{V4, V6};
    use tandem_xdp_layout::{Address4, Address6};

    use super::*;
    use crate::store::Lists;

    /// So many endpoints in no order, with ports that are not in order either.
    fn endpoints<A>(count: u32, addr: impl Fn(u32) -> A) -> Vec<Endpoint<A>> {
        let one = |number: u32| {
            let mixed = number.wrapping_mul(2_654_435_761); // odd, so no two are the same
            Endpoint {
                addr: addr(mixed >> 3),
                port: u16::try_from(mixed % 8).unwrap().to_be() | 1,
            }
        };
        (1..=count).map(one).collect()
    }

    fn every_endpoint_is_found<F: Plane>(count: u32, sticky: bool, addr: impl Fn(u32) -> F::Mapped) {
        let (all, absent) = (endpoints(count, &addr), endpoints(count + 50, &addr));
        let answer = if sticky {
            // The numbers do not follow the slots.
            let number = |slot: usize| u16::try_from((slot * 5 + 3) % 8191).unwrap();
            let numbered = all.iter().enumerate().map(|(slot, endpoint)| (number(slot), *endpoint));
            Answer::Sticky(numbered.collect(), 60)
        } else {
            Answer::Any(all.clone())
        };
        let content = Content { answer, spread: false };
        let index = ListIndex::new(7).unwrap();
        let words = content.words::<F>(index, Generation(3)).unwrap();
        let lists = Lists(|place| words.get(usize::try_from(place).ok()?).copied());
        let list = List::<F::Mapped>::at(&lists, 0).unwrap();
        assert_eq!((list.header.index, u32::from(list.header.count)), (index, count));
        assert_eq!(list.header.size::<F::Mapped>() as usize, words.len());
        assert_eq!([0, 7, u32::MAX].map(|hash| list.cell(&lists, hash)), [None; 3]);
        for (slot, endpoint) in (0..=u16::MAX).zip(&all) {
            assert_eq!(list.endpoint(&lists, slot), Some(*endpoint), "slot {slot} of {count}");
            assert_eq!(
                list.slot_of(&lists, *endpoint).map(|at| all[usize::from(at)]),
                Some(*endpoint)
            );
            // Wherever it was before, it is found where it is.
            for before in [slot, slot.wrapping_add(1), slot.wrapping_sub(1), u16::MAX] {
                let again = list.slot_again(&lists, *endpoint, before);
                assert_eq!(again.map(|at| all[usize::from(at)]), Some(*endpoint));
            }
            let number = list.number(&lists, slot);
            assert_eq!(
                number.and_then(|number| list.slot_of_number(&lists, number)),
                sticky.then_some(slot)
            );
        }
        for endpoint in &absent[all.len()..] {
            assert_eq!(
                list.slot_of(&lists, *endpoint).is_some(),
                all.contains(endpoint),
                "of {count}"
            );
            assert_eq!(list.slot_again(&lists, *endpoint, 0), list.slot_of(&lists, *endpoint));
        }
    }

    fn every_hash_finds_its_cell<F: Plane>(answer: Answer<F::Mapped>) {
        let content = Content { answer, spread: true };
        let cells = convert::cells::<F>(&content.endpoints());
        let words = content.words::<F>(ListIndex::new(7).unwrap(), Generation(3)).unwrap();
        let lists = Lists(|place| words.get(usize::try_from(place).ok()?).copied());
        let list = List::<F::Mapped>::at(&lists, 0).unwrap();
        assert_eq!(list.header.size::<F::Mapped>() as usize, words.len());
        assert_eq!(usize::from(list.header.cells), cells.len());
        assert_eq!(list.header.index.get(), 7);
        let first = |cell: usize| (u64::try_from(cell).unwrap() << 32).div_ceil(cells.len() as u64);
        for (cell, slot) in cells.iter().enumerate() {
            for hash in [first(cell), first(cell + 1) - 1] {
                assert_eq!(list.cell(&lists, u32::try_from(hash).unwrap()), Some(*slot));
            }
        }
    }

    #[test]
    fn the_first_and_the_last_hash_of_each_cell_lead_to_its_slot() {
        for count in [1, 3, 255, 700, 65_535] {
            every_hash_finds_its_cell::<V4>(Answer::Any(endpoints(count, Address4)));
        }
        let numbered = |count| (1..).zip(endpoints(count, |number| Address6::of_words(0xfd, number, 0, 0)));
        for count in [2, 4095] {
            every_hash_finds_its_cell::<V6>(Answer::Sticky(numbered(count).collect(), 60));
        }
    }

    #[test]
    fn every_endpoint_of_a_list_is_found_by_its_slot_and_by_its_address_and_no_other_one() {
        for count in [1, 2, 3, 4, 5, 16, 17, 255, 4095, 32_768, 65_534, 65_535] {
            every_endpoint_is_found::<V4>(count, false, Address4);
            every_endpoint_is_found::<V6>(count, false, |number| Address6::of_words(0xfd, 0, 0, number));
        }
        for count in [1, 2, 5, 255, 4095] {
            every_endpoint_is_found::<V4>(count, true, Address4);
            every_endpoint_is_found::<V6>(count, true, |number| Address6::of_words(0xfd, number, 0, 0));
        }
    }
}
