//! A record as one line of JSON. What is UTF-8 is text; what is not is base64, under a name that says so: `key_base64`,
//! `value_base64`.

use base64::{Engine, engine::general_purpose::STANDARD};
use quipu_client::{ConsumerRecord, Header, Timestamp};
use serde::{Serialize, Serializer, ser::SerializeMap};

/// Writes the line, with its newline.
pub(super) fn write(record: &ConsumerRecord, out: &mut Vec<u8>) {
    serde_json::to_writer(&mut *out, &Record(record)).expect("memory takes what is written, and every name is text");
    out.push(b'\n');
}

struct Record<'a>(&'a ConsumerRecord);

impl Serialize for Record<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let record = self.0;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("topic", &*record.topic)?;
        map.serialize_entry("partition", &record.partition.0)?;
        map.serialize_entry("offset", &record.offset.0)?;
        let timestamp = Some(record.timestamp).filter(|timestamp| *timestamp != Timestamp::NONE);
        map.serialize_entry("timestamp_ms", &timestamp.map(|timestamp| timestamp.0))?;
        bytes(&mut map, ["key", "key_base64"], record.key.as_deref())?;
        bytes(&mut map, ["value", "value_base64"], record.value.as_deref())?;
        map.serialize_entry("headers", &Headers(&record.headers))?;
        map.end()
    }
}

struct Headers<'a>(&'a [Header]);

impl Serialize for Headers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(OneHeader))
    }
}

struct OneHeader<'a>(&'a Header);

impl Serialize for OneHeader<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        bytes(&mut map, ["key", "key_base64"], Some(&self.0.key))?;
        bytes(&mut map, ["value", "value_base64"], self.0.value.as_deref())?;
        map.end()
    }
}

/// Bytes under the first name if they are text, or null; else under the second one.
fn bytes<M: SerializeMap>(map: &mut M, [text, base64]: [&str; 2], bytes: Option<&[u8]>) -> Result<(), M::Error> {
    let Some(bytes) = bytes else { return map.serialize_entry(text, &()) };
    match str::from_utf8(bytes) {
        Ok(known) => map.serialize_entry(text, known),
        Err(_) => map.serialize_entry(base64, &STANDARD.encode(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consume::template::tests::record;

    fn line(record: &ConsumerRecord) -> String {
        let mut out = Vec::new();
        write(record, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_record_is_one_line() {
        assert_eq!(
            line(&record()),
            "{\"topic\":\"knots\",\"partition\":3,\"offset\":42,\"timestamp_ms\":1700000000000,\"key\":\"key\",\
             \"value\":\"value\",\"headers\":[{\"key\":\"a\",\"value\":\"1\"},{\"key\":\"b\",\"value\":null}]}\n"
        );
    }

    #[test]
    fn what_is_not_text_is_base64_under_another_name() {
        let record = ConsumerRecord {
            timestamp: Timestamp::NONE,
            key: None,
            value: Some(vec![0xff, 0xfe].into()),
            headers: vec![Header::new(vec![0xff], "line\n")],
            ..record()
        };
        assert_eq!(
            line(&record),
            "{\"topic\":\"knots\",\"partition\":3,\"offset\":42,\"timestamp_ms\":null,\"key\":null,\"value_base64\":\"//4=\",\
             \"headers\":[{\"key_base64\":\"/w==\",\"value\":\"line\\n\"}]}\n"
        );
    }
}
