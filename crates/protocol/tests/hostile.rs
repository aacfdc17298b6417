//! Frames made to hurt: huge counts, huge lengths, many small things. None may cost more memory than its size allows.

mod kit;

use bytes::Bytes;
use kit::Case;
use quipu_base::limits::{ARRAY_LENGTH_MAX, MIB, TAGGED_FIELDS_MAX};
use quipu_protocol::{
    ApiKey, DecodeFault, RequestError,
    frame::{decode_request, decode_request_from},
    reader::{Reader, allowance},
    schema::Direction,
};

fn frame(api: ApiKey, version: i16, body: &[u8]) -> Bytes {
    let mut frame = [api.to_wire().to_be_bytes(), version.to_be_bytes()].concat();
    frame.extend([0, 0, 0, 1, 0xff, 0xff]);
    frame.extend(vec![0; usize::from(api.request_header_version(version) == 2)]);
    frame.extend(body);
    frame.into()
}

fn fault(api: ApiKey, version: i16, body: &[u8]) -> DecodeFault {
    match decode_request(frame(api, version, body)) {
        Err(RequestError::Malformed { error, .. }) => error.fault,
        other => panic!("{other:?}"),
    }
}

#[test]
fn counts_are_bounded_by_what_remains() {
    assert_eq!(fault(ApiKey::Metadata, 1, b"\x7f\xff\xff\xff"), DecodeFault::TooMany { count: 0x7fff_ffff, max: 0 });
    assert_eq!(fault(ApiKey::Metadata, 1, b"\x80\0\0\0"), DecodeFault::BadLength(-0x8000_0000));
    // Compact: 2^32 - 1 stands for 2^32 - 2, which is negative in Kafka; the largest that isn't is 2^31 - 1.
    assert_eq!(fault(ApiKey::Metadata, 9, b"\xff\xff\xff\xff\x0f"), DecodeFault::BadLength(0xffff_fffe));
    assert_eq!(
        fault(ApiKey::Metadata, 9, b"\x80\x80\x80\x80\x08"),
        DecodeFault::TooMany { count: 0x7fff_ffff, max: 0 }
    );
    // Each topic of version 1 has at least two bytes: nine remain, so four topics fit.
    assert_eq!(
        fault(ApiKey::Metadata, 1, &[0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        DecodeFault::TooMany { count: 5, max: 4 }
    );
}

#[test]
fn varints_have_at_most_32_bits() {
    assert_eq!(fault(ApiKey::Metadata, 9, b"\x80\x80\x80\x80\x10"), DecodeFault::BadVarint);
    assert_eq!(fault(ApiKey::Metadata, 9, b"\x80\x80\x80\x80\x80\x01"), DecodeFault::BadVarint);
}

#[test]
fn strings_are_bounded_like_kafkas() {
    let long = [&b"\x02\x81\x80\x02"[..], &[b'a'; 40_000], &[0; 4]].concat();
    assert_eq!(fault(ApiKey::Metadata, 9, &long), DecodeFault::StringTooLong(0x8000));
    assert_eq!(fault(ApiKey::Metadata, 9, b"\x02\x03\xc3\x28\0"), DecodeFault::NotUtf8);
    assert_eq!(fault(ApiKey::Metadata, 9, b"\x02\0\0\0"), DecodeFault::Null);
}

#[test]
fn records_are_bounded_by_what_remains() {
    let body =
        |length: [u8; 4]| [&b"\xff\xff\0\x01\0\0\0\0\0\0\0\x01\0\x01t\0\0\0\x01\0\0\0\0"[..], &length, b"abc"].concat();
    assert_eq!(
        fault(ApiKey::Produce, 3, &body([0x7f, 0xff, 0xff, 0xff])),
        DecodeFault::Truncated { needed: 0x7fff_ffff, left: 3 }
    );
    assert_eq!(fault(ApiKey::Produce, 3, &body([0xff, 0xff, 0xff, 0xfe])), DecodeFault::BadLength(-2));
    assert!(decode_request(frame(ApiKey::Produce, 3, &body([0, 0, 0, 3]))).is_ok());
}

#[test]
fn tagged_fields_are_bounded() {
    // ApiVersions 3: two empty strings, then tags.
    let body = |count: &[u8], tags: Vec<u8>| [b"\x01\x01", count, &tags].concat();
    assert_eq!(
        fault(ApiKey::ApiVersions, 3, &body(b"\xff\xff\xff\xff\x0f", vec![])),
        DecodeFault::TooMany { count: 0xffff_ffff, max: 0 }
    );
    assert_eq!(
        fault(ApiKey::ApiVersions, 3, &body(b"\x01", vec![5, 0x80, 0x80, 4])),
        DecodeFault::Truncated { needed: 0x10000, left: 0 }
    );
    let many = TAGGED_FIELDS_MAX + 1;
    assert_eq!(
        fault(ApiKey::ApiVersions, 3, &body(b"\x91\x4e", [9, 0].repeat(many))),
        DecodeFault::TooMany { count: many, max: TAGGED_FIELDS_MAX }
    );
    assert!(
        decode_request(frame(ApiKey::ApiVersions, 3, &body(b"\x90\x4e", [9, 0].repeat(TAGGED_FIELDS_MAX)))).is_ok()
    );
    // A known tag, Fetch's cluster id, whose string ends before its size does.
    let fetch = Case { api: ApiKey::Fetch, direction: Direction::Request, version: 13 };
    let mut fetch_body = fetch.defaults();
    fetch_body.pop();
    fetch_body.extend([1, 0, 3, 2, b'c', b'!']);
    assert_eq!(fault(ApiKey::Fetch, 13, &fetch_body), DecodeFault::TagSize { tag: 0, size: 3 });
    // And one whose string would go beyond it.
    let end = fetch_body.len();
    fetch_body[end - 3..].copy_from_slice(&[4, b'c', b'c']);
    assert_eq!(fault(ApiKey::Fetch, 13, &fetch_body), DecodeFault::Truncated { needed: 3, left: 2 });
}

#[test]
fn arrays_have_at_most_a_million_elements() {
    let body = |count: usize| [&u32::try_from(count).unwrap().to_be_bytes()[..], &vec![0; 2 * count]].concat();
    let count = ARRAY_LENGTH_MAX + 1;
    assert_eq!(fault(ApiKey::Metadata, 1, &body(count)), DecodeFault::TooMany { count, max: ARRAY_LENGTH_MAX });
}

#[test]
fn many_small_things_are_bounded_in_memory() {
    // Empty topics of two bytes each would take more than twenty times that.
    let body = [&900_000_u32.to_be_bytes()[..], &vec![0; 2 * 900_000]].concat();
    let frame_bytes = frame(ApiKey::Metadata, 1, &body).len();
    assert_eq!(fault(ApiKey::Metadata, 1, &body), DecodeFault::TooLarge { max: allowance(frame_bytes) });
    assert!(allowance(frame_bytes) < 20 * MIB);

    // An honest request is far below, and the reader says how much it takes.
    let body = [&50_000_u32.to_be_bytes()[..], &b"\0\x0aabcdefghij".repeat(50_000)].concat();
    let mut reader = Reader::new(frame(ApiKey::Metadata, 1, &body));
    assert!(decode_request_from(&mut reader).is_ok());
    assert!((50_000 * 32..10 * MIB).contains(&reader.allocated()), "{}", reader.allocated());
}
