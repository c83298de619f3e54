//! Gives memory back to the system. The first lists are decoded in many small pieces. Unless the allocator is asked,
//! the process keeps that memory for ever.

/// Returns the allocator's free memory to the system.
pub(crate) fn give_back() {
    #[cfg(target_env = "gnu")]
    #[expect(unsafe_code, reason = "a call into the C library's allocator")]
    // SAFETY: malloc_trim may be called at any time, from any thread; it takes the allocator's own locks.
    unsafe {
        libc::malloc_trim(0);
    }
}
