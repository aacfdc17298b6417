//! Hostile input costs no more memory than its bound. Measured with a counting allocator, so this is a process with one test.
//!
//! zstd's own working memory is C's and not counted; what it decompresses into is.

use bytes::Bytes;
use quipu_records::{Codec, DecompressError, compression::compress_into, compression::decompress};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

const MIB: usize = 1 << 20;

/// The most bytes that were allocated at once while `body` ran.
fn peak_bytes<R>(body: impl FnOnce() -> R) -> (R, usize) {
    let profiler = dhat::Profiler::builder().testing().build();
    let result = body();
    let peak = dhat::HeapStats::get().max_bytes;
    drop(profiler);
    (result, peak)
}

fn compressed(codec: Codec, plain_bytes: usize) -> Bytes {
    let mut out = Vec::new();
    compress_into(codec, None, &vec![0; plain_bytes], &mut out).expect("compresses");
    Bytes::from(out)
}

#[test]
fn bombs_allocate_no_more_than_the_bound() {
    let bytes_max = 16 * MIB;
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        // What a codec needs beside its output.
        let working_bytes = if codec == Codec::Lz4 { 8 * MIB } else { MIB / 4 };
        let bomb = compressed(codec, 64 * MIB);
        let (result, peak) = peak_bytes(|| decompress(codec, &bomb, bytes_max));
        assert_eq!(result, Err(DecompressError::TooLarge { codec, bytes_max }));
        assert!(peak <= bytes_max + working_bytes, "{codec}: {peak}");

        let honest = compressed(codec, bytes_max);
        let (result, peak) = peak_bytes(|| decompress(codec, &honest, bytes_max));
        assert_eq!(result.map(|plain| plain.len()), Ok(bytes_max));
        assert!((bytes_max..=bytes_max + working_bytes).contains(&peak), "{codec}: {peak}");
    }
    // Sizes that only claim to be large: 1 GiB in a raw snappy block of ten bytes.
    let claim = Bytes::from_static(&[0x80, 0x80, 0x80, 0x80, 0x04, 0, 0, 0, 0, 0]);
    let (result, peak) = peak_bytes(|| decompress(Codec::Snappy, &claim, bytes_max));
    assert!(matches!(result, Err(DecompressError::Corrupt { .. })), "{result:?}");
    assert!(peak < MIB, "{peak}");
}
