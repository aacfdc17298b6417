//! How fast batches are validated, built and iterated. `cargo bench -p quipu-records`; throughput is in bytes of plain records.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use quipu_base::{Timestamp, checksum::crc32c};
use quipu_records::{Batch, BatchBuilder, Codec, HEADER_BYTES, NewRecord, RecordHeader, ValidateLimits, validate};

const LIMITS: ValidateLimits = ValidateLimits { batch_bytes_max: usize::MAX, decompressed_bytes_max: 1 << 26 };
/// Name, bytes of a value, records.
const SHAPES: [(&str, usize, usize); 2] = [("100 B x 10k", 100, 10_000), ("1 KB x 1k", 1024, 1_000)];
/// A batch as it comes from a producer that has not much to say.
const SMALL: (&str, usize, usize) = ("100 B x 1", 100, 1);

/// Words in an order that repeats late: about what log lines compress to.
fn value(seed: usize, value_bytes: usize) -> Vec<u8> {
    const WORDS: [&[u8]; 8] =
        [b"offset ", b"leader ", b"42 ", b"append ", b"GET /index ", b"partition=7 ", b"ok ", b"timeout after 30 s "];
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut value = Vec::with_capacity(value_bytes + 32);
    while value.len() < value_bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        value.extend_from_slice(WORDS[state % WORDS.len()]);
        value.extend_from_slice(&(state % 1000).to_string().into_bytes());
    }
    value.truncate(value_bytes);
    value
}

fn build(codec: Codec, values: &[Vec<u8>], headers: &[RecordHeader<'_>]) -> Batch {
    let mut builder = BatchBuilder::new().codec(codec, None);
    for (timestamp, value) in (1_700_000_000_000..).zip(values) {
        let record = NewRecord { timestamp: Timestamp(timestamp), key: Some(b"key-0001"), value: Some(value), headers };
        builder.push(&record).expect("fits");
    }
    builder.build().expect("fits")
}

fn values(value_bytes: usize, count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|index| value(index, value_bytes)).collect()
}

fn plain_bytes(values: &[Vec<u8>]) -> Throughput {
    let bytes = build(Codec::None, values, &[]).bytes().len() - HEADER_BYTES;
    Throughput::Bytes(u64::try_from(bytes).expect("fits"))
}

fn validation(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("validate");
    for (name, value_bytes, count) in SHAPES.into_iter().chain([SMALL]) {
        let values = values(value_bytes, count);
        group.throughput(plain_bytes(&values));
        for codec in Codec::ALL {
            let bytes = build(codec, &values, &[]).into_bytes();
            group.bench_function(BenchmarkId::new(codec.name(), name), |bencher| {
                bencher.iter(|| validate(black_box(bytes.clone()), &LIMITS).expect("valid"));
            });
        }
        let bytes =
            build(Codec::None, &values, &[RecordHeader { key: b"trace", value: Some(b"0123456789") }]).into_bytes();
        group.bench_function(BenchmarkId::new("none, a header each", name), |bencher| {
            bencher.iter(|| validate(black_box(bytes.clone()), &LIMITS).expect("valid"));
        });
    }
    group.finish();
}

fn building(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("build");
    for (name, value_bytes, count) in SHAPES {
        let values = values(value_bytes, count);
        group.throughput(plain_bytes(&values));
        for codec in Codec::ALL {
            group.bench_function(BenchmarkId::new(codec.name(), name), |bencher| {
                bencher.iter(|| build(codec, black_box(&values), &[]));
            });
        }
    }
    group.finish();
}

fn iteration(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("iterate");
    for (name, value_bytes, count) in SHAPES {
        let values = values(value_bytes, count);
        group.throughput(plain_bytes(&values));
        for codec in Codec::ALL {
            let batch = build(codec, &values, &[]);
            group.bench_function(BenchmarkId::new(codec.name(), name), |bencher| {
                bencher.iter(|| {
                    let records = black_box(&batch).records(1 << 26).expect("decompresses");
                    records.iter().fold(0, |sum, record| sum + record.expect("valid").value.map_or(0, <[u8]>::len))
                });
            });
        }
    }
    group.finish();
}

fn checksums(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("crc32c");
    for size in [100_usize, 1024, 16 * 1024, 1024 * 1024] {
        let bytes = value(1, size);
        group.throughput(Throughput::Bytes(u64::try_from(size).expect("fits")));
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| bencher.iter(|| crc32c(black_box(&bytes))));
    }
    group.finish();
}

/// The macro makes a public function without documentation, so it has to be out of sight.
mod groups {
    use super::*;

    criterion_group! {
        name = all;
        config = Criterion::default().without_plots();
        targets = validation, building, iteration, checksums
    }
}

criterion_main!(groups::all);
