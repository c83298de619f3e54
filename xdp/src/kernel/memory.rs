//! Arrays of words in the kernel, mapped into this process: reading and writing them is reading and writing memory.

use std::io;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// An array of words that programs read at the same time.
#[derive(Debug)]
pub(crate) struct Words {
    base: NonNull<AtomicU64>,
    len: usize,
}

// The memory is the kernel's, and every access is atomic.
#[expect(
    unsafe_code,
    reason = "a mapping may be used by any thread, as it is accessed by atomic operations alone"
)]
// SAFETY: `base` stays valid until the value is dropped, whichever thread has it.
unsafe impl Send for Words {}

#[expect(
    unsafe_code,
    reason = "a mapping may be used by several threads, as it is accessed by atomic operations alone"
)]
// SAFETY: as above; the length never changes.
unsafe impl Sync for Words {}

impl Words {
    /// Maps an array of `len` words, by its map's file descriptor. The map must have been made with `BPF_F_MMAPABLE`.
    pub(crate) fn map(map: impl AsFd, len: u32) -> io::Result<Self> {
        Self::map_part(map, 0, len)
    }

    /// Maps `len` words from `first` on, which must be the first word of a page.
    #[expect(unsafe_code, reason = "mmap")]
    pub(crate) fn map_part(map: impl AsFd, first: u32, len: u32) -> io::Result<Self> {
        let (len, offset) = (len as usize, u64::from(first) * size_of::<u64>() as u64);
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        // SAFETY: the kernel chooses the address, so nothing that is mapped already is replaced.
        let base = unsafe {
            mmap(
                std::ptr::null_mut(),
                len * size_of::<u64>(),
                protection,
                flags,
                map,
                offset,
            )?
        };
        let base = NonNull::new(base.cast()).ok_or_else(|| io::Error::other("mmap answered no address"))?;
        Ok(Self { base, len })
    }

    #[expect(unsafe_code, reason = "the mapping is raw memory")]
    fn word(&self, at: u32) -> Option<&AtomicU64> {
        let at = at as usize;
        if at >= self.len {
            return None;
        }
        // SAFETY: `at` is inside the mapping, which stays until the value is dropped; it is aligned, because mappings begin at
        // pages.
        Some(unsafe { self.base.add(at).as_ref() })
    }

    /// A word; none if it is outside.
    pub(crate) fn get(&self, at: u32) -> Option<u64> {
        Some(self.word(at)?.load(Ordering::Acquire))
    }

    /// All words, each with its place.
    pub(crate) fn all(&self) -> impl Iterator<Item = (u32, u64)> + '_ {
        (0..).map_while(|at| Some((at, self.get(at)?)))
    }

    /// Writes a word to which nothing leads yet. Words outside are not written.
    pub(crate) fn set(&self, at: u32, value: u64) {
        if let Some(word) = self.word(at) {
            word.store(value, Ordering::Relaxed);
        }
    }

    /// Writes a word. Whoever sees it sees everything that was written before.
    pub(crate) fn publish(&self, at: u32, value: u64) {
        if let Some(word) = self.word(at) {
            word.store(value, Ordering::Release);
        }
    }

    /// Writes a word if it is still the one that was read.
    pub(crate) fn change(&self, at: u32, from: u64, to: u64) -> bool {
        let change = |word: &AtomicU64| word.compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst);
        self.word(at).is_some_and(|word| change(word).is_ok())
    }

    /// Sets these bits, or clears them, whatever the others are. Somebody else may write the word at the same time.
    pub(crate) fn turn(&self, at: u32, bits: u64, on: bool) {
        if let Some(word) = self.word(at) {
            if on {
                word.fetch_or(bits, Ordering::AcqRel);
            } else {
                word.fetch_and(!bits, Ordering::AcqRel);
            }
        }
    }
}

impl Drop for Words {
    #[expect(unsafe_code, reason = "munmap")]
    fn drop(&mut self) {
        // SAFETY: this is what `map` mapped, and no reference to it is left.
        // If it fails, the memory stays mapped, which harms nobody.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.len * size_of::<u64>()) };
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::thread;

    use super::*;

    #[test]
    fn a_bit_that_is_turned_never_undoes_what_somebody_else_writes_to_the_word() {
        const OTHERS: u64 = 1;
        const OWN: u64 = 1 << 4;
        let path = std::env::temp_dir().join(format!("tandem-words-{}", std::process::id()));
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .unwrap();
        std::fs::remove_file(&path).unwrap();
        file.set_len(8).unwrap();
        let words = Words::map(&file, 1).unwrap();
        let done = std::sync::atomic::AtomicBool::new(false);
        let mut undone = false;
        thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    words.turn(0, OWN, true);
                    words.turn(0, OWN, false);
                }
            });
            for _ in 0..1_000_000 {
                words.publish(0, OTHERS);
                words.publish(0, 0);
                undone |= (0..4).any(|_| words.get(0).unwrap() & OTHERS != 0);
            }
            done.store(true, Ordering::Relaxed);
        });
        assert!(!undone);
        words.publish(0, OTHERS);
        words.turn(0, OWN, true);
        assert_eq!(words.get(0), Some(OTHERS | OWN));
        words.turn(0, OWN, false);
        assert_eq!(words.get(0), Some(OTHERS));
    }
}
