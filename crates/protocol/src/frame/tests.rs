//! Frames there and back, and every way to be no request.

use super::*;
use crate::{
    Piece, Records,
    messages::{
        fetch::{FetchableTopicResponse, PartitionData},
        metadata::MetadataRequestTopic,
    },
    reader::DecodeFault,
};

fn joined(chunks: Vec<Chunk>) -> Bytes {
    let mut all = BytesMut::new();
    for chunk in chunks {
        match chunk {
            Chunk::Bytes(bytes) => all.extend_from_slice(&bytes),
            Chunk::Hole { length, .. } => all.extend(vec![0xaa; length as usize]),
        }
    }
    all.freeze()
}

/// The frame without its length prefix, which must be right.
fn body(frame: &Bytes) -> Bytes {
    assert_eq!(usize::try_from(i32::from_be_bytes(frame[..4].try_into().unwrap())).unwrap(), frame.len() - 4);
    frame.slice(4..)
}

fn header(api: ApiKey, version: i16) -> RequestHeader {
    RequestHeader { api, version, correlation_id: 0x0102_0304, client_id: Some("me".into()) }
}

#[test]
fn a_request_comes_back() {
    let topic = MetadataRequestTopic { name: Some("t".into()), ..Default::default() };
    let request = Request::from(MetadataRequest { topics: Some(vec![topic]), ..Default::default() });
    for version in 1..=13 {
        let header = header(ApiKey::Metadata, version);
        let frame = joined(encode_request(&mut BytesMut::new(), &header, &request).unwrap());
        assert_eq!(decode_request(body(&frame)), Ok((header, request.clone())), "version {version}");
    }
}

#[test]
fn client_ids_are_never_compact() {
    let request = Request::from(ApiVersionsRequest::default());
    let frame = joined(encode_request(&mut BytesMut::new(), &header(ApiKey::ApiVersions, 4), &request).unwrap());
    assert_eq!(frame[..], *b"\0\0\0\x10\0\x12\0\x04\x01\x02\x03\x04\0\x02me\0\x01\x01\0");
    let anonymous = RequestHeader { client_id: None, ..header(ApiKey::ApiVersions, 0) };
    let frame = joined(encode_request(&mut BytesMut::new(), &anonymous, &request).unwrap());
    assert_eq!(frame[..], *b"\0\0\0\x0a\0\x12\0\0\x01\x02\x03\x04\xff\xff");
    assert_eq!(decode_request(body(&frame)), Ok((anonymous, request)));
}

#[test]
fn records_are_neither_copied_nor_lost() {
    let large = Bytes::from(vec![7; 4096]);
    let partition = |records: Records| PartitionData { records: Some(records), ..Default::default() };
    let partitions = vec![
        partition(Records::EMPTY),
        partition(vec![Piece::Bytes(large.clone()), Piece::Hole { id: 3, length: 1 << 20 }].into()),
        partition(Bytes::from_static(b"small").into()),
        partition(large.clone().into()),
    ];
    let topic = FetchableTopicResponse { partitions, ..Default::default() };
    let response = Response::from(FetchResponse { responses: vec![topic], ..Default::default() });
    for version in 4..=18 {
        let chunks = encode_response(&mut BytesMut::new(), version, 9, &response).unwrap();
        let shared = |chunk: &&Chunk| matches!(chunk, Chunk::Bytes(bytes) if bytes.as_ptr() == large.as_ptr());
        assert_eq!(chunks.iter().filter(shared).count(), 2, "version {version}");
        assert_eq!(chunks.iter().filter(|chunk| matches!(chunk, Chunk::Hole { id: 3, .. })).count(), 1);
        assert!(chunks.iter().all(|chunk| !chunk.is_empty()));
        let frame = joined(chunks);
        let (correlation_id, decoded) = decode_response(body(&frame), ApiKey::Fetch, version).unwrap();
        let Response::Fetch(decoded) = decoded else { panic!("another API") };
        assert_eq!(correlation_id, 9);
        let lengths: Vec<_> =
            decoded.responses[0].partitions.iter().map(|p| p.records.as_ref().unwrap().len()).collect();
        assert_eq!(lengths, [0, 4096 + (1 << 20), 5, 4096], "version {version}");
    }
}

#[test]
fn a_buffer_serves_many_frames() {
    let mut buffer = BytesMut::with_capacity(4096);
    let response = Response::from(ApiVersionsResponse::default());
    let first = encode_response(&mut buffer, 3, 1, &response).unwrap();
    let second = encode_response(&mut buffer, 3, 2, &response).unwrap();
    let (first, second) = (joined(first), joined(second));
    assert_eq!(correlation_id(&first[4..]), Some(1));
    assert_eq!(correlation_id(&second[4..]), Some(2));
    assert_eq!(first[8..], second[8..]);
    // What an error left behind is not sent with the next frame.
    assert!(encode_response(&mut buffer, 9, 3, &response).is_err());
    assert_eq!(joined(encode_response(&mut buffer, 3, 2, &response).unwrap()), second);
}

#[test]
fn api_versions_negotiates() {
    let frame = Bytes::from_static(b"\0\x12\0\x7f\0\0\0\x05\xff\xff whatever");
    assert_eq!(decode_request(frame), Err(RequestError::ApiVersions { correlation_id: 5, version: 127 }));
    // The answer to that, of version 0, to a client that expects version 4.
    let refusal = ApiVersionsResponse { error_code: crate::ErrorCode::UnsupportedVersion.code(), ..Default::default() };
    let frame = joined(encode_response(&mut BytesMut::new(), 0, 5, &refusal.clone().into()).unwrap());
    assert_eq!(frame[..], *b"\0\0\0\x0a\0\0\0\x05\0\x23\0\0\0\0");
    assert_eq!(decode_response(body(&frame), ApiKey::ApiVersions, 4), Ok((5, refusal.into())));
}

#[test]
fn response_headers_follow_the_version() {
    assert_eq!(ApiKey::ApiVersions.response_header_version(5), 0);
    assert_eq!(ApiKey::Produce.response_header_version(8), 0);
    assert_eq!(ApiKey::Produce.response_header_version(9), 1);
    assert_eq!(ApiKey::Fetch.request_header_version(11), 1);
    assert_eq!(ApiKey::Fetch.request_header_version(12), 2);
}

#[test]
fn only_produce_advertises_more_than_it_serves() {
    for api in ApiKey::ALL {
        let (served, advertised) = (api.served(), api.advertised());
        assert_eq!(served.max, advertised.max, "{api}");
        assert_eq!(served.min != advertised.min, *api == ApiKey::Produce, "{api}");
        assert_eq!(ApiKey::from_wire(api.to_wire()), Some(*api));
    }
    assert_eq!(ApiKey::Produce.advertised(), Versions { min: 0, max: 13 });
}

#[test]
fn what_is_no_request_says_why() {
    let decode = |bytes: &'static [u8]| decode_request(Bytes::from_static(bytes)).unwrap_err();
    assert_eq!(decode(b"\x03\xe8\0\x01\0\0\0\x05"), RequestError::UnknownApi { key: 1000, version: 1 });
    let version = RequestError::UnknownVersion { api: ApiKey::Produce, version: 2 };
    assert_eq!(decode(b"\0\0\0\x02\0\0\0\x05\xff\xff"), version);
    assert_eq!(version.to_string(), "Produce is served in versions 3 to 13, not 2");
    assert!(matches!(decode(b""), RequestError::Malformed { api: None, .. }));
    assert!(matches!(decode(b"\0\x03\0\x01\0\0"), RequestError::Malformed { api: None, .. }));

    let fault = |bytes| match decode(bytes) {
        RequestError::Malformed { error: DecodeError { fault, field, .. }, api: Some(_) } => (fault, field),
        other => panic!("{other}"),
    };
    let (topics, client) = ("MetadataRequest.topics", "client_id");
    assert_eq!(
        fault(b"\0\x03\0\x01\0\0\0\x05\0\x01a\x7f\xff\xff\xff"),
        (DecodeFault::TooMany { count: 0x7fff_ffff, max: 0 }, topics)
    );
    assert_eq!(fault(b"\0\x03\0\x01\0\0\0\x05\0\x01a\xff\xff\xff\xfe"), (DecodeFault::BadLength(-2), topics));
    assert_eq!(fault(b"\0\x03\0\0\0\0\0\x05\0\x01a\xff\xff\xff\xff"), (DecodeFault::Null, topics));
    assert_eq!(fault(b"\0\x03\0\x01\0\0\0\x05\0\x01\xff\0\0\0\0"), (DecodeFault::NotUtf8, client));
    assert_eq!(fault(b"\0\x03\0\x01\0\0\0\x05\x7f\xff"), (DecodeFault::Truncated { needed: 0x7fff, left: 0 }, client));
}

#[test]
fn bytes_after_a_request_are_ignored_and_counted() {
    let mut reader = Reader::new(Bytes::from_static(b"\0\x03\0\x01\0\0\0\x05\xff\xff\xff\xff\xff\xff!!"));
    let (_, request) = decode_request_from(&mut reader).unwrap();
    assert_eq!(request, MetadataRequest { topics: None, ..Default::default() }.into());
    assert_eq!(reader.remaining(), 2);
}
