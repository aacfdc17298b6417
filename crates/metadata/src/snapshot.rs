//! An image as records, and back: what a snapshot of the metadata log holds.
//!
//! Invariants
//! - `Image::rebuild(image.next_offset(), &image.to_records())` equals the image.
//! - The same image gives the same records in the same order, on every node.
//!
//! Layout: controller epoch, cluster id, features, producer ids, brokers by id, then each topic by id followed by its
//! partitions and its configs, then the configs of other resources. A topic therefore never precedes what it needs.
//!
//! Not here: where a snapshot is stored, and which offset it covers: whoever stores it writes that beside it.

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
        let mut records = Vec::new();
        if let Some(state) = &self.controller {
            records.push(MetadataRecord::EpochStart {
                controller_epoch: state.controller_epoch,
                controller: state.controller,
                voters: state.voters.to_vec(),
            });
        }
        records.extend(self.cluster_id.map(|cluster_id| MetadataRecord::Cluster { cluster_id }));
        for (name, level) in &self.features {
            records.push(MetadataRecord::Feature { name: name.clone(), level: *level });
        }
        if let Some(state) = self.producer_ids {
            let (broker, next_producer_id) = (state.broker, state.next_producer_id);
            records.push(MetadataRecord::ProducerIds { broker, next_producer_id });
        }
        for (broker, state) in &self.brokers {
            records.push(MetadataRecord::Broker { broker: *broker, state: state.as_ref().clone() });
        }
        for (topic_id, topic) in &self.topics {
            push_topic(&mut records, *topic_id, topic);
        }
        for (resource, configs) in &self.configs {
            push_configs(&mut records, resource, configs);
        }
        records
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

fn push_topic(records: &mut Vec<MetadataRecord>, topic_id: TopicId, topic: &Topic) {
    records.push(MetadataRecord::Topic { name: topic.name().to_owned(), topic_id });
    for (partition, state) in (0..).map(PartitionIndex).zip(&topic.partitions) {
        records.push(MetadataRecord::Partition { topic_id, partition, state: state.as_ref().clone() });
    }
    push_configs(records, &ConfigResource::Topic(topic.name().to_owned()), &topic.configs);
}

fn push_configs(records: &mut Vec<MetadataRecord>, resource: &ConfigResource, configs: &Configs) {
    for (key, value) in configs {
        records.push(MetadataRecord::Config {
            resource: resource.clone(),
            key: key.clone(),
            value: Some(value.clone()),
        });
    }
}
