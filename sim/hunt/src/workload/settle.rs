//! The one who waits until a cluster is what it should be when nothing is wrong: every broker knows all brokers, every partition has
//! a leader, all its replicas are in sync, none is being moved, and every broker says the same.
//!
//! Not here: whether replicas hold the same ([`crate::copies`]).

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use quipu_base::TopicId;
use quipu_protocol::{
    ErrorCode, Response,
    messages::{
        list_partition_reassignments::ListPartitionReassignmentsRequest,
        metadata::{MetadataRequest, MetadataResponse},
    },
};
use quipu_sim::SimEnv;

use super::{AUDITOR, Scene, client::Client};
use crate::plan;

/// The version of Metadata requests.
const METADATA_VERSION: i16 = 12;

/// What is said of a partition: its leader with its epoch, and its replicas.
#[derive(PartialEq, Eq)]
struct Led {
    leader: i32,
    leader_epoch: i32,
    replicas: Vec<i32>,
}

type Said = BTreeMap<(TopicId, i32), Led>;

/// Waits; `why` tells what is still missing.
pub async fn settle(env: SimEnv, scene: Scene, why: Arc<Mutex<String>>) {
    let mut client = Client::new(&env, &scene, AUDITOR, &plan::Client::default());
    loop {
        match look(&mut client).await {
            Ok(said) => {
                scene.note_holders(&said);
                return;
            }
            Err(missing) => *why.lock().unwrap_or_else(PoisonError::into_inner) = missing,
        }
        client.pause().await;
    }
}

/// What all brokers say. Errors: who says something else, or that something is missing.
async fn look(client: &mut Client) -> Result<Said, String> {
    let request = ListPartitionReassignmentsRequest::default();
    let Some(Response::ListPartitionReassignments(moved)) = client.call_once(0, request).await else {
        return Err("nobody tells what is being moved".to_owned());
    };
    if let Some(topic) = moved.topics.first() {
        return Err(format!("partitions of {} are still being moved", &*topic.name));
    }
    let mut said: Option<Said> = None;
    for node in client.scene.plan.config.brokers() {
        let machine = client.scene.plan.config.machine(node);
        let request = MetadataRequest { topics: None, allow_auto_topic_creation: false, ..Default::default() };
        let answer = match client.connection_to(node).await {
            Some(_) => client.call_once_at(node, METADATA_VERSION, request).await,
            None => None,
        };
        let Some(Response::Metadata(response)) = answer else { return Err(format!("{machine} does not answer")) };
        let of_this = settled(client, &response).map_err(|missing| format!("{machine} says: {missing}"))?;
        if said.as_ref().is_some_and(|said| *said != of_this) {
            return Err(format!("{machine} says something else than the others"));
        }
        said = Some(of_this);
    }
    Ok(said.unwrap_or_default())
}

fn settled(client: &Client, response: &MetadataResponse) -> Result<Said, String> {
    let brokers = client.scene.plan.config.brokers().count();
    if response.brokers.len() != brokers {
        return Err(format!("there are {} of {brokers} brokers", response.brokers.len()));
    }
    let mut said = Said::new();
    for topic in &response.topics {
        for partition in &topic.partitions {
            let name = topic.name.as_deref().unwrap_or_default();
            let place = format!("{name}-{}", partition.partition_index);
            if client.code(partition.error_code) != ErrorCode::None || partition.leader_id < 0 {
                return Err(format!("{place} has no leader"));
            }
            let (mut replicas, mut in_sync) = (partition.replica_nodes.clone(), partition.isr_nodes.clone());
            replicas.sort_unstable();
            in_sync.sort_unstable();
            if replicas != in_sync {
                return Err(format!("of the replicas {replicas:?} of {place} only {in_sync:?} are in sync"));
            }
            let led = Led { leader: partition.leader_id, leader_epoch: partition.leader_epoch, replicas };
            said.insert((topic.topic_id, partition.partition_index), led);
        }
    }
    Ok(said)
}

impl Scene {
    /// Notes who holds each log.
    fn note_holders(&self, said: &Said) {
        let nodes = |led: &Led| led.replicas.iter().filter_map(|node| u32::try_from(*node).ok()).collect();
        let holders = said.iter().map(|((topic, partition), led)| ((topic.low(), i64::from(*partition)), nodes(led)));
        *self.holders.lock().unwrap_or_else(PoisonError::into_inner) = holders.collect();
    }
}
