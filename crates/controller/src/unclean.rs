//! Unclean elections: a partition that nobody can lead without a loss is led by the best of those that are left.
//!
//! Two steps: [`unclean_electorate`] (or [`find_unclean`]) says whom to ask for what their logs hold; with their reports
//! [`ElectUnclean`] decides.
//!
//! Invariants
//! - Only where the topic has `unclean.leader.election.enable`, or somebody asked for this partition; and only while fewer members
//!   than a seal takes are sound and serve. Otherwise a clean election does. A leader that is active is left alone, unless somebody
//!   asked.
//! - The one case in which the controller writes C: the sound ones that reported. Who is not among them, and was last brought up to
//!   date before this leader epoch, is rebuilt (the record's `unclean_epoch`).
//! - C never has fewer members than `min(min.insync.replicas, RF)`: where fewer reported, other replicas stand in as members of a
//!   directory that nobody has. They seal nothing and acknowledge nothing, so that nothing commits before as many replicas have been
//!   rebuilt as the topic wants; the leader then puts their true directories in the place.
//!
//! See `decisions/0001-unclean-elections.md`.

use quipu_base::{BrokerEpoch, BrokerId, DirectoryId, LeaderEpoch, Offset, TopicIdPartition};
use quipu_metadata::{
    Configuration, Image, InsyncReplicasMin, Member, MetadataRecord, PartitionState, record::Election,
};
use serde::{Deserialize, Serialize};

use crate::{
    Context, ControllerError, Decision, Request,
    draft::Draft,
    election::{choose, elect, has_live_leader, is_serving},
    limits::ASKS_PER_REQUEST_MAX,
    metadata_version,
};

/// A directory that nobody has.
const NOBODYS: DirectoryId = DirectoryId::ZERO;

/// Partitions that nobody can lead cleanly are to have a leader.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ElectUnclean {
    /// Which.
    pub partitions: Vec<UncleanElection>,
    /// Whether an operator asked for these partitions, whatever their topics' configs say.
    pub is_forced: bool,
}

/// One partition, and what is left of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct UncleanElection {
    /// The partition.
    pub partition: TopicIdPartition,
    /// The leader epoch under which the reports were asked for.
    pub leader_epoch: LeaderEpoch,
    /// What the replicas that answered hold.
    pub reports: Vec<LogReport>,
}

/// What a replica holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LogReport {
    /// The replica.
    pub member: Member,
    /// Its broker's registration.
    pub broker_epoch: BrokerEpoch,
    /// The epoch whose leader's log it has fully adopted.
    pub label: LeaderEpoch,
    /// Where its log ends.
    pub log_end: Offset,
    /// Whether it knows its log to be damaged or lost.
    pub is_faulty: bool,
    /// Whether it leads at this moment.
    pub is_active: bool,
}

impl Request for ElectUnclean {
    /// The leader of each, in the order of the request.
    type Reply = Vec<(TopicIdPartition, Result<BrokerId, ControllerError>)>;

    /// Errors: [`ControllerError::NeedsMetadataVersion`], [`ControllerError::InvalidRequest`] for too many partitions.
    fn decide(&self, image: &Image, context: &mut Context<'_>) -> Result<Decision<Self::Reply>, ControllerError> {
        if self.partitions.len() > ASKS_PER_REQUEST_MAX {
            let why = format!("The request has more than {ASKS_PER_REQUEST_MAX} partitions: split it.");
            return Err(ControllerError::InvalidRequest(why));
        }
        let current = metadata_version(image);
        if current < 2 {
            return Err(ControllerError::NeedsMetadataVersion {
                what: "an unclean election".into(),
                level: 2,
                current,
            });
        }
        let mut draft = Draft::new(image);
        let mut reply = Vec::new();
        for election in &self.partitions {
            let result = self.decide_one(draft.image(), context, election).map(|(leader, record)| {
                draft.push(record);
                leader
            });
            reply.push((election.partition, result));
        }
        Ok(draft.finish(reply, false))
    }
}

impl ElectUnclean {
    fn decide_one(
        &self,
        image: &Image,
        context: &Context<'_>,
        election: &UncleanElection,
    ) -> Result<(BrokerId, MetadataRecord), ControllerError> {
        let id = election.partition;
        let unknown = ControllerError::UnknownTopicId { topic_id: id.topic_id };
        let (topic, state) = image.topic_by_id(id.topic_id).zip(image.partition(id)).ok_or(unknown)?;
        if state.leader_epoch != election.leader_epoch {
            let (current, found) = (state.leader_epoch, election.leader_epoch);
            return Err(ControllerError::StaleLeaderEpoch { current, found });
        }
        let config = context.layers(image).topic_with(topic.configs());
        if !self.is_forced && !config.unclean_election {
            let why = "The topic does not have unclean.leader.election.enable, and nobody asked for this partition.";
            return Err(ControllerError::NoEligibleLeader(why.to_owned()));
        }
        if !self.is_forced && election.reports.iter().any(|report| report.is_active) {
            return Err(ControllerError::ElectionNotNeeded);
        }
        let is_faulty = |member: &Member| election.reports.iter().any(|r| r.member == *member && r.is_faulty);
        let sound = state.configuration.members.iter().filter(|m| is_serving(image, **m) && !is_faulty(m)).count();
        if sound >= state.configuration.seal_quorum() {
            let leader = choose(image, context.doubts, id, state, None).filter(|_| !has_live_leader(image, state));
            return leader
                .map(|leader| (leader, elect(id, state, Some(leader))))
                .ok_or(ControllerError::ElectionNotNeeded);
        }
        unclean(image, id, state, &election.reports, config.insync_replicas_min)
    }
}

fn unclean(
    image: &Image,
    partition: TopicIdPartition,
    state: &PartitionState,
    reports: &[LogReport],
    insync_replicas_min: InsyncReplicasMin,
) -> Result<(BrokerId, MetadataRecord), ControllerError> {
    let counts = |report: &&LogReport| {
        let broker = image.broker(report.member.broker);
        !report.is_faulty
            && state.replicas.contains(&report.member.broker)
            && broker.is_some_and(|known| known.broker_epoch == report.broker_epoch)
            && is_serving(image, report.member)
    };
    // The preferred one of several that hold the same comes last, since the last of equal ones is taken.
    let place = |broker: BrokerId| state.replicas.iter().rev().position(|replica| *replica == broker);
    let usable = reports.iter().filter(counts);
    let best = usable.clone().max_by_key(|report| (report.label, report.log_end, place(report.member.broker)));
    let leader = best.map(|report| report.member.broker).ok_or_else(|| {
        let why = "No replica whose broker serves has a log that is known to be whole.";
        ControllerError::NoEligibleLeader(why.to_owned())
    })?;
    let mut members: Vec<Member> = usable.map(|report| report.member).collect();
    members.sort_unstable();
    members.dedup_by_key(|member| member.broker);
    let required = insync_replicas_min.required(state.replication_factor);
    let absent = state.replicas.iter().filter(|replica| members.iter().all(|member| member.broker != **replica));
    let stand_ins: Vec<Member> = absent.map(|broker| Member { broker: *broker, directory_id: NOBODYS }).collect();
    let missing = required.saturating_sub(members.len());
    members.extend(stand_ins.into_iter().take(missing));
    let version = state.configuration.version.next();
    let configuration = Configuration::new(members, insync_replicas_min, state.replication_factor, version);
    let election = Election { leader: Some(leader), leader_epoch: state.leader_epoch.next(), unclean: true };
    let record = MetadataRecord::PartitionChange {
        partition,
        election: Some(election),
        configuration: Some(configuration.expect("there are as many replicas as RF, and so as many as are required")),
        assignment: None,
    };
    Ok((leader, record))
}

/// Whom to ask for a report on the partition: the replicas whose brokers serve. None if there is no such partition, or if it can be
/// led cleanly as far as the metadata tells and has a leader.
#[must_use]
pub fn unclean_electorate(image: &Image, partition: TopicIdPartition) -> Option<(LeaderEpoch, Vec<BrokerId>)> {
    let state = image.partition(partition)?;
    let serves = |broker: &BrokerId| image.broker(*broker).is_some_and(|known| known.is_serving());
    let electorate: Vec<BrokerId> = state.replicas.iter().copied().filter(serves).collect();
    let is_led = has_live_leader(image, state) && can_seal(image, state);
    (!is_led).then_some((state.leader_epoch, electorate))
}

/// The partitions whose topics want an unclean election now, with whom to ask; at most `count_max`.
#[must_use]
pub fn find_unclean(
    image: &Image,
    context: &Context<'_>,
    count_max: usize,
) -> Vec<(TopicIdPartition, LeaderEpoch, Vec<BrokerId>)> {
    let layers = context.layers(image);
    let is_due = |state: &PartitionState| !can_seal(image, state) || !has_live_leader(image, state);
    image
        .topics()
        .filter(|topic| topic.partitions().any(|(_, state)| is_due(state)))
        .filter(|topic| layers.topic_with(topic.configs()).unclean_election)
        .flat_map(|topic| {
            topic
                .partitions()
                .map(|(index, state)| (TopicIdPartition { topic_id: topic.topic_id(), partition: index }, state))
        })
        .filter(|(_, state)| is_due(state))
        .filter_map(|(id, _)| unclean_electorate(image, id).map(|(epoch, electorate)| (id, epoch, electorate)))
        .filter(|(_, _, electorate)| !electorate.is_empty())
        .take(count_max)
        .collect()
}

fn can_seal(image: &Image, state: &PartitionState) -> bool {
    let serving = state.configuration.members.iter().filter(|member| is_serving(image, **member)).count();
    serving >= state.configuration.seal_quorum()
}
