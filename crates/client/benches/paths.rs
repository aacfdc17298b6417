//! How fast the client is by itself: from records to sealed batches, and from fetched bytes to records. No network.
//! `cargo bench -p quipu-client`; throughput is in records.

use std::{hint::black_box, sync::Arc};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use quipu_client::{
    Codec, PartitionIndex, ProducerRecord, TopicPartition,
    bench::{Gathering, read},
};

const RECORDS: u64 = 10_000;
/// Name, bytes of a value.
const SHAPES: [(&str, usize); 2] = [("100 B", 100), ("1 KB", 1024)];
const CODECS: [Codec; 3] = [Codec::None, Codec::Lz4, Codec::Zstd];
/// A producer's default, and what one sets for throughput.
const BATCHES: [(&str, usize); 2] = [("16 KiB", 16 * 1024), ("1 MiB", 1024 * 1024)];

/// Records with keys, about as compressible as log lines.
fn records(value_bytes: usize) -> Vec<ProducerRecord> {
    let topic: Arc<str> = Arc::from("bench");
    let record = |number: u64| {
        let words = (0..).map(|word: u64| format!("word {} ", (number + 1).wrapping_mul(word + 7) * 40_503 % 1000));
        let mut value: Vec<u8> = words.flat_map(String::into_bytes).take(value_bytes).collect();
        value.truncate(value_bytes);
        ProducerRecord::new(Arc::clone(&topic), value).with_key(format!("key {}", number % 1000))
    };
    (0..RECORDS).map(record).collect()
}

fn gathering(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("gather");
    group.throughput(Throughput::Elements(RECORDS)).sample_size(20);
    for (shape, value_bytes) in SHAPES {
        let records = records(value_bytes);
        for (batch, batch_bytes) in BATCHES {
            for codec in CODECS {
                let id = BenchmarkId::new(codec.name(), format!("{shape}, batches of {batch}"));
                group.bench_function(id, |bencher| {
                    let mut gathering = Gathering::new(6, batch_bytes, codec);
                    bencher.iter(|| {
                        records.iter().for_each(|record| gathering.take(black_box(record)));
                        gathering.seal()
                    });
                });
            }
        }
    }
    group.finish();
}

fn reading(criterion: &mut Criterion) {
    let own = TopicPartition::new("bench", PartitionIndex(0));
    let mut group = criterion.benchmark_group("read");
    group.throughput(Throughput::Elements(RECORDS)).sample_size(20);
    for (shape, value_bytes) in SHAPES {
        let records = records(value_bytes);
        for (batch, batch_bytes) in BATCHES {
            for codec in CODECS {
                let bytes = fetched(&records, batch_bytes, codec);
                let id = BenchmarkId::new(codec.name(), format!("{shape}, batches of {batch}"));
                group.bench_function(id, |bencher| bencher.iter(|| read(black_box(bytes.clone()), &own)));
            }
        }
    }
    group.finish();
}

/// The records as a broker would send them, with offsets.
fn fetched(records: &[ProducerRecord], batch_bytes: usize, codec: Codec) -> Bytes {
    let mut gathering = Gathering::new(1, batch_bytes, codec);
    records.iter().for_each(|record| gathering.take(record));
    let mut log = Vec::new();
    let mut base_offset: i64 = 0;
    for (batch, record_count) in gathering.seal() {
        // The base offset is not covered by the checksum.
        log.extend_from_slice(&base_offset.to_be_bytes());
        log.extend_from_slice(&batch.bytes()[8..]);
        base_offset += i64::from(record_count);
    }
    Bytes::from(log)
}

criterion_group!(benches, gathering, reading);
criterion_main!(benches);
