//! What the allocator gives back to the system.
//!
//! Frames and groups of about a megabyte come and go thousands of times a second. As it comes, glibc's allocator maps memory for
//! each and unmaps it, or trims its heap, and the kernel clears every page anew: a tenth of the processor time of a loaded
//! broker. Measured with 1 KB records: 2.26 s instead of 2.75 s for 2 GB.

/// From this size on, memory is mapped for one buffer and unmapped with it.
#[cfg(target_env = "gnu")]
const MAPPED_BYTES_MIN: i32 = 4 << 20;
/// Free memory at the heap's end is kept up to this.
#[cfg(target_env = "gnu")]
const KEPT_BYTES_MAX: i32 = 64 << 20;

/// Lets the allocator keep some of what was freed for what is asked for next. For processes that serve; to be called once, at
/// the start.
pub fn keep_freed_memory() {
    #[cfg(target_env = "gnu")]
    #[expect(unsafe_code, reason = "the allocator has no other interface")]
    // SAFETY: both set a number in the allocator, under its own lock.
    let accepted = unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_BYTES_MIN) == 1
            && libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT_BYTES_MAX) == 1
    };
    #[cfg(target_env = "gnu")]
    if !accepted {
        tracing::debug!("the allocator goes on as it came");
    }
}
