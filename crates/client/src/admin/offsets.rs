//! What only a partition's leader can say or do: offsets by time, ends of epochs, deleting from the beginning.

use std::{collections::BTreeMap, sync::Arc};

use quipu_base::{BrokerId, LeaderEpoch, Offset, PartitionIndex, Timestamp};
use quipu_env::Env;
use quipu_protocol::{
    ErrorCode, Request, Response,
    messages::{
        delete_records::{DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic},
        list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic},
        offset_for_leader_epoch::{OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic},
    },
};

use super::{Admin, Outcome, Rounds, check};
use crate::{ClientError, Isolation, TopicPartition, connection::Answer, pool::Target};

/// Which offset of a partition is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum OffsetSpec {
    /// The first one there is.
    Earliest,
    /// The one that the next record gets: the high watermark, or, for [`Isolation::ReadCommitted`], the last stable offset.
    Latest,
    /// That of the record with the largest timestamp (KIP-734).
    MaxTimestamp,
    /// The first one on the broker's own disk (KIP-405).
    EarliestLocal,
    /// The last one in tiered storage (KIP-1005).
    LatestTiered,
    /// The first one that is not yet in tiered storage (KIP-1023).
    EarliestPendingUpload,
    /// The first one at or after this time. Milliseconds since 1970.
    Timestamp(Timestamp),
}

impl OffsetSpec {
    const fn to_wire(self) -> i64 {
        match self {
            Self::Latest => -1,
            Self::Earliest => -2,
            Self::MaxTimestamp => -3,
            Self::EarliestLocal => -4,
            Self::LatestTiered => -5,
            Self::EarliestPendingUpload => -6,
            Self::Timestamp(timestamp) => timestamp.0,
        }
    }

    const fn version_min(self) -> i16 {
        match self {
            Self::Latest | Self::Earliest | Self::Timestamp(_) => 1,
            Self::MaxTimestamp => 7,
            Self::EarliestLocal => 8,
            Self::LatestTiered => 9,
            Self::EarliestPendingUpload => 11,
        }
    }
}

/// An offset that was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ListedOffset {
    /// The offset; none if no record is as wanted.
    pub offset: Option<Offset>,
    /// Timestamp of the record found, where the question was about time.
    pub timestamp: Option<Timestamp>,
    /// Leader epoch of the record found, if the broker tells.
    pub leader_epoch: Option<LeaderEpoch>,
}

/// Where a leader epoch ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EpochEnd {
    /// The largest epoch up to the one asked for that the leader knows; none if it knows none.
    pub leader_epoch: Option<LeaderEpoch>,
    /// The offset after that epoch's last record.
    pub end_offset: Option<Offset>,
}

/// Topics with what is wanted of their partitions.
type ByTopic<P> = Vec<(Arc<str>, Vec<P>)>;

impl<E: Env> Admin<E> {
    /// Offsets of partitions. Each partition may be asked about once in one call.
    ///
    /// Errors of a partition: UNKNOWN_TOPIC_OR_PARTITION, [`ClientError::Version`] and others.
    pub async fn list_offsets(
        &self,
        wanted: Vec<(TopicPartition, OffsetSpec)>,
        isolation: Isolation,
    ) -> Vec<(TopicPartition, Outcome<ListedOffset>)> {
        let version_min = wanted.iter().map(|(_, spec)| spec.version_min()).max().unwrap_or(1).max(2);
        let timeout_ms = self.timeout_ms();
        let request = |items: &[&(TopicPartition, OffsetSpec)]| {
            let topics = by_topic(items, |(partition, spec)| {
                let partition_index = partition.partition.0;
                let timestamp = spec.to_wire();
                (partition, ListOffsetsPartition { partition_index, timestamp, ..Default::default() })
            });
            let topics =
                topics.into_iter().map(|(name, partitions)| ListOffsetsTopic { name: (*name).into(), partitions });
            let isolation_level = isolation.to_wire();
            ListOffsetsRequest { replica_id: -1, isolation_level, topics: topics.collect(), timeout_ms }.into()
        };
        let rounds = self.rounds("list offsets", wanted);
        let found = self.ask_leaders(
            rounds,
            version_min,
            |item| &item.0,
            request,
            |(partition, _), answer| {
                let Response::ListOffsets(response) = &answer.response else { return None };
                let topic = response.topics.iter().find(|topic| topic.name == *partition.topic)?;
                let index = partition.partition.0;
                let found = topic.partitions.iter().find(|found| found.partition_index == index)?;
                let checked = check(|| format!("list offsets of {partition}"), found.error_code, None);
                Some(checked.map(|()| ListedOffset {
                    offset: Some(Offset(found.offset)).filter(|offset| offset.0 >= 0),
                    timestamp: Some(Timestamp(found.timestamp)).filter(|timestamp| timestamp.0 >= 0),
                    leader_epoch: Some(LeaderEpoch(found.leader_epoch)).filter(|epoch| epoch.0 >= 0),
                }))
            },
        );
        found.await.into_iter().map(|((partition, _), outcome)| (partition, outcome)).collect()
    }

    /// Deletes everything below an offset; none is everything there is. Answers with the first offset that remains.
    ///
    /// Errors of a partition: OFFSET_OUT_OF_RANGE, UNKNOWN_TOPIC_OR_PARTITION, POLICY_VIOLATION and others.
    pub async fn delete_records(
        &self,
        before: Vec<(TopicPartition, Option<Offset>)>,
    ) -> Vec<(TopicPartition, Outcome<Offset>)> {
        let timeout_ms = self.timeout_ms();
        let request = |items: &[&(TopicPartition, Option<Offset>)]| {
            let topics = by_topic(items, |(partition, offset)| {
                let (partition_index, offset) = (partition.partition.0, offset.map_or(-1, |offset| offset.0));
                (partition, DeleteRecordsPartition { partition_index, offset })
            });
            let topics =
                topics.into_iter().map(|(name, partitions)| DeleteRecordsTopic { name: (*name).into(), partitions });
            DeleteRecordsRequest { topics: topics.collect(), timeout_ms }.into()
        };
        let rounds = self.rounds("delete records", before);
        let deleted = self.ask_leaders(
            rounds,
            0,
            |item| &item.0,
            request,
            |(partition, _), answer| {
                let Response::DeleteRecords(response) = &answer.response else { return None };
                let topic = response.topics.iter().find(|topic| topic.name == *partition.topic)?;
                let index = partition.partition.0;
                let found = topic.partitions.iter().find(|found| found.partition_index == index)?;
                let checked = check(|| format!("delete records of {partition}"), found.error_code, None);
                Some(checked.map(|()| Offset(found.low_watermark)))
            },
        );
        deleted.await.into_iter().map(|((partition, _), outcome)| (partition, outcome)).collect()
    }

    /// Where leader epochs end (KIP-320).
    ///
    /// Errors of a partition: UNKNOWN_TOPIC_OR_PARTITION and others.
    pub async fn offsets_for_leader_epochs(
        &self,
        wanted: Vec<(TopicPartition, LeaderEpoch)>,
    ) -> Vec<(TopicPartition, Outcome<EpochEnd>)> {
        let request = |items: &[&(TopicPartition, LeaderEpoch)]| {
            let topics = by_topic(items, |(partition, epoch)| {
                let (partition_index, leader_epoch) = (partition.partition.0, epoch.0);
                let wanted =
                    OffsetForLeaderPartition { partition: partition_index, leader_epoch, ..Default::default() };
                (partition, wanted)
            });
            let topics =
                topics.into_iter().map(|(name, partitions)| OffsetForLeaderTopic { topic: (*name).into(), partitions });
            OffsetForLeaderEpochRequest { replica_id: -1, topics: topics.collect() }.into()
        };
        let rounds = self.rounds("find ends of leader epochs", wanted);
        let found = self.ask_leaders(
            rounds,
            2,
            |item| &item.0,
            request,
            |(partition, _), answer| {
                let Response::OffsetForLeaderEpoch(response) = &answer.response else { return None };
                let topic = response.topics.iter().find(|topic| topic.topic == *partition.topic)?;
                let found = topic.partitions.iter().find(|found| found.partition == partition.partition.0)?;
                let checked = check(|| format!("find ends of leader epochs of {partition}"), found.error_code, None);
                Some(checked.map(|()| EpochEnd {
                    leader_epoch: Some(LeaderEpoch(found.leader_epoch)).filter(|epoch| epoch.0 >= 0),
                    end_offset: Some(Offset(found.end_offset)).filter(|offset| offset.0 >= 0),
                }))
            },
        );
        found.await.into_iter().map(|((partition, _), outcome)| (partition, outcome)).collect()
    }

    /// Asks each leader about its partitions, all leaders at once, until every partition has its outcome.
    async fn ask_leaders<K: Clone, T>(
        &self,
        mut rounds: Rounds<E, K, T>,
        version_min: i16,
        partition: impl Fn(&K) -> &TopicPartition,
        request: impl Fn(&[&K]) -> Request,
        take: impl Fn(&K, &Answer) -> Option<Outcome<T>>,
    ) -> Vec<(K, Outcome<T>)> {
        let mut is_first = true;
        while let Some(open) = rounds.next().await {
            let names = open.iter().map(|(_, item)| &partition(item).topic);
            let mut topics: Vec<Arc<str>> = names.cloned().collect();
            topics.sort_unstable();
            topics.dedup();
            let cluster = self.client.cluster();
            let is_known = |topic: &Arc<str>| cluster.topic(topic).is_some();
            if (!is_first || !topics.iter().all(is_known))
                && let Err(error) = self.client.refresh(&topics).await
            {
                rounds.settle_all(open.iter().map(|(at, _)| *at), &error);
                continue;
            }
            is_first = false;
            let cluster = self.client.cluster();
            let mut by_leader: BTreeMap<BrokerId, Vec<&(usize, K)>> = BTreeMap::new();
            for entry in &open {
                let TopicPartition { topic, partition } = partition(&entry.1);
                match cluster.leader(topic, *partition) {
                    Some((leader, _)) => by_leader.entry(leader).or_default().push(entry),
                    None => rounds.settle(entry.0, Err(no_leader(&cluster, topic, *partition))),
                }
            }
            let post = |(leader, entries): (BrokerId, Vec<&(usize, K)>)| {
                let items: Vec<&K> = entries.iter().map(|(_, item)| item).collect();
                let ats: Vec<usize> = entries.iter().map(|(at, _)| *at).collect();
                let call = self.client.post(Target::Broker(leader), request(&items), version_min..=i16::MAX);
                (ats, items.into_iter().cloned().collect::<Vec<K>>(), call)
            };
            let pending: Vec<_> = by_leader.into_iter().map(post).collect();
            for (ats, items, call) in pending {
                match call.wait(self.client.shared()).await {
                    Ok(answer) => {
                        for (at, item) in ats.into_iter().zip(&items) {
                            rounds.settle(at, take(item, &answer).unwrap_or_else(|| Err(super::left_out())));
                        }
                    }
                    Err(error) => rounds.settle_all(ats, &error),
                }
            }
        }
        rounds.finish()
    }
}

fn by_topic<K, P>(items: &[&K], part: impl Fn(&K) -> (&TopicPartition, P)) -> ByTopic<P> {
    let mut topics: ByTopic<P> = Vec::new();
    for item in items {
        let (TopicPartition { topic, .. }, wanted) = part(item);
        match topics.iter_mut().find(|(known, _)| known == topic) {
            Some((_, partitions)) => partitions.push(wanted),
            None => topics.push((Arc::clone(topic), vec![wanted])),
        }
    }
    topics
}

fn no_leader(cluster: &crate::Cluster, topic: &str, partition: PartitionIndex) -> ClientError {
    let code = match cluster.partition(topic, partition) {
        Some(_) => ErrorCode::LeaderNotAvailable,
        None => cluster.topic_error(topic).unwrap_or(ErrorCode::UnknownTopicOrPartition),
    };
    ClientError::refused(format!("find the leader of {topic}-{partition}"), code.code(), None)
}
