//! Topics: create, delete, grow, describe, list, cut off at the beginning.

use std::{collections::BTreeMap, sync::Arc};

use quipu_base::{BrokerId, TopicId};
use quipu_env::Env;
use quipu_protocol::{
    ErrorCode,
    messages::{
        create_partitions::{CreatePartitionsAssignment, CreatePartitionsRequest, CreatePartitionsTopic},
        create_topics::{CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig, CreateTopicsRequest},
        delete_topics::{DeleteTopicState, DeleteTopicsRequest},
        describe_topic_partitions::{
            Cursor, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponseTopic, TopicRequest,
        },
        metadata::{MetadataRequest, MetadataRequestTopic},
    },
};

use super::{Admin, Outcome, check, expect_reply};
use crate::{ClientError, Cluster, Topic, pool::Target};

/// A topic to create.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// How many partitions; none is the brokers' default.
    pub partitions: Option<i32>,
    /// How many replicas each has; none is the brokers' default.
    pub replication_factor: Option<i16>,
    /// The replicas of each partition, the preferred leader first, if the caller chooses them: then `partitions` and
    /// `replication_factor` must be none.
    pub assignments: Vec<Vec<BrokerId>>,
    /// Its settings.
    pub configs: BTreeMap<String, String>,
}

impl NewTopic {
    /// A topic with this many partitions, and the brokers' defaults for the rest.
    #[must_use]
    pub fn new(name: &str, partitions: i32) -> Self {
        Self {
            name: name.to_owned(),
            partitions: Some(partitions),
            replication_factor: None,
            assignments: Vec::new(),
            configs: BTreeMap::new(),
        }
    }

    /// The same with a setting.
    #[must_use]
    pub fn with_config(mut self, name: &str, value: &str) -> Self {
        self.configs.insert(name.to_owned(), value.to_owned());
        self
    }
}

/// A topic by its name or by its id.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TopicName {
    /// By name.
    Name(String),
    /// By id: a topic of the same name that was made later is another.
    Id(TopicId),
}

impl From<&str> for TopicName {
    fn from(name: &str) -> Self {
        Self::Name(name.to_owned())
    }
}

impl From<TopicId> for TopicName {
    fn from(id: TopicId) -> Self {
        Self::Id(id)
    }
}

impl core::fmt::Display for TopicName {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Id(id) => id.fmt(f),
        }
    }
}

/// How a topic is to grow.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewPartitions {
    /// The topic.
    pub topic: String,
    /// How many partitions it shall have in all.
    pub count: i32,
    /// The replicas of each new partition, if the caller chooses them.
    pub assignments: Option<Vec<Vec<BrokerId>>>,
}

/// Partitions asked for at once by [`Admin::describe_topic_partitions`].
const PAGE_PARTITIONS: i32 = 2000;

impl<E: Env> Admin<E> {
    /// Creates topics; with `validate_only` nothing is made, but everything is checked. The id is zero if nothing was made, or
    /// if the broker does not tell.
    ///
    /// Errors of a topic: TOPIC_ALREADY_EXISTS, INVALID_TOPIC_EXCEPTION, INVALID_PARTITIONS, INVALID_REPLICATION_FACTOR,
    /// INVALID_CONFIG and others.
    pub async fn create_topics(&self, topics: Vec<NewTopic>, validate_only: bool) -> Vec<(NewTopic, Outcome<TopicId>)> {
        let mut rounds = self.rounds("create topics", topics);
        while let Some(open) = rounds.next().await {
            let request = CreateTopicsRequest {
                topics: open.iter().map(|(_, topic)| creatable(topic)).collect(),
                timeout_ms: self.timeout_ms(),
                validate_only,
            };
            match self.ask_controller(request, 4).await {
                Ok(answer) => {
                    let response = expect_reply!(answer, CreateTopics);
                    for (at, topic) in open {
                        let found = response.topics.iter().find(|result| result.name == topic.name.as_str());
                        let Some(found) = found else {
                            rounds.settle(at, Err(super::left_out()));
                            continue;
                        };
                        let what = || format!("create topic {}", topic.name);
                        let outcome = check(what, found.error_code, found.error_message.as_deref());
                        rounds.settle(at, outcome.map(|()| found.topic_id));
                    }
                }
                Err(error) => rounds.settle_all(open.iter().map(|(at, _)| *at), &error),
            }
        }
        rounds.finish()
    }

    /// Deletes topics, with everything in them.
    ///
    /// Errors of a topic: UNKNOWN_TOPIC_OR_PARTITION, UNKNOWN_TOPIC_ID and others.
    pub async fn delete_topics(&self, topics: Vec<TopicName>) -> Vec<(TopicName, Outcome<()>)> {
        let mut rounds = self.rounds("delete topics", topics);
        while let Some(open) = rounds.next().await {
            let state = |(_, topic): &(usize, TopicName)| match topic {
                TopicName::Name(name) => DeleteTopicState { name: Some(name.as_str().into()), topic_id: TopicId::ZERO },
                TopicName::Id(topic_id) => DeleteTopicState { name: None, topic_id: *topic_id },
            };
            let request = DeleteTopicsRequest {
                topics: open.iter().map(state).collect(),
                topic_names: Vec::new(),
                timeout_ms: self.timeout_ms(),
            };
            match self.ask_controller(request, 6).await {
                Ok(answer) => {
                    let response = expect_reply!(answer, DeleteTopics);
                    for (at, topic) in open {
                        let found = response.responses.iter().find(|result| match &topic {
                            TopicName::Name(name) => result.name.as_deref() == Some(name),
                            TopicName::Id(id) => result.topic_id == *id,
                        });
                        let Some(found) = found else {
                            rounds.settle(at, Err(super::left_out()));
                            continue;
                        };
                        let what = || format!("delete topic {topic}");
                        rounds.settle(at, check(what, found.error_code, found.error_message.as_deref()));
                    }
                }
                Err(error) => rounds.settle_all(open.iter().map(|(at, _)| *at), &error),
            }
        }
        rounds.finish()
    }

    /// Adds partitions to topics; with `validate_only` it is only checked.
    ///
    /// Errors of a topic: UNKNOWN_TOPIC_OR_PARTITION, INVALID_PARTITIONS and others.
    pub async fn create_partitions(
        &self,
        topics: Vec<NewPartitions>,
        validate_only: bool,
    ) -> Vec<(NewPartitions, Outcome<()>)> {
        let mut rounds = self.rounds("create partitions", topics);
        while let Some(open) = rounds.next().await {
            let topic = |(_, topic): &(usize, NewPartitions)| CreatePartitionsTopic {
                name: topic.topic.as_str().into(),
                count: topic.count,
                assignments: topic.assignments.as_ref().map(|all| {
                    all.iter().map(|brokers| CreatePartitionsAssignment { broker_ids: numbers(brokers) }).collect()
                }),
            };
            let request = CreatePartitionsRequest {
                topics: open.iter().map(topic).collect(),
                timeout_ms: self.timeout_ms(),
                validate_only,
            };
            match self.ask_controller(request, 0).await {
                Ok(answer) => {
                    let response = expect_reply!(answer, CreatePartitions);
                    for (at, topic) in open {
                        let found = response.results.iter().find(|result| result.name == topic.topic.as_str());
                        let Some(found) = found else {
                            rounds.settle(at, Err(super::left_out()));
                            continue;
                        };
                        let what = || format!("create partitions of {}", topic.topic);
                        rounds.settle(at, check(what, found.error_code, found.error_message.as_deref()));
                    }
                }
                Err(error) => rounds.settle_all(open.iter().map(|(at, _)| *at), &error),
            }
        }
        rounds.finish()
    }

    /// All topics, by name.
    ///
    /// Errors: what went wrong last, after [`crate::ClientConfig::api_timeout`].
    pub async fn list_topics(&self) -> Outcome<Vec<Arc<Topic>>> {
        let cluster = self.metadata("list topics", None).await?;
        Ok(cluster.topics().cloned().collect())
    }

    /// Topics with their partitions, leaders and replicas.
    ///
    /// Errors of a topic: UNKNOWN_TOPIC_OR_PARTITION, INVALID_TOPIC_EXCEPTION and others.
    pub async fn describe_topics(&self, names: Vec<String>) -> Vec<(String, Outcome<Arc<Topic>>)> {
        let mut rounds = self.rounds("describe topics", names);
        while let Some(open) = rounds.next().await {
            let names = open.iter().map(|(_, name)| name.clone()).collect();
            match self.metadata_once(Some(names)).await {
                Ok(cluster) => {
                    for (at, name) in open {
                        let missing = || {
                            let code = cluster.topic_error(&name).unwrap_or(ErrorCode::UnknownTopicOrPartition);
                            ClientError::refused(format!("describe topic {name}"), code.code(), None)
                        };
                        let found = cluster.topic(&name).cloned().ok_or_else(missing);
                        rounds.settle(at, found);
                    }
                }
                Err(error) => rounds.settle_all(open.iter().map(|(at, _)| *at), &error),
            }
        }
        rounds.finish()
    }

    /// Topics with their partitions by way of DescribeTopicPartitions, page by page (KIP-966): all of them, or these, in order of
    /// name. Brokers before 3.7 do not serve it.
    ///
    /// Errors: [`ClientError::Version`]; what went wrong last, after [`crate::ClientConfig::api_timeout`].
    pub async fn describe_topic_partitions(&self, names: &[&str]) -> Outcome<Vec<Topic>> {
        let mut wanted: Vec<&str> = names.to_vec();
        wanted.sort_unstable();
        let mut retry = self.client.retry("describe topic partitions");
        let mut cursor: Option<Cursor> = None;
        let mut found: Vec<Topic> = Vec::new();
        loop {
            let request = DescribeTopicPartitionsRequest {
                topics: wanted.iter().map(|name| TopicRequest { name: (*name).into() }).collect(),
                response_partition_limit: PAGE_PARTITIONS,
                cursor: cursor.clone(),
            };
            let answer = match self.client.any_broker().await {
                Ok(target) => self.client.call(target, request, 0..=i16::MAX).await,
                Err(error) => Err(error),
            };
            let response = match answer {
                Ok(answer) => expect_reply!(answer, DescribeTopicPartitions),
                Err(error) => {
                    retry.pause(&error).await?;
                    continue;
                }
            };
            for topic in &response.topics {
                add_page(&mut found, topic)?;
            }
            let Some(next) = response.next_cursor else { return Ok(found) };
            wanted.retain(|name| *name >= next.topic_name.as_str());
            cursor = Some(next);
        }
    }

    async fn metadata(&self, what: &str, names: Option<Vec<String>>) -> Outcome<Cluster> {
        let mut retry = self.client.retry(what);
        loop {
            match self.metadata_once(names.clone()).await {
                Ok(cluster) => return Ok(cluster),
                Err(error) => retry.pause(&error).await?,
            }
        }
    }

    async fn metadata_once(&self, names: Option<Vec<String>>) -> Outcome<Cluster> {
        let topic = |name: String| MetadataRequestTopic { name: Some(name.into()), ..Default::default() };
        let request = MetadataRequest {
            topics: names.map(|names| names.into_iter().map(topic).collect()),
            allow_auto_topic_creation: false,
            ..Default::default()
        };
        let target = self.client.any_broker().await?;
        let response = expect_reply!(self.client.call(target, request, 4..=i16::MAX).await?, Metadata);
        check(|| "ask for metadata".to_owned(), response.error_code, None)?;
        let mut cluster = Cluster::default();
        cluster.apply(&response);
        Ok(cluster)
    }

    pub(super) async fn ask_controller(
        &self,
        request: impl Into<quipu_protocol::Request>,
        version_min: i16,
    ) -> Outcome<crate::connection::Answer> {
        let target: Target = self.client.controller().await?;
        self.client.call(target, request, version_min..=i16::MAX).await
    }
}

fn creatable(topic: &NewTopic) -> CreatableTopic {
    let assignment = |(index, brokers): (i32, &Vec<BrokerId>)| CreatableReplicaAssignment {
        partition_index: index,
        broker_ids: numbers(brokers),
    };
    let config = |(name, value): (&String, &String)| CreatableTopicConfig {
        name: name.as_str().into(),
        value: Some(value.as_str().into()),
    };
    CreatableTopic {
        name: topic.name.as_str().into(),
        num_partitions: topic.partitions.unwrap_or(-1),
        replication_factor: topic.replication_factor.unwrap_or(-1),
        assignments: (0..).zip(&topic.assignments).map(assignment).collect(),
        configs: topic.configs.iter().map(config).collect(),
    }
}

fn numbers(brokers: &[BrokerId]) -> Vec<i32> {
    brokers.iter().map(|broker| broker.0).collect()
}

/// Adds a page's part of a topic, which may have begun on the page before.
fn add_page(found: &mut Vec<Topic>, page: &DescribeTopicPartitionsResponseTopic) -> Outcome<()> {
    let name = page.name.as_deref().unwrap_or_default();
    check(|| format!("describe topic {name}"), page.error_code, None)?;
    let ids = |ids: &[i32]| ids.iter().copied().map(BrokerId).collect();
    let partitions = page.partitions.iter().map(|partition| crate::Partition {
        index: quipu_base::PartitionIndex(partition.partition_index),
        leader: Some(BrokerId(partition.leader_id)).filter(|id| id.0 >= 0),
        leader_epoch: quipu_base::LeaderEpoch(partition.leader_epoch),
        replicas: ids(&partition.replica_nodes),
        isr: ids(&partition.isr_nodes),
        eligible: partition.eligible_leader_replicas.as_deref().map(ids),
        offline: ids(&partition.offline_replicas),
        error: ErrorCode::from_code(partition.error_code).filter(|code| code.is_error()),
    });
    match found.last_mut().filter(|last| *last.name == *name) {
        Some(last) => last.partitions.extend(partitions),
        None => found.push(Topic {
            name: name.into(),
            id: page.topic_id,
            is_internal: page.is_internal,
            partitions: partitions.collect(),
        }),
    }
    Ok(())
}
