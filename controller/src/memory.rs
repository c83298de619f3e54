//! The C library's allocator: one heap for all threads, and free memory goes back to the system after a load.

/// Lets all threads share one heap. Call this before the first thread is started.
///
/// By default, each thread gets a heap of its own. One thread decodes an object and another one keeps it, so each of
/// these heaps is full of gaps.
pub(crate) fn share_one_heap() {
    #[cfg(target_env = "gnu")]
    #[expect(unsafe_code, reason = "a call into the C library's allocator")]
    // SAFETY: mallopt may be called at any time; the number of heaps counts for those that are made later.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Returns the allocator's free memory to the system. The first lists are decoded in many small pieces. Unless the
/// allocator is asked, the process keeps that memory for ever.
pub(crate) fn give_back() {
    #[cfg(target_env = "gnu")]
    #[expect(unsafe_code, reason = "a call into the C library's allocator")]
    // SAFETY: malloc_trim may be called at any time, from any thread; it takes the allocator's own locks.
    unsafe {
        libc::malloc_trim(0);
    }
}
