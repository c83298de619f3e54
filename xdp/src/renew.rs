//! Makes the maps hold exactly the rows of a table, whatever they hold before: nothing, what an earlier run wrote, half
//! of a change, or nonsense. What is right is not written again.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use tandem_core::id::ServiceId;
use tandem_core::plane::RuleSettings;
use tandem_core::row::Row;
use tandem_xdp_layout::{Class, FrontendKey, FrontendWord, List, ListIndex, ServiceWord};

use crate::change::{Change, Held, Source, Wanted, held};
use crate::content::{Draft, list_of};
use crate::convert::{self, Plane};
use crate::rows::Rows;
use crate::space::{Extent, Space};
use crate::store::{Store, StoreError};

impl<F: Plane, S: Store<F::Mapped>> Rows<F, S> {
    /// Holds exactly these rows under these rules, and then switches the family on. If it fails, the family is off.
    pub fn renew(&mut self, rules: &RuleSettings, rows: &[Row<F>]) -> Result<(), StoreError> {
        let result = self.hold(rules, rows);
        self.store.forget();
        self.or_off(result)
    }

    fn hold(&mut self, rules: &RuleSettings, rows: &[Row<F>]) -> Result<(), StoreError> {
        self.store.prepare()?;
        self.set_rules(rules);
        if !self.settings.is_on() {
            self.switch_off();
        }
        self.survey()?;
        let wishes = Wishes::of(rows);
        self.store.remember()?;
        let found: HashMap<_, _> = self.store.frontends()?.into_iter().collect();
        let change = self.difference(wishes, &found)?;
        if !change.handed.is_empty() {
            // Somebody deleted the tables, and nftables has given its numbers anew.
            self.switch_off();
        }
        self.left.clear();
        self.restricted.clear();
        self.shadowed.clear();
        self.withheld.clear();
        self.node_ports.clear();
        self.held = found.len();
        self.ports = numbers()
            .filter(|index| *index == index.all() && self.has_list(convert::service(*index)))
            .count();
        self.write(change)?;
        self.store.sound()?;
        self.on = self.settings.is_on();
        let switch = self.wanted_switch();
        let before = self.store.switch();
        if before != switch {
            if switch.is_on() && !before.is_on() {
                self.store.hold_sockets()?;
                self.store.sound()?;
            }
            self.store.set_switch(switch);
        }
        Ok(())
    }

    /// Finds out which words lists take. What makes no sense is cleared.
    fn survey(&mut self) -> Result<(), StoreError> {
        self.store.look()?;
        // A change that failed on its way has left lists that nothing leads to.
        self.retire();
        let (mut used, mut bad) = (Vec::new(), Vec::new());
        for index in numbers() {
            let word = self.word_at(index);
            if word.place() == 0 {
                continue;
            }
            match self.list_at(index, word) {
                Some(extent) => used.push((extent, index)),
                None => bad.push(index),
            }
        }
        let words = self.store.words();
        let waiting = self.space.waiting();
        let lists = used.iter().map(|(extent, _)| *extent);
        let space = Space::with(words, lists.collect(), waiting).or_else(|| {
            bad.extend(used.iter().map(|(_, index)| *index));
            Space::with(words, Vec::new(), Vec::new())
        });
        if !bad.is_empty() {
            self.switch_off();
        }
        for index in bad {
            let word = self.word_at(index);
            self.store
                .put_service(index, ServiceWord::none(word.generation().next()))?;
        }
        self.space = space.unwrap_or_default();
        Ok(())
    }

    fn word_at(&self, index: ListIndex) -> ServiceWord {
        ServiceWord(self.store.service(index).unwrap_or_default())
    }

    fn list_at(&self, index: ListIndex, word: ServiceWord) -> Option<Extent> {
        word.way()?;
        let list: List<F::Mapped> = List::at(&self.store, word.place())?;
        let fits = list.header.index == index && list.header.generation == word.generation() && list.header.count > 0;
        let len = list.header.size::<F::Mapped>();
        fits.then_some(Extent {
            place: word.place(),
            len,
        })
    }

    /// What has to be written, so that the maps hold what is wished for.
    fn difference(
        &self,
        wishes: Wishes<F>,
        found: &HashMap<FrontendKey<F::Mapped>, FrontendWord>,
    ) -> Result<Change<F>, StoreError> {
        let mut change = Change::default();
        // The Service ports that frontends lead to, and whether any of these frontends stays with its Service port.
        let mut led: BTreeMap<ListIndex, bool> = BTreeMap::new();
        for (key, word) in found {
            let goal = wishes
                .keys
                .get(key)
                .map(|held| (convert::index(held.service), held.class));
            let stays = word.is_of(key) && word.list().zip(word.class()) == goal;
            if let Some(list) = word.list() {
                let same = goal.is_some_and(|(goal, _)| goal.all() == list.all());
                *led.entry(list.all()).or_default() |= same;
            }
            if !stays {
                change.drop.push(*key);
            }
        }
        let strangers = |list: &ServiceId| led.get(&convert::index(list.all())) == Some(&false);
        change.handed = wishes
            .lists
            .keys()
            .filter(|list| strangers(list))
            .map(|list| list.all())
            .collect();
        let mut rest: Vec<ListIndex> = numbers().filter(|index| self.word_at(*index).way().is_some()).collect();
        rest.retain(|index| !wishes.lists.contains_key(&convert::service(*index)));
        // Only a frontend that stays shows that what was counted is the same Service port's.
        let counting = self.store.counted()?.into_iter();
        let strange = counting.filter(|all| led.get(all) != Some(&true));
        change.counted = strange.map(convert::service).collect();
        change.lists = wishes.lists;
        let handed = &change.handed;
        change
            .lists
            .retain(|list, content| handed.contains(&list.all()) || !self.holds(*list, content));
        change
            .lists
            .extend(rest.into_iter().map(|index| (convert::service(index), Ok(None))));
        change.restricted = wishes.restricted;
        change.new = wishes.frontends;
        let sources: HashSet<Source<F::Mapped>> = self.store.sources()?.into_iter().collect();
        change.sources.extend(wishes.sources.difference(&sources));
        change.sources_gone.extend(sources.difference(&wishes.sources));
        let addresses: BTreeSet<F::Mapped> = self.store.addresses()?.into_iter().collect();
        change.addresses.extend(wishes.addresses.difference(&addresses));
        change.addresses_gone.extend(addresses.difference(&wishes.addresses));
        Ok(change)
    }

    fn holds(&self, list: ServiceId, wanted: &Wanted<F::Mapped>) -> bool {
        let Ok(Some(content)) = wanted else { return false };
        let word = self.word_of(list);
        // Both lists of a Service port have one generation.
        if word.generation() != self.word_of(list.all()).generation() || word.way() != Some(content.way()) {
            return false;
        }
        match content.words::<F>(convert::index(list), word.generation()) {
            Some(words) => (word.place()..)
                .zip(&words)
                .all(|(at, word)| at != 0 && self.store.word(at) == Some(*word)),
            None => word.place() == 0,
        }
    }
}

fn numbers() -> impl Iterator<Item = ListIndex> {
    (0..ListIndex::COUNT).filter_map(ListIndex::new)
}

/// Rows by what they mean for the maps.
struct Wishes<F: Plane> {
    frontends: Vec<Held<F::Mapped>>,
    /// The frontend of each key: the ClusterIP, if it is an external address too.
    keys: HashMap<FrontendKey<F::Mapped>, Held<F::Mapped>>,
    lists: BTreeMap<ServiceId, Wanted<F::Mapped>>,
    restricted: Vec<FrontendKey<F::Mapped>>,
    sources: HashSet<Source<F::Mapped>>,
    addresses: BTreeSet<F::Mapped>,
}

impl<F: Plane> Wishes<F> {
    fn of(rows: &[Row<F>]) -> Self {
        let mut wishes = Self {
            frontends: rows.iter().filter_map(held).collect(),
            keys: HashMap::new(),
            lists: BTreeMap::new(),
            restricted: Vec::new(),
            sources: HashSet::new(),
            addresses: BTreeSet::new(),
        };
        for held in &wishes.frontends {
            let first = wishes.keys.entry(held.key).or_insert(*held);
            if held.class == Class::Cluster {
                *first = *held;
            }
        }
        let mut drafts: BTreeMap<ServiceId, Draft<F::Mapped>> = BTreeMap::new();
        for row in rows {
            if let Some(list) = list_of(row) {
                drafts.entry(list).or_default().put(row);
            }
            match row {
                Row::Restricted { at } => wishes.restricted.push(convert::address_key(at)),
                Row::AllowedSource { at, source } => drop(wishes.sources.insert(convert::source(at, *source))),
                Row::NodeAddress { addr } => drop(wishes.addresses.insert(F::mapped(*addr))),
                _ => {}
            }
        }
        wishes.lists = drafts.into_iter().map(|(list, draft)| (list, draft.finish())).collect();
        wishes
    }
}
