//! How much memory a piece of work takes at once.

use quipu_base::limits::KIB;

/// What any work may take besides: an error's text, a handful of reference counts.
const SLACK_BYTES: usize = 4 * KIB;

/// Does `work` and asserts that it never holds more than `bytes_max` and a few KiB. `what` is for the message.
pub(crate) fn at_most<T>(bytes_max: usize, what: &str, work: impl FnOnce() -> T) -> T {
    measured(bytes_max, what, work).0
}

/// The same; tells how much was held at once, in bytes.
pub(crate) fn measured<T>(bytes_max: usize, what: &str, work: impl FnOnce() -> T) -> (T, usize) {
    let mut done = None;
    let seen = allocation_counter::measure(|| done = Some(work()));
    let peak_bytes = usize::try_from(seen.bytes_max).expect("memory fits an address");
    assert!(
        peak_bytes <= bytes_max.saturating_add(SLACK_BYTES),
        "{what} took {peak_bytes} bytes of memory, {bytes_max} are allowed"
    );
    (done.expect("the work was done"), peak_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_held_at_once_is_seen() {
        let (length, peak_bytes) = measured(100 * KIB, "work", || {
            let first = vec![1_u8; 40 * KIB];
            let length = first.len();
            drop(first);
            length + vec![2_u8; 60 * KIB].len()
        });
        assert_eq!((length, peak_bytes), (100 * KIB, 60 * KIB));
        let too_much = std::panic::catch_unwind(|| at_most(10 * KIB, "work", || vec![1_u8; 20 * KIB].len()));
        assert!(too_much.is_err());
    }
}
