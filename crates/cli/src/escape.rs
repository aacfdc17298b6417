//! Backslashes on the command line: `\n`, `\t`, `\r`, `\0`, `\\`.

/// The bytes that a text with backslashes stands for, at least one.
///
/// Errors: it is empty, or another character follows a backslash.
pub(crate) fn bytes(text: &str) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        let after = &rest[at + 1..];
        out.push(escaped(after)?);
        rest = &after[1..];
    }
    out.extend_from_slice(rest.as_bytes());
    if out.is_empty() { Err("it is empty".to_owned()) } else { Ok(out) }
}

/// What the first character behind a backslash stands for.
///
/// Errors: nothing.
pub(crate) fn escaped(after: &str) -> Result<u8, String> {
    match after.chars().next() {
        Some('n') => Ok(b'\n'),
        Some('t') => Ok(b'\t'),
        Some('r') => Ok(b'\r'),
        Some('0') => Ok(0),
        Some('\\') => Ok(b'\\'),
        Some(other) => Err(format!("`\\{other}` means nothing; \\n, \\t, \\r, \\0 and \\\\ do")),
        None => Err("a backslash stands at the end; write two for one".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backslashes_stand_for_bytes() {
        for (text, expected) in [
            ("\\t", &b"\t"[..]),
            ("a\\\\nb", b"a\\nb"),
            ("\\n\\r\\0", b"\n\r\0"),
            ("::", b"::"),
            ("é\\t", b"\xc3\xa9\t"),
        ] {
            assert_eq!(bytes(text).as_deref(), Ok(expected), "{text}");
        }
        for (text, word) in [("", "empty"), ("\\", "end"), ("\\q", "\\q"), ("\\é", "\\é")] {
            assert!(bytes(text).unwrap_err().contains(word), "{text}");
        }
    }
}
