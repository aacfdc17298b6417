//! How a record is printed, as a short text: `%t-%p %o: %v\n`.

use std::io::Write;

use quipu_client::ConsumerRecord;

use crate::escape::escaped;

#[derive(Clone, PartialEq, Eq, Debug)]
enum Part {
    Literal(Vec<u8>),
    Topic,
    Partition,
    Offset,
    Timestamp,
    Key,
    Value,
    Headers,
}

/// A template that was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Template(Vec<Part>);

/// Reads a template.
///
/// Errors: a percent sign or a backslash before what means nothing.
pub(super) fn parse(text: &str) -> Result<Template, String> {
    let mut parts = Vec::new();
    let mut literal = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(['%', '\\']) {
        literal.extend_from_slice(&rest.as_bytes()[..at]);
        let after = &rest[at + 1..];
        if rest.as_bytes()[at] == b'\\' {
            literal.push(escaped(after)?);
        } else {
            match part(after)? {
                Some(part) => {
                    if !literal.is_empty() {
                        parts.push(Part::Literal(std::mem::take(&mut literal)));
                    }
                    parts.push(part);
                }
                None => literal.push(b'%'),
            }
        }
        // What stands behind either sign is one byte long.
        rest = &after[1..];
    }
    literal.extend_from_slice(rest.as_bytes());
    if !literal.is_empty() {
        parts.push(Part::Literal(literal));
    }
    Ok(Template(parts))
}

/// What stands behind a percent sign; none for a percent sign.
fn part(after: &str) -> Result<Option<Part>, String> {
    Ok(Some(match after.chars().next() {
        Some('%') => return Ok(None),
        Some('t') => Part::Topic,
        Some('p') => Part::Partition,
        Some('o') => Part::Offset,
        Some('T') => Part::Timestamp,
        Some('k') => Part::Key,
        Some('v') => Part::Value,
        Some('h') => Part::Headers,
        Some(other) => return Err(format!("`%{other}` means nothing; %t %p %o %T %k %v %h and %% do")),
        None => return Err("a percent sign stands at the end; write two for one".to_owned()),
    }))
}

impl Template {
    pub(super) fn write(&self, record: &ConsumerRecord, out: &mut Vec<u8>) {
        for part in &self.0 {
            match part {
                Part::Literal(bytes) => out.extend_from_slice(bytes),
                Part::Topic => out.extend_from_slice(record.topic.as_bytes()),
                Part::Partition => number(i64::from(record.partition.0), out),
                Part::Offset => number(record.offset.0, out),
                Part::Timestamp => number(record.timestamp.0, out),
                Part::Key => out.extend_from_slice(record.key.as_deref().unwrap_or_default()),
                Part::Value => out.extend_from_slice(record.value.as_deref().unwrap_or_default()),
                Part::Headers => headers(record, out),
            }
        }
    }
}

fn number(number: i64, out: &mut Vec<u8>) {
    write!(out, "{number}").expect("memory takes what is written");
}

fn headers(record: &ConsumerRecord, out: &mut Vec<u8>) {
    for (place, header) in record.headers.iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        out.extend_from_slice(&header.key);
        out.push(b'=');
        out.extend_from_slice(header.value.as_deref().unwrap_or_default());
    }
}

#[cfg(test)]
pub(super) mod tests {
    use quipu_client::{Header, Offset, PartitionIndex, Timestamp, TimestampType};

    use super::*;

    pub(in crate::consume) fn record() -> ConsumerRecord {
        ConsumerRecord {
            topic: "knots".into(),
            partition: PartitionIndex(3),
            offset: Offset(42),
            leader_epoch: None,
            timestamp: Timestamp(1_700_000_000_000),
            timestamp_type: TimestampType::CreateTime,
            key: Some("key".into()),
            value: Some("value".into()),
            headers: vec![Header::new("a", "1"), Header { key: "b".into(), value: None }],
        }
    }

    fn printed(template: &str, record: &ConsumerRecord) -> Vec<u8> {
        let mut out = Vec::new();
        parse(template).unwrap().write(record, &mut out);
        out
    }

    #[test]
    fn every_part_is_printed() {
        let expected = "knots-3 42 1700000000000 key=value [a=1,b=] 100%\t\\\n";
        assert_eq!(printed("%t-%p %o %T %k=%v [%h] 100%%\\t\\\\\\n", &record()), expected.as_bytes());
        assert_eq!(printed("", &record()), b"");
        assert_eq!(printed("größer %o", &record()), "größer 42".as_bytes());
    }

    #[test]
    fn what_is_not_there_is_nothing_and_bytes_are_bytes() {
        let record = ConsumerRecord { key: None, value: Some(vec![0xff, 0].into()), headers: vec![], ..record() };
        assert_eq!(printed("<%k><%v><%h>", &record), b"<><\xff\0><>");
    }

    #[test]
    fn what_means_nothing_is_named() {
        for (template, word) in [("%x", "%x"), ("a%", "percent"), ("\\x", "\\x"), ("a\\", "backslash"), ("%é", "%é")]
        {
            assert!(parse(template).unwrap_err().contains(word), "{template}");
        }
    }
}
