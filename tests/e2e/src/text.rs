//! Text to send: lines that differ, of many lengths, the same on every run.

use std::fmt::Write;

/// `count` lines, none empty, each with its number so that a swap or a loss shows.
pub(crate) fn lines(count: usize) -> Vec<String> {
    const WORDS: [&str; 12] =
        ["cord", "knot", "runner", "relay", "town", "harvest", "llama", "maize", "Cuzco", "größer", "тракт", "記録"];
    let mut state = 88_172_645_463_325_252_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).unwrap()
    };
    (0..count)
        .map(|number| {
            let mut line = format!("{number}");
            for _ in 0..next() % 24 {
                write!(line, " {}", WORDS[next() % WORDS.len()]).unwrap();
            }
            line
        })
        .collect()
}

/// The lines as a file has them.
pub(crate) fn file(lines: &[String]) -> Vec<u8> {
    (lines.join("\n") + "\n").into_bytes()
}

/// One record as the Python and Java programs print it: `partition:offset:value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Printed {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) value: String,
}

/// Reads what a consuming program printed.
pub(crate) fn printed(output: &[u8]) -> Vec<Printed> {
    let parse = |line: &str| {
        let mut parts = line.splitn(3, ':');
        let mut part = || parts.next().unwrap_or_else(|| panic!("not a printed record: {line:?}"));
        Printed { partition: part().parse().unwrap(), offset: part().parse().unwrap(), value: part().to_owned() }
    };
    std::str::from_utf8(output).unwrap().lines().map(parse).collect()
}

/// Asserts that one partition's records are exactly `expected`, at offsets 0, 1, 2, ...
pub(crate) fn assert_whole(records: &[Printed], expected: &[String]) {
    assert_eq!(records.len(), expected.len(), "as many records as lines");
    for (index, (record, line)) in records.iter().zip(expected).enumerate() {
        assert_eq!(usize::try_from(record.offset).unwrap(), index, "offsets are dense");
        assert_eq!(&record.value, line, "at offset {index}");
    }
}
