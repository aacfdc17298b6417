//! Changes and questions by the library's admin.

use std::sync::Arc;

use quipu_client::{
    ConfigChange, ConfigOperation, ConfigResource, CoordinatorKind, Isolation, LeaderEpoch, NewPartitions, NewTopic,
    Offset, OffsetSpec, Timestamp, Topic, TopicName, TopicPartition,
};
use quipu_protocol::{ApiKey, ErrorCode};

use super::{Judged, Library};
use crate::{
    history::{Outcome, What},
    plan::operation::Question,
};

const GONE: &[ErrorCode] = &[ErrorCode::UnknownTopicOrPartition, ErrorCode::UnknownTopicId];

/// The one answer to one question.
fn only<K, T>(mut answers: Vec<(K, T)>) -> T {
    answers.pop().expect("each question has an answer").1
}

impl Library {
    pub(super) async fn create(&mut self, topic: &str, partitions: i32) {
        let what = What::CreateTopic { topic: topic.to_owned() };
        let op = self.scene.recorder.invoke(self.number, self.scene.now(), what);
        let outcome = loop {
            let answer = only(self.client.admin().create_topics(vec![NewTopic::new(topic, partitions)], false).await);
            match self.judge("create a topic", ApiKey::CreateTopics, answer, &[ErrorCode::TopicAlreadyExists]) {
                Judged::Done(_) => break Outcome::Ok,
                Judged::Refused(ErrorCode::TopicAlreadyExists) => break Outcome::Info,
                Judged::Refused(_) => break Outcome::Fail,
                Judged::Again => self.pause().await,
            }
        };
        self.scene.recorder.complete(op, self.scene.now(), outcome, |_| {});
        self.topics.remove(topic);
    }

    /// By its id.
    pub(super) async fn delete(&mut self, topic: &str) {
        self.topics.remove(topic);
        let Some(known) = self.find(topic).await else { return };
        let what = What::DeleteTopic { topic: topic.to_owned(), id: known.id.to_string() };
        let op = self.scene.recorder.invoke(self.number, self.scene.now(), what);
        loop {
            let answer = only(self.client.admin().delete_topics(vec![TopicName::Id(known.id)]).await);
            // Gone: by an earlier try, or by somebody else.
            match self.judge("delete a topic", ApiKey::DeleteTopics, answer, GONE) {
                Judged::Done(()) | Judged::Refused(_) => break,
                Judged::Again => self.pause().await,
            }
        }
        self.scene.recorder.complete(op, self.scene.now(), Outcome::Ok, |_| {});
        self.topics.remove(topic);
    }

    pub(super) async fn grow(&mut self, topic: &str, partitions: i32) {
        // It may have as many, or more, by now; or be gone.
        let expected = &[ErrorCode::InvalidPartitions, ErrorCode::UnknownTopicOrPartition];
        loop {
            let wanted = NewPartitions { topic: topic.to_owned(), count: partitions, assignments: None };
            let answer = only(self.client.admin().create_partitions(vec![wanted], false).await);
            match self.judge("add partitions", ApiKey::CreatePartitions, answer, expected) {
                Judged::Done(()) | Judged::Refused(_) => break,
                Judged::Again => self.pause().await,
            }
        }
        self.topics.remove(topic);
    }

    pub(super) async fn alter(&mut self, topic: &str, name: &str, value: &str) {
        loop {
            let change = ConfigChange {
                resource: ConfigResource::Topic(topic.to_owned()),
                operations: vec![(name.to_owned(), ConfigOperation::Set(value.to_owned()))],
            };
            let answer = only(self.client.admin().alter_configs(vec![change], false).await);
            match self.judge("alter a topic", ApiKey::IncrementalAlterConfigs, answer, GONE) {
                Judged::Done(()) | Judged::Refused(_) => return,
                Judged::Again => self.pause().await,
            }
        }
    }

    pub(super) async fn replace(&mut self, topic: &str, name: &str, value: &str) {
        loop {
            let configs = vec![(ConfigResource::Topic(topic.to_owned()), vec![(name.to_owned(), value.to_owned())])];
            let answer = only(self.client.admin().replace_configs(configs, false).await);
            match self.judge("replace a topic's settings", ApiKey::AlterConfigs, answer, GONE) {
                Judged::Done(()) | Judged::Refused(_) => return,
                Judged::Again => self.pause().await,
            }
        }
    }

    /// An offset of a partition; none if there is no such partition, or, once, nobody says.
    pub(super) async fn listed(&mut self, partition: &TopicPartition, spec: OffsetSpec) -> Option<Offset> {
        let wanted = vec![(partition.clone(), spec)];
        let answer = only(self.client.admin().list_offsets(wanted, Isolation::ReadUncommitted).await);
        match self.judge("list offsets", ApiKey::ListOffsets, answer, GONE) {
            Judged::Done(listed) => listed.offset,
            Judged::Refused(_) | Judged::Again => None,
        }
    }

    pub(super) async fn delete_records(&mut self, topic: &str, partition: i32, permille: u32) {
        let Some(known) = self.find(topic).await else { return };
        let count = i32::try_from(known.partitions.len()).unwrap_or(i32::MAX).max(1);
        let place = Self::partition(topic, partition.rem_euclid(count));
        let (Some(start), Some(end)) =
            (self.listed(&place, OffsetSpec::Earliest).await, self.listed(&place, OffsetSpec::Latest).await)
        else {
            return;
        };
        let to = start.0 + (end.0 - start.0).max(0) * i64::from(permille.min(1000)) / 1000;
        let log = self.log(&known, place.partition.0);
        let what = What::DeleteRecords { log, to, low_watermark: None };
        let op = self.scene.recorder.invoke(self.number, self.scene.now(), what);
        let expected = &[ErrorCode::OffsetOutOfRange, ErrorCode::UnknownTopicOrPartition];
        let low = loop {
            let answer = only(self.client.admin().delete_records(vec![(place.clone(), Some(Offset(to)))]).await);
            match self.judge("delete records", ApiKey::DeleteRecords, answer, expected) {
                Judged::Done(low) => break Some(low.0),
                Judged::Refused(_) => break None,
                Judged::Again => self.pause().await,
            }
        };
        let outcome = if low.is_some() { Outcome::Ok } else { Outcome::Info };
        self.scene.recorder.complete(op, self.scene.now(), outcome, |what| {
            if let What::DeleteRecords { low_watermark, .. } = what {
                *low_watermark = low;
            }
        });
    }

    /// Asks something, once.
    pub(super) async fn ask(&mut self, question: Question) {
        let admin = self.client.admin();
        let topics = match admin.list_topics().await {
            Ok(topics) => topics,
            Err(error) => return self.note_error("list topics", &error),
        };
        let names: Vec<&str> = topics.iter().map(|topic| &*topic.name).collect();
        let asked = match question {
            // What no admin of the library's asks.
            Question::Groups | Question::Quorum | Question::Mistakes => {
                let mut wire = super::super::client::Client::new(&self.env, &self.scene, self.number, &self.spec);
                return super::super::admin::ask(&mut wire, question).await;
            }
            // What the library asks of each connection, and by itself.
            Question::Versions | Question::Metadata => Ok(ApiKey::Metadata),
            Question::Cluster => admin.describe_cluster().await.map(|_| ApiKey::DescribeCluster),
            Question::LogDirs => {
                let found = admin.describe_log_dirs(vec![]).await;
                found.into_iter().try_for_each(|(_, dirs)| dirs.map(drop)).map(|()| ApiKey::DescribeLogDirs)
            }
            Question::Configs => {
                let resources = names.iter().map(|name| ConfigResource::Topic((*name).to_owned())).collect();
                let found = admin.describe_configs(resources, true).await;
                found.into_iter().try_for_each(|(_, entries)| entries.map(drop)).map(|()| ApiKey::DescribeConfigs)
            }
            Question::TopicPartitions => {
                admin.describe_topic_partitions(&names).await.map(|_| ApiKey::DescribeTopicPartitions)
            }
            Question::Coordinator => {
                admin.find_coordinator(CoordinatorKind::Transaction, "t").await.map(|_| ApiKey::FindCoordinator)
            }
            Question::ConfigResources => admin.list_config_resources().await.map(|_| ApiKey::ListConfigResources),
            Question::Epochs => {
                let wanted = every_partition(&topics).map(|partition| (partition, LeaderEpoch(0))).collect();
                let found = admin.offsets_for_leader_epochs(wanted).await;
                found.into_iter().try_for_each(|(_, end)| end.map(drop)).map(|()| ApiKey::OffsetForLeaderEpoch)
            }
            Question::Times | Question::MaxTimes => {
                let is_max = question == Question::MaxTimes;
                let spec = if is_max { OffsetSpec::MaxTimestamp } else { OffsetSpec::Timestamp(Timestamp(1)) };
                let wanted = every_partition(&topics).map(|partition| (partition, spec)).collect();
                let found = admin.list_offsets(wanted, Isolation::ReadCommitted).await;
                found.into_iter().try_for_each(|(_, listed)| listed.map(drop)).map(|()| ApiKey::ListOffsets)
            }
        };
        match asked {
            Ok(api) => self.scene.reached(api),
            Err(error) => self.note_error("ask", &error),
        }
    }
}

fn every_partition(topics: &[Arc<Topic>]) -> impl Iterator<Item = TopicPartition> {
    topics.iter().flat_map(|topic| {
        topic.partitions.iter().map(|partition| TopicPartition::new(Arc::clone(&topic.name), partition.index))
    })
}
