//! The metadata log's records, the image that they make, and the configs that clients set.

use quipu_base::{Offset, checksum::crc32c};
use quipu_metadata::{
    Delta, Image, SnapshotReader,
    codec::{FORMAT_VERSION, decode, encode},
    config::{BROKER_KEYS, ConfigKey, GROUP_KEYS, Lookup, TOPIC_KEYS},
};

use crate::{Outcome, memory, refuse};

/// Memory per byte of a record at most: an empty string is one byte, and 24 in a list, whose vector may be twice too large.
const MEMORY_PER_BYTE: usize = 64;

/// One record.
pub fn metadata_record(data: &[u8]) -> Outcome {
    let bytes_max = data.len() * MEMORY_PER_BYTE;
    let record = match memory::at_most(bytes_max, "decoding a metadata record", || decode(data)) {
        Ok(record) => record,
        Err(error) => return refuse(&error),
    };
    let encoded = encode(&record);
    assert!((1..=FORMAT_VERSION).contains(&encoded[0]));
    assert_eq!(decode(&encoded).as_ref(), Ok(&record));
    assert_eq!(encode(&record), encoded);
    Outcome::Accepted
}

/// Records one after the other, each behind its length in two bytes, applied to an empty image.
pub fn metadata_log(data: &[u8]) -> Outcome {
    let mut image = Image::new();
    let mut outcome = Outcome::Refused;
    for (record, offset) in split(data).zip((0..).map(Offset)) {
        let Ok(record) = decode(record) else { continue };
        let before = image.clone();
        match image.apply(offset, &record, &mut Delta::default()) {
            Ok(()) => {
                assert_eq!(image.next_offset(), offset.next());
                outcome = Outcome::Accepted;
            }
            Err(error) => {
                refuse(&error);
                assert_eq!(image, before, "a record that is refused changes nothing");
            }
        }
    }
    for topic in image.topics() {
        for (_, partition) in topic.partitions() {
            partition.check().expect("the image has only sound partitions");
        }
    }
    let records = image.to_records();
    assert_eq!(Image::rebuild(image.next_offset(), &records).as_ref(), Ok(&image), "a snapshot is the image");
    outcome
}

/// A snapshot, as it is and with its checksum put right, so that the fuzzer gets behind it.
pub fn metadata_snapshot(data: &[u8]) -> Outcome {
    let mut sealed = data.to_vec();
    if let Some(body) = data.len().checked_sub(4) {
        sealed[body..].copy_from_slice(&crc32c(&data[..body]).to_le_bytes());
    }
    snapshot(data).or(snapshot(&sealed))
}

fn snapshot(data: &[u8]) -> Outcome {
    let read = |piece_bytes: usize| {
        let mut reader = SnapshotReader::new();
        for piece in data.chunks(piece_bytes) {
            reader.push(piece)?;
        }
        reader.finish()
    };
    let whole = read(data.len().max(1));
    assert_eq!(read(7), whole, "pieces make no difference");
    match whole {
        Ok(image) => {
            let pieces: Vec<_> = image.to_pieces(100).collect();
            let mut reader = SnapshotReader::new();
            pieces.iter().for_each(|piece| reader.push(piece).expect("it was just written"));
            assert_eq!(reader.finish(), Ok(image));
            Outcome::Accepted
        }
        Err(error) => refuse(&error),
    }
}

fn split(mut data: &[u8]) -> impl Iterator<Item = &[u8]> {
    core::iter::from_fn(move || {
        let (length, rest) = data.split_first_chunk()?;
        let (record, rest) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
        data = rest;
        Some(record)
    })
}

/// A config as a client sets it. The first byte chooses among topics', brokers' and groups' configs, 255 a name of its own before `=`.
pub fn config(data: &[u8]) -> Outcome {
    let Some((choice, text)) = data.split_first() else { return Outcome::Refused };
    let text = String::from_utf8_lossy(text);
    if *choice == u8::MAX {
        let (name, value) = text.split_once('=').unwrap_or((&text, ""));
        let known = Lookup::topic(name).known(name).or_else(|_| Lookup::group(name).known(name));
        return match known.or_else(|_| Lookup::broker(name).known(name)) {
            Ok(key) => {
                assert_eq!(key.name, name);
                accept(key, value)
            }
            Err(error) => refuse(&error),
        };
    }
    let mut keys = TOPIC_KEYS.iter().chain(BROKER_KEYS).chain(GROUP_KEYS).cycle();
    let key = keys.nth((*choice).into()).expect("there is no end");
    accept(key, &text)
}

fn accept(key: &ConfigKey, text: &str) -> Outcome {
    match key.accept(text) {
        Ok(value) => {
            assert_eq!(key.accept(&value.to_string()), Ok(value), "a value that is reported can be set");
            Outcome::Accepted
        }
        Err(error) => refuse(&error),
    }
}
