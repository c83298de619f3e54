//! The records of flows, as memory of this process. They are mapped only while somebody looks: what is mapped counts as the
//! agent's memory.

use std::marker::PhantomData;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tandem_xdp_layout::{FlowAddress, Record, RecordNumber};

use crate::kernel::memory::Words;

/// The records of one family.
#[derive(Debug)]
pub struct Records<A> {
    words: Words,
    count: u32,
    family: PhantomData<A>,
}

/// A record.
#[derive(Clone, Copy, Debug)]
pub struct Mapped<'a> {
    words: &'a Words,
    first: u32,
}

impl<A: FlowAddress> Records<A> {
    pub(crate) fn new(words: Words, count: u32) -> Self {
        Self {
            words,
            count,
            family: PhantomData,
        }
    }

    /// The time at this moment, in seconds as the packet program counts them.
    pub fn now() -> u32 {
        // The program's clock is the same, and moves with the kernel's ticks.
        let now = clock_gettime(ClockId::Monotonic);
        let seconds = Duration::try_from(now).unwrap_or_default();
        tandem_xdp_layout::seconds(u64::try_from(seconds.as_nanos()).unwrap_or(u64::MAX))
    }

    /// All records, each with its number.
    pub fn all(&self) -> impl Iterator<Item = (RecordNumber, Mapped<'_>)> {
        let numbers = (0..self.count).map(RecordNumber::at);
        numbers.filter_map(|number| Some((number, self.at(number)?)))
    }

    /// A record, if there is one of this number.
    pub fn at(&self, number: RecordNumber) -> Option<Mapped<'_>> {
        (number.get() < self.count).then(|| Mapped {
            words: &self.words,
            first: number.get() * A::WORDS,
        })
    }
}

impl<'a> Mapped<'a> {
    /// The record whose words begin there.
    pub(crate) fn new(words: &'a Words, first: u32) -> Self {
        Self { words, first }
    }
}

impl Record for Mapped<'_> {
    fn get(self, at: u32) -> u64 {
        // Records are as long as the words that are asked for.
        self.words.get(self.first + at).unwrap_or_default()
    }

    fn set(self, at: u32, word: u64) {
        self.words.set(self.first + at, word);
    }

    fn publish(self, at: u32, word: u64) {
        self.words.publish(self.first + at, word);
    }

    fn change(self, at: u32, from: u64, to: u64) -> bool {
        self.words.change(self.first + at, from, to)
    }

    fn fence(self) {
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
    }
}
