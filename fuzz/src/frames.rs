//! Kafka's frames and messages, both directions, every version.

use bytes::{Bytes, BytesMut};
use quipu_protocol::{
    ApiKey, Chunk, ErrorCode, Request, RequestError, RequestHeader, Response,
    frame::{decode_request, decode_request_from, decode_response, encode_request, encode_response},
    reader::{Reader, allowance},
};

use crate::{Outcome, memory, refuse};

/// Bytes of a frame's length.
const LENGTH_BYTES: usize = 4;
/// Memory per byte of a frame at most, where [`allowance`] does not bound it first: an empty string is one byte on the wire and
/// 32 in memory, structures of them take no more, and arrays in arrays may each be announced once.
const MEMORY_PER_BYTE: usize = 64;

/// What `Bytes` allocates when they are shared first.
const REFERENCE_COUNT_BYTES: usize = 64;

/// A request frame, without its length.
pub fn frame(data: &[u8]) -> Outcome {
    check_request(Bytes::copy_from_slice(data))
}

/// The body of a request. The first byte chooses the API, the second the version.
pub fn request(data: &[u8]) -> Outcome {
    let Some((api, version, body)) = choose(data) else { return Outcome::Refused };
    let mut frame = BytesMut::new();
    frame.extend_from_slice(&api.to_wire().to_be_bytes());
    frame.extend_from_slice(&version.to_be_bytes());
    frame.extend_from_slice(b"\0\0\0\x07\xff\xff");
    if api.request_header_version(version) >= 2 {
        frame.extend_from_slice(&[0]);
    }
    frame.extend_from_slice(body);
    check_request(frame.freeze())
}

/// The body of a response. The first byte chooses the API, the second the version.
pub fn response(data: &[u8]) -> Outcome {
    let Some((api, version, body)) = choose(data) else { return Outcome::Refused };
    let mut frame = BytesMut::new();
    frame.extend_from_slice(b"\0\0\0\x07");
    if api.response_header_version(version) >= 1 {
        frame.extend_from_slice(&[0]);
    }
    frame.extend_from_slice(body);
    let frame = frame.freeze();
    let bytes_max = allowance(8 * frame.len()).min(frame.len() * MEMORY_PER_BYTE);
    let decoded = memory::at_most(bytes_max, "decoding a response", || decode_response(frame.clone(), api, version));
    let (correlation_id, response) = match decoded {
        Ok(decoded) => decoded,
        Err(error) => {
            assert!(error.position <= frame.len(), "an error lies in the frame");
            return refuse(&error);
        }
    };
    assert_eq!((correlation_id, response.api()), (7, api));
    // This one answer is in version 0, whatever was asked.
    let unsupported = body.starts_with(&ErrorCode::UnsupportedVersion.code().to_be_bytes());
    let version = if api == ApiKey::ApiVersions && unsupported { 0 } else { version };
    let encode = |response: &Response| {
        let chunks = encode_response(&mut BytesMut::new(), version, correlation_id, response);
        join(&chunks.expect("what was decoded can be encoded"))
    };
    let encoded = encode(&response);
    assert!(encoded.len() <= frame.len(), "we write no more than was sent");
    let again = decode_response(encoded.clone(), api, version).expect("what we encoded can be decoded");
    assert_eq!(again, (correlation_id, response));
    assert_eq!(encode(&again.1), encoded);
    Outcome::Accepted
}

fn choose(data: &[u8]) -> Option<(ApiKey, i16, &[u8])> {
    let (&[api, version], body) = data.split_first_chunk()?;
    let api = *ApiKey::ALL.get(usize::from(api) % ApiKey::ALL.len())?;
    let versions = api.served();
    let count = versions.max - versions.min + 1;
    Some((api, versions.min + i16::from(version) % count, body))
}

fn check_request(frame: Bytes) -> Outcome {
    let mut reader = Reader::new(frame.clone());
    let bytes_max = allowance(frame.len()).min(frame.len() * MEMORY_PER_BYTE);
    let (decoded, peak_bytes) = memory::measured(bytes_max, "decoding a request", || decode_request_from(&mut reader));
    let (header, request) = match decoded {
        Ok(decoded) => decoded,
        Err(error) => {
            check_refusal(&frame, &error);
            return refuse(&error);
        }
    };
    // Whoever budgets requests goes by this number. The frame's reference count is not in it.
    assert!(
        peak_bytes <= reader.allocated() + REFERENCE_COUNT_BYTES,
        "{peak_bytes} bytes, {} said",
        reader.allocated()
    );
    assert_eq!(header.api, request.api());
    let encoded = encode(&header, &request);
    assert!(encoded.len() <= frame.len() - reader.remaining(), "we write no more than was sent");
    let again = decode_request(encoded.clone()).expect("what we encoded can be decoded");
    assert_eq!(again, (header, request));
    assert_eq!(encode(&again.0, &again.1), encoded);
    Outcome::Accepted
}

fn encode(header: &RequestHeader, request: &Request) -> Bytes {
    join(&encode_request(&mut BytesMut::new(), header, request).expect("what was decoded can be encoded"))
}

/// A refusal names what the frame's first bytes say.
fn check_refusal(frame: &[u8], error: &RequestError) {
    let named = match error {
        RequestError::ApiVersions { version, .. } => (ApiKey::ApiVersions.to_wire(), *version),
        RequestError::UnknownApi { key, version } => (*key, *version),
        RequestError::UnknownVersion { api, version } => (api.to_wire(), *version),
        RequestError::Malformed { api: Some((api, version)), error } => {
            assert!(error.position <= frame.len(), "an error lies in the frame");
            (api.to_wire(), *version)
        }
        RequestError::Malformed { api: None, .. } => {
            assert!(frame.len() < 8, "eight bytes say what a request is");
            return;
        }
    };
    let [first, second] = [named.0.to_be_bytes(), named.1.to_be_bytes()];
    assert!(frame.starts_with(&[first, second].concat()));
}

/// The frame without its length, which must be right.
fn join(chunks: &[Chunk]) -> Bytes {
    let mut frame = BytesMut::new();
    for chunk in chunks {
        let Chunk::Bytes(bytes) = chunk else { panic!("a hole in a frame without holes") };
        frame.extend_from_slice(bytes);
    }
    let length = frame.split_to(LENGTH_BYTES);
    assert_eq!(length[..], u32::try_from(frame.len()).expect("a small frame").to_be_bytes());
    frame.freeze()
}
