//! What is known of the cluster: brokers, topics, leaders. A value; replies are applied to it.
//!
//! Invariants
//! - A partition's leader epoch never goes back while the topic is the same (KIP-320): news of an earlier leader is old news.
//! - A topic that was deleted and made again (another id) is another topic: its epochs begin anew.
//!
//! Not here: when to ask (`refresh`).

use core::fmt;
use std::{collections::BTreeMap, sync::Arc};

use quipu_base::{BrokerId, LeaderEpoch, PartitionIndex, TopicId};
use quipu_protocol::{
    ErrorCode,
    messages::metadata::{MetadataResponse, MetadataResponsePartition, MetadataResponseTopic},
};

use crate::BrokerAddress;

/// A broker of the cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Broker {
    /// Its node id.
    pub id: BrokerId,
    /// Where it listens.
    pub address: BrokerAddress,
    /// Its rack, if it has one.
    pub rack: Option<String>,
}

/// A partition as the brokers describe it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Partition {
    /// Its number.
    pub index: PartitionIndex,
    /// The leader, if there is one.
    pub leader: Option<BrokerId>,
    /// The leader's epoch; [`LeaderEpoch::NONE`] from brokers that do not tell.
    pub leader_epoch: LeaderEpoch,
    /// All replicas, the preferred leader first.
    pub replicas: Vec<BrokerId>,
    /// Replicas in sync.
    pub isr: Vec<BrokerId>,
    /// Replicas that are not in sync and may lead all the same (KIP-966); in Quipu the other members of the partition's configuration.
    /// None from brokers, and in answers, that do not tell.
    pub eligible: Option<Vec<BrokerId>>,
    /// Replicas that are offline.
    pub offline: Vec<BrokerId>,
    /// Why it can't be used at the moment, if so.
    pub error: Option<ErrorCode>,
}

/// A topic as the brokers describe it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Topic {
    /// Its name.
    pub name: Arc<str>,
    /// Its id; [`TopicId::ZERO`] from brokers that do not tell.
    pub id: TopicId,
    /// Whether it is one of the system's own.
    pub is_internal: bool,
    /// Its partitions, in order of number, without gaps.
    pub partitions: Vec<Partition>,
}

/// A partition by its topic's name. Written `topic-partition`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TopicPartition {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition's number in it.
    pub partition: PartitionIndex,
}

impl TopicPartition {
    /// This partition of this topic.
    #[must_use]
    pub fn new(topic: impl Into<Arc<str>>, partition: PartitionIndex) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// What the client knows of the cluster.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Cluster {
    /// The cluster's id.
    pub id: Option<String>,
    /// The controller, or a broker that forwards to it.
    pub controller: Option<BrokerId>,
    /// The brokers that are alive.
    pub brokers: BTreeMap<BrokerId, Broker>,
    topics: BTreeMap<Arc<str>, Known>,
}

/// What was last said of a topic.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
struct Known {
    /// Kept beside an error, so that leader epochs don't go back when the topic is there again.
    topic: Option<Arc<Topic>>,
    error: Option<ErrorCode>,
}

impl Cluster {
    /// A topic, if it is known: the client asks only about topics that it uses.
    #[must_use]
    pub fn topic(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topics.get(name).filter(|known| known.error.is_none())?.topic.as_ref()
    }

    /// Topics that are known and can be used, by name.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.topics.values().filter(|known| known.error.is_none()).filter_map(|known| known.topic.as_ref())
    }

    /// What the brokers say against a topic, if they were asked about it and do.
    #[must_use]
    pub fn topic_error(&self, name: &str) -> Option<ErrorCode> {
        self.topics.get(name)?.error
    }

    /// A partition, if its topic is known and has it.
    #[must_use]
    pub fn partition(&self, topic: &str, partition: PartitionIndex) -> Option<&Partition> {
        self.topic(topic)?.partitions.get(usize::try_from(partition.0).ok()?)
    }

    /// Who leads a partition, if that is known and the broker is alive.
    #[must_use]
    pub fn leader(&self, topic: &str, partition: PartitionIndex) -> Option<(BrokerId, LeaderEpoch)> {
        let partition = self.partition(topic, partition)?;
        let leader = partition.leader.filter(|leader| self.brokers.contains_key(leader))?;
        Some((leader, partition.leader_epoch))
    }

    /// Takes in a reply, about all topics or some.
    pub(crate) fn apply(&mut self, response: &MetadataResponse) {
        self.id = response.cluster_id.as_ref().map(ToString::to_string).or_else(|| self.id.take());
        self.controller = Some(BrokerId(response.controller_id)).filter(|id| id.0 >= 0);
        let broker = |broker: &quipu_protocol::messages::metadata::MetadataResponseBroker| {
            let port = u16::try_from(broker.port).ok()?;
            let id = BrokerId(broker.node_id);
            let rack = broker.rack.as_ref().map(ToString::to_string);
            Some((id, Broker { id, address: BrokerAddress::new(&broker.host, port), rack }))
        };
        self.brokers = response.brokers.iter().filter_map(broker).collect();
        for topic in &response.topics {
            if let Some(name) = &topic.name {
                self.apply_topic(name, topic);
            }
        }
    }

    fn apply_topic(&mut self, name: &str, new: &MetadataResponseTopic) {
        let code = ErrorCode::from_code(new.error_code).unwrap_or(ErrorCode::UnknownServerError);
        let shared: Arc<str> =
            self.topics.get_key_value(name).map_or_else(|| name.into(), |(name, _)| Arc::clone(name));
        let entry = self.topics.entry(Arc::clone(&shared)).or_default();
        entry.error = Some(code).filter(|code| code.is_error());
        if entry.error.is_some() {
            return;
        }
        let known = entry.topic.take().filter(|known| known.id == new.topic_id);
        let mut partitions: Vec<Partition> = new.partitions.iter().map(partition).collect();
        partitions.sort_by_key(|partition| partition.index);
        for partition in &mut partitions {
            let before =
                known.as_ref().and_then(|known| known.partitions.iter().find(|old| old.index == partition.index));
            if let Some(before) = before.filter(|before| before.leader_epoch > partition.leader_epoch) {
                *partition = before.clone();
            }
        }
        let topic = Topic { name: shared, id: new.topic_id, is_internal: new.is_internal, partitions };
        entry.topic = Some(Arc::new(topic));
    }

    /// Takes the word of a broker that refused to lead (KIP-951), if it is newer than what is known.
    pub(crate) fn apply_hint(&mut self, topic: &str, hint: &LeaderHint) -> bool {
        let Some(known) = self.topics.get_mut(topic).and_then(|known| known.topic.as_mut()) else { return false };
        let Some(at) = known.partitions.iter().position(|partition| partition.index == hint.partition) else {
            return false;
        };
        if hint.leader.0 < 0 || hint.leader_epoch <= known.partitions[at].leader_epoch {
            return false;
        }
        let known = Arc::make_mut(known);
        known.partitions[at].leader = Some(hint.leader);
        known.partitions[at].leader_epoch = hint.leader_epoch;
        if let Some(address) = &hint.address {
            let rack = None;
            let broker = Broker { id: hint.leader, address: address.clone(), rack };
            self.brokers.entry(hint.leader).or_insert(broker);
        }
        true
    }
}

/// A leader as a broker names it in a refusal.
#[derive(Clone, Debug)]
pub(crate) struct LeaderHint {
    pub(crate) partition: PartitionIndex,
    pub(crate) leader: BrokerId,
    pub(crate) leader_epoch: LeaderEpoch,
    pub(crate) address: Option<BrokerAddress>,
}

fn partition(new: &MetadataResponsePartition) -> Partition {
    let ids = |ids: &[i32]| ids.iter().copied().map(BrokerId).collect();
    Partition {
        index: PartitionIndex(new.partition_index),
        leader: Some(BrokerId(new.leader_id)).filter(|id| id.0 >= 0),
        leader_epoch: LeaderEpoch(new.leader_epoch),
        replicas: ids(&new.replica_nodes),
        isr: ids(&new.isr_nodes),
        eligible: None,
        offline: ids(&new.offline_replicas),
        error: ErrorCode::from_code(new.error_code).filter(|code| code.is_error()),
    }
}

#[cfg(test)]
mod tests {
    use quipu_protocol::messages::metadata::MetadataResponseBroker;

    use super::*;

    fn response(topic_id: u8, leader_id: i32, leader_epoch: i32) -> MetadataResponse {
        let partition = MetadataResponsePartition { leader_id, leader_epoch, ..Default::default() };
        let topic = MetadataResponseTopic {
            name: Some("knots".into()),
            topic_id: TopicId([topic_id; 16]),
            partitions: vec![partition],
            ..Default::default()
        };
        let broker = |node_id| MetadataResponseBroker { node_id, host: "b".into(), port: 9092, rack: None };
        MetadataResponse { brokers: vec![broker(1), broker(2)], topics: vec![topic], ..Default::default() }
    }

    fn leader(cluster: &Cluster) -> Option<(i32, i32)> {
        cluster.leader("knots", PartitionIndex(0)).map(|(id, epoch)| (id.0, epoch.0))
    }

    #[test]
    fn old_news_is_ignored_unless_the_topic_is_another() {
        let mut cluster = Cluster::default();
        cluster.apply(&response(1, 1, 5));
        assert_eq!(leader(&cluster), Some((1, 5)));
        cluster.apply(&response(1, 2, 4));
        assert_eq!(leader(&cluster), Some((1, 5)));
        cluster.apply(&response(1, 2, 6));
        assert_eq!(leader(&cluster), Some((2, 6)));
        cluster.apply(&response(2, 1, 0));
        assert_eq!(leader(&cluster), Some((1, 0)));
    }

    #[test]
    fn a_leader_that_is_not_alive_is_none() {
        let mut cluster = Cluster::default();
        cluster.apply(&response(1, 3, 5));
        assert_eq!(leader(&cluster), None);
        cluster.apply(&response(1, -1, 6));
        assert_eq!(leader(&cluster), None);
    }

    #[test]
    fn a_hint_counts_if_it_is_newer() {
        let mut cluster = Cluster::default();
        cluster.apply(&response(1, 1, 5));
        let hint = |leader, epoch| LeaderHint {
            partition: PartitionIndex(0),
            leader: BrokerId(leader),
            leader_epoch: LeaderEpoch(epoch),
            address: Some(BrokerAddress::new("c", 1)),
        };
        assert!(!cluster.apply_hint("knots", &hint(2, 5)) && !cluster.apply_hint("knots", &hint(-1, 9)));
        assert!(!cluster.apply_hint("others", &hint(2, 6)));
        assert!(cluster.apply_hint("knots", &hint(9, 6)));
        assert_eq!(leader(&cluster), Some((9, 6)));
    }

    #[test]
    fn what_is_said_against_a_topic_is_kept() {
        let mut cluster = Cluster::default();
        cluster.apply(&response(1, 1, 5));
        let mut gone = response(1, 1, 5);
        gone.topics[0].error_code = ErrorCode::UnknownTopicOrPartition.code();
        cluster.apply(&gone);
        assert_eq!(leader(&cluster), None);
        assert_eq!(cluster.topic_error("knots"), Some(ErrorCode::UnknownTopicOrPartition));
        cluster.apply(&response(1, 2, 4));
        assert_eq!((leader(&cluster), cluster.topic_error("knots")), (Some((1, 5)), None));
    }
}
