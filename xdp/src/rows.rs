//! Holds rows in one family's maps.
//!
//! The order of writes of a change: frontends and addresses of the node that go; lists; addresses and frontends that come; numbers
//! without a list. A frontend that is missing for a moment harms nobody: nftables serves it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use tandem_core::family::IpFamily;
use tandem_core::id::ServiceId;
use tandem_core::plane::{Delta, Full, Left, RuleSettings};
use tandem_xdp_layout::{Class, FrontendKey, FrontendWord, Generation, ServiceWord, Switch};

use crate::change::{Change, Held};
use crate::content::Content;
use crate::convert::{self, Plane};
use crate::space::Space;
use crate::store::{Store, StoreError};

/// The rows of one family in maps.
#[derive(Debug)]
pub struct Rows<F: Plane, S> {
    pub(crate) store: S,
    pub(crate) space: Space,
    /// The switch as it is if the family is on, without the range of nodePorts.
    pub(crate) settings: Switch,
    /// Whether nodePorts are served on loopback addresses.
    loopback: bool,
    pub(crate) on: bool,
    /// Frontends that only some sources may reach.
    pub(crate) restricted: HashSet<FrontendKey<F::Mapped>>,
    /// External frontends whose address and port is also a ClusterIP's. nftables asks the ClusterIPs first.
    pub(crate) shadowed: HashMap<FrontendKey<F::Mapped>, Held<F::Mapped>>,
    /// ClusterIPs of Service ports that are left. They are not in the map, and nftables asks them first all the same.
    pub(crate) withheld: HashSet<FrontendKey<F::Mapped>>,
    /// How many nodePort frontends have each port.
    pub(crate) node_ports: BTreeMap<u16, u32>,
    /// How many frontends there are.
    pub(crate) held: usize,
    /// How many Service ports have a list.
    pub(crate) ports: usize,
    /// Service ports that are left. They have neither lists nor frontends in the maps.
    pub(crate) left: BTreeMap<ServiceId, Left>,
    /// Where lists begin that nothing leads to any more since the last ticket.
    retired: Vec<u32>,
}

/// The name of the map of lists, as the status and `bpftool map` show it.
fn lists<F: Plane>() -> &'static str {
    match F::FAMILY {
        IpFamily::V4 => "LISTS4",
        IpFamily::V6 => "LISTS6",
    }
}

impl<F: Plane, S: Store<F::Mapped>> Rows<F, S> {
    /// Rows in these maps, as they are found. Programs go on with them until [`Self::renew`].
    pub fn new(store: S, loopback: bool) -> Self {
        Self {
            store,
            space: Space::default(),
            settings: Switch::OFF,
            loopback,
            on: false,
            restricted: HashSet::new(),
            shadowed: HashMap::new(),
            withheld: HashSet::new(),
            node_ports: BTreeMap::new(),
            held: 0,
            ports: 0,
            left: BTreeMap::new(),
            retired: Vec::new(),
        }
    }

    /// The maps.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// The maps, to change what is no row.
    pub fn store_mut(&mut self) -> &mut S {
        &mut self.store
    }

    /// The Service ports that are left to nftables, by their list of all endpoints.
    pub fn left(&self) -> &BTreeMap<ServiceId, Left> {
        &self.left
    }

    /// Whether programs answer by what is held.
    pub fn answers(&self) -> bool {
        self.on
    }

    /// How many frontends are held.
    pub fn frontends(&self) -> usize {
        self.held
    }

    /// How many Service ports are held.
    pub fn ports(&self) -> usize {
        self.ports
    }

    /// How many words lists take, and how many there are.
    pub fn fill(&self) -> (u64, u32) {
        (self.space.used(), self.store.words())
    }

    /// Takes over a change that nftables acknowledged. If it fails, the family is off, and [`Self::renew`] is next.
    pub fn follow(&mut self, delta: &Delta<F>) -> Result<(), StoreError> {
        self.space.release(self.store.passed());
        // Somebody may have enlarged a map of this family meanwhile, and failed half way.
        let prepared = self.store.prepare();
        let change = Change::of(delta, &self.store);
        let result = prepared
            .and_then(|()| self.write(change))
            .and_then(|()| self.store.sound());
        let result = result.map(|()| self.switch());
        self.or_off(result)
    }

    /// Switches the family off if something failed.
    pub(crate) fn or_off(&mut self, result: Result<(), StoreError>) -> Result<(), StoreError> {
        if result.is_err() {
            self.switch_off();
        }
        result
    }

    /// Has programs leave everything to nftables.
    pub fn switch_off(&mut self) {
        self.on = false;
        self.store.set_switch(Switch::OFF);
    }

    /// Notes the settings that programs have to know. They see them when the switch is written next.
    pub(crate) fn set_rules(&mut self, rules: &RuleSettings) {
        self.settings = convert::settings(rules, self.loopback);
    }

    /// Whether programs answer the same under these rules as they do now.
    pub fn fits(&self, rules: &RuleSettings) -> bool {
        let found = self.store.switch();
        !found.is_on() || found.with_node_ports(None) == convert::settings(rules, self.loopback)
    }

    /// Writes the switch, if the family is on.
    pub(crate) fn switch(&mut self) {
        if self.on {
            self.store.set_switch(self.wanted_switch());
        }
    }

    pub(crate) fn wanted_switch(&self) -> Switch {
        if !self.settings.is_on() {
            return Switch::OFF;
        }
        let first = self.node_ports.first_key_value().map(|(port, _)| *port);
        let last = self.node_ports.last_key_value().map(|(port, _)| *port);
        self.settings.with_node_ports(first.zip(last))
    }

    /// Writes a change in the order that keeps every reader right.
    pub(crate) fn write(&mut self, change: Change<F>) -> Result<(), StoreError> {
        for key in &change.restricted {
            self.restrict(key, true)?;
        }
        // They are added with the new ones, because until then their lists may be as before the change.
        let mut revived = Vec::new();
        let is_cluster = |gone: &(FrontendKey<F::Mapped>, Class)| gone.1 == Class::Cluster;
        let (clusters, others): (Vec<_>, Vec<_>) = change.gone.iter().copied().partition(is_cluster);
        for (key, class) in others.into_iter().chain(clusters) {
            revived.extend(self.remove(&key, class)?);
        }
        // What must not be there goes first, so that nobody remembers it as shadowed.
        for key in &change.drop {
            self.store.remove_frontend(key)?;
            self.held = self.held.saturating_sub(1);
        }
        for held in &change.new {
            self.shadow(held)?;
        }
        // Before lists change: who asks there must not find what nodePorts lead to afterwards.
        for addr in &change.addresses_gone {
            self.store.remove_address(*addr)?;
        }
        for all in &change.ended {
            self.left.remove(all);
        }
        // Both lists of a Service port get the same generation.
        let handed = change.handed.iter().map(|all| (*all, self.generation(*all).next()));
        let handed: BTreeMap<ServiceId, Generation> = handed.collect();
        let mut cleared = Vec::new();
        for (list, wanted) in change.lists {
            let all = list.all();
            match wanted {
                Ok(None) => cleared.push(list),
                Ok(Some(content)) if !self.left.contains_key(&all) => {
                    let generation = handed.get(&all).copied().unwrap_or_else(|| self.generation(all));
                    match self.publish(list, &content, generation) {
                        Err(StoreError::Full(full)) => self.leave(all, Left::Endpoints(full))?,
                        published => published?,
                    }
                }
                Ok(Some(_)) => {}
                Err(_) if self.left.contains_key(&all) => {}
                Err(_) => self.leave(all, Left::Incomplete)?,
            }
        }
        // Before their frontends come. If what follows fails, nobody may take these counts for the new ones.
        for all in &change.counted {
            self.store.count_anew(convert::index(*all))?;
        }
        for (key, bits) in &change.sources_gone {
            self.store.remove_source(*key, *bits)?;
        }
        for (key, bits) in &change.sources {
            self.store.put_source(*key, *bits)?;
        }
        for addr in &change.addresses {
            self.store.put_address(*addr)?;
        }
        for held in &change.new {
            if held.class == Class::NodePort {
                self.count_port(held.key.port, true);
            }
        }
        self.switch();
        let coming = || change.new.iter().chain(&change.again).chain(&revived);
        // A ClusterIP comes before an external frontend of the same address and port, which it shadows.
        for cluster in [true, false] {
            for held in coming().filter(|held| (held.class == Class::Cluster) == cluster) {
                self.add(held)?;
            }
        }
        for key in &change.open {
            self.restrict(key, false)?;
        }
        self.clear(&cleared)?;
        // After their frontends are gone: a program that is not done yet is all that may still count.
        for all in &change.ended {
            self.store.count_anew(convert::index(*all))?;
        }
        self.retire();
        Ok(())
    }

    /// Whether the Service port of a list has any list.
    pub(crate) fn has_list(&self, list: ServiceId) -> bool {
        let lists = [list.all(), list.local()];
        lists.iter().any(|list| self.word_of(*list).way().is_some())
    }

    fn generation(&self, all: ServiceId) -> Generation {
        self.word_of(all).generation()
    }

    pub(crate) fn word_of(&self, list: ServiceId) -> ServiceWord {
        ServiceWord(self.store.service(convert::index(list)).unwrap_or_default())
    }

    /// Writes a list, and then its number's word.
    fn publish(
        &mut self,
        list: ServiceId,
        content: &Content<F::Mapped>,
        generation: Generation,
    ) -> Result<(), StoreError> {
        let index = convert::index(list);
        let words = content.words::<F>(index, generation).unwrap_or_default();
        let place = if words.is_empty() { 0 } else { self.room(words.len())? };
        for (at, word) in (place..).zip(&words) {
            self.store.put_word(at, *word)?;
        }
        let word = ServiceWord::new(place, generation, content.way());
        let old = self.word_of(list).place();
        self.ports += usize::from(!self.has_list(list));
        self.store.put_service(index, word)?;
        self.retired.push(old);
        Ok(())
    }

    /// Free words for a list. If there are none, more are made.
    fn room(&mut self, len: usize) -> Result<u32, StoreError> {
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        if let Some(place) = self.space.take(len) {
            return Ok(place);
        }
        let words = self.store.words();
        let wanted = words.saturating_mul(2).max(words.saturating_add(len));
        self.store.grow(wanted)?;
        let ticket = self.store.ticket();
        self.space.grow(self.store.words(), ticket);
        let full = || {
            StoreError::Full(Full {
                name: lists::<F>(),
                room: words,
                errno: None,
            })
        };
        self.space.take(len).ok_or_else(full)
    }

    fn add(&mut self, held: &Held<F::Mapped>) -> Result<(), StoreError> {
        let all = held.service.all();
        let Held { key, class, service } = held;
        if self.left.contains_key(&all) {
            if *class == Class::Cluster {
                self.withheld.insert(*key);
            }
            return Ok(());
        }
        let generation = self.word_of(*service).generation();
        let restricted = *class == Class::External && self.restricted.contains(key);
        let word = FrontendWord::new(key, convert::index(*service), generation, *class, restricted);
        let found = self.store.frontend(key).map(FrontendWord);
        let is_cluster_ip = found.and_then(FrontendWord::class) == Some(Class::Cluster) || self.withheld.contains(key);
        if *class == Class::External && is_cluster_ip {
            self.shadowed.insert(*key, *held);
            return Ok(());
        }
        if found == Some(word) {
            return Ok(());
        }
        match self.store.put_frontend(key, word) {
            Ok(()) => {
                self.held += usize::from(found.is_none());
                Ok(())
            }
            Err(StoreError::Full(full)) => {
                self.leave(all, Left::Frontends(full))?;
                self.add(held) // notes that it is withheld
            }
            Err(error) => Err(error),
        }
    }

    /// Removes the external frontend whose place a ClusterIP takes, before its list changes.
    fn shadow(&mut self, held: &Held<F::Mapped>) -> Result<(), StoreError> {
        if held.class != Class::Cluster {
            return Ok(());
        }
        let found = self.store.frontend(&held.key).map(FrontendWord);
        let external = found.filter(|word| word.class() == Some(Class::External));
        let Some(list) = external.and_then(FrontendWord::list) else {
            return Ok(());
        };
        let external = Held {
            service: convert::service(list),
            class: Class::External,
            ..*held
        };
        self.shadowed.insert(held.key, external);
        self.held = self.held.saturating_sub(1);
        self.store.remove_frontend(&held.key)
    }

    /// Removes a frontend. Returns the external one that it has shadowed.
    fn remove(&mut self, key: &FrontendKey<F::Mapped>, class: Class) -> Result<Option<Held<F::Mapped>>, StoreError> {
        if class == Class::NodePort {
            self.count_port(key.port, false);
        }
        // Its own entry, if it is an external one, else the one that comes back.
        let shadowed = self.shadowed.remove(key).filter(|_| class == Class::Cluster);
        if class == Class::Cluster {
            self.withheld.remove(key);
        }
        let found = self.store.frontend(key).map(FrontendWord);
        if found.and_then(FrontendWord::class) == Some(class) {
            self.held = self.held.saturating_sub(1);
            self.store.remove_frontend(key)?;
        }
        Ok(shadowed)
    }

    fn count_port(&mut self, port: u16, more: bool) {
        let port = u16::from_be(port);
        let count = self.node_ports.entry(port).or_default();
        *count = if more { *count + 1 } else { count.saturating_sub(1) };
        if *count == 0 {
            self.node_ports.remove(&port);
        }
    }

    fn restrict(&mut self, key: &FrontendKey<F::Mapped>, restricted: bool) -> Result<(), StoreError> {
        if restricted {
            self.restricted.insert(*key);
        } else {
            self.restricted.remove(key);
        }
        let Some(found) = self.store.frontend(key).map(FrontendWord) else {
            return Ok(());
        };
        let (Some(list), Some(Class::External)) = (found.list(), found.class()) else {
            return Ok(());
        };
        let word = FrontendWord::new(key, list, found.generation(), Class::External, restricted);
        if word == found {
            return Ok(());
        }
        self.store.put_frontend(key, word)
    }

    /// Leaves a Service port to nftables: all its frontends and lists go.
    fn leave(&mut self, all: ServiceId, why: Left) -> Result<(), StoreError> {
        let index = convert::index(all);
        for (key, word) in self.store.frontends()? {
            if word.list().is_some_and(|list| list.all() == index) {
                self.store.remove_frontend(&key)?;
                self.held = self.held.saturating_sub(1);
                if word.class() == Some(Class::Cluster) {
                    self.withheld.insert(key);
                }
            }
        }
        self.shadowed.retain(|_, held| held.service.all() != all);
        self.clear(&[all, all.local()])?;
        self.left.insert(all, why);
        Ok(())
    }

    /// Takes lists away from their numbers. A number without any list gets a new generation.
    fn clear(&mut self, lists: &[ServiceId]) -> Result<(), StoreError> {
        let mut ports = BTreeSet::new();
        for list in lists {
            let word = self.word_of(*list);
            if word.way().is_none() {
                continue;
            }
            self.store
                .put_service(convert::index(*list), ServiceWord::none(word.generation()))?;
            self.retired.push(word.place());
            ports.insert(list.all());
        }
        for all in ports {
            if self.has_list(all) {
                continue;
            }
            self.ports = self.ports.saturating_sub(1);
            let next = ServiceWord::none(self.generation(all).next());
            // Both lists get it, because a frontend may lead to either.
            for list in [all, all.local()] {
                self.store.put_service(convert::index(list), next)?;
            }
        }
        Ok(())
    }

    /// Gives the words of old lists back, once nobody can be reading them.
    pub(crate) fn retire(&mut self) {
        if self.retired.is_empty() {
            return;
        }
        let ticket = self.store.ticket();
        for place in self.retired.drain(..) {
            self.space.retire(place, ticket);
        }
        self.space.release(self.store.passed());
    }
}

#[cfg(test)]
mod tests {
    use tandem_core::family::{V4, V6};

    use super::lists;

    #[test]
    fn what_is_full_is_named_as_the_status_names_the_map() {
        assert_eq!((lists::<V4>(), lists::<V6>()), ("LISTS4", "LISTS6"));
    }
}
