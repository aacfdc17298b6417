//! An image as records, and back; and as bytes, in pieces: what a snapshot of the metadata log holds.
//!
//! Invariants
//! - `Image::rebuild(image.next_offset(), &image.to_records())` equals the image.
//! - The same image gives the same records in the same order, and so the same bytes, on every node of one release.
//!
//! Order of the records: controller epoch, cluster id, features, producer ids, brokers by id, then each topic by id followed by its
//! partitions and its configs, then the configs of other resources. A topic therefore never precedes what it needs.
//!
//! The bytes: see [`bytes`].
//!
//! Not here: where a snapshot is stored, and which offset it covers: whoever stores it writes that beside it.

pub(crate) mod bytes;

use quipu_base::{Offset, PartitionIndex, TopicId};

use crate::{
    apply::ApplyError,
    delta::Delta,
    image::{Configs, Image, Topic},
    record::{ConfigResource, MetadataRecord},
};

impl Image {
    /// The records that [`Image::rebuild`] makes the same image of.
    #[must_use]
    pub fn to_records(&self) -> Vec<MetadataRecord> {
        self.records().collect()
    }

    /// The same, one after the other.
    pub fn records(&self) -> impl Iterator<Item = MetadataRecord> {
        let controller = self.controller.as_ref().map(|state| MetadataRecord::EpochStart {
            controller_epoch: state.controller_epoch,
            controller: state.controller,
            voters: state.voters.to_vec(),
        });
        let cluster = self.cluster_id.map(|cluster_id| MetadataRecord::Cluster { cluster_id });
        let features =
            self.features.iter().map(|(name, level)| MetadataRecord::Feature { name: name.clone(), level: *level });
        let producer_ids = self.producer_ids.map(|state| MetadataRecord::ProducerIds {
            broker: state.broker,
            next_producer_id: state.next_producer_id,
        });
        let brokers = self.brokers.iter();
        let brokers =
            brokers.map(|(broker, state)| MetadataRecord::Broker { broker: *broker, state: state.as_ref().clone() });
        let topics = self.topics.iter().flat_map(|(topic_id, topic)| topic_records(*topic_id, topic));
        let configs = self.configs.iter().flat_map(|(resource, configs)| config_records(resource.clone(), configs));
        let first = controller.into_iter().chain(cluster).chain(features).chain(producer_ids);
        first.chain(brokers).chain(topics).chain(configs)
    }

    /// The image that `records`, made by [`Image::to_records`], describe; `next_offset` is that of the image they were made of.
    ///
    /// Errors: [`ApplyError`] if they were not made so.
    pub fn rebuild<'a>(
        next_offset: Offset,
        records: impl IntoIterator<Item = &'a MetadataRecord>,
    ) -> Result<Self, ApplyError> {
        let mut image = Self::new();
        let mut unused = Delta::default();
        for record in records {
            image.apply_state(record, &mut unused)?;
        }
        image.next_offset = next_offset;
        Ok(image)
    }
}

fn topic_records(topic_id: TopicId, topic: &Topic) -> impl Iterator<Item = MetadataRecord> {
    let partitions = (0..).map(PartitionIndex).zip(&topic.partitions);
    let partitions = partitions.map(move |(partition, state)| {
        let state = state.as_ref().clone();
        MetadataRecord::Partition { topic_id, partition, state }
    });
    let configs = config_records(ConfigResource::Topic(topic.name().to_owned()), &topic.configs);
    std::iter::once(MetadataRecord::Topic { name: topic.name().to_owned(), topic_id }).chain(partitions).chain(configs)
}

fn config_records(resource: ConfigResource, configs: &Configs) -> impl Iterator<Item = MetadataRecord> {
    configs.iter().map(move |(key, value)| {
        let (resource, key, value) = (resource.clone(), key.clone(), Some(value.clone()));
        MetadataRecord::Config { resource, key, value }
    })
}
