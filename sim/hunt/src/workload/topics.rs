//! Which topics there are, as a client finds out.

use std::collections::BTreeMap;

use quipu_protocol::{ErrorCode, Response, messages::metadata::MetadataRequest};
use quipu_wire_client::requests::TopicRef;

use super::client::{Client, Known};

/// The version of Metadata requests.
const METADATA_VERSION: i16 = 12;

/// Asks for all topics.
pub(super) async fn refresh(client: &mut Client) {
    let request = MetadataRequest { topics: None, allow_auto_topic_creation: false, ..Default::default() };
    let Response::Metadata(response) = client.call(METADATA_VERSION, request).await else { return };
    let mut known = BTreeMap::new();
    for topic in &response.topics {
        let (Some(name), ErrorCode::None) = (&topic.name, client.code(topic.error_code)) else { continue };
        let reference = TopicRef { name: name.to_string(), id: topic.topic_id };
        let partitions = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
        let led = topic.partitions.iter().filter_map(|partition| {
            let leader = u32::try_from(partition.leader_id).ok()?;
            Some((partition.partition_index, leader))
        });
        known.insert(name.to_string(), Known { topic: reference, partitions, leaders: led.collect() });
    }
    client.known = known;
}

/// A topic that is known, or found; none if there is no such topic just now.
pub(super) async fn find(client: &mut Client, topic: &str) -> Option<Known> {
    if !client.known.contains_key(topic) {
        refresh(client).await;
    }
    client.known.get(topic).cloned()
}
