//! The metadata quorum: who votes, who leads, and how far each is.

use quipu_base::{BrokerId, LeaderEpoch, Offset, Timestamp};
use quipu_env::Env;
use quipu_protocol::{
    ErrorCode,
    messages::describe_quorum::{
        DescribeQuorumRequest, PartitionData, TopicData,
        response::{PartitionData as Described, ReplicaState},
    },
};

use super::{Admin, Outcome, check, expect_reply};
use crate::{connection::Answer, pool::Target};

/// The topic by which the metadata log is asked for.
const METADATA_TOPIC: &str = "__cluster_metadata";

/// The metadata quorum, as the node that was asked sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Quorum {
    /// The active controller, if there is one.
    pub leader: Option<BrokerId>,
    /// Counts the leaderships.
    pub leader_epoch: LeaderEpoch,
    /// Everything below is committed.
    pub high_watermark: Offset,
    /// Who votes.
    pub voters: Vec<QuorumReplica>,
    /// Who follows without a vote.
    pub observers: Vec<QuorumReplica>,
}

/// A replica of the metadata log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct QuorumReplica {
    /// The node.
    pub node: BrokerId,
    /// Where its log ends; none if the node that was asked does not know.
    pub log_end: Option<Offset>,
    /// When the leader last heard of it, by the leader's clock; none of the leader itself, and if nobody tells.
    pub heard: Option<Timestamp>,
}

impl<E: Env> Admin<E> {
    /// The metadata quorum. The controller is asked, if it is a broker, since it alone knows how far the others are.
    ///
    /// Errors: what went wrong last, after [`crate::ClientConfig::api_timeout`].
    pub async fn describe_quorum(&self) -> Outcome<Quorum> {
        let mut retry = self.client.retry("describe the metadata quorum");
        loop {
            let cluster = self.describe_cluster().await?;
            let controller = cluster.controller.filter(|id| cluster.brokers.contains_key(id));
            let request = DescribeQuorumRequest {
                topics: vec![TopicData {
                    topic_name: METADATA_TOPIC.into(),
                    partitions: vec![PartitionData { partition_index: 0 }],
                }],
            };
            let asked = match controller {
                Some(id) => {
                    let call = self.client.post(Target::Broker(id), request, 0..=i16::MAX);
                    call.wait(self.client.shared()).await
                }
                None => self.ask_any(request, 0).await,
            };
            match asked.and_then(quorum) {
                Ok(quorum) => return Ok(quorum),
                Err(error) => retry.pause(&error).await?,
            }
        }
    }
}

fn quorum(answer: Answer) -> Outcome<Quorum> {
    let what = || "describe the metadata quorum".to_owned();
    let response = expect_reply!(answer, DescribeQuorum);
    check(what, response.error_code, response.error_message.as_deref())?;
    let missing = || {
        let message = Some("the answer lacks the metadata log");
        check(what, ErrorCode::UnknownServerError.code(), message).expect_err("an error's code is an error")
    };
    let partition = response.topics.into_iter().flat_map(|topic| topic.partitions).next().ok_or_else(missing)?;
    let Described {
        error_code, error_message, leader_id, leader_epoch, high_watermark, current_voters, observers, ..
    } = partition;
    check(what, error_code, error_message.as_deref())?;
    let replica = |state: &ReplicaState| QuorumReplica {
        node: BrokerId(state.replica_id),
        log_end: Some(Offset(state.log_end_offset)).filter(|end| end.0 >= 0),
        heard: Some(Timestamp(state.last_fetch_timestamp)).filter(|heard| heard.0 >= 0),
    };
    Ok(Quorum {
        leader: Some(BrokerId(leader_id)).filter(|id| id.0 >= 0),
        leader_epoch: LeaderEpoch(leader_epoch),
        high_watermark: Offset(high_watermark),
        voters: current_voters.iter().map(replica).collect(),
        observers: observers.iter().map(replica).collect(),
    })
}
