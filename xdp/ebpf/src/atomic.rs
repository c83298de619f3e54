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

/// Writes a word after everything that was written before.
#[inline(always)]
pub(crate) fn publish(to: *mut u64, word: u64) {
    // SAFETY: as in `read`. An exchange is a full barrier.
    unsafe { core::intrinsics::atomic_xchg::<u64, { core::intrinsics::AtomicOrdering::SeqCst }>(to, word) };
}

/// Writes a word if it is still the one that was read. It is a full barrier.
#[inline(always)]
pub(crate) fn change(word: *mut u64, from: u64, to: u64) -> bool {
    use core::intrinsics::AtomicOrdering::SeqCst;
    // SAFETY: as in `read`.
    let (before, _) = unsafe { core::intrinsics::atomic_cxchg::<u64, { SeqCst }, { SeqCst }>(word, from, to) };
    before == from
}

/// What was read before is read before what is read afterwards.
#[inline(always)]
pub(crate) fn fence() {
    // Processors of x86 read in order. Others do so around an atomic addition.
    #[cfg(weak_order)]
    {
        let mut word = 0_u64;
        // SAFETY: the word is on this program's own stack.
        unsafe { core::intrinsics::atomic_xadd::<u64, u64, { core::intrinsics::AtomicOrdering::SeqCst }>(&raw mut word, 0) };
    }
}
