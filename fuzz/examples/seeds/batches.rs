//! Batches of real clients and of ours, under every codec, and damaged ones.

use quipu_base::{ProducerEpoch, ProducerId, Sequence, Timestamp, checksum::crc32c};
use quipu_records::{BatchBuilder, Codec, NewRecord, RecordHeader, compression::compress_into};

use crate::Seeds;

macro_rules! golden {
    ($($name:literal)*) => {
        [ $( ($name, include_bytes!(concat!("../../../crates/records/tests/records/golden/", $name, ".bin")).as_slice()) ),* ]
    };
}
const GOLDEN: &[(&str, &[u8])] = &golden![
    "aiokafka-short-gzip" "aiokafka-short-lz4" "aiokafka-short-none" "aiokafka-short-snappy" "aiokafka-short-zstd"
    "java-short-gzip" "java-short-lz4" "java-short-none" "java-short-snappy" "java-short-zstd" "kafka-python-short-none"
];
const HEADER_BYTES: usize = 61;

pub(crate) fn add(seeds: &mut Seeds) {
    let mut all = Vec::new();
    for (name, bytes) in GOLDEN.iter().copied() {
        seeds.good("batch", name, bytes.to_vec());
        all.extend_from_slice(bytes);
        add_stream(seeds, name, bytes[22] & 7, &bytes[HEADER_BYTES..]);
    }
    seeds.good("batches", "of-all-clients", all.clone());
    all.truncate(all.len() - 7);
    seeds.good("batches", "cut-off", all);
    for codec in Codec::ALL {
        let batch = built(codec);
        seeds.good("batch", format!("ours-{codec}"), batch.clone());
        seeds.good("batches", format!("ours-{codec}"), batch);
    }
    add_damaged(seeds);
    add_streams(seeds);
}

/// Three records: with a key and headers, without either, and a tombstone.
fn built(codec: Codec) -> Vec<u8> {
    let headers = [RecordHeader { key: b"h", value: Some(b"v") }, RecordHeader { key: b"", value: None }];
    let record = |timestamp, key, value, headers| NewRecord { timestamp: Timestamp(timestamp), key, value, headers };
    let long = [b'v'; 300];
    let producer = (ProducerId(4711), ProducerEpoch(3), Sequence(i32::MAX));
    let mut builder =
        BatchBuilder::new().codec(codec, None).producer(producer.0, producer.1, producer.2).transactional();
    for record in [
        record(1_700_000_000_000, Some(&b"key"[..]), Some(&long[..]), &headers[..]),
        record(1_600_000_000_000, None, Some(b""), &[]),
        record(-1, Some(b"gone"), None, &headers[..1]),
    ] {
        builder.push(&record).expect("a small record");
    }
    builder.build().expect("a small batch").into_bytes().to_vec()
}

fn add_damaged(seeds: &mut Seeds) {
    let plain = built(Codec::None);
    let changed = |at: usize, with: &[u8]| {
        let mut bytes = plain.clone();
        bytes[at..at + with.len()].copy_from_slice(with);
        bytes
    };
    for (name, bytes) in [
        ("empty", Vec::new()),
        ("header-only", plain[..HEADER_BYTES].to_vec()),
        ("half-a-header", plain[..30].to_vec()),
        ("cut-off", plain[..plain.len() - 1].to_vec()),
        ("legacy-magic", changed(16, &[1])),
        ("length-7fffffff", changed(8, &[0x7f, 0xff, 0xff, 0xff])),
        ("length-negative", changed(8, &[0xff, 0xff, 0xff, 0xff])),
    ] {
        seeds.bad("batch", name, bytes.clone());
        seeds.bad("batches", name, bytes);
    }
    for (name, at, with) in [
        ("7fffffff-records", 57, &[0x7f, 0xff, 0xff, 0xff][..]),
        ("negative-records", 57, &[0xff, 0xff, 0xff, 0xff]),
        ("no-records", 57, &[0, 0, 0, 0]),
        ("unknown-codec", 21, &[0, 7]),
        ("control", 21, &[0, 0x30]),
        ("base-timestamp-at-the-end-of-time", 27, &[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        ("record-of-negative-length", HEADER_BYTES, &[1]),
        ("record-of-many-bytes", HEADER_BYTES, &[0xfe, 0xff, 0xff, 0xff, 0x0f]),
        ("endless-varint", HEADER_BYTES, &[0xff; 12]),
    ] {
        let mut bytes = changed(at, with);
        let crc = crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        seeds.bad("batch", name, bytes);
    }
    let mut largest = changed(0, &[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    largest[23..27].copy_from_slice(&[0x7f, 0xff, 0xff, 0xff]);
    seeds.bad("batches", "largest-offset", largest);
}

fn add_stream(seeds: &mut Seeds, name: &str, codec: u8, stream: &[u8]) {
    if let Some(choice) = codec.checked_sub(1) {
        seeds.good("compressed", name, [&[choice], stream].concat());
    }
}

fn add_streams(seeds: &mut Seeds) {
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let compressed = |plain: &[u8]| {
            let mut stream = vec![codec.id() - 1];
            compress_into(codec, None, plain, &mut stream).expect("any bytes can be compressed");
            stream
        };
        let text: Vec<u8> = (0..2000_u32).flat_map(|number| number.to_string().into_bytes()).collect();
        seeds.good("compressed", format!("nothing-{codec}"), compressed(b""));
        seeds.good("compressed", format!("text-{codec}"), compressed(&text));
        seeds.good("compressed", format!("zeros-{codec}"), compressed(&[0; 100_000]));
        seeds.bad("compressed", format!("bomb-{codec}"), compressed(&vec![0; 1 << 20]));
        let mut trailing = compressed(&text[..50]);
        trailing.extend_from_slice(b"behind the end");
        seeds.bad("compressed", format!("trailing-{codec}"), trailing);
        let cut = compressed(&text);
        seeds.bad("compressed", format!("cut-off-{codec}"), cut[..cut.len() / 2].to_vec());
        let mut damaged = compressed(&text);
        let middle = damaged.len() / 2;
        damaged[middle] ^= 0x10;
        seeds.bad("compressed", format!("damaged-{codec}"), damaged);
    }
    seeds.good("compressed", "raw-snappy", b"\x01\x05\x10hello".to_vec());
    seeds.bad("compressed", "raw-snappy-of-1-gib", b"\x01\x80\x80\x80\x80\x04\0\0\0\0\0".to_vec());
    let xerial = b"\x01\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";
    seeds.bad("compressed", "java-snappy-chunk-7fffffff", [&xerial[..], b"\x7f\xff\xff\xff"].concat());
    seeds.bad("compressed", "java-snappy-chunk-negative", [&xerial[..], b"\xff\xff\xff\xff"].concat());
    seeds.bad("compressed", "zstd-window-of-2-gib", b"\x03\x28\xb5\x2f\xfd\x00\xa8\x01\0\0".to_vec());
}
