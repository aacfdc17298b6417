//! Reading: every partition from its beginning, as fast as librdkafka takes it, until so many records have come.
//!
//! Time runs from the first record's arrival, so that joining and connecting are not measured. Read [`crate::sink`] next.

use std::time::{Duration, Instant};

use quipu_testkit::{Failure, Result};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message as _;
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value;

use crate::{Target, stats};

/// The next record must come within this.
const RECORD_LIMIT: Duration = Duration::from_secs(30);

/// Runs the workload.
pub(crate) fn run(target: &Target, records: usize) -> Result<Value> {
    let consumer = consumer(target)?;
    let mut begin = None;
    let mut bytes = 0;
    for number in 0..records {
        let message = consumer
            .poll(RECORD_LIMIT)
            .ok_or_else(|| Failure::new(format!("{number} of {records} records came, then none for {RECORD_LIMIT:?}")))?
            .map_err(Failure::context("cannot read"))?;
        begin.get_or_insert_with(Instant::now);
        bytes += message.payload().map_or(0, <[u8]>::len);
    }
    let took = begin.map_or(Duration::ZERO, |begin| begin.elapsed());
    if bytes != records * target.record_bytes {
        return Err(Failure::new(format!("{records} records had {bytes} bytes, not {} each", target.record_bytes)));
    }
    Ok(stats::throughput(records, target.record_bytes, took))
}

fn consumer(target: &Target) -> Result<BaseConsumer> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &target.bootstrap);
    config.set("group.id", "quipu-load");
    config.set("enable.auto.commit", "false");
    config.set("queued.min.messages", "1000000");
    config.set("queued.max.messages.kbytes", "131072");
    config.set("fetch.wait.max.ms", "100");
    let consumer: BaseConsumer = config.create().map_err(Failure::context("cannot make a consumer"))?;
    let mut partitions = TopicPartitionList::new();
    for partition in 0..target.partitions {
        partitions
            .add_partition_offset(&target.topic, partition, Offset::Beginning)
            .map_err(Failure::context("cannot name a partition"))?;
    }
    consumer.assign(&partitions).map_err(Failure::context("cannot assign partitions"))?;
    Ok(consumer)
}
