//! Maps in memory, for tests. After every single write it has readers ask for everything, and compares their answers
//! with those that are right at that moment. The readers are those that run in the kernel.

mod answers;
mod damage;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;

use tandem_core::id::ServiceId;
use tandem_core::plane::Full;
use tandem_xdp_layout::{
    self as layout, Address, Endpoint, FrontendKey, FrontendWord, List, ListIndex, Maps, Reason, ServiceWord,
    SourceKey, Switch, Which,
};

pub use answers::{Answer, Answers, Picks};

use crate::convert::{self, Plane};
use crate::store::{Store, StoreError};
use answers::{Asked, HASHES, answer_of, fold};

/// The protocol of everything that is asked for.
const TCP: u8 = 6;

fn full(name: &'static str, room: usize) -> StoreError {
    StoreError::Full(Full {
        name,
        room: u32::try_from(room).unwrap_or(u32::MAX),
        errno: None,
    })
}

/// Maps of one family in memory.
pub struct Model<F: Plane> {
    frontends: HashMap<FrontendKey<F::Mapped>, u64>,
    addresses: BTreeSet<F::Mapped>,
    sources: HashSet<(SourceKey<F::Mapped>, u32)>,
    services: Vec<u64>,
    words: Vec<u64>,
    /// By the place of the Service port; ports that are not here have counted nothing.
    counts: HashMap<u32, u64>,
    switch: Switch,
    /// Whether the sockets that nftables serves were held since the family is off.
    held: bool,
    /// The sets of answers of which each is right. A reader that is given one answer of one of them is right. None if
    /// everything is right, because somebody wrote nonsense.
    right: Option<Vec<Answers<F>>>,
    writes: u64,
    wrong: Vec<String>,
    /// After so many more writes, every write fails.
    breaks_after: Option<u64>,
    /// How many frontends and words there may be.
    limits: (usize, u32),
    tickets: u64,
    slow: Option<Slow<F>>,
    /// Addresses that nodePorts are asked at, beside those of the node.
    elsewhere: Vec<F::Mapped>,
}

/// Who asks for what.
#[derive(Clone, Copy, Debug)]
struct Question<A: Address> {
    to: Endpoint<A>,
    /// Which list.
    all: bool,
    /// Whether nodePorts on loopback count.
    loopback: bool,
}

/// A program that found a list, and is stopped before it reads the endpoints.
struct Slow<F: Plane> {
    list: List<F::Mapped>,
    endpoints: Vec<Endpoint<F::Mapped>>,
    /// The number of tickets when it began. Later ones cannot pass before it ends.
    since: u64,
}

impl<F: Plane> fmt::Debug for Model<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model")
            .field("writes", &self.writes)
            .finish_non_exhaustive()
    }
}

impl<F: Plane> Model<F> {
    /// Empty maps with room for so many words of lists.
    pub fn new(words: u32) -> Self {
        Self {
            frontends: HashMap::new(),
            addresses: BTreeSet::new(),
            sources: HashSet::new(),
            services: vec![0; ListIndex::COUNT as usize],
            words: vec![0; words as usize],
            counts: HashMap::new(),
            switch: Switch::OFF,
            held: false,
            right: None,
            writes: 0,
            wrong: Vec::new(),
            breaks_after: None,
            limits: (usize::MAX, u32::MAX),
            tickets: 0,
            slow: None,
            elsewhere: Vec::new(),
        }
    }

    /// Has nodePorts be asked at these addresses too.
    pub fn ask_elsewhere(&mut self, addresses: Vec<F::Mapped>) {
        self.elsewhere = addresses;
    }

    /// From now on, each of these sets of answers is right. None: everything is.
    pub fn expect(&mut self, right: Option<Vec<Answers<F>>>) {
        self.right = right;
    }

    /// How many single writes there were.
    pub fn writes(&self) -> u64 {
        self.writes
    }

    /// What readers got that was not right.
    pub fn wrong(&self) -> &[String] {
        &self.wrong
    }

    /// After so many more writes, every one fails.
    pub fn break_after(&mut self, writes: Option<u64>) {
        self.breaks_after = writes;
    }

    /// At most so many frontends and words from now on.
    pub fn limit(&mut self, frontends: usize, words: u32) {
        self.limits = (frontends, words);
    }

    /// Whether programs answer.
    pub fn is_on(&self) -> bool {
        self.switch.is_on()
    }

    /// The addresses of the node, and the nodePorts in use, from the lowest to the highest.
    pub fn node(&self) -> (&BTreeSet<F::Mapped>, Option<(u16, u16)>) {
        (&self.addresses, self.switch.node_ports())
    }

    /// Has a list's Service port take connections.
    pub(crate) fn take(&mut self, list: ServiceId, connections: u64) {
        *self.counts.entry(convert::index(list).port()).or_default() += connections;
    }

    /// Has no Service port have taken any.
    pub(crate) fn count_nothing(&mut self) {
        self.counts.clear();
    }

    /// How many connections a list's Service port has taken.
    pub(crate) fn taken(&self, list: ServiceId) -> u64 {
        self.counts
            .get(&convert::index(list).port())
            .copied()
            .unwrap_or_default()
    }

    /// How many frontends there are.
    pub fn frontend_count(&self) -> usize {
        self.frontends.len()
    }

    /// What is not as it must be at rest: a frontend that is answered otherwise, one of a Service port that is left, or one
    /// that no row has.
    pub fn differs(&self, wanted: &Answers<F>, is_left: impl Fn(ServiceId) -> bool) -> Option<String> {
        for question in self.questions([wanted]) {
            let found = self.ask_at(question);
            let asked = wanted.at(question.to, question.all, question.loopback);
            let right = match asked.filter(|asked| !is_left(asked.service)) {
                Some(asked) => found == asked.answer,
                None => found == Err(Reason::NoFrontend),
            };
            if !right {
                return Some(format!("{question:?} gives {found:?}, wanted {asked:?}"));
            }
        }
        for (at, Asked { key, answer, service }) in &wanted.asked {
            let found = self.ask(key, at.1);
            let right = if is_left(*service) {
                found == Err(Reason::NoFrontend)
            } else {
                found == *answer
            };
            if !right {
                return Some(format!("{key:?} of {service} gives {found:?}, wanted {answer:?}"));
            }
        }
        let known = |key| wanted.asked.contains_key(&(fold::<F>(key), false));
        let stray = self.frontends.keys().find(|key| !known(key));
        stray.map(|key| format!("{key:?} is there, and no row has it"))
    }

    /// Has a program find a list, and stop there.
    pub fn start_slow(&mut self, random: &mut fastrand::Rng) {
        let keys: Vec<_> = self.frontends.keys().copied().collect();
        let Some(key) = random.choice(keys) else { return };
        let Ok(list) = self.find(&key, random.bool()) else {
            return;
        };
        self.slow = self.endpoints(&list).map(|endpoints| Slow {
            list,
            endpoints,
            since: self.tickets,
        });
    }

    /// Has that program end.
    pub fn end_slow(&mut self) {
        self.slow = None;
    }

    fn find(&self, key: &FrontendKey<F::Mapped>, all: bool) -> Result<List<F::Mapped>, Reason> {
        if !self.switch.is_on() {
            return Err(Reason::NoFrontend);
        }
        self.list_of(layout::frontend(self, key)?, all)
    }

    fn list_of(&self, word: FrontendWord, all: bool) -> Result<List<F::Mapped>, Reason> {
        if word.restricted() {
            return Err(Reason::Restricted);
        }
        layout::list(self, word, if all { Which::All } else { Which::Own })
    }

    fn endpoints(&self, list: &List<F::Mapped>) -> Option<Vec<Endpoint<F::Mapped>>> {
        (0..list.header.count).map(|slot| list.endpoint(self, slot)).collect()
    }

    /// What is asked at the addresses of the node, at others and on loopback.
    fn questions<'a>(&self, sets: impl IntoIterator<Item = &'a Answers<F>>) -> Vec<Question<F::Mapped>> {
        let (mut ports, mut addresses) = (BTreeSet::new(), self.addresses.clone());
        for answers in sets {
            ports.extend(answers.node_ports());
            addresses.extend(&answers.node);
        }
        addresses.extend(&self.elsewhere);
        let mut questions = Vec::new();
        for (addr, port) in addresses
            .iter()
            .flat_map(|addr| ports.iter().map(move |port| (*addr, *port)))
        {
            let to = Endpoint { addr, port };
            for all in [false, true] {
                questions.push(Question {
                    to,
                    all,
                    loopback: self.switch.loopback(),
                });
                // A pod asks, or UDP.
                if self.switch.loopback() {
                    let loopback = false;
                    questions.push(Question { to, all, loopback });
                }
            }
        }
        questions
    }

    fn ask_at(&self, Question { to, all, loopback }: Question<F::Mapped>) -> Answer<F::Mapped> {
        if !self.switch.is_on() {
            return Err(Reason::NoFrontend);
        }
        let word = match layout::frontend(self, &FrontendKey::new(to.addr, to.port, TCP)) {
            Err(Reason::NoFrontend) if layout::takes_node_port(self, &to, self.switch, loopback) => {
                layout::frontend(self, &FrontendKey::node_port(to.port, TCP))
            }
            found => found,
        };
        self.read(&self.list_of(word?, all)?)
    }

    fn ask(&self, key: &FrontendKey<F::Mapped>, all: bool) -> Answer<F::Mapped> {
        self.read(&self.find(key, all)?)
    }

    fn read(&self, list: &List<F::Mapped>) -> Answer<F::Mapped> {
        let endpoints = self.endpoints(list).ok_or(Reason::Changing)?;
        for (slot, endpoint) in (0..).zip(&endpoints) {
            let found = list.slot_of(self, *endpoint).map(|slot| endpoints[usize::from(slot)]);
            let number = list.number(self, slot);
            let back = number.and_then(|number| list.slot_of_number(self, number));
            if found != Some(*endpoint) || (list.header.sticky && back != Some(slot)) {
                return Ok(Picks::NEVER_RIGHT);
            }
        }
        let by_hash = |hash| endpoints.get(usize::from(list.cell(self, hash)?)).copied();
        let by_hash: Option<Vec<_>> = match list.header.cells {
            0 => Some(Vec::new()),
            _ => HASHES.into_iter().map(by_hash).collect(),
        };
        Ok(by_hash.map_or(Picks::NEVER_RIGHT, |by_hash| Picks { endpoints, by_hash }))
    }

    /// A write was done: everybody reads.
    fn wrote(&mut self) {
        self.writes += 1;
        if let Some(slow) = &self.slow
            && self.endpoints(&slow.list).as_ref() != Some(&slow.endpoints)
        {
            self.wrong.push(format!(
                "write {}: a list was written over while it was read",
                self.writes
            ));
            self.slow = None;
        }
        let Some(right) = &self.right else { return };
        for question in self.questions(right) {
            let Ok(answer) = self.ask_at(question) else { continue };
            let right = right
                .iter()
                .map(|answers| answer_of(answers.at(question.to, question.all, question.loopback)));
            let right: Vec<_> = right.collect();
            if !right.contains(&Ok(answer.clone())) {
                self.wrong.push(format!(
                    "write {}: {question:?} is answered by {answer:?}, right is one of {right:?}",
                    self.writes
                ));
                return;
            }
        }
        for (at, Asked { key, .. }) in right.iter().flat_map(|answers| &answers.asked) {
            let Ok(answer) = self.ask(key, at.1) else { continue };
            if !right.iter().any(|answers| answers.get(*at) == Ok(answer.clone())) {
                let which = if at.1 { "all" } else { "own" };
                let right: Vec<_> = right.iter().map(|answers| answers.get(*at)).collect();
                self.wrong.push(format!(
                    "write {}: {key:?} ({which}) is answered by {answer:?}, right is one of {right:?}",
                    self.writes
                ));
                return;
            }
        }
    }

    fn may_write(&mut self) -> Result<(), StoreError> {
        match &mut self.breaks_after {
            None => Ok(()),
            Some(0) => Err(StoreError::Failed("the test says so".into())),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
        }
    }
}

impl<F: Plane> Maps<F::Mapped> for Model<F> {
    fn frontend(&self, key: &FrontendKey<F::Mapped>) -> Option<u64> {
        self.frontends.get(key).copied()
    }

    fn has_address(&self, addr: &F::Mapped) -> bool {
        self.addresses.contains(addr)
    }

    fn service(&self, index: ListIndex) -> Option<u64> {
        self.services.get(index.get() as usize).copied()
    }

    fn word(&self, place: u32) -> Option<u64> {
        self.words.get(place as usize).copied()
    }
}

impl<F: Plane> Store<F::Mapped> for Model<F> {
    fn put_frontend(&mut self, key: &FrontendKey<F::Mapped>, word: FrontendWord) -> Result<(), StoreError> {
        self.may_write()?;
        if !self.frontends.contains_key(key) && self.frontends.len() >= self.limits.0 {
            return Err(full("frontends", self.frontends.len()));
        }
        self.frontends.insert(*key, word.0);
        self.wrote();
        Ok(())
    }

    fn remove_frontend(&mut self, key: &FrontendKey<F::Mapped>) -> Result<(), StoreError> {
        self.may_write()?;
        self.frontends.remove(key);
        self.wrote();
        Ok(())
    }

    fn look(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    fn frontends(&self) -> Result<Vec<(FrontendKey<F::Mapped>, FrontendWord)>, StoreError> {
        Ok(self
            .frontends
            .iter()
            .map(|(key, word)| (*key, FrontendWord(*word)))
            .collect())
    }

    fn put_address(&mut self, addr: F::Mapped) -> Result<(), StoreError> {
        self.may_write()?;
        self.addresses.insert(addr);
        self.wrote();
        Ok(())
    }

    fn remove_address(&mut self, addr: F::Mapped) -> Result<(), StoreError> {
        self.may_write()?;
        self.addresses.remove(&addr);
        self.wrote();
        Ok(())
    }

    fn addresses(&self) -> Result<Vec<F::Mapped>, StoreError> {
        Ok(self.addresses.iter().copied().collect())
    }

    fn put_source(&mut self, key: SourceKey<F::Mapped>, bits: u32) -> Result<(), StoreError> {
        self.may_write()?;
        self.sources.insert((key, bits));
        self.wrote();
        Ok(())
    }

    fn remove_source(&mut self, key: SourceKey<F::Mapped>, bits: u32) -> Result<(), StoreError> {
        self.may_write()?;
        self.sources.remove(&(key, bits));
        self.wrote();
        Ok(())
    }

    fn sources(&self) -> Result<Vec<(SourceKey<F::Mapped>, u32)>, StoreError> {
        Ok(self.sources.iter().copied().collect())
    }

    fn put_word(&mut self, place: u32, word: u64) -> Result<(), StoreError> {
        self.may_write()?;
        self.words[place as usize] = word;
        self.wrote();
        Ok(())
    }

    fn put_service(&mut self, index: ListIndex, word: ServiceWord) -> Result<(), StoreError> {
        self.may_write()?;
        self.services[index.get() as usize] = word.0;
        self.wrote();
        Ok(())
    }

    fn counted(&self) -> Result<Vec<ListIndex>, StoreError> {
        let counted = self.counts.iter().filter(|(_, count)| **count > 0);
        Ok(counted.filter_map(|(port, _)| ListIndex::of_port(*port)).collect())
    }

    fn count_anew(&mut self, port: ListIndex) -> Result<(), StoreError> {
        self.may_write()?;
        if self.counts.remove(&port.port()).is_some() {
            self.wrote();
        }
        Ok(())
    }

    fn hold_sockets(&mut self) -> Result<(), StoreError> {
        self.may_write()?;
        if self.switch.is_on() {
            self.wrong.push("sockets are held while the family is on".to_owned());
        }
        self.held = true;
        Ok(())
    }

    fn set_switch(&mut self, switch: Switch) {
        if switch.is_on() && !self.switch.is_on() && !std::mem::take(&mut self.held) {
            self.wrong.push("it is switched on, and no socket is held".to_owned());
        }
        if self.switch != switch {
            self.switch = switch;
            self.wrote();
        }
    }

    fn switch(&self) -> Switch {
        self.switch
    }

    fn words(&self) -> u32 {
        u32::try_from(self.words.len()).unwrap_or(u32::MAX)
    }

    fn grow(&mut self, words: u32) -> Result<(), StoreError> {
        self.may_write()?;
        if words > self.limits.1 {
            return Err(full("lists", self.words.len()));
        }
        self.words.resize(words as usize, 0);
        Ok(())
    }

    fn ticket(&mut self) -> u64 {
        self.tickets += 1;
        self.tickets
    }

    fn passed(&self) -> u64 {
        self.slow.as_ref().map_or(self.tickets, |slow| slow.since)
    }
}
