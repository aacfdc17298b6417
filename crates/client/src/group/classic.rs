//! A member of a group of the classic protocol: joins, is given partitions, gives signs of life, joins again.
//!
//! ```text
//!                      JoinGroup: member                                 SyncGroup
//! Out --subscribe--> Joining ----------------------------> Syncing ----------------------> Member
//!  ^                  ^   \   JoinGroup: leader            ^                                | |
//!  |  leave,          |    `--> Leading (looks at topics) -'   rebalance, other topics or   | |
//!  |  refused         |                                        partitions: joins again      | |
//!  `------------------+---------------------------------------------------------------------' |
//!                     `--- unknown member, illegal generation: all is lost, joins as new -----'
//! ```
//!
//! Invariants
//! - One request is under way at a time. No join is sent before the application has carried out what was decided before; signs of
//!   life go on meanwhile.
//! - With an assignor that isn't cooperative nothing is held while a join is under way.
//! - What was held under one id is never held under the next one: in between it is lost.
//!
//! Not here: I/O and finding the coordinator (`session`), who gets what (`assign`), the consumer protocol (`modern`). Read
//! `replies` next.

mod replies;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use quipu_env::{Instant, Rng};
use quipu_protocol::{
    Str,
    messages::{
        heartbeat::HeartbeatRequest,
        join_group::{JoinGroupRequest, JoinGroupRequestProtocol},
        leave_group::{LeaveGroupRequest, MemberIdentity},
        sync_group::{SyncGroupRequest, SyncGroupRequestAssignment},
    },
};

use super::{
    Assignor, GroupConfig, GroupError,
    assign::{Candidate, Counts, assign},
    ledger::{Ask, Ledger, Membership, Verdict},
    wire::{self, NO_GENERATION, Subscription},
};
use crate::backoff::Backoff;

/// What the members of the classic protocol of consumers call it.
const CONSUMER: &str = "consumer";

#[derive(Debug)]
enum Phase {
    Out,
    Joining,
    /// This member decides for all, once it knows the topics.
    Leading {
        members: Vec<Candidate>,
        assignor: Assignor,
        is_skipped: bool,
    },
    Syncing {
        assignments: Vec<SyncGroupRequestAssignment>,
        protocol: Str,
    },
    Member,
}

/// See the module.
pub(crate) struct Classic {
    config: GroupConfig,
    backoff: Backoff,
    rng: Rng,
    phase: Phase,
    member_id: Str,
    generation: i32,
    incarnation: u64,
    topics: BTreeSet<Arc<str>>,
    pub(crate) ledger: Ledger,
    /// Why to join again, if so.
    rejoin: Option<&'static str>,
    /// The topics of all members and their partitions, as this member shared them out.
    shared_out: Option<Counts>,
    is_asking: bool,
    next_at: Instant,
    failures: u32,
}

impl Classic {
    pub(crate) fn new(config: GroupConfig, backoff: Backoff, rng: Rng) -> Self {
        Self {
            config,
            backoff,
            rng,
            phase: Phase::Out,
            member_id: Str::EMPTY,
            generation: NO_GENERATION,
            incarnation: 0,
            topics: BTreeSet::new(),
            ledger: Ledger::default(),
            rejoin: None,
            shared_out: None,
            is_asking: false,
            next_at: Instant::ZERO,
            failures: 0,
        }
    }

    /// Subscribes to these topics, which a pattern may have found, and joins if that is something new.
    pub(crate) fn handle_topics(&mut self, now: Instant, topics: BTreeSet<Arc<str>>) {
        let is_new = self.topics != topics;
        self.topics = topics;
        if matches!(self.phase, Phase::Out) {
            self.become_joining(now);
        } else if is_new {
            self.rejoin = Some("the subscription has changed");
            self.next_at = now;
        }
    }

    /// The topics whose partitions count: those of all members, if this one decides.
    pub(crate) fn watched(&self) -> BTreeSet<Arc<str>> {
        let mut topics = self.topics.clone();
        if let Phase::Leading { members, .. } = &self.phase {
            topics.extend(members.iter().flat_map(|member| member.subscription.topics.iter().cloned()));
        }
        topics.extend(self.shared_out.iter().flat_map(|counts| counts.keys().cloned()));
        topics
    }

    /// Whether the numbers of partitions are waited for.
    pub(crate) const fn wants_counts(&self) -> bool {
        matches!(self.phase, Phase::Leading { .. })
    }

    /// Learns how many partitions the watched topics have.
    pub(crate) fn handle_counts(&mut self, now: Instant, counts: &Counts) {
        if let Phase::Leading { members, assignor, is_skipped } = &self.phase {
            let shares = if *is_skipped { BTreeMap::new() } else { assign(*assignor, members, counts) };
            let share = |(id, partitions): (String, _)| SyncGroupRequestAssignment {
                member_id: id.as_str().into(),
                assignment: wire::encode_assignment(&partitions),
            };
            let protocol = assignor.name().into();
            let watched = self.watched();
            self.shared_out = Some(watched.into_iter().map(|topic| count_of(topic, counts)).collect());
            self.phase = Phase::Syncing { assignments: shares.into_iter().map(share).collect(), protocol };
            self.next_at = now;
        } else if let Some(before) = &self.shared_out
            && before.iter().any(|(topic, count)| counts.get(topic).copied().unwrap_or(0) != *count)
            && matches!(self.phase, Phase::Member)
        {
            self.rejoin = Some("the number of partitions has changed");
            self.next_at = now;
        }
    }

    /// The application has carried out the first change that it was told.
    pub(crate) fn handle_done(&mut self, now: Instant) {
        self.ledger.done();
        if self.rejoin.is_some() {
            self.next_at = now;
        }
    }

    /// When [`Self::ask`] has something, if it has nothing now.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let waits = self.is_asking || matches!(self.phase, Phase::Out | Phase::Leading { .. });
        let is_held_up = matches!(self.phase, Phase::Joining) && !self.ledger.is_settled();
        (!waits && !is_held_up).then_some(self.next_at)
    }

    /// What to ask the coordinator now, if anything.
    pub(crate) fn ask(&mut self, now: Instant) -> Option<Ask> {
        if self.is_asking || now < self.next_at {
            return None;
        }
        if matches!(self.phase, Phase::Member) && self.rejoin.is_some() && self.may_join() {
            self.phase = Phase::Joining;
        }
        let (request, versions, is_long) = match &self.phase {
            Phase::Out | Phase::Leading { .. } => return None,
            Phase::Joining if !self.ledger.is_settled() => return None,
            Phase::Joining => (self.join().into(), 0..=i16::MAX, true),
            Phase::Syncing { assignments, protocol } => {
                let request = SyncGroupRequest {
                    group_id: self.config.group.as_str().into(),
                    generation_id: self.generation,
                    member_id: self.member_id.clone(),
                    group_instance_id: self.instance_id(),
                    protocol_type: Some(CONSUMER.into()),
                    protocol_name: Some(protocol.clone()),
                    assignments: assignments.clone(),
                };
                (request.into(), 0..=i16::MAX, true)
            }
            Phase::Member => {
                let request = HeartbeatRequest {
                    group_id: self.config.group.as_str().into(),
                    generation_id: self.generation,
                    member_id: self.member_id.clone(),
                    group_instance_id: self.instance_id(),
                };
                (request.into(), 0..=i16::MAX, false)
            }
        };
        // Without static membership older brokers do as well.
        let versions = if self.config.instance_id.is_some() { static_version(&request)..=i16::MAX } else { versions };
        self.is_asking = true;
        Some(Ask { request, versions, is_long })
    }

    /// Whether a join may be sent. With an assignor that isn't cooperative the application gives up everything before.
    fn may_join(&mut self) -> bool {
        if self.ledger.is_settled() && !self.is_cooperative() {
            self.ledger.move_to(BTreeSet::new());
        }
        self.ledger.is_settled()
    }

    fn is_cooperative(&self) -> bool {
        self.config.assignors.iter().all(|assignor| assignor.is_cooperative())
    }

    fn instance_id(&self) -> Option<Str> {
        self.config.instance_id.as_deref().map(Into::into)
    }

    fn join(&self) -> JoinGroupRequest {
        let protocol = |assignor: &Assignor| {
            let user_data = assignor.is_cooperative().then(|| wire::generation_data(self.generation));
            let subscription = Subscription {
                topics: self.topics.clone(),
                user_data,
                owned: self.ledger.held().clone(),
                generation: self.generation,
                rack: self.config.rack.clone(),
            };
            JoinGroupRequestProtocol { name: assignor.name().into(), metadata: subscription.encode() }
        };
        let ms = |time: core::time::Duration| i32::try_from(time.as_millis()).unwrap_or(i32::MAX);
        JoinGroupRequest {
            group_id: self.config.group.as_str().into(),
            session_timeout_ms: ms(self.config.session_timeout),
            rebalance_timeout_ms: ms(self.config.poll_interval_max),
            member_id: self.member_id.clone(),
            group_instance_id: self.instance_id(),
            protocol_type: CONSUMER.into(),
            protocols: self.config.assignors.iter().map(protocol).collect(),
            reason: self.rejoin.map(Into::into),
        }
    }

    fn pause(&mut self, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        let pause = self.backoff.pause(self.failures, &mut self.rng);
        self.next_at = now + pause;
    }

    /// All was lost. What comes is another member, or at least another one of its lives.
    fn become_new(&mut self, forgets_id: bool) {
        if forgets_id {
            self.member_id = Str::EMPTY;
        }
        self.generation = NO_GENERATION;
        self.incarnation += 1;
        self.shared_out = None;
        self.rejoin = None;
        self.ledger.lose();
    }

    fn become_joining(&mut self, now: Instant) {
        self.phase = Phase::Joining;
        self.next_at = now;
    }

    fn become_failed(&mut self, error: GroupError) -> Verdict {
        self.become_new(true);
        self.phase = Phase::Out;
        Verdict::Failed(error)
    }

    /// Leaves the group: the request that says so, if anybody has to be told. Static members keep their place until their session
    /// ends. What was held and not given up before is lost.
    pub(crate) fn leave(&mut self, reason: &'static str) -> Option<Ask> {
        let is_known = !self.member_id.is_empty() && self.config.instance_id.is_none();
        let identity =
            MemberIdentity { member_id: self.member_id.clone(), group_instance_id: None, reason: Some(reason.into()) };
        let request = LeaveGroupRequest {
            group_id: self.config.group.as_str().into(),
            members: vec![identity],
            ..Default::default()
        };
        self.become_new(true);
        self.is_asking = false;
        self.phase = Phase::Out;
        // Before version 3 the member stands elsewhere.
        is_known.then(|| Ask { request: request.into(), versions: 3..=i16::MAX, is_long: false })
    }

    pub(crate) fn membership(&self) -> Membership {
        let is_in = self.generation != NO_GENERATION && !matches!(self.phase, Phase::Out);
        Membership {
            member_id: self.member_id.clone(),
            generation: is_in.then_some(self.generation),
            incarnation: self.incarnation,
        }
    }
}

fn count_of(topic: Arc<str>, counts: &Counts) -> (Arc<str>, i32) {
    let count = counts.get(&topic).copied().unwrap_or(0);
    (topic, count)
}

/// The first version that knows of static members (KIP-345).
const fn static_version(request: &quipu_protocol::Request) -> i16 {
    match request {
        quipu_protocol::Request::JoinGroup(_) => 5,
        _ => 3,
    }
}

#[cfg(test)]
mod tests;
