//! Large arrays of words in the kernel, of which only the parts are mapped that have something in them. What is mapped counts as
//! memory of this process.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::OnceLock;

use super::memory::Words;

/// The words of one part: 128 kB, whole pages also where pages have 64 kB.
const PART: u32 = 16_384;

/// An array of words that only this process writes, and programs read at the same time. A part that is not mapped is all zeros.
#[derive(Debug)]
pub(crate) struct SparseWords {
    map: OwnedFd,
    len: u32,
    parts: Box<[OnceLock<Words>]>,
}

impl SparseWords {
    /// An array of `len` words, by its map's file descriptor. The map must have been made with `BPF_F_MMAPABLE`.
    pub(crate) fn open(map: impl AsFd, len: u32) -> io::Result<Self> {
        let words = Self {
            map: map.as_fd().try_clone_to_owned()?,
            len,
            parts: (0..len.div_ceil(PART)).map(|_| OnceLock::new()).collect(),
        };
        words.look()?;
        Ok(words)
    }

    /// Maps the parts that have something in them. Nobody but this process should have written it.
    pub(crate) fn look(&self) -> io::Result<()> {
        for (number, part) in (0..).zip(&self.parts) {
            if part.get().is_none() {
                let words = self.map(number)?;
                if words.all().any(|(_, word)| word != 0) {
                    // If another thread was faster, its mapping is as good.
                    let _ = part.set(words);
                }
            }
        }
        Ok(())
    }

    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    /// A word; none if it is outside.
    pub(crate) fn get(&self, at: u32) -> Option<u64> {
        if at >= self.len {
            return None;
        }
        match self.parts.get((at / PART) as usize)?.get() {
            Some(words) => words.get(at % PART),
            None => Some(0),
        }
    }

    /// The words of all parts that are mapped, each with its place.
    pub(crate) fn all(&self) -> impl Iterator<Item = (u32, u64)> + '_ {
        let parts = (0..).zip(&self.parts);
        let mapped = parts.filter_map(|(number, part)| Some((number * PART, part.get()?)));
        mapped.flat_map(|(first, words)| words.all().map(move |(at, word)| (first + at, word)))
    }

    /// Writes a word to which nothing leads yet. Words outside are not written.
    pub(crate) fn set(&self, at: u32, value: u64) -> io::Result<()> {
        if let Some(words) = self.part(at)? {
            words.set(at % PART, value);
        }
        Ok(())
    }

    /// Writes a word. Whoever sees it sees everything that was written before.
    pub(crate) fn publish(&self, at: u32, value: u64) -> io::Result<()> {
        if let Some(words) = self.part(at)? {
            words.publish(at % PART, value);
        }
        Ok(())
    }

    /// The part of a word, mapped; none if the word is outside.
    fn part(&self, at: u32) -> io::Result<Option<&Words>> {
        let number = at / PART;
        let Some(part) = self.parts.get(number as usize) else {
            return Ok(None);
        };
        if let Some(words) = part.get() {
            return Ok(Some(words));
        }
        let words = self.map(number)?;
        Ok(Some(part.get_or_init(|| words)))
    }

    fn map(&self, number: u32) -> io::Result<Words> {
        let first = number * PART;
        Words::map_part(&self.map, first, PART.min(self.len - first))
    }
}
