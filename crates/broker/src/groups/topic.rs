//! `__consumer_offsets`: which of its partitions a group belongs to, and how it is made.
//!
//! Invariant: the partition of a group is the one that Kafka gives it, so that tools that look a group up find it.

use quipu_base::PartitionIndex;
use quipu_controller::NewTopic;
use quipu_env::Env;

use crate::node::Node;

pub(crate) use quipu_controller::OFFSETS_TOPIC;

/// The partition of a group: Java's hash of the id, made positive, by the number of partitions.
pub(crate) fn partition_of(group: &str, partition_count: usize) -> PartitionIndex {
    let hash = group.encode_utf16().fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    let positive = if hash == i32::MIN { 0 } else { hash.unsigned_abs() };
    let count = u32::try_from(partition_count.max(1)).unwrap_or(u32::MAX);
    PartitionIndex(i32::try_from(positive % count).expect("it is below an i32"))
}

/// A topic of this name that is made because somebody asks for it.
pub(crate) fn new_topic<E: Env>(node: &Node<E>, name: &str) -> NewTopic {
    if name != OFFSETS_TOPIC {
        return NewTopic::with_defaults(name);
    }
    let config = node.broker_config();
    let configs = [
        ("cleanup.policy", "compact".to_owned()),
        ("compression.type", "producer".to_owned()),
        ("segment.bytes", config.offsets_topic_segment_bytes.to_string()),
    ];
    NewTopic {
        name: name.to_owned(),
        partition_count: config.offsets_topic_partition_count,
        replication_factor: replication_factor(node),
        assignments: Vec::new(),
        configs: configs.into_iter().map(|(name, value)| (name.to_owned(), Some(value))).collect(),
    }
}

/// As many as set. If nobody has set it: Kafka's three, or as many as the cluster has brokers, if those are fewer. Brokers that
/// are down count, so that the topic is not made with too few because of a failure: it is then refused, and asked for again.
fn replication_factor<E: Env>(node: &Node<E>) -> i16 {
    let wanted = node.broker_config().offsets_topic_replication_factor;
    if node.statics.get("offsets.topic.replication.factor").is_some() {
        return wanted;
    }
    let brokers = node.view().image.brokers().count();
    wanted.min(i16::try_from(brokers.max(1)).unwrap_or(i16::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_belong_where_kafka_puts_them() {
        // From Kafka's own Utils.abs("...".hashCode()) % 50.
        for (group, partition) in
            [("", 0), ("group", 47), ("tour", 18), ("console-consumer-12345", 6), ("gr\u{fc}ppe", 12)]
        {
            assert_eq!(partition_of(group, 50), PartitionIndex(partition), "{group}");
        }
        // Its hash is i32::MIN.
        assert_eq!(partition_of("polygenelubricants", 50), PartitionIndex(0));
    }
}
