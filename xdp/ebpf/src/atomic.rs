//! Reads and writes of memory that others use at the same time.

/// Reads a word that the agent may write meanwhile.
#[inline(always)]
pub(crate) fn read(word: *const u64) -> u64 {
    // SAFETY: the pointer comes from a map, whose values are aligned and live as long as the program runs.
    unsafe { core::ptr::read_volatile(word) }
}

/// Adds one to a word that other processors may add to.
#[inline(always)]
pub(crate) fn add_one(word: *mut u64) {
    // SAFETY: as in `read`.
    unsafe { core::intrinsics::atomic_xadd::<u64, u64, { core::intrinsics::AtomicOrdering::Relaxed }>(word, 1) };
}

/// Copies a value of 32-bit words, one word after the other. LLVM 22 crashes on larger copies in code for the
/// kernel.
#[inline(always)]
pub(crate) fn copy<T>(from: *const T, to: *mut T) {
    const { assert!(align_of::<T>() >= 4) };
    for at in 0..size_of::<T>() / 4 {
        // SAFETY: both pointers lead to a whole `T`, which consists of such words.
        unsafe {
            to.cast::<u32>()
                .add(at)
                .write_volatile(from.cast::<u32>().add(at).read_volatile())
        };
    }
}
