//! Producing and fetching as single requests: offsets, acknowledgements, duplicates, long polls, limits, errors.

use std::time::Duration;

use crate::support::{batch, fetch_request, fill, idempotent, now, produce_request, records_of, with_broker};
use quipu_base::{Timestamp, TopicId};
use quipu_env::{Clock, Env};
use quipu_protocol::{
    ErrorCode, Response,
    messages::{
        fetch::{FetchPartition, FetchTopic},
        produce::{PartitionProduceData, TopicProduceData},
    },
};
use quipu_records::{BatchBuilder, Codec, TimestampType};

fn code(code: ErrorCode) -> i16 {
    code.code()
}

#[test]
fn what_is_produced_is_fetched_at_every_version() {
    with_broker(&[], |fixture| async move {
        let mut client = fixture.client().await;
        let topic_id = client.create_topic("t", 1, &[]).await;
        let mut next = 0;
        for version in 3..=13 {
            let mut request = produce_request("t", 0, batch(&["a", "b"]), -1);
            if version >= 13 {
                request.topic_data[0].name = "".into();
                request.topic_data[0].topic_id = topic_id;
            }
            let Response::Produce(response) = client.call(version, request).await else { panic!() };
            let partition = &response.responses[0].partition_responses[0];
            assert_eq!((partition.error_code, partition.base_offset), (0, next), "version {version}");
            next += 2;
        }
        for version in 4..=18 {
            let mut request = fetch_request("t", 0, 0, 0);
            if version >= 13 {
                request.topics[0].topic = "".into();
                request.topics[0].topic_id = topic_id;
            }
            let Response::Fetch(response) = client.call(version, request).await else { panic!() };
            let data = &response.responses[0].partitions[0];
            assert_eq!((data.error_code, data.high_watermark), (0, next), "version {version}");
            let found = records_of(data);
            assert_eq!(found.len(), 22, "version {version}");
            assert!(found.iter().enumerate().all(|(index, (offset, _))| *offset == i64::try_from(index).unwrap()));
        }
    });
}

#[test]
fn a_fetch_begins_with_the_batch_that_holds_its_offset() {
    with_broker(&[], |fixture| async move {
        let mut client = fixture.client().await;
        client.create_topic("t", 1, &[]).await;
        client.produce("t", batch(&["0", "1", "2"])).await;
        client.produce("t", batch(&["3", "4"])).await;
        assert_eq!(records_of(&client.fetch("t", 1).await).first(), Some(&(0, "0".into())));
        assert_eq!(records_of(&client.fetch("t", 3).await), [(3, "3".into()), (4, "4".into())]);
        assert_eq!(records_of(&client.fetch("t", 5).await), []);
        assert_eq!(client.fetch("t", 6).await.error_code, code(ErrorCode::OffsetOutOfRange));
        assert_eq!(client.fetch("t", -1).await.error_code, code(ErrorCode::OffsetOutOfRange));
    });
}

#[test]
fn nobody_waits_for_more_than_may_be_sent() {
    with_broker(&[], |fixture| async move {
        let mut client = fixture.client().await;
        client.create_topic("t", 1, &[]).await;
        client.produce("t", batch(&["a"])).await;
        let begin = fixture.env.clock().now();
        let mut request = fetch_request("t", 0, 0, 20_000);
        (request.min_bytes, request.max_bytes) = (100_000, 10);
        let Response::Fetch(response) = client.call(11, request).await else { panic!() };
        assert_eq!(records_of(&response.responses[0].partitions[0]), [(0, "a".into())]);
        assert!(fixture.env.clock().now().since(begin) < Duration::from_secs(15));
    });
}

#[test]
fn at_least_one_batch_comes_however_small_the_limits() {
    with_broker(&[], |fixture| async move {
        let mut client = fixture.client().await;
        client.create_topic("t", 2, &[]).await;
        for partition in [0, 1] {
            client.call(9, produce_request("t", partition, batch(&["x"; 100]), -1)).await;
            client.call(9, produce_request("t", partition, batch(&["y"; 100]), -1)).await;
        }
        let mut request = fetch_request("t", 0, 0, 0);
        request.max_bytes = 1;
        let second = FetchPartition { partition: 1, partition_max_bytes: 1 << 20, ..Default::default() };
        request.topics[0].partitions.push(second);
        let Response::Fetch(response) = client.call(11, request).await else { panic!() };
        let counts: Vec<usize> = response.responses[0].partitions.iter().map(|data| records_of(data).len()).collect();
        assert_eq!(counts, [100, 0]);
    });
}

#[test]
fn duplicates_get_their_first_answer_and_gaps_are_refused() {
    with_broker(&[], |fixture| async move {
        let mut client = fixture.client().await;
        client.create_topic("t", 1, &[]).await;
        for (sequence, offset) in [(0, 0), (2, 2), (0, 0), (2, 2), (4, 4)] {
            let answer = client.produce("t", idempotent(77, 0, sequence, &["a", "b"])).await;
            assert_eq!((answer.error_code, answer.base_offset), (0, offset), "sequence {sequence}");
        }
        let gap = client.produce("t", idempotent(77, 0, 9, &["a"])).await;
        assert_eq!(gap.error_code, code(ErrorCode::OutOfOrderSequenceNumber));
        let new_epoch = client.produce("t", idempotent(77, 1, 0, &["c"])).await;
        assert_eq!((new_epoch.error_code, new_epoch.base_offset), (0, 6));
        let old_epoch = client.produce("t", idempotent(77, 0, 6, &["d"])).await;
        assert_eq!(old_epoch.error_code, code(ErrorCode::InvalidProducerEpoch));
        assert_eq!(records_of(&client.fetch("t", 0).await).len(), 7, "what was refused left no trace");
    });
}

#[test]
fn requests_in_flight_are_answered_in_order() {
    with_broker(&[], |fixture| async move {
        let mut client = fixture.client().await;
        client.create_topic("t", 3, &[]).await;
        for number in 0..100 {
            let value = number.to_string();
            client.send(9, produce_request("t", number % 3, batch(&[&value]), -1)).await;
        }
        for number in 0..100 {
            let Response::Produce(response) = client.receive().await else { panic!() };
            assert_eq!(response.responses[0].partition_responses[0].base_offset, number / 3);
        }
    });
}

#[test]
fn acks_0_gets_no_answer_and_an_error_closes_the_connection() {
    with_broker(&[], |fixture| async move {
        let mut client = fixture.client().await;
        client.create_topic("t", 1, &[]).await;
        client.send_only(9, produce_request("t", 0, batch(&["quiet"]), 0)).await;
        // The next answer is the fetch's own: the produce had none.
        let Response::Fetch(response) = client.call(11, fetch_request("t", 0, 1, 5_000)).await else { panic!() };
        assert_eq!(records_of(&response.responses[0].partitions[0]), [(0, "quiet".into())]);
        client.send_only(9, produce_request("nowhere", 0, batch(&["lost"]), 0)).await;
        assert_eq!(client.receive_frame().await, None);
    });
}

#[test]
fn a_long_poll_wakes_when_there_is_enough() {
    with_broker(&[], |fixture| async move {
        let mut consumer = fixture.client().await;
        let mut producer = fixture.client().await;
        producer.create_topic("t", 1, &[]).await;
        consumer.send(11, fetch_request("t", 0, 1, 50_000)).await;
        producer.produce("t", batch(&["now"])).await;
        let Response::Fetch(response) = consumer.receive().await else { panic!() };
        assert_eq!(records_of(&response.responses[0].partitions[0]), [(0, "now".into())]);
        // More than there is: the time decides, and what there is comes.
        let before = fixture.env.clock().now();
        let Response::Fetch(response) = consumer.call(11, fetch_request("t", 0, 1_000_000, 50)).await else { panic!() };
        assert!(fixture.env.clock().now() - before >= Duration::from_millis(50));
        assert_eq!(records_of(&response.responses[0].partitions[0]).len(), 1);
    });
}

#[test]
fn bad_batches_get_kafkas_own_errors() {
    with_broker(&[], |fixture| async move {
        let mut client = fixture.client().await;
        client.create_topic("t", 1, &[("max.message.bytes", "1000")]).await;
        let mut flipped = batch(&["a"]).into_bytes().to_vec();
        *flipped.last_mut().unwrap() ^= 1;
        let mut old = batch(&["a"]).into_bytes().to_vec();
        old[16] = 1;
        let large = "x".repeat(1000);
        let cases: [(Vec<u8>, ErrorCode); 5] = [
            (flipped, ErrorCode::CorruptMessage),
            (old, ErrorCode::InvalidRecord),
            (batch(&[&large]).into_bytes().to_vec(), ErrorCode::MessageTooLarge),
            (Vec::new(), ErrorCode::CorruptMessage),
            (
                fill(
                    BatchBuilder::new().transactional().producer(
                        quipu_base::ProducerId(1),
                        quipu_base::ProducerEpoch(0),
                        quipu_base::Sequence(0),
                    ),
                    &["a"],
                    now(),
                )
                .into_bytes()
                .to_vec(),
                ErrorCode::InvalidTxnState,
            ),
        ];
        for (bytes, expected) in cases {
            let mut request = produce_request("t", 0, batch(&["a"]), -1);
            request.topic_data[0].partition_data[0].records = Some(bytes::Bytes::from(bytes).into());
            let Response::Produce(response) = client.call(9, request).await else { panic!() };
            let answer = &response.responses[0].partition_responses[0];
            assert_eq!(ErrorCode::from_code(answer.error_code), Some(expected), "{:?}", answer.error_message);
            assert!(answer.error_message.is_some());
        }
        assert_eq!(records_of(&client.fetch("t", 0).await), []);
    });
}

#[test]
fn one_bad_partition_does_not_spoil_the_others() {
    with_broker(&[], |fixture| async move {
        let mut client = fixture.client().await;
        let topic_id = client.create_topic("t", 1, &[]).await;
        let mut request = produce_request("t", 0, batch(&["good"]), -1);
        let data = |index| PartitionProduceData { index, records: Some(batch(&["x"]).into_bytes().into()) };
        request.topic_data[0].partition_data.push(data(5));
        request.topic_data.push(TopicProduceData {
            name: "nowhere".into(),
            partition_data: vec![data(0)],
            ..Default::default()
        });
        let Response::Produce(response) = client.call(9, request).await else { panic!() };
        let codes: Vec<i16> =
            response.responses.iter().flat_map(|t| t.partition_responses.iter().map(|p| p.error_code)).collect();
        let unknown = code(ErrorCode::UnknownTopicOrPartition);
        assert_eq!(codes, [0, unknown, unknown]);

        let mut request = fetch_request("", 0, 0, 0);
        request.topics[0].topic_id = TopicId([9; 16]);
        request.topics.push(FetchTopic {
            topic_id,
            partitions: vec![FetchPartition { partition_max_bytes: 1 << 20, ..Default::default() }],
            ..Default::default()
        });
        let Response::Fetch(response) = client.call(13, request).await else { panic!() };
        assert_eq!(response.responses[0].partitions[0].error_code, code(ErrorCode::UnknownTopicId));
        assert_eq!(records_of(&response.responses[1].partitions[0]), [(0, "good".into())]);
    });
}

#[test]
fn the_topic_decides_codec_and_timestamp() {
    with_broker(&[], |fixture| async move {
        let mut client = fixture.client().await;
        for (codec, setting) in [
            (Codec::None, "uncompressed"),
            (Codec::Gzip, "gzip"),
            (Codec::Snappy, "snappy"),
            (Codec::Lz4, "lz4"),
            (Codec::Zstd, "zstd"),
        ] {
            client.create_topic(setting, 1, &[("compression.type", setting)]).await;
            for from in [Codec::None, Codec::Gzip, Codec::Zstd] {
                client.produce(setting, fill(BatchBuilder::new().codec(from, None), &["v"; 50], now())).await;
            }
            let data = client.fetch(setting, 0).await;
            let bytes = data.records.clone().unwrap().into_bytes().unwrap();
            for batch in quipu_records::Batches::new(bytes) {
                assert_eq!(batch.unwrap().header().codec().unwrap(), codec, "{setting}");
            }
            assert_eq!(records_of(&data).len(), 150);
        }
        client.create_topic("stamped", 1, &[("message.timestamp.type", "LogAppendTime")]).await;
        let answer = client.produce("stamped", fill(BatchBuilder::new(), &["v"], Timestamp(12345))).await;
        assert!(answer.log_append_time_ms >= now().get() - 60_000);
        let data = client.fetch("stamped", 0).await;
        let bytes = data.records.unwrap().into_bytes().unwrap();
        let stored = quipu_records::Batches::new(bytes).next().unwrap().unwrap();
        stored.check_crc().unwrap();
        assert_eq!(stored.header().timestamp_type(), TimestampType::LogAppendTime);
        assert_eq!(stored.header().max_timestamp.get(), answer.log_append_time_ms);

        client.create_topic("strict", 1, &[("message.timestamp.before.max.ms", "1000")]).await;
        let answer = client.produce("strict", fill(BatchBuilder::new(), &["v"], Timestamp(12345))).await;
        assert_eq!(answer.error_code, code(ErrorCode::InvalidTimestamp));
        client.create_topic("present", 1, &[("message.timestamp.after.max.ms", "1000")]).await;
        let later = Timestamp(now().get() + 3_600_000);
        let answer = client.produce("present", fill(BatchBuilder::new(), &["v"], later)).await;
        assert_eq!(answer.error_code, code(ErrorCode::InvalidTimestamp));
    });
}

#[test]
fn the_topic_decides_how_hard_to_compress() {
    with_broker(&[], |fixture| async move {
        let mut client = fixture.client().await;
        // Bytes that repeat, but not plainly.
        let text: String = (0..20_000_u64).map(|number| format!("{:x} ", number * number % 977)).collect();
        for (codec, setting, easy, hard) in
            [("gzip", "compression.gzip.level", "1", "9"), ("zstd", "compression.zstd.level", "1", "19")]
        {
            let mut sizes = Vec::new();
            for level in [easy, hard] {
                let topic = format!("{codec}-{level}");
                client.create_topic(&topic, 1, &[("compression.type", codec), (setting, level)]).await;
                assert_eq!(client.produce(&topic, batch(&[&text])).await.error_code, 0);
                sizes.push(client.fetch(&topic, 0).await.records.unwrap().into_bytes().unwrap().len());
            }
            assert!(sizes[1] < sizes[0], "{codec}: {sizes:?}");
        }
    });
}

#[test]
fn leader_epochs_are_checked() {
    with_broker(&[], |fixture| async move {
        let mut client = fixture.client().await;
        client.create_topic("t", 1, &[]).await;
        client.produce("t", batch(&["a"])).await;
        for (epoch, expected) in [(-1, ErrorCode::None), (0, ErrorCode::None), (5, ErrorCode::UnknownLeaderEpoch)] {
            let mut request = fetch_request("t", 0, 0, 0);
            request.topics[0].partitions[0].current_leader_epoch = epoch;
            let Response::Fetch(response) = client.call(11, request).await else { panic!() };
            assert_eq!(response.responses[0].partitions[0].error_code, expected.code(), "epoch {epoch}");
        }
        let mut request = fetch_request("t", 1, 0, 0);
        request.topics[0].partitions[0].last_fetched_epoch = 3;
        let Response::Fetch(response) = client.call(12, request).await else { panic!() };
        // An epoch that nobody here knows says nothing about where the logs part.
        assert_eq!(response.responses[0].partitions[0].error_code, code(ErrorCode::OffsetOutOfRange));
    });
}
