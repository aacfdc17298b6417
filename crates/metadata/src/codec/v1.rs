//! Version 1 of the format: records of single nodes, before there were clusters.
//!
//! Most kinds are the same in version 2. The three that have fewer fields are told apart here: what is missing has one
//! value, and a record that has this value is written in version 1.
//!
//! Not here: which version a record takes ([`super::version_of`]).

use quipu_base::{BrokerEpoch, BrokerId, LeaderEpoch, PartitionIndex, TopicId, TopicIdPartition};

use crate::{
    partition::{Configuration, PartitionState},
    record::{Assignment, BrokerState, Election, MetadataRecord, Registration},
};

const PARTITION: u32 = 8;
const PARTITION_CHANGE: u32 = 9;
const BROKER: u32 = 13;
/// The last kind that version 1 has.
const LAST: u32 = BROKER;

/// Replicas, adding, removing, configuration, leader, leader epoch.
type PartitionFields = (Vec<BrokerId>, Vec<BrokerId>, Vec<BrokerId>, Configuration, Option<BrokerId>, LeaderEpoch);
/// Replicas, adding, removing.
type AssignmentFields = (Vec<BrokerId>, Vec<BrokerId>, Vec<BrokerId>);
/// Broker epoch, registration, fenced, unfenced epoch.
type BrokerFields = (BrokerEpoch, Registration, bool, Option<BrokerEpoch>);

pub(super) fn implies_partition(state: &PartitionState) -> bool {
    state.unclean_epoch == LeaderEpoch::NONE && state.replication_factor == factor(&state.replicas)
}

pub(super) fn implies_assignment(assignment: &Assignment) -> bool {
    assignment.replication_factor == factor(&assignment.replicas)
}

/// More replicas than that are refused when the record is applied.
fn factor(replicas: &[BrokerId]) -> u16 {
    u16::try_from(replicas.len()).unwrap_or(u16::MAX)
}

/// Only for records that [`super::version_of`] puts into version 1.
pub(super) fn extend(record: &MetadataRecord, start: Vec<u8>) -> postcard::Result<Vec<u8>> {
    match record {
        MetadataRecord::Partition { topic_id, partition, state } => {
            let PartitionState { replicas, adding, removing, configuration, leader, leader_epoch, .. } = state;
            let fields = (replicas, adding, removing, configuration, leader, leader_epoch);
            postcard::to_extend(&(PARTITION, topic_id, partition, fields), start)
        }
        MetadataRecord::PartitionChange { partition, election, configuration, assignment } => {
            let assignment =
                assignment.as_ref().map(|assigned| (&assigned.replicas, &assigned.adding, &assigned.removing));
            postcard::to_extend(&(PARTITION_CHANGE, partition, election, configuration, assignment), start)
        }
        MetadataRecord::Broker { broker, state } => {
            let fields = (state.broker_epoch, &state.registration, state.fenced, state.unfenced_epoch);
            postcard::to_extend(&(BROKER, broker, fields), start)
        }
        _ => postcard::to_extend(record, start),
    }
}

/// The record at the start of `body`, and what comes after it.
pub(super) fn take(body: &[u8]) -> postcard::Result<(MetadataRecord, &[u8])> {
    let (kind, fields) = postcard::take_from_bytes::<u32>(body)?;
    match kind {
        PARTITION => {
            let (fields, rest) = postcard::take_from_bytes::<(TopicId, PartitionIndex, PartitionFields)>(fields)?;
            let (topic_id, partition, state) = fields;
            Ok((MetadataRecord::Partition { topic_id, partition, state: partition_state(state) }, rest))
        }
        PARTITION_CHANGE => {
            type Fields = (TopicIdPartition, Option<Election>, Option<Configuration>, Option<AssignmentFields>);
            let ((partition, election, configuration, assigned), rest) = postcard::take_from_bytes::<Fields>(fields)?;
            let assignment = assigned.map(assignment);
            Ok((MetadataRecord::PartitionChange { partition, election, configuration, assignment }, rest))
        }
        BROKER => {
            let ((broker, state), rest) = postcard::take_from_bytes::<(BrokerId, BrokerFields)>(fields)?;
            Ok((MetadataRecord::Broker { broker, state: broker_state(state) }, rest))
        }
        0..=LAST => postcard::take_from_bytes(body),
        _ => Err(postcard::Error::DeserializeBadEnum),
    }
}

fn partition_state(
    (replicas, adding, removing, configuration, leader, leader_epoch): PartitionFields,
) -> PartitionState {
    PartitionState {
        replication_factor: factor(&replicas),
        replicas,
        adding,
        removing,
        configuration,
        leader,
        leader_epoch,
        unclean_epoch: LeaderEpoch::NONE,
    }
}

fn assignment((replicas, adding, removing): AssignmentFields) -> Assignment {
    Assignment { replication_factor: factor(&replicas), replicas, adding, removing }
}

fn broker_state((broker_epoch, registration, fenced, unfenced_epoch): BrokerFields) -> BrokerState {
    BrokerState { broker_epoch, registration, fenced, unfenced_epoch, in_controlled_shutdown: false }
}
