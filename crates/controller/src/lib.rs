//! What the active controller decides: a request and the image in, records and a reply out.
//!
//! ```text
//! handle(request, image, context) -> Ok(Decision { records, reply })   written as one batch, all or nothing; the reply
//!                                                                      leaves when the batch is committed and applied
//!                                 -> Err(ControllerError)              nothing is written
//! ```
//!
//! Invariants
//! - Pure: no I/O, no clock; randomness only through [`Context::new_topic_id`].
//! - A decision never writes a record that the image would refuse (see `draft`).
//! - A decision is made on the newest image. The caller applies the records of one before it asks for the next, or the two
//!   may contradict each other.
//! - Items of one request are decided independently: what is wrong with one is told in its place in the reply, and the
//!   others go ahead. An `Err` concerns the whole request.
//!
//! | request | decides |
//! |---|---|
//! | [`Bootstrap`], [`StartEpoch`] | that there is a cluster, and who leads its metadata quorum |
//! | [`RegisterBroker`], [`UnregisterBroker`] | that a broker exists |
//! | [`UnfenceBroker`], [`FenceBroker`], [`ControlledShutdown`] | that it serves, or not, and who leads in its place |
//! | [`AskPartitions`] | what a leader asks for: another configuration, another leader |
//! | [`ElectPreferred`], [`BalanceLeaders`], [`ElectLeaderless`], [`ElectUnclean`] | who leads |
//! | [`AlterPartitionReassignments`] | which brokers hold a partition |
//! | [`CreateTopics`], [`CreatePartitions`], [`DeleteTopics`] | what there is to write to, and who holds it |
//! | [`AlterConfigs`], [`ReplaceConfigs`], [`UpdateFeatures`] | dynamic configs, feature levels |
//! | [`AllocateProducerIds`] | which producer ids a broker may give out |
//!
//! Besides decisions: [`Sessions`], who is heard of, and [`AnyRequest`], how a request gets to the active controller.
//!
//! Not here: what the records mean (`quipu-metadata`), how they are committed. Read
//! `create_topics` next, `fencing` for the cluster.

mod alter_configs;
mod ask_partitions;
mod assignment;
mod brokers;
mod cluster;
mod create_partitions;
mod create_topics;
mod delete_topics;
mod doubts;
mod draft;
mod elect_leaders;
mod election;
mod error;
mod fencing;
mod forward;
pub mod limits;
mod mentions;
mod placement;
mod producer_ids;
mod reassign;
mod sessions;
#[cfg(test)]
mod tests;
mod topic_name;
mod unclean;
mod update_features;

use quipu_base::{BrokerId, TopicId};
use quipu_metadata::{
    Image, MetadataRecord,
    config::{ConfigLayers, StaticConfig},
};

pub use alter_configs::{AlterConfigs, AlteredConfigs, ConfigOperation, NamedValues, OperationKind, ReplaceConfigs};
pub use ask_partitions::{AskPartitions, GiveUpReason, PartitionAnswer, PartitionAsk, Verdict};
pub use brokers::{RegisterBroker, UnregisterBroker};
pub use cluster::{Bootstrap, GROUP_VERSION, METADATA_VERSION, StartEpoch, metadata_version};
pub use create_partitions::{CreatePartitions, MorePartitions};
pub use create_topics::{CreateTopics, CreatedConfig, CreatedTopic, NewTopic};
pub use delete_topics::{DeleteTopics, DeletedTopic, TopicRef};
pub use doubts::Doubts;
pub use elect_leaders::{
    BalanceLeaders, ElectLeaderless, ElectPreferred, ElectedLeaders, NamedPartitions, has_leaderless,
};
pub use error::ControllerError;
pub use fencing::{ControlledShutdown, FenceBroker, ShutdownProgress, UnfenceBroker};
pub use forward::{Answer, AnyReply, AnyRequest, Forward, ForwardError, decode_answer, encode_answer};
pub use producer_ids::{AllocateProducerIds, ProducerIdBlock};
pub use reassign::{AlterPartitionReassignments, OngoingReassignment, Reassignment, list_reassignments};
pub use sessions::{Heard, Heartbeat, HeartbeatDecision, HeartbeatReply, Lost, SessionSettings, Sessions, Wants};
pub use topic_name::{OFFSETS_TOPIC, TopicNameError, check_topic_name, is_internal_topic};
pub use unclean::{ElectUnclean, LogReport, UncleanElection, find_unclean, unclean_electorate};
pub use update_features::UpdateFeatures;

/// What decisions need besides the request and the image.
pub struct Context<'a> {
    /// The controller's own node: its configs are the defaults of new topics.
    pub node: BrokerId,
    /// The `[defaults]` of its configuration file.
    pub statics: &'a StaticConfig,
    /// Draws a topic id at random.
    pub new_topic_id: &'a mut dyn FnMut() -> TopicId,
    /// Who is better not elected; see [`Sessions::doubts`].
    pub doubts: &'a mut Doubts,
}

impl Context<'_> {
    fn layers<'b>(&'b self, image: &'b Image) -> ConfigLayers<'b> {
        ConfigLayers::new(image, self.statics, self.node)
    }
}

/// What to write, and what to answer once it is committed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Decision<R> {
    /// Written as one batch. None: the reply needs no commit.
    pub records: Vec<MetadataRecord>,
    /// The answer.
    pub reply: R,
}

/// Something that the controller decides.
pub trait Request {
    /// The answer to it.
    type Reply;

    /// Errors: why the whole request is declined.
    fn decide(&self, image: &Image, context: &mut Context<'_>) -> Result<Decision<Self::Reply>, ControllerError>;
}

/// Decides `request` on the newest `image`.
///
/// Errors: why the whole request is declined.
pub fn handle<R: Request>(
    request: &R,
    image: &Image,
    context: &mut Context<'_>,
) -> Result<Decision<R::Reply>, ControllerError> {
    request.decide(image, context)
}
