//! How fast the messages of the hot paths are decoded and encoded. `cargo bench -p quipu-protocol`.

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use quipu_base::TopicId;
use quipu_protocol::{
    Chunk, Piece, Request, RequestHeader, Response,
    frame::{decode_request, encode_request, encode_response},
    messages::{
        FetchRequest, FetchResponse, MetadataRequest, ProduceRequest, ProduceResponse,
        fetch::{FetchPartition, FetchTopic, FetchableTopicResponse, PartitionData},
        metadata::MetadataRequestTopic,
        produce::{PartitionProduceData, PartitionProduceResponse, TopicProduceData, TopicProduceResponse},
    },
};

const PARTITIONS: [i32; 2] = [1, 100];
const RECORDS_BYTES: usize = 16 * 1024;
const TOPIC: TopicId = TopicId([7; 16]);

fn frame(version: i16, request: Request) -> Bytes {
    let header = RequestHeader { api: request.api(), version, correlation_id: 1, client_id: Some("producer-1".into()) };
    let chunks = encode_request(&mut BytesMut::new(), &header, &request).expect("a version that has all of it");
    let mut frame = BytesMut::new();
    for chunk in chunks {
        let Chunk::Bytes(bytes) = chunk else { unreachable!("no request has holes") };
        frame.extend_from_slice(&bytes);
    }
    frame.freeze().slice(4..)
}

fn produce_request(partitions: i32) -> Request {
    let records = Bytes::from(vec![1; RECORDS_BYTES]);
    let partition = |index| PartitionProduceData { index, records: Some(records.clone().into()) };
    let partition_data = (0..partitions).map(partition).collect();
    let topic = TopicProduceData { name: "orders".into(), topic_id: TOPIC, partition_data };
    ProduceRequest { acks: -1, timeout_ms: 30_000, topic_data: vec![topic], ..Default::default() }.into()
}

fn produce_response(partitions: i32) -> Response {
    let partition = |index| PartitionProduceResponse { index, base_offset: 1 << 40, ..Default::default() };
    let partition_responses = (0..partitions).map(partition).collect();
    let topic = TopicProduceResponse { name: "orders".into(), topic_id: TOPIC, partition_responses };
    ProduceResponse { responses: vec![topic], ..Default::default() }.into()
}

fn fetch_request(partitions: i32) -> Request {
    let partition =
        |partition| FetchPartition { partition, fetch_offset: 5, partition_max_bytes: 1 << 20, ..Default::default() };
    let topic =
        FetchTopic { topic_id: TOPIC, partitions: (0..partitions).map(partition).collect(), ..Default::default() };
    FetchRequest { topics: vec![topic], ..Default::default() }.into()
}

fn fetch_response(partitions: i32) -> Response {
    let records = Bytes::from(vec![1; RECORDS_BYTES]);
    let pieces = || vec![Piece::Bytes(records.clone()), Piece::Hole { id: 1, length: 1 << 20 }];
    let partition =
        |partition_index| PartitionData { partition_index, records: Some(pieces().into()), ..Default::default() };
    let topic = FetchableTopicResponse {
        topic_id: TOPIC,
        partitions: (0..partitions).map(partition).collect(),
        ..Default::default()
    };
    FetchResponse { responses: vec![topic], ..Default::default() }.into()
}

fn metadata_request(topics: i32) -> Request {
    let topic = |index| MetadataRequestTopic { name: Some(format!("topic-{index}").into()), ..Default::default() };
    MetadataRequest { topics: Some((0..topics).map(topic).collect()), ..Default::default() }.into()
}

fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode request");
    for count in PARTITIONS {
        let requests = [(produce_request(count), 12), (fetch_request(count), 17), (metadata_request(count), 12)];
        for (request, version) in requests {
            let name = request.api().name();
            let frame = frame(version, request);
            group.bench_function(BenchmarkId::new(name, count), |bencher| {
                bencher.iter(|| decode_request(black_box(frame.clone())));
            });
        }
    }
}

fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode response");
    for count in PARTITIONS {
        for (response, version) in [(produce_response(count), 12), (fetch_response(count), 17)] {
            let mut buffer = BytesMut::with_capacity(64 * 1024);
            group.bench_function(BenchmarkId::new(response.api().name(), count), |bencher| {
                bencher.iter(|| encode_response(&mut buffer, version, 1, black_box(&response)));
            });
        }
    }
}

criterion_group!(benches, decode, encode);
criterion_main!(benches);
