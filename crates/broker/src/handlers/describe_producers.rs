//! DescribeProducers (KIP-664): what the leader of a partition remembers of its idempotent producers.
//!
//! There are no transactions yet: no producer has a coordinator, or a transaction that is open.

use std::sync::Arc;

use quipu_base::{PartitionIndex, Timestamp, TopicIdPartition};
use quipu_env::{Clock, Env};
use quipu_protocol::{
    Response,
    messages::describe_producers::{
        DescribeProducersRequest, DescribeProducersResponse, PartitionResponse, ProducerState, TopicResponse,
    },
};

use crate::{
    errors::{self, Refusal},
    node::{Node, View},
};

pub(super) async fn respond<E: Env>(node: Arc<Node<E>>, request: DescribeProducersRequest) -> Response {
    let view = node.view();
    let oldest = Timestamp(node.env.clock().wall().0.saturating_sub(node.broker_config().producer_expiration_ms));
    let topics = request.topics.iter().map(|topic| {
        let partition = |index: &i32| match producers(&view, &topic.name, PartitionIndex(*index), oldest) {
            Ok(active_producers) => {
                PartitionResponse { partition_index: *index, active_producers, ..Default::default() }
            }
            Err(refusal) => PartitionResponse {
                partition_index: *index,
                error_code: refusal.code.code(),
                error_message: refusal.text(),
                active_producers: Vec::new(),
            },
        };
        TopicResponse { name: topic.name.clone(), partitions: topic.partition_indexes.iter().map(partition).collect() }
    });
    DescribeProducersResponse { topics: topics.collect(), ..Default::default() }.into()
}

/// The producers that have written since `oldest`.
fn producers<E: Env>(
    view: &View<E>,
    topic: &str,
    partition: PartitionIndex,
    oldest: Timestamp,
) -> Result<Vec<ProducerState>, Refusal> {
    let topic_id = view.image.topic(topic).ok_or_else(|| errors::unknown_topic(false))?.topic_id();
    let partition = view.partition(TopicIdPartition { topic_id, partition })?;
    errors::check_sound(&partition.log)?;
    let known = partition.log.producers().into_iter().filter(|known| known.last_used > oldest);
    let state = |known: quipu_storage::ProducerState| {
        let last = known.batches.last();
        ProducerState {
            producer_id: known.producer_id.get(),
            producer_epoch: i32::from(known.epoch.get()),
            last_sequence: last.map_or(-1, |batch| batch.last_sequence.get()),
            last_timestamp: last.map_or(-1, |batch| batch.timestamp.0),
            coordinator_epoch: -1,
            current_txn_start_offset: -1,
        }
    };
    Ok(known.map(state).collect())
}
