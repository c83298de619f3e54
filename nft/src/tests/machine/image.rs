//! One generation of a table, read from the messages that make and change it.

use std::collections::{BTreeMap, BTreeSet};

use crate::elements::element::RANGE_END;
use crate::elements::layout::INTERVAL;
use crate::wire::batch::Batch;
use crate::wire::{ANONYMOUS, Command, HEADERS, SUBSYSTEM, attr, attribute, attributes};

const NEW_CHAIN: u16 = Command::NewChain as u16;
const DEL_CHAIN: u16 = Command::DelChain as u16;
const NEW_RULE: u16 = Command::NewRule as u16;
const DEL_RULE: u16 = Command::DelRule as u16;
const NEW_SET: u16 = Command::NewSet as u16;
const NEW_ELEMENT: u16 = Command::NewSetElem as u16;
const DEL_ELEMENT: u16 = Command::DelSetElem as u16;

/// A name or a key.
pub(super) type Bytes = Vec<u8>;

/// One generation of a table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Image {
    pub(super) chains: BTreeMap<Bytes, Vec<Rule>>,
    sets: BTreeMap<Bytes, BTreeMap<Bytes, Element>>,
    /// Sets whose elements are ranges.
    intervals: BTreeSet<Bytes>,
    anonymous: u32,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Element {
    pub(super) value: Bytes,
    pub(super) verdict: Option<(i32, Bytes)>,
    /// The last key of a range that is one element.
    pub(super) last: Option<Bytes>,
    pub(super) range_end: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Rule(pub(super) Vec<(Bytes, Bytes)>);

pub(super) fn number(bytes: &[u8], kind: u16) -> Option<u32> {
    attribute(bytes, kind)?.try_into().ok().map(u32::from_be_bytes)
}

pub(super) fn text(bytes: &[u8], kind: u16) -> Bytes {
    let text = attribute(bytes, kind).unwrap_or_default();
    text.strip_suffix(&[0]).unwrap_or(text).to_vec()
}

pub(super) fn data(bytes: &[u8], kind: u16) -> Bytes {
    attribute(bytes, kind)
        .and_then(|data| attribute(data, attr::data::VALUE))
        .unwrap_or_default()
        .to_vec()
}

/// The code of a verdict's data, and the chain that it leads to.
pub(super) fn verdict(data: &[u8]) -> Option<(i32, Bytes)> {
    let verdict = attribute(data, attr::data::VERDICT)?;
    Some((
        number(verdict, attr::verdict::CODE)?.cast_signed(),
        text(verdict, attr::verdict::CHAIN),
    ))
}

impl Image {
    /// Carries out these messages.
    pub(crate) fn apply(&mut self, batch: &Batch) {
        let mut rest = batch.bytes();
        while let Some(head) = rest.get(..HEADERS) {
            let length = u32::from_ne_bytes(head[..4].try_into().unwrap()) as usize;
            let kind = u16::from_ne_bytes(head[4..6].try_into().unwrap());
            if kind >> 8 == SUBSYSTEM {
                self.message(kind & 0xff, &rest[HEADERS..length]);
            }
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
    }

    fn message(&mut self, kind: u16, body: &[u8]) {
        match kind {
            NEW_CHAIN => drop(self.chains.entry(text(body, attr::chain::NAME)).or_default()),
            DEL_CHAIN => drop(self.chains.remove(&text(body, attr::chain::NAME))),
            DEL_RULE => self.chains.entry(text(body, attr::rule::CHAIN)).or_default().clear(),
            NEW_RULE => {
                let list = attribute(body, attr::rule::EXPRESSIONS).unwrap();
                let expressions = attributes(list).map(|(_, expression)| {
                    let mut data = attribute(expression, attr::expr::DATA).unwrap_or_default().to_vec();
                    // A lookup in the transaction's last anonymous set is to find it under its own name.
                    if text(expression, attr::expr::NAME) == b"lookup"
                        && text(&data, attr::lookup::SET) == ANONYMOUS.as_bytes()
                    {
                        data = [anonymous_name(self.anonymous), after_name(&data)].concat();
                    }
                    (text(expression, attr::expr::NAME), data)
                });
                let rule = Rule(expressions.collect());
                self.chains.get_mut(&text(body, attr::rule::CHAIN)).unwrap().push(rule);
            }
            NEW_SET => {
                let mut name = text(body, attr::set::NAME);
                if name == ANONYMOUS.as_bytes() {
                    self.anonymous += 1;
                    name = format!("__set{}", self.anonymous).into_bytes();
                }
                if number(body, attr::set::FLAGS).unwrap_or_default() & INTERVAL != 0 {
                    self.intervals.insert(name.clone());
                }
                self.sets.entry(name).or_default();
            }
            NEW_ELEMENT | DEL_ELEMENT => {
                let mut name = text(body, attr::elements::SET);
                if name == ANONYMOUS.as_bytes() {
                    name = format!("__set{}", self.anonymous).into_bytes();
                }
                let set = self.sets.get_mut(&name).unwrap();
                for (_, element) in attributes(attribute(body, attr::elements::ELEMENTS).unwrap_or_default()) {
                    let range_end = number(element, attr::element::FLAGS).is_some_and(|flags| flags & RANGE_END != 0);
                    // A range may end at the key at which the next one begins.
                    let key = [data(element, attr::element::KEY), vec![u8::from(!range_end)]].concat();
                    if kind == NEW_ELEMENT {
                        let last =
                            attribute(element, attr::element::KEY_END).map(|_| data(element, attr::element::KEY_END));
                        let value = attribute(element, attr::element::DATA).unwrap_or_default();
                        let verdict = verdict(value);
                        let value = data(element, attr::element::DATA);
                        let new = Element {
                            value,
                            verdict,
                            last,
                            range_end,
                        };
                        assert!(set.insert(key, new).is_none(), "an element is added twice");
                    } else {
                        assert!(set.remove(&key).is_some(), "an element is removed that is not there");
                    }
                }
            }
            _ => {}
        }
    }

    pub(super) fn find(&self, set: &[u8], key: &[u8]) -> Option<&Element> {
        let elements = self.sets.get(set)?;
        if !self.intervals.contains(set) {
            return elements.get(&[key, &[1]].concat());
        }
        let concatenated = elements.values().any(|element| element.last.is_some());
        if concatenated {
            return elements.iter().find_map(|(first, element)| {
                let last = element.last.as_deref().unwrap_or(first);
                // The kernel compares the fields one by one. Here only the last field can be a range.
                (first[..first.len() - 1] <= *key && *key <= *last).then_some(element)
            });
        }
        let below = elements.range(..=[key, &[2]].concat()).next_back()?;
        (!below.1.range_end).then_some(below.1)
    }
}

pub(super) fn anonymous_name(number: u32) -> Bytes {
    let name = format!("__set{number}\0").into_bytes();
    let mut bytes = u16::try_from(name.len() + 4).unwrap().to_ne_bytes().to_vec();
    bytes.extend_from_slice(&attr::lookup::SET.to_ne_bytes());
    bytes.extend_from_slice(&name);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// Attributes behind the first one.
pub(super) fn after_name(data: &[u8]) -> Bytes {
    let length = usize::from(u16::from_ne_bytes([data[0], data[1]]));
    data[length.next_multiple_of(4)..].to_vec()
}
