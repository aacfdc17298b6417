//! Requests recorded from real clients: each is decoded, and encoded again to the same bytes.

mod kit;

use bytes::{Bytes, BytesMut};
use kit::join;
use quipu_protocol::{
    Request, RequestHeader,
    frame::{decode_request_from, encode_request},
    messages::*,
    reader::Reader,
};

const RECORDINGS: [(&str, &str); 3] = [
    ("kcat", include_str!("testdata/clients/kcat-librdkafka-2.0.2.frames")),
    ("confluent-kafka", include_str!("testdata/clients/confluent-kafka-2.16.1.frames")),
    ("kafka-python", include_str!("testdata/clients/kafka-python-3.0.12.frames")),
];

struct Recorded {
    api: String,
    version: i16,
    trailing: usize,
    frame: Bytes,
}

fn parse(line: &str) -> Recorded {
    let words: Vec<_> = line.split(' ').collect();
    let [api, version, trailing, hex] = words[..] else { panic!("{line}") };
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex");
    Recorded {
        api: api.to_owned(),
        version: version.parse().expect("a version"),
        trailing: trailing.parse().expect("a count"),
        frame: (0..hex.len()).step_by(2).map(byte).collect::<Vec<_>>().into(),
    }
}

fn recorded(client: &str) -> Vec<Recorded> {
    let (_, text) = RECORDINGS.iter().find(|(name, _)| *name == client).expect("a client that was recorded");
    text.lines().filter(|line| !line.starts_with('#')).map(parse).collect()
}

/// Decodes it, and checks that it is what the recording says.
fn decode(recorded: &Recorded) -> (RequestHeader, Request) {
    let mut reader = Reader::new(recorded.frame.clone());
    let (header, request) = decode_request_from(&mut reader)
        .unwrap_or_else(|error| panic!("{} {}: {error}", recorded.api, recorded.version));
    assert_eq!((header.api.name(), header.version), (recorded.api.as_str(), recorded.version));
    assert_eq!(reader.remaining(), recorded.trailing, "{} {}", recorded.api, recorded.version);
    (header, request)
}

#[test]
fn recorded_requests_come_back_byte_for_byte() {
    let mut count = 0;
    for (client, _) in RECORDINGS {
        for recorded in recorded(client) {
            let (header, request) = decode(&recorded);
            let again =
                join(encode_request(&mut BytesMut::new(), &header, &request).expect("what was decoded encodes"));
            let belonging = recorded.frame.len() - recorded.trailing;
            assert_eq!(again[4..], recorded.frame[..belonging], "{client}: {request:?}");
            count += 1;
        }
    }
    assert!(count >= 40, "{count} requests");
}

/// The first request of this kind that the client sent.
fn first<T>(client: &str, pick: impl Fn(Request) -> Option<T>) -> T {
    recorded(client).iter().find_map(|recorded| pick(decode(recorded).1)).expect("a request of that kind was recorded")
}

#[test]
fn clients_introduce_themselves() {
    let software = |client| {
        let ApiVersionsRequest { client_software_name, client_software_version, .. } =
            first(client, |request| match request {
                Request::ApiVersions(request) => Some(request),
                _ => None,
            });
        format!("{client_software_name} {client_software_version}")
    };
    assert_eq!(software("kcat"), "librdkafka 2.0.2");
    assert_eq!(software("confluent-kafka"), "confluent-kafka-python 2.16.1-rdkafka-2.16.0");
    assert_eq!(software("kafka-python"), "kafka-python 3.0.12");
}

#[test]
fn a_produced_batch_is_a_slice_of_its_frame() {
    for (client, acks, bytes) in [("kcat", -1, 79), ("confluent-kafka", -1, 121), ("kafka-python", -1, 106)] {
        let (frame, request) = recorded(client)
            .into_iter()
            .find_map(|recorded| match decode(&recorded).1 {
                Request::Produce(request) => Some((recorded.frame, request)),
                _ => None,
            })
            .expect("a produce was recorded");
        assert_eq!((request.acks, request.timeout_ms), (acks, 30_000), "{client}");
        let [topic] = &request.topic_data[..] else { panic!("{request:?}") };
        assert_eq!((topic.name.as_str(), topic.partition_data[0].index), ("golden", 0), "{client}");
        let records = topic.partition_data[0].records.as_ref().and_then(|records| records.as_bytes()).expect("records");
        assert_eq!((records.len(), records[16]), (bytes, 2), "{client}: a batch of magic 2");
        assert!(frame.as_ptr_range().contains(&records.as_ptr()), "{client}: the batch was copied");
    }
}

#[test]
fn librdkafka_asks_for_all_topics_with_three_bytes_too_many() {
    let recorded = recorded("confluent-kafka");
    let odd: Vec<_> = recorded.iter().filter(|recorded| recorded.trailing > 0).collect();
    let [odd] = odd[..] else { panic!("one such request was recorded") };
    let Request::Metadata(request) = decode(odd).1 else { panic!("a Metadata request") };
    assert_eq!(request, MetadataRequest { topics: None, allow_auto_topic_creation: false, ..Default::default() });
}
