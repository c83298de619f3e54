//! One generation of a table, read from the messages that make and change it.

use std::collections::{BTreeMap, BTreeSet};

use crate::wire::{Batch, HEADERS, attribute, attributes};

const NEW_CHAIN: u16 = 3;
const DEL_CHAIN: u16 = 5;
const NEW_RULE: u16 = 6;
const DEL_RULE: u16 = 8;
const NEW_SET: u16 = 9;
const NEW_ELEMENT: u16 = 12;
const DEL_ELEMENT: u16 = 14;

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
        .and_then(|data| attribute(data, 1))
        .unwrap_or_default()
        .to_vec()
}

/// The chain that a verdict's data jumps to, and the verdict's code.
pub(super) fn verdict(data: &[u8]) -> Option<(i32, Bytes)> {
    let verdict = attribute(data, 2)?;
    Some((number(verdict, 1)?.cast_signed(), text(verdict, 2)))
}

impl Image {
    /// What the table is once these messages were carried out.
    pub(crate) fn apply(&mut self, batch: &Batch) {
        let mut rest = batch.bytes();
        while let Some(head) = rest.get(..HEADERS) {
            let length = u32::from_ne_bytes(head[..4].try_into().unwrap()) as usize;
            let kind = u16::from_ne_bytes(head[4..6].try_into().unwrap());
            if kind >> 8 == 10 {
                self.message(kind & 0xff, &rest[HEADERS..length]);
            }
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
    }

    fn message(&mut self, kind: u16, body: &[u8]) {
        match kind {
            NEW_CHAIN => drop(self.chains.entry(text(body, 3)).or_default()),
            DEL_CHAIN => drop(self.chains.remove(&text(body, 3))),
            DEL_RULE => self.chains.entry(text(body, 2)).or_default().clear(),
            NEW_RULE => {
                let list = attribute(body, 4).unwrap();
                let expressions = attributes(list).map(|(_, expression)| {
                    let mut data = attribute(expression, 2).unwrap_or_default().to_vec();
                    // Lookups in the transaction's last anonymous set are to find it under its own name.
                    if text(expression, 1) == b"lookup" && text(&data, 1) == b"__set%d" {
                        data = [anonymous_name(self.anonymous), after_name(&data)].concat();
                    }
                    (text(expression, 1), data)
                });
                let rule = Rule(expressions.collect());
                self.chains.get_mut(&text(body, 2)).unwrap().push(rule);
            }
            NEW_SET => {
                const INTERVAL: u32 = 4;
                let mut name = text(body, 2);
                if name == b"__set%d" {
                    self.anonymous += 1;
                    name = format!("__set{}", self.anonymous).into_bytes();
                }
                if number(body, 3).unwrap_or_default() & INTERVAL != 0 {
                    self.intervals.insert(name.clone());
                }
                self.sets.entry(name).or_default();
            }
            NEW_ELEMENT | DEL_ELEMENT => {
                let mut name = text(body, 2);
                if name == b"__set%d" {
                    name = format!("__set{}", self.anonymous).into_bytes();
                }
                let set = self.sets.get_mut(&name).unwrap();
                for (_, element) in attributes(attribute(body, 3).unwrap_or_default()) {
                    let range_end = number(element, 3).is_some_and(|flags| flags & 1 != 0);
                    // A range's end may stand where the next one begins.
                    let key = [data(element, 1), vec![u8::from(!range_end)]].concat();
                    if kind == NEW_ELEMENT {
                        let last = attribute(element, 10).map(|_| data(element, 10));
                        let value = attribute(element, 2).unwrap_or_default();
                        let verdict = verdict(value);
                        let value = data(element, 2);
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
                // Fields are compared one by one; ours are ranges in the last one alone.
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
    bytes.extend_from_slice(&1_u16.to_ne_bytes());
    bytes.extend_from_slice(&name);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// Attributes behind the first one.
pub(super) fn after_name(data: &[u8]) -> Bytes {
    let length = usize::from(u16::from_ne_bytes([data[0], data[1]]));
    data[length.next_multiple_of(4)..].to_vec()
}
