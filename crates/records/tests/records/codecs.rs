//! The framings that clients other than ourselves write, made with the codecs' own libraries.

use std::io::{Read, Write};

use bytes::Bytes;
use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
use quipu_records::{
    Codec, HEADER_BYTES, ValidateLimits,
    compression::{compress_into, decompress},
    validate,
};

use crate::{build_with, read, short_records, with_body};

/// The short records again and again: more than any codec's block.
fn long_plain() -> Vec<u8> {
    let records: Vec<_> = (0..10_000).flat_map(|_| short_records()).collect();
    build_with(&records, Codec::None).bytes()[HEADER_BYTES..].to_vec()
}

fn check_stream(codec: Codec, compressed: Vec<u8>, plain: &[u8]) {
    assert_eq!(decompress(codec, &Bytes::from(compressed), plain.len()).as_deref(), Ok(plain));
}

#[test]
fn one_raw_snappy_block() {
    let plain = build_with(&short_records(), Codec::None).body();
    let raw = snap::raw::Encoder::new().compress_vec(&plain).unwrap();
    let valid = validate(with_body(Codec::Snappy, 3, &raw), &ValidateLimits::default()).unwrap();
    assert_eq!(read(&valid.batch), short_records());
    check_stream(Codec::Snappy, snap::raw::Encoder::new().compress_vec(&long_plain()).unwrap(), &long_plain());
}

#[test]
fn lz4_frames_with_every_option() {
    let plain = long_plain();
    for block_size in [BlockSize::Max64KB, BlockSize::Max256KB, BlockSize::Max1MB, BlockSize::Max4MB] {
        for (block_checksums, content_checksum, content_size) in [
            (false, false, false),
            (true, false, false),
            (false, true, false),
            (false, false, true),
            (true, true, true),
        ] {
            let info = FrameInfo::new()
                .block_mode(BlockMode::Independent)
                .block_size(block_size)
                .block_checksums(block_checksums)
                .content_checksum(content_checksum)
                .content_size(content_size.then(|| u64::try_from(plain.len()).unwrap()));
            let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
            encoder.write_all(&plain).unwrap();
            check_stream(Codec::Lz4, encoder.finish().unwrap(), &plain);
        }
    }
}

#[test]
fn lz4_checksums_are_checked() {
    let info = FrameInfo::new().block_mode(BlockMode::Independent).content_checksum(true);
    let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
    encoder.write_all(b"records").unwrap();
    let mut frame = encoder.finish().unwrap();
    let end = frame.len() - 1;
    frame[end] ^= 1;
    let error = decompress(Codec::Lz4, &Bytes::from(frame), 100).unwrap_err();
    assert!(error.to_string().contains("lz4"), "{error}");
}

#[test]
fn zstd_frames_without_a_size_and_with_the_largest_window() {
    let plain = long_plain();
    for level in [1, 3, 22] {
        let mut encoder = zstd::stream::Encoder::new(Vec::new(), level).unwrap();
        // As a client does that flushes record by record.
        for chunk in plain.chunks(50_000) {
            encoder.write_all(chunk).unwrap();
            encoder.flush().unwrap();
        }
        check_stream(Codec::Zstd, encoder.finish().unwrap(), &plain);
    }
}

#[test]
fn an_error_leaves_nothing_behind_for_the_next_batch() {
    let plain = long_plain();
    let mut compressed = Vec::new();
    compress_into(Codec::Zstd, None, &plain, &mut compressed).unwrap();
    for _ in 0..3 {
        let cut = Bytes::copy_from_slice(&compressed[..compressed.len() / 2]);
        assert!(decompress(Codec::Zstd, &cut, plain.len()).is_err());
        check_stream(Codec::Zstd, compressed.clone(), &plain);
    }
}

#[test]
fn what_we_write_is_plain_to_the_codecs_own_libraries() {
    let plain = long_plain();
    let compressed = |codec| {
        let mut out = Vec::new();
        compress_into(codec, None, &plain, &mut out).unwrap();
        out
    };
    let mut read_back = Vec::new();
    flate2::read::GzDecoder::new(compressed(Codec::Gzip).as_slice()).read_to_end(&mut read_back).unwrap();
    assert_eq!(read_back, plain);
    assert_eq!(zstd::decode_all(compressed(Codec::Zstd).as_slice()).unwrap(), plain);
    let lz4 = compressed(Codec::Lz4);
    // Version 1, independent blocks, no checksum, no size; blocks of 64 KiB.
    assert_eq!(lz4[..6], [0x04, 0x22, 0x4d, 0x18, 0x60, 0x40]);
    let snappy = compressed(Codec::Snappy);
    assert_eq!(snappy[..16], [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1]);
    let first = usize::try_from(u32::from_be_bytes(snappy[16..20].try_into().unwrap())).unwrap();
    let chunk = snap::raw::Decoder::new().decompress_vec(&snappy[20..20 + first]).unwrap();
    assert_eq!(chunk, plain[..32 * 1024]);
}

#[test]
fn names_and_numbers() {
    for codec in Codec::ALL {
        assert_eq!(Codec::from_id(codec.id()), Some(codec));
        assert_eq!(codec.name().parse(), Ok(codec));
    }
    assert_eq!(Codec::from_id(5), None);
    assert!("producer".parse::<Codec>().is_err());
}
