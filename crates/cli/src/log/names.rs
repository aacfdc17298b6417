//! Names of topics, as the newest snapshot of the metadata and the metadata log in the same directory have them.
//!
//! Damage in there costs names, nothing else: a topic without one goes by its id.

use std::{collections::BTreeMap, ops::ControlFlow, path::Path};

use bytes::Bytes;
use quipu_base::{TopicId, TopicIdPartition, limits::DECOMPRESSED_BYTES_MAX};
use quipu_env_tokio::TokioEnv;
use quipu_metadata::{MetadataRecord, codec};
use quipu_records::{Batch, BatchError};
use quipu_storage::{DumpEntry, DumpOptions, VerifyError, dump};

/// The metadata log's own name, as in Kafka.
const METADATA_NAME: &str = "__cluster_metadata";

/// Every topic that they know, deleted ones included: their files may still be there.
#[derive(Default)]
pub(super) struct Names {
    by_id: BTreeMap<TopicId, String>,
    /// The newest topic of each name.
    by_name: BTreeMap<String, TopicId>,
}

impl Names {
    /// Reads the snapshot, and the metadata log from where that was cut.
    pub(super) async fn read(env: &TokioEnv, directory: &Path) -> Result<Self, VerifyError> {
        let mut names = Self::default();
        names.add(METADATA_NAME.to_owned(), TopicId::METADATA);
        if let Some(image) = quipu_broker::newest_metadata_snapshot(env, directory).await {
            image.topics().for_each(|topic| names.add(topic.name().to_string(), topic.topic_id()));
        }
        let TopicIdPartition { topic_id, partition } = TopicIdPartition::METADATA;
        let options = DumpOptions {
            topic_id: Some(topic_id),
            partition: Some(partition),
            with_bytes: true,
            ..DumpOptions::default()
        };
        let on_entry = |entry| {
            if let DumpEntry::Batch(batch) = entry
                && let Some(bytes) = batch.bytes
            {
                // What can't be read names nothing.
                names.replay(bytes).ok();
            }
            ControlFlow::Continue(())
        };
        dump(env, directory, options, on_entry).await?;
        Ok(names)
    }

    fn replay(&mut self, bytes: Bytes) -> Result<(), BatchError> {
        for record in Batch::parse(bytes)?.records(DECOMPRESSED_BYTES_MAX)?.iter() {
            if let Ok(MetadataRecord::Topic { name, topic_id }) = codec::decode(record?.value.unwrap_or_default()) {
                self.add(name, topic_id);
            }
        }
        Ok(())
    }

    fn add(&mut self, name: String, topic_id: TopicId) {
        self.by_name.insert(name.clone(), topic_id);
        self.by_id.insert(topic_id, name);
    }

    /// The topic that is meant by a name or an id.
    pub(super) fn find(&self, topic: &str) -> Option<TopicId> {
        self.by_name.get(topic).copied().or_else(|| topic.parse().ok())
    }

    /// The name of a topic, or its id.
    pub(super) fn of(&self, topic_id: TopicId) -> String {
        self.by_id.get(&topic_id).cloned().unwrap_or_else(|| topic_id.to_string())
    }

    /// The same, of an id as text.
    pub(super) fn of_text(&self, topic: String) -> String {
        topic.parse().map_or(topic, |topic_id| self.of(topic_id))
    }

    /// Length of the longest name.
    pub(super) fn longest(&self) -> usize {
        self.by_id.values().map(String::len).max().unwrap_or(0)
    }
}
