//! A member of a group of the consumer protocol (KIP-848): one request says everything, and the coordinator decides.
//!
//! ```text
//! Out --subscribe--> Joining (epoch 0) --> Member (epoch of the coordinator) --leave--> Out
//!                       ^                       |   ^      |
//!                       `---- fenced: all ------'   `------' an assignment: gives up, tells so, is given more
//!                             is lost
//! ```
//!
//! Invariants
//! - What the coordinator is told of as held is what the application has carried out, never more.
//! - A heartbeat says only what has changed since the last one that was answered; after trouble it says everything.
//! - What was held before the member was fenced is lost, and never told of again.
//!
//! Not here: I/O and finding the coordinator (`session`), the classic protocol (`classic`).

use core::time::Duration;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use quipu_base::{PartitionIndex, TopicId};
use quipu_env::{Instant, Rng};
use quipu_protocol::{
    ErrorCode, Response, Str,
    messages::consumer_group_heartbeat::{
        ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, TopicPartitions,
    },
};
use rand::RngExt;

use super::{
    GroupConfig, GroupError,
    ledger::{Ask, Ledger, Membership, Partitions, Verdict, is_elsewhere},
};
use crate::{ClientError, TopicPartition, backoff::Backoff};

/// Says that a member leaves; a static one that it comes back.
const LEAVE: i32 = -1;
const LEAVE_FOR_NOW: i32 = -2;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Out,
    Joining,
    Member,
}

/// What a member wants to read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Wanted {
    Topics(BTreeSet<Arc<str>>),
    /// The coordinator finds the topics.
    Pattern(String),
}

/// See the module.
pub(crate) struct Modern {
    config: GroupConfig,
    backoff: Backoff,
    rng: Rng,
    phase: Phase,
    member_id: Str,
    member_epoch: i32,
    incarnation: u64,
    wanted: Wanted,
    pub(crate) ledger: Ledger,
    /// What the coordinator wants this member to hold, not yet decided on: a topic's name may be missing.
    target: Option<Vec<TopicPartitions>>,
    names: BTreeMap<TopicId, Arc<str>>,
    /// Whether the next heartbeat says everything, and what it says besides.
    says_all: bool,
    says_wanted: bool,
    says_held: bool,
    /// The coordinator was told of a pattern: it has to be told when there is none any more.
    has_said_pattern: bool,
    is_asking: bool,
    interval: Duration,
    next_at: Instant,
    failures: u32,
}

impl Modern {
    pub(crate) fn new(config: GroupConfig, backoff: Backoff, mut rng: Rng) -> Self {
        let interval = config.heartbeat_interval;
        let member_id = uuid(&mut rng);
        Self {
            config,
            backoff,
            rng,
            phase: Phase::Out,
            member_id,
            member_epoch: 0,
            incarnation: 0,
            wanted: Wanted::Topics(BTreeSet::new()),
            ledger: Ledger::default(),
            target: None,
            names: BTreeMap::new(),
            says_all: true,
            says_wanted: false,
            says_held: false,
            has_said_pattern: false,
            is_asking: false,
            interval,
            next_at: Instant::ZERO,
            failures: 0,
        }
    }

    /// Subscribes, and joins if it has not.
    pub(crate) fn handle_wanted(&mut self, now: Instant, wanted: Wanted) {
        let is_new = self.wanted != wanted;
        self.wanted = wanted;
        if self.phase == Phase::Out {
            self.become_joining(now);
        } else if is_new {
            self.says_wanted = true;
            self.next_at = now;
        }
    }

    /// Topics whose names are needed.
    pub(crate) fn unnamed(&self) -> BTreeSet<TopicId> {
        let ids = self.target.iter().flatten().map(|topic| topic.topic_id);
        ids.filter(|id| !self.names.contains_key(id)).collect()
    }

    /// Learns names of topics.
    pub(crate) fn handle_names(&mut self, names: impl IntoIterator<Item = (TopicId, Arc<str>)>) {
        self.names.extend(names);
        self.reconcile();
    }

    /// The application has carried out the first change that it was told: the coordinator hears of it at once.
    pub(crate) fn handle_done(&mut self, now: Instant) {
        self.ledger.done();
        if self.phase != Phase::Out {
            self.says_held = true;
            self.next_at = now;
        }
        self.reconcile();
    }

    /// When [`Self::ask`] has something, if it has nothing now.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let is_held_up = self.phase == Phase::Joining && !self.ledger.is_settled();
        (!self.is_asking && self.phase != Phase::Out && !is_held_up).then_some(self.next_at)
    }

    /// What to ask the coordinator now, if anything.
    pub(crate) fn ask(&mut self, now: Instant) -> Option<Ask> {
        if self.deadline().is_none_or(|at| now < at) {
            return None;
        }
        self.is_asking = true;
        let says_all = self.says_all || self.phase == Phase::Joining;
        let mut request = self.request(self.member_epoch);
        let mut version = 0;
        if says_all {
            let ms = self.config.poll_interval_max.as_millis();
            request.rebalance_timeout_ms = i32::try_from(ms).unwrap_or(i32::MAX);
            request.rack_id = self.config.rack.as_deref().map(Into::into);
            request.server_assignor = self.config.remote_assignor.as_deref().map(Into::into);
        }
        if says_all || self.says_wanted {
            // Both are said, so that one that was said before is taken back.
            let (names, pattern) = match &self.wanted {
                Wanted::Topics(topics) => (topics.iter().map(|topic| (**topic).into()).collect(), None),
                Wanted::Pattern(pattern) => (Vec::new(), Some(pattern.as_str().into())),
            };
            let is_said = pattern.is_some() || self.has_said_pattern;
            version = i16::from(is_said);
            request.subscribed_topic_names = Some(names);
            request.subscribed_topic_regex = is_said.then(|| pattern.unwrap_or(Str::EMPTY));
            self.has_said_pattern = is_said;
        }
        if says_all || self.says_held {
            request.topic_partitions = Some(self.held());
        }
        (self.says_all, self.says_wanted, self.says_held) = (false, false, false);
        Some(Ask { request: request.into(), versions: version..=i16::MAX, is_long: false })
    }

    fn request(&self, member_epoch: i32) -> ConsumerGroupHeartbeatRequest {
        ConsumerGroupHeartbeatRequest {
            group_id: self.config.group.as_str().into(),
            member_id: self.member_id.clone(),
            member_epoch,
            instance_id: self.config.instance_id.as_deref().map(Into::into),
            ..Default::default()
        }
    }

    fn held(&self) -> Vec<TopicPartitions> {
        let mut topics: BTreeMap<TopicId, Vec<i32>> = BTreeMap::new();
        for TopicPartition { topic, partition } in self.ledger.held() {
            // The latest topic of that name: an earlier one is nobody's any more.
            let id = self.names.iter().rev().find(|(_, name)| *name == topic).map(|(id, _)| *id);
            if let Some(id) = id {
                topics.entry(id).or_default().push(partition.0);
            }
        }
        topics.into_iter().map(|(topic_id, partitions)| TopicPartitions { topic_id, partitions }).collect()
    }

    /// The coordinator's reply to what was asked last.
    pub(crate) fn handle_reply(&mut self, now: Instant, response: Response) -> Verdict {
        self.is_asking = false;
        let Response::ConsumerGroupHeartbeat(response) = response else {
            unreachable!("a {} reply to a heartbeat", response.api())
        };
        if response.error_code != ErrorCode::None.code() {
            return self.handle_code(now, &response);
        }
        self.failures = 0;
        self.phase = Phase::Member;
        self.member_epoch = response.member_epoch;
        if let Some(member_id) = response.member_id {
            self.member_id = member_id;
        }
        if let Ok(ms) = u64::try_from(response.heartbeat_interval_ms)
            && ms > 0
        {
            self.interval = Duration::from_millis(ms);
        }
        // What came up meanwhile is said at once.
        self.next_at = if self.says_wanted || self.says_held { now } else { now + self.interval };
        if let Some(assignment) = response.assignment {
            self.target = Some(assignment.topic_partitions);
            self.reconcile();
        }
        Verdict::Fine
    }

    /// Decides for what the coordinator wants, once all that was decided before is carried out and all names are known.
    fn reconcile(&mut self) {
        if !self.ledger.is_settled() || !self.unnamed().is_empty() {
            return;
        }
        let Some(target) = self.target.take() else { return };
        let mut wanted = Partitions::new();
        for TopicPartitions { topic_id, partitions } in target {
            let Some(name) = self.names.get(&topic_id) else { continue };
            let own = |number: i32| TopicPartition::new(Arc::clone(name), PartitionIndex(number));
            wanted.extend(partitions.into_iter().map(own));
        }
        self.ledger.move_to(wanted);
    }

    fn handle_code(&mut self, now: Instant, response: &ConsumerGroupHeartbeatResponse) -> Verdict {
        let known = ErrorCode::from_code(response.error_code).unwrap_or(ErrorCode::UnknownServerError);
        self.says_all = true;
        match known {
            ErrorCode::FencedMemberEpoch | ErrorCode::UnknownMemberId => {
                let joins_in_vain = self.phase == Phase::Joining;
                self.become_new();
                self.become_joining(now);
                // To a coordinator that has not heard of its leave it is still a member, with an epoch of its own, for a session.
                if joins_in_vain {
                    self.pause(now);
                }
                Verdict::Fine
            }
            ErrorCode::FencedInstanceId | ErrorCode::UnreleasedInstanceId => {
                let (group, instance_id) = (self.config.group.clone(), self.config.instance_id.clone());
                let instance_id = instance_id.unwrap_or_default();
                self.become_failed(GroupError::Fenced { group, instance_id, code: known })
            }
            _ if is_elsewhere(known) => {
                self.pause(now);
                Verdict::Elsewhere
            }
            _ if known.is_retriable() => {
                self.pause(now);
                Verdict::Fine
            }
            _ => {
                let what = format!("heartbeat of group {}", self.config.group);
                let message = response.error_message.as_deref();
                self.become_failed(GroupError::Client(ClientError::refused(what, response.error_code, message)))
            }
        }
    }

    /// No reply came: nobody knows what the coordinator has heard.
    pub(crate) fn handle_trouble(&mut self, now: Instant, error: &ClientError) -> Verdict {
        self.is_asking = false;
        self.says_all = true;
        if error.is_retriable() {
            self.pause(now);
            return Verdict::Elsewhere;
        }
        self.become_failed(GroupError::Client(error.clone()))
    }

    fn pause(&mut self, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        let pause = self.backoff.pause(self.failures, &mut self.rng);
        self.next_at = now + pause;
    }

    fn become_new(&mut self) {
        self.member_epoch = 0;
        self.incarnation += 1;
        self.target = None;
        (self.says_all, self.says_wanted, self.says_held) = (true, false, false);
        self.ledger.lose();
    }

    fn become_joining(&mut self, now: Instant) {
        self.phase = Phase::Joining;
        self.next_at = now;
    }

    fn become_failed(&mut self, error: GroupError) -> Verdict {
        self.become_new();
        self.phase = Phase::Out;
        Verdict::Failed(error)
    }

    /// Leaves the group: the request that says so, if anybody has to be told. What was held and not given up before is lost.
    pub(crate) fn leave(&mut self) -> Option<Ask> {
        // A join whose reply has not come may have been heard all the same.
        let is_known = self.phase != Phase::Out;
        let request = self.request(if self.config.instance_id.is_some() { LEAVE_FOR_NOW } else { LEAVE });
        self.become_new();
        self.is_asking = false;
        self.phase = Phase::Out;
        is_known.then(|| Ask { request: request.into(), versions: 0..=i16::MAX, is_long: false })
    }

    pub(crate) fn membership(&self) -> Membership {
        Membership {
            member_id: self.member_id.clone(),
            generation: (self.phase == Phase::Member).then_some(self.member_epoch),
            incarnation: self.incarnation,
        }
    }
}

/// A random UUID (version 4) as text: members name themselves.
fn uuid(rng: &mut Rng) -> Str {
    let bits = (rng.random::<u128>() & !(0xf << 76) & !(0x3 << 62)) | (4 << 76) | (2 << 62);
    let hex = format!("{bits:032x}");
    let part = |range: core::ops::Range<usize>| hex.get(range).unwrap_or_default();
    let parts = [part(0..8), part(8..12), part(12..16), part(16..20), part(20..32)];
    parts.join("-").as_str().into()
}

#[cfg(test)]
mod tests;
