//! Committed offsets of a group: read, set, forgotten.

use std::{collections::BTreeMap, sync::Arc};

use quipu_base::{LeaderEpoch, Offset, PartitionIndex};
use quipu_env::Env;
use quipu_protocol::{
    ErrorCode, Str,
    messages::{
        offset_commit::{OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic},
        offset_delete::{OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic},
        offset_fetch::{OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics},
    },
};

use super::{Admin, Outcome, check, expect_reply};
use crate::{ClientError, CoordinatorKind, OffsetToCommit, TopicPartition, pool::Target};

/// Requests by name of the topic: later versions have its id.
const NAMED_COMMIT_MAX: i16 = 9;
/// The first version that names members by epoch (KIP-848).
const EPOCH_COMMIT_MIN: i16 = 9;
const NAMED_FETCH_MAX: i16 = 9;
/// The first version that asks by group (KIP-709).
const GROUP_FETCH_MIN: i16 = 8;

/// A committed offset.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupOffset {
    /// That of the next record to read.
    pub offset: Offset,
    /// The leader epoch of the record before it, if it was committed.
    pub leader_epoch: Option<LeaderEpoch>,
    /// What the application keeps beside it.
    pub metadata: String,
}

/// Who commits: nobody in particular, or a member.
#[derive(Clone, Debug)]
pub(crate) struct Committer {
    pub(crate) member_id: Str,
    pub(crate) generation: i32,
    pub(crate) instance_id: Option<Str>,
    /// The generation is an epoch of the consumer protocol.
    pub(crate) has_epoch: bool,
}

impl Committer {
    /// An administrator: accepted while the group has no members.
    const fn nobody() -> Self {
        Self { member_id: Str::EMPTY, generation: -1, instance_id: None, has_epoch: false }
    }
}

/// Partitions with what became of each.
type Each<T> = Vec<(TopicPartition, Outcome<T>)>;

impl<E: Env> Admin<E> {
    /// Committed offsets of a group: of these partitions, or of all that have any. A partition without one is left out.
    ///
    /// Errors: what went wrong last, after [`crate::ClientConfig::api_timeout`].
    pub async fn list_group_offsets(
        &self,
        group: &str,
        partitions: Option<&[TopicPartition]>,
    ) -> Outcome<BTreeMap<TopicPartition, GroupOffset>> {
        let mut retry = self.client.retry(format!("list committed offsets of group {group}"));
        loop {
            match self.fetch_once(group, partitions).await {
                Ok(found) => return Ok(found),
                Err(error) => retry.pause(&error).await?,
            }
        }
    }

    async fn fetch_once(
        &self,
        group: &str,
        partitions: Option<&[TopicPartition]>,
    ) -> Outcome<BTreeMap<TopicPartition, GroupOffset>> {
        let topics = partitions.map(|partitions| {
            let topics = by_topic(partitions.iter(), |partition| partition.0);
            let topic = |(name, partition_indexes): (Arc<str>, Vec<i32>)| OffsetFetchRequestTopics {
                name: (*name).into(),
                partition_indexes,
                ..Default::default()
            };
            topics.into_iter().map(topic).collect()
        });
        let wanted = OffsetFetchRequestGroup { group_id: group.into(), topics, ..Default::default() };
        let request = OffsetFetchRequest { groups: vec![wanted], require_stable: true, ..Default::default() };
        let answer = self.ask_coordinator(group, request, GROUP_FETCH_MIN..=NAMED_FETCH_MAX).await?;
        let response = expect_reply!(answer, OffsetFetch);
        let what = || format!("list committed offsets of group {group}");
        let found = response.groups.into_iter().find(|found| found.group_id == *group).ok_or_else(super::left_out)?;
        check(what, found.error_code, None)?;
        let mut offsets = BTreeMap::new();
        for topic in found.topics {
            let name: Arc<str> = (*topic.name).into();
            for one in topic.partitions {
                let partition = TopicPartition::new(Arc::clone(&name), PartitionIndex(one.partition_index));
                check(|| format!("list the committed offset of {partition}"), one.error_code, None)?;
                if one.committed_offset >= 0 {
                    let leader_epoch = Some(LeaderEpoch(one.committed_leader_epoch)).filter(|epoch| epoch.0 >= 0);
                    let metadata = one.metadata.map(|text| text.to_string()).unwrap_or_default();
                    let offset = Offset(one.committed_offset);
                    offsets.insert(partition, GroupOffset { offset, leader_epoch, metadata });
                }
            }
        }
        Ok(offsets)
    }

    /// Sets committed offsets of a group that has no members; makes the group if there is none.
    ///
    /// Errors: UNKNOWN_MEMBER_ID while the group has members. Errors of a partition: UNKNOWN_TOPIC_OR_PARTITION,
    /// OFFSET_METADATA_TOO_LARGE and others.
    pub async fn alter_group_offsets(
        &self,
        group: &str,
        offsets: &BTreeMap<TopicPartition, OffsetToCommit>,
    ) -> Outcome<Each<()>> {
        let mut retry = self.client.retry(format!("set committed offsets of group {group}"));
        loop {
            let is_last = retry.failures() >= super::UNKNOWN_TOPIC_TRIES;
            let committed = self.commit_once(group, &Committer::nobody(), offsets).await;
            let passing = match &committed {
                Ok(outcomes) => outcomes.iter().filter_map(|(_, outcome)| outcome.as_ref().err()).find(|error| {
                    error.is_retriable() && !(is_last && error.code() == Some(ErrorCode::UnknownTopicOrPartition))
                }),
                Err(error) => Some(error),
            };
            match passing.cloned() {
                None => return committed,
                Some(error) => retry.pause(&error).await?,
            }
        }
    }

    /// One try to commit.
    pub(crate) async fn commit_once(
        &self,
        group: &str,
        committer: &Committer,
        offsets: &BTreeMap<TopicPartition, OffsetToCommit>,
    ) -> Outcome<Each<()>> {
        let mut topics: Vec<OffsetCommitRequestTopic> = Vec::new();
        for (partition, to_commit) in offsets {
            if topics.last().is_none_or(|topic| topic.name != *partition.topic) {
                topics.push(OffsetCommitRequestTopic { name: (*partition.topic).into(), ..Default::default() });
            }
            let one = OffsetCommitRequestPartition {
                partition_index: partition.partition.0,
                committed_offset: to_commit.offset.0,
                committed_leader_epoch: to_commit.leader_epoch.map_or(-1, |epoch| epoch.0),
                committed_metadata: Some(to_commit.metadata.as_str().into()),
            };
            topics.last_mut().into_iter().for_each(|topic| topic.partitions.push(one.clone()));
        }
        let request = OffsetCommitRequest {
            group_id: group.into(),
            generation_id_or_member_epoch: committer.generation,
            member_id: committer.member_id.clone(),
            group_instance_id: committer.instance_id.clone(),
            topics,
            ..Default::default()
        };
        let version_min = if committer.has_epoch { EPOCH_COMMIT_MIN } else { 2 };
        let answer = self.ask_coordinator(group, request, version_min..=NAMED_COMMIT_MAX).await?;
        let response = expect_reply!(answer, OffsetCommit);
        let code_of = |partition: &TopicPartition| {
            let topic = response.topics.iter().find(|topic| topic.name == *partition.topic)?;
            topic.partitions.iter().find(|one| one.partition_index == partition.partition.0).map(|one| one.error_code)
        };
        let outcome = |partition: &TopicPartition| {
            let code = code_of(partition).ok_or_else(super::left_out)?;
            check(|| format!("commit the offset of {partition} for group {group}"), code, None)
        };
        Ok(offsets.keys().map(|partition| (partition.clone(), outcome(partition))).collect())
    }

    /// Forgets committed offsets of partitions that no member of the group subscribes to.
    ///
    /// Errors: GROUP_ID_NOT_FOUND and others. Errors of a partition: GROUP_SUBSCRIBED_TO_TOPIC and others.
    pub async fn delete_group_offsets(&self, group: &str, partitions: &[TopicPartition]) -> Outcome<Each<()>> {
        let mut retry = self.client.retry(format!("delete committed offsets of group {group}"));
        loop {
            match self.delete_once(group, partitions).await {
                Ok(outcomes) => return Ok(outcomes),
                Err(error) => retry.pause(&error).await?,
            }
        }
    }

    async fn delete_once(&self, group: &str, partitions: &[TopicPartition]) -> Outcome<Each<()>> {
        let own = |partition: PartitionIndex| OffsetDeleteRequestPartition { partition_index: partition.0 };
        let topics = by_topic(partitions.iter(), own);
        let topic = |(name, partitions): (Arc<str>, _)| OffsetDeleteRequestTopic { name: (*name).into(), partitions };
        let request = OffsetDeleteRequest { group_id: group.into(), topics: topics.into_iter().map(topic).collect() };
        let answer = self.ask_coordinator(group, request, 0..=i16::MAX).await?;
        let response = expect_reply!(answer, OffsetDelete);
        check(|| format!("delete committed offsets of group {group}"), response.error_code, None)?;
        let code_of = |partition: &TopicPartition| {
            let topic = response.topics.iter().find(|topic| topic.name == *partition.topic)?;
            topic.partitions.iter().find(|one| one.partition_index == partition.partition.0).map(|one| one.error_code)
        };
        let outcome = |partition: &TopicPartition| {
            let code = code_of(partition).ok_or_else(super::left_out)?;
            check(|| format!("delete the committed offset of {partition}"), code, None)
        };
        Ok(partitions.iter().map(|partition| (partition.clone(), outcome(partition))).collect())
    }

    /// Asks a group's coordinator, once.
    pub(super) async fn ask_coordinator(
        &self,
        group: &str,
        request: impl Into<quipu_protocol::Request>,
        versions: core::ops::RangeInclusive<i16>,
    ) -> Result<crate::connection::Answer, ClientError> {
        let found = self.coordinator_once(CoordinatorKind::Group, group).await?;
        if !self.client.cluster().brokers.contains_key(&found.id) {
            self.client.refresh(&[]).await?;
        }
        self.client.call(Target::Broker(found.id), request, versions).await
    }
}

fn by_topic<'a, P>(
    partitions: impl Iterator<Item = &'a TopicPartition>,
    part: impl Fn(PartitionIndex) -> P,
) -> BTreeMap<Arc<str>, Vec<P>> {
    let mut topics: BTreeMap<Arc<str>, Vec<P>> = BTreeMap::new();
    for TopicPartition { topic, partition } in partitions {
        topics.entry(Arc::clone(topic)).or_default().push(part(*partition));
    }
    topics
}
