//! What leaders ask for their partitions: another configuration, or another leader.
//!
//! Invariants
//! - A configuration changes by compare-and-set on (leader epoch, version). One that is declined raises the version with C and Q as
//!   they are, so that the same request, delayed or doubled, can't be accepted later.
//! - Every answer carries the partition's record: only a record ends what is pending at the leader.
//! - Who becomes a member serves from the directory named. Who is a member may stay, serving or not.
//!
//! Not here: what members must have before a leader asks (`quipu-replication`), and Q's value, which is the leader's to choose: a
//! changed `min.insync.replicas` reaches a partition through its leader.

use quipu_base::{BrokerEpoch, BrokerId, LeaderEpoch, TopicIdPartition};
use quipu_metadata::{
    Configuration, ConfigurationVersion, Image, Member, MetadataRecord, PartitionState, record::Assignment,
};
use serde::{Deserialize, Serialize};

use crate::{
    Context, ControllerError, Decision, Doubts, Request,
    brokers::check_broker_epoch,
    draft::Draft,
    election::{choose_next, elect, is_serving},
    limits::ASKS_PER_REQUEST_MAX,
};

/// A broker asks about partitions that it leads.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AskPartitions {
    /// The broker.
    pub broker: BrokerId,
    /// Its current registration.
    pub broker_epoch: BrokerEpoch,
    /// What it asks, decided in this order.
    pub asks: Vec<(TopicIdPartition, PartitionAsk)>,
}

/// What a leader asks for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum PartitionAsk {
    /// Make this C and Q, if leader epoch and version are still these.
    ChangeConfiguration {
        /// The leader's epoch.
        leader_epoch: LeaderEpoch,
        /// The version in force.
        version: ConfigurationVersion,
        /// The C wanted.
        members: Vec<Member>,
        /// The Q wanted.
        quorum: u16,
    },
    /// Elect another, if the leader epoch is still this.
    GiveUpLeadership {
        /// The epoch given up.
        leader_epoch: LeaderEpoch,
        /// Why.
        reason: GiveUpReason,
    },
    /// Elect this member, if the leader epoch is still this: it has the log already.
    PreferLeader {
        /// The candidate's epoch.
        leader_epoch: LeaderEpoch,
        /// The best reporter.
        reporter: Member,
    },
}

/// Why a leader gives up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum GiveUpReason {
    /// It is faulty, or promised the epoch before.
    CannotLead,
    /// It did not get its seal quorum, or not the log, in time.
    NotActive,
    /// It could not commit for too long.
    CannotCommit,
    /// Its disk refused a write.
    WriteFailed,
    /// No member that answered has the log that the others know to be committed.
    CommittedRecordsMissing,
    /// It is being removed.
    Removed,
}

impl GiveUpReason {
    /// Whether electing the same broker again at once would be in vain.
    const fn is_unfit(self) -> bool {
        match self {
            Self::CannotLead | Self::WriteFailed | Self::CommittedRecordsMissing => true,
            Self::NotActive | Self::CannotCommit | Self::Removed => false,
        }
    }
}

/// What became of an ask.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Verdict {
    /// It was done.
    Accepted,
    /// It was not done. A change of the configuration never will be: the version was raised.
    Declined,
    /// Leader epoch, leader or version is not the one expected.
    Conflict,
}

/// The answer to one ask.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PartitionAnswer {
    /// The partition.
    pub partition: TopicIdPartition,
    /// What became of the ask.
    pub verdict: Verdict,
    /// The partition's record after the whole request; none if there is no such partition.
    pub state: Option<PartitionState>,
}

impl Request for AskPartitions {
    /// One for each ask, in their order.
    type Reply = Vec<PartitionAnswer>;

    /// Errors: [`ControllerError::BrokerNotRegistered`], [`ControllerError::StaleBrokerEpoch`],
    /// [`ControllerError::InvalidRequest`] for too many asks.
    fn decide(&self, image: &Image, context: &mut Context<'_>) -> Result<Decision<Self::Reply>, ControllerError> {
        check_broker_epoch(image, self.broker, self.broker_epoch)?;
        if self.asks.len() > ASKS_PER_REQUEST_MAX {
            let why = format!("The request asks about more than {ASKS_PER_REQUEST_MAX} partitions: split it.");
            return Err(ControllerError::InvalidRequest(why));
        }
        let mut draft = Draft::new(image);
        let mut verdicts = Vec::with_capacity(self.asks.len());
        for (partition, ask) in &self.asks {
            let (verdict, record) = self.answer(draft.image(), context.doubts, *partition, ask);
            record.into_iter().for_each(|record| draft.push(record));
            verdicts.push((*partition, verdict));
        }
        let reply = verdicts
            .into_iter()
            .map(|(partition, verdict)| {
                let state = draft.image().partition(partition).cloned();
                PartitionAnswer { partition, verdict, state }
            })
            .collect();
        Ok(draft.finish(reply, false))
    }
}

impl AskPartitions {
    fn answer(
        &self,
        image: &Image,
        doubts: &mut Doubts,
        partition: TopicIdPartition,
        ask: &PartitionAsk,
    ) -> (Verdict, Option<MetadataRecord>) {
        let state = image.partition(partition);
        let leads = |state: &&PartitionState, leader_epoch: LeaderEpoch| {
            state.leader == Some(self.broker) && state.leader_epoch == leader_epoch
        };
        match ask {
            PartitionAsk::ChangeConfiguration { leader_epoch, version, members, quorum } => {
                let is_expected =
                    |state: &&PartitionState| leads(state, *leader_epoch) && state.configuration.version == *version;
                let Some(state) = state.filter(is_expected) else { return (Verdict::Conflict, None) };
                let (verdict, record) = change(image, partition, state, members, *quorum);
                (verdict, Some(record))
            }
            PartitionAsk::GiveUpLeadership { leader_epoch, reason } => {
                let Some(state) = state.filter(|state| leads(state, *leader_epoch)) else {
                    return (Verdict::Conflict, None);
                };
                if reason.is_unfit() {
                    doubts.note_unfit(partition, self.broker, *reason == GiveUpReason::CannotLead);
                }
                // Who cannot commit because too few members live is not helped by another leader.
                let helps = *reason != GiveUpReason::CannotCommit || has_quorum(image, state);
                match choose_next(image, doubts, partition, state).filter(|_| helps) {
                    None if !reason.is_unfit() => (Verdict::Declined, None),
                    next => (Verdict::Accepted, Some(elect(partition, state, next))),
                }
            }
            PartitionAsk::PreferLeader { leader_epoch, reporter } => {
                let Some(state) = state.filter(|state| leads(state, *leader_epoch)) else {
                    return (Verdict::Conflict, None);
                };
                let may_lead = reporter.broker != self.broker
                    && state.configuration.members.contains(reporter)
                    && is_serving(image, *reporter)
                    && !doubts.is_unfit(partition, reporter.broker);
                let record = may_lead.then(|| elect(partition, state, Some(reporter.broker)));
                (if may_lead { Verdict::Accepted } else { Verdict::Declined }, record)
            }
        }
    }
}

/// Whether as many members live as a commit takes; those that are about to stop still do.
fn has_quorum(image: &Image, state: &PartitionState) -> bool {
    let lives = |member: &&Member| image.broker(member.broker).is_some_and(|broker| !broker.fenced);
    let live_count = state.configuration.members.iter().filter(lives).count();
    live_count >= usize::from(state.configuration.quorum)
}

/// The record that makes the configuration wanted the one in force, or else raises its version.
fn change(
    image: &Image,
    partition: TopicIdPartition,
    state: &PartitionState,
    members: &[Member],
    quorum: u16,
) -> (Verdict, MetadataRecord) {
    let version = state.configuration.version.next();
    let mut members = members.to_vec();
    members.sort_unstable();
    let wanted = Configuration { members, quorum, version };
    let is_known = |member: &Member| state.configuration.members.contains(member);
    let may_count = wanted.members.iter().all(|member| is_known(member) || is_serving(image, *member));
    let is_sound = PartitionState { configuration: wanted.clone(), ..state.clone() }.check().is_ok();
    let (verdict, configuration) = if may_count && is_sound {
        (Verdict::Accepted, wanted)
    } else {
        (Verdict::Declined, Configuration { version, ..state.configuration.clone() })
    };
    let assignment = finished_assignment(state, &configuration);
    let record =
        MetadataRecord::PartitionChange { partition, election: None, configuration: Some(configuration), assignment };
    (verdict, record)
}

/// A reassignment is at its end when none that is to be removed is a member and all that are added are.
pub(crate) fn finished_assignment(state: &PartitionState, configuration: &Configuration) -> Option<Assignment> {
    let is_under_way = !state.adding.is_empty() || !state.removing.is_empty();
    let is_done = !state.removing.iter().any(|broker| configuration.has_broker(*broker))
        && state.adding.iter().all(|broker| configuration.has_broker(*broker));
    (is_under_way && is_done).then(|| Assignment {
        replicas: state.replicas.iter().copied().filter(|broker| !state.removing.contains(broker)).collect(),
        adding: Vec::new(),
        removing: Vec::new(),
        replication_factor: state.replication_factor,
    })
}
