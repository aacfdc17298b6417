//! How much memory a piece of work takes at once.

use quipu_base::limits::KIB;

/// What any work may take besides: an error's text, a handful of reference counts.
const SLACK_BYTES: usize = 4 * KIB;

/// Does `work` and asserts that it never holds more than `bytes_max` and a few KiB. `what` is for the message.
pub(crate) fn at_most<T>(bytes_max: usize, what: &str, work: impl FnOnce() -> T) -> T {
    let (done, peak_bytes) = peak(work);
    assert!(
        peak_bytes <= bytes_max.saturating_add(SLACK_BYTES),
        "{what} took {peak_bytes} bytes of memory, {bytes_max} are allowed"
    );
    done
}

/// Does `work` and tells how much it held at once, in bytes.
pub(crate) fn peak<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let mut done = None;
    let seen = allocation_counter::measure(|| done = Some(work()));
    let peak_bytes = usize::try_from(seen.bytes_max).expect("memory fits an address");
    (done.expect("the work was done"), peak_bytes)
}
