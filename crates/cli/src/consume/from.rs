//! Where to begin, as it is written on the command line.

use quipu_client::{Offset, Position, Timestamp};

use crate::time;

/// Reads `start`, `end`, an offset, `@` and milliseconds, a moment of RFC 3339, or a time before `now`.
///
/// Errors: it is none of them.
pub(super) fn position(text: &str, now: Timestamp) -> Result<Position, String> {
    let number = |text: &str| text.parse::<i64>().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
    let found = match text {
        "start" => Some(Position::Start),
        "end" => Some(Position::End),
        _ => None,
    };
    let before = || {
        let before_ms = time::parse_duration_ms(text.strip_prefix('-')?)?;
        Some(Timestamp(now.0.saturating_sub(before_ms).max(0)))
    };
    found
        .or_else(|| number(text).map(|offset| Position::Offset(Offset(offset))))
        .or_else(|| text.strip_prefix('@').and_then(number).map(|ms| Position::Timestamp(Timestamp(ms))))
        .or_else(|| before().map(Position::Timestamp))
        .or_else(|| time::parse(text).map(Position::Timestamp))
        .ok_or_else(|| {
            "write start, end, an offset such as 1234, or a time: 2026-03-01T12:00:00Z, @1772366400000 (milliseconds since 1970), \
             -10m (before now; units ms, s, m, h, d)"
                .to_owned()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000_000);

    #[test]
    fn all_forms_are_read() {
        for (text, expected) in [
            ("start", Position::Start),
            ("end", Position::End),
            ("0", Position::Offset(Offset(0))),
            ("9223372036854775807", Position::Offset(Offset(i64::MAX))),
            ("@1700000000000", Position::Timestamp(Timestamp(1_700_000_000_000))),
            ("-10m", Position::Timestamp(Timestamp(999_400_000))),
            ("-9999999d", Position::Timestamp(Timestamp(0))),
            ("1970-01-01T00:00:01Z", Position::Timestamp(Timestamp(1000))),
        ] {
            assert_eq!(position(text, NOW), Ok(expected), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused_with_the_forms() {
        for text in ["", "begin", "-1", "+1", "@", "@-1", "@+1", "-m", "9223372036854775808", "1.5", "2026-03-01"] {
            let message = position(text, NOW).unwrap_err();
            assert!(message.contains("-10m") && message.contains('@'), "{text}: {message}");
        }
    }
}
