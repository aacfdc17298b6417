//! How far it is, as one line on a terminal.
//!
//! Invariant: nothing is written unless stderr is a terminal.

use std::{
    io::{self, Write},
    time::{Duration, Instant},
};

/// The terminal's line is written at most this often.
const PERIOD: Duration = Duration::from_millis(100);
const BAR_WIDTH: u64 = 24;

/// The line, and what it tells.
pub(super) struct Progress {
    is_shown: bool,
    bytes_total: Option<u64>,
    begun: Instant,
    written: Option<Instant>,
}

impl Progress {
    pub(super) fn new(bytes_total: Option<u64>, is_shown: bool) -> Self {
        Self { is_shown, bytes_total, begun: Instant::now(), written: None }
    }

    /// Shows how much is on its way, unless that was shown just now.
    pub(super) fn show(&mut self, records: u64, bytes: u64) {
        if !self.is_shown || self.written.is_some_and(|written| written.elapsed() < PERIOD) {
            return;
        }
        let now = Instant::now();
        self.written = Some(now);
        self.write(&format!("\r{}\x1b[K", line(records, bytes, self.bytes_total, now - self.begun)));
    }

    /// Takes the line away.
    pub(super) fn clear(&mut self) {
        if self.written.take().is_some() {
            self.write("\r\x1b[K");
        }
    }

    fn write(&mut self, text: &str) {
        // A terminal that went away is shown nothing more.
        self.is_shown = io::stderr().write_all(text.as_bytes()).is_ok();
    }
}

/// `[#####               ]  20%  1234 records  1.2 MB  3.4 MB/s`, without the bar where the end is not known.
fn line(records: u64, bytes: u64, bytes_total: Option<u64>, elapsed: Duration) -> String {
    let per_second = u128::from(bytes) * 1000 / elapsed.as_millis().max(1);
    let rate = size(u64::try_from(per_second).unwrap_or(u64::MAX));
    let told = format!("{records} records  {}  {rate}/s", size(bytes));
    let Some(total) = bytes_total.filter(|total| *total > 0) else { return told };
    let of = |whole: u64| {
        u64::try_from(u128::from(bytes.min(total)) * u128::from(whole) / u128::from(total)).unwrap_or(whole)
    };
    let (done, percent) = (of(BAR_WIDTH), of(100));
    let signs: String = (0..BAR_WIDTH).map(|at| if at < done { '#' } else { ' ' }).collect();
    format!("[{signs}] {percent:>3}%  {told}")
}

/// Bytes as people read them, in powers of 1000.
pub(super) fn size(bytes: u64) -> String {
    let (mut tenths, mut unit) = (u128::from(bytes) * 10, 0);
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    while tenths >= 10_000 && unit + 1 < UNITS.len() {
        tenths /= 1000;
        unit += 1;
    }
    match unit {
        0 => format!("{bytes} B"),
        _ => format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        for (bytes, told) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (1_250_000, "1.2 MB"),
            (999_999_999, "999.9 MB"),
            (u64::MAX, "18446.7 PB"),
        ] {
            assert_eq!(size(bytes), told);
        }
    }

    #[test]
    fn the_line_has_a_bar_if_the_end_is_known() {
        let second = Duration::from_secs(1);
        assert_eq!(line(7, 500, None, second), "7 records  500 B  500 B/s");
        assert_eq!(line(7, 500, Some(1000), second), "[############            ]  50%  7 records  500 B  500 B/s");
        assert!(line(7, 2000, Some(1000), Duration::ZERO).starts_with("[########################] 100%"));
        assert_eq!(line(0, 0, Some(0), second), "0 records  0 B  0 B/s");
    }
}
