//! A member of a group: reads what the group gives it, and commits; it may leave, be silent, crash and come back.
//!
//! Invariants
//! - What the library tells of partitions that come and go is noted when it tells it; of which generation that is, as far as the
//!   member knows when the poll ends.
//! - A commit is noted with the places that the member has then, and whatever is not known to be accepted is not known at all.
//! - A member never gives up: what it can't go on with it begins anew.
//!
//! Not here: what is right (`check::groups`).

use core::{sync::atomic::AtomicU64, sync::atomic::Ordering, time::Duration};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use quipu_client::{
    Assignor, ConsumerConfig, ConsumerError, ConsumerRecord, GroupConfig, GroupConsumer, GroupError, GroupProtocol,
    Isolation, Offset, OffsetReset, OffsetSpec, OffsetToCommit, Position, RebalanceListener, Subscription, Topic,
    TopicPartition,
};
use quipu_env::Env;
use quipu_protocol::{ApiKey, ErrorCode};
use quipu_sim::SimEnv;
use rand::RngExt;

use super::Library;
use crate::{
    history::{Found, LogIndex, OpIndex, Outcome, What},
    plan::{self, Commits, Protocol},
    workload::Scene,
};

/// How long a poll waits for the first record.
const WAIT: Duration = Duration::from_millis(100);
/// One in so many polls is followed by the question what the group has committed.
const QUESTIONS: u32 = 4;
/// Commits that only say again where the member stands: one in so many polls.
const COMMITS_AGAIN: u32 = 8;

/// See the module.
pub(super) struct Member {
    group: String,
    topics: Vec<Arc<Topic>>,
    consumer: Option<GroupConsumer<SimEnv>>,
    ear: Ear,
    /// It wants to be a member, and is none.
    joining: Option<OpIndex>,
    polls: u32,
    has_taken: bool,
    /// When its last poll ended.
    polled: u64,
    /// Where the topics end, since nobody writes any more.
    ends: Vec<(LogIndex, i64)>,
}

/// Hears of partitions that come and go. A clone is the same.
#[derive(Clone)]
struct Ear {
    scene: Scene,
    client: u32,
    group: String,
    logs: Arc<BTreeMap<TopicPartition, LogIndex>>,
    /// Given, and it is not said yet in which generation.
    given: Arc<Mutex<Vec<(OpIndex, LogIndex)>>>,
    /// The longest time between two polls lately, nanoseconds.
    idle: Arc<AtomicU64>,
    patience: u64,
}

impl Ear {
    fn log(&self, partition: &TopicPartition) -> Option<LogIndex> {
        self.logs.get(partition).copied()
    }

    fn taken(&self, partitions: &[TopicPartition], is_lost: bool) {
        for log in partitions.iter().filter_map(|partition| self.log(partition)) {
            // Of the generation in which it was given nothing is known by the end of the poll.
            self.tell_of(-1, |other| other == log);
            let idle = self.idle.load(Ordering::Relaxed);
            let what = What::Taken { log, group: self.group.clone(), is_lost, idle, patience: self.patience };
            self.scene.recorder.note(self.client, self.scene.now(), what);
        }
    }

    /// Says in which generation partitions were given.
    fn tell(&self, is_of: i32) {
        self.tell_of(is_of, |_| true);
    }

    fn tell_of(&self, is_of: i32, is_meant: impl Fn(LogIndex) -> bool) {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        for (op, _) in given.extract_if(.., |(_, log)| is_meant(*log)) {
            self.scene.recorder.complete(op, self.scene.now(), Outcome::Ok, |what| {
                if let What::Given { generation, .. } = what {
                    *generation = is_of;
                }
            });
        }
    }
}

impl RebalanceListener for Ear {
    fn assigned(&mut self, places: &mut BTreeMap<TopicPartition, Option<Position>>) {
        for (partition, place) in places.iter() {
            let Some(log) = self.log(partition) else { continue };
            let committed = match place {
                Some(Position::Offset(offset) | Position::OffsetAndEpoch(offset, _)) => offset.0,
                _ => -1,
            };
            let what = What::Given { log, group: self.group.clone(), generation: -1, committed };
            let op = self.scene.recorder.invoke(self.client, self.scene.now(), what);
            self.given.lock().unwrap_or_else(PoisonError::into_inner).push((op, log));
        }
    }

    fn revoked(&mut self, partitions: &[TopicPartition], _: &mut BTreeMap<TopicPartition, OffsetToCommit>) {
        self.taken(partitions, false);
    }

    fn lost(&mut self, partitions: &[TopicPartition]) {
        self.taken(partitions, true);
    }
}

fn config(spec: &plan::Client, group: &str) -> GroupConfig {
    let (protocol, assignor) = match spec.group_protocol {
        Protocol::Consumer => (GroupProtocol::Consumer, Assignor::Range),
        Protocol::Eager => (GroupProtocol::Classic, Assignor::Range),
        Protocol::Cooperative => (GroupProtocol::Classic, Assignor::CooperativeSticky),
    };
    let every = Duration::from_millis(u64::from(spec.group_commit_every.max(1)) * 100);
    GroupConfig {
        protocol,
        assignors: vec![assignor],
        instance_id: spec.group_static.then(|| spec.name.clone()),
        session_timeout: Duration::from_millis(spec.group_session_ms),
        heartbeat_interval: Duration::from_millis(spec.group_heartbeat_ms),
        poll_interval_max: Duration::from_millis(spec.group_poll_ms),
        auto_commit: (spec.group_commits == Commits::Auto).then_some(every),
        consumer: ConsumerConfig {
            isolation: if spec.read_committed { Isolation::ReadCommitted } else { Isolation::ReadUncommitted },
            offset_reset: OffsetReset::Start,
            fetch_wait_max: Duration::from_millis(u64::try_from(spec.fetch_wait_ms).unwrap_or(1).max(1)),
            prefetch_bytes: spec.client_prefetch_bytes,
            poll_records_max: spec.client_poll_records,
            ..ConsumerConfig::default()
        },
        ..GroupConfig::new(group)
    }
}

impl Library {
    pub(super) async fn join(&mut self, group: &str, topics: &[String]) {
        self.leave().await;
        let mut found = Vec::new();
        for topic in topics {
            found.extend(self.find(topic).await);
        }
        if found.is_empty() {
            return;
        }
        let mut logs = BTreeMap::new();
        for topic in &found {
            for partition in &topic.partitions {
                let place = Self::partition(&topic.name, partition.index.0);
                logs.insert(place, self.log(topic, partition.index.0));
            }
        }
        let ear = Ear {
            scene: self.scene.clone(),
            client: self.number,
            group: group.to_owned(),
            logs: Arc::new(logs),
            given: Arc::default(),
            idle: Arc::default(),
            patience: self.spec.group_session_ms.min(self.spec.group_poll_ms) * 1_000_000,
        };
        self.member = Some(Member {
            group: group.to_owned(),
            topics: found,
            consumer: None,
            ear,
            joining: None,
            polls: 0,
            has_taken: false,
            polled: self.scene.now(),
            ends: Vec::new(),
        });
        self.begin_membership();
    }

    /// Subscribes, if nothing is subscribed to.
    fn begin_membership(&mut self) {
        let Some(member) = self.member.as_mut().filter(|member| member.consumer.is_none()) else { return };
        let config = config(&self.spec, &member.group);
        let mut consumer = self.client.group_consumer(config).expect("the plan was checked");
        consumer.set_listener(member.ear.clone());
        let topics = member.topics.iter().map(|topic| Arc::clone(&topic.name)).collect();
        consumer.subscribe(Subscription::Topics(topics)).expect("these are names of topics");
        member.consumer = Some(consumer);
        member.polled = self.scene.now();
    }

    pub(super) async fn take(&mut self, times: u32) {
        for _ in 0..times {
            self.take_once().await;
        }
    }

    pub(super) async fn serve(&mut self) {
        while self.member.is_some() {
            self.take_once().await;
            if self.scene.is_over() && self.has_group_read_all().await {
                break;
            }
            self.sleep_ms(self.spec.pace_ms).await;
        }
        self.leave().await;
    }

    pub(super) async fn leave(&mut self) {
        let Some(mut member) = self.member.take() else { return };
        self.note_idle(&member);
        if let Some(consumer) = member.consumer.take()
            && let Err(error) = consumer.close().await
        {
            self.group_trouble(&error);
        }
        member.ear.tell(-1);
    }

    /// Whether all that there is was taken by some member.
    async fn has_group_read_all(&mut self) -> bool {
        let Some(member) = &self.member else { return true };
        if member.ends.is_empty() {
            let mut ends = Vec::new();
            for (place, log) in member.ear.logs.as_ref().clone() {
                match self.listed(&place, OffsetSpec::Latest).await {
                    Some(end) => ends.push((log, end.0)),
                    None => return false,
                }
            }
            if let Some(member) = &mut self.member {
                member.ends = ends;
            }
        }
        let Some(member) = &self.member else { return true };
        let taken = self.scene.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let behind = |log: LogIndex| taken.get(&(member.group.clone(), log)).copied().unwrap_or(0);
        member.ends.iter().all(|(log, end)| behind(*log) >= *end)
    }

    /// Polls once, and commits if it is time to.
    async fn take_once(&mut self) {
        self.begin_membership();
        let Some(mut member) = self.member.take() else { return };
        let Some(mut consumer) = member.consumer.take() else { return };
        let now = self.scene.now();
        self.note_idle(&member);
        if member.joining.is_none() && consumer.membership().generation.is_none() {
            let what = What::Join { group: member.group.clone() };
            member.joining = Some(self.scene.recorder.invoke(self.number, now, what));
        }
        let polled = consumer.poll(WAIT).await;
        let membership = consumer.membership();
        member.ear.tell(membership.generation.unwrap_or(-1));
        if membership.generation.is_some()
            && let Some(op) = member.joining.take()
        {
            self.scene.reached(ApiKey::JoinGroup);
            self.scene.recorder.complete(op, self.scene.now(), Outcome::Ok, |_| {});
        }
        member.polls += 1;
        let outcome = match polled {
            Ok(records) => {
                if self.rng.random_range(0..QUESTIONS) == 0 {
                    self.ask_committed(&member, &consumer).await;
                }
                self.take_records(&mut member, membership.generation.unwrap_or(-1), &records);
                self.commit_if_due(&mut member, &mut consumer).await
            }
            Err(error) => Err(error),
        };
        member.polled = self.scene.now();
        match outcome {
            Ok(()) => member.consumer = Some(consumer),
            Err(error) => {
                let goes_on = self.group_trouble(&error);
                if goes_on {
                    member.consumer = Some(consumer);
                } else {
                    drop(consumer);
                }
                self.pause().await;
            }
        }
        self.member = Some(member);
    }

    /// Notes how long it has not polled until now.
    fn note_idle(&self, member: &Member) {
        let idle = self.scene.now().saturating_sub(member.polled);
        let before = member.ear.idle.load(Ordering::Relaxed);
        // A silence shows some polls later, perhaps.
        member.ear.idle.store(idle.max(before / 2), Ordering::Relaxed);
    }

    fn take_records(&self, member: &mut Member, generation: i32, records: &[ConsumerRecord]) {
        let mut by_log: BTreeMap<LogIndex, Vec<Found>> = BTreeMap::new();
        for record in records {
            let place = Self::partition(&record.topic, record.partition.0);
            let Some(log) = member.ear.log(&place) else { continue };
            by_log.entry(log).or_default().push(self.found(&record.topic, record));
        }
        member.has_taken |= !by_log.is_empty();
        for (log, records) in by_log {
            let behind = records.iter().map(|found| found.offset + 1).max().unwrap_or(0);
            let what = What::Take { log, group: member.group.clone(), generation, records };
            self.scene.recorder.note(self.number, self.scene.now(), what);
            let mut taken = self.scene.taken.lock().unwrap_or_else(PoisonError::into_inner);
            let most = taken.entry((member.group.clone(), log)).or_insert(0);
            *most = (*most).max(behind);
        }
    }

    /// Asks what the group has committed of what this member reads.
    async fn ask_committed(&self, member: &Member, consumer: &GroupConsumer<SimEnv>) {
        let places: Vec<TopicPartition> = consumer.assignment().cloned().collect();
        let what = What::Committed { group: member.group.clone(), offsets: Vec::new() };
        let op = self.scene.recorder.invoke(self.number, self.scene.now(), what);
        let answer = consumer.committed(&places).await;
        let outcome = if answer.is_ok() { Outcome::Ok } else { Outcome::Info };
        let found = answer.unwrap_or_default();
        let told = places.iter().filter_map(|place| {
            let offset = found.get(place).map_or(-1, |committed| committed.offset.0);
            Some((member.ear.log(place)?, offset))
        });
        let told: Vec<(LogIndex, i64)> = told.collect();
        self.scene.recorder.complete(op, self.scene.now(), outcome, |what| {
            if let What::Committed { offsets, .. } = what {
                *offsets = told;
            }
        });
    }

    async fn commit_if_due(
        &mut self,
        member: &mut Member,
        consumer: &mut GroupConsumer<SimEnv>,
    ) -> Result<(), GroupError> {
        let is_due = member.polls.is_multiple_of(self.spec.group_commit_every.max(1));
        let is_again = self.spec.group_commit_every <= 1 && member.polls.is_multiple_of(COMMITS_AGAIN);
        let is_wanted = member.has_taken || is_again;
        let membership = consumer.membership();
        let Some(generation) = membership.generation.filter(|_| is_due && is_wanted) else { return Ok(()) };
        let place = |partition: &TopicPartition| {
            let Offset(offset) = consumer.position(partition).ok().flatten()?;
            Some((member.ear.log(partition)?, offset))
        };
        let offsets: Vec<(LogIndex, i64)> = consumer.assignment().filter_map(place).collect();
        if self.spec.group_commits == Commits::Auto || offsets.is_empty() {
            return Ok(());
        }
        member.has_taken = false;
        let what = What::Commit { group: member.group.clone(), generation, offsets };
        let op = self.scene.recorder.invoke(self.number, self.scene.now(), what);
        let commit = match consumer.commit_async() {
            Ok(commit) => commit,
            Err(error) => {
                self.scene.recorder.complete(op, self.scene.now(), Outcome::Info, |_| {});
                return Err(error);
            }
        };
        let scene = self.scene.clone();
        let told = async move {
            let outcome = commit.await;
            if outcome.is_ok() {
                scene.reached(ApiKey::OffsetCommit);
            }
            let told = if outcome.is_ok() { Outcome::Ok } else { Outcome::Info };
            scene.recorder.complete(op, scene.now(), told, |_| {});
            outcome
        };
        if self.spec.group_commits == Commits::Sync {
            return told.await;
        }
        let shard = self.env.current_shard();
        drop(self.env.spawn(shard, "workload.commits", async move { drop(told.await) }));
        Ok(())
    }

    /// Notes what is wrong with a membership. Whether it goes on by itself.
    fn group_trouble(&self, error: &GroupError) -> bool {
        let unexpected = || self.strange("unexpected-error", format!("a member of a group: {error}"));
        match error {
            GroupError::Stale { code, .. } => {
                code.iter().for_each(|code| self.scene.met(*code));
                true
            }
            // Whose name is still kept for a process that has crashed waits until that one counts as gone.
            GroupError::Fenced { code: ErrorCode::UnreleasedInstanceId, .. } => false,
            GroupError::Fenced { .. } => {
                // Elsewhere, what an earlier process of the same client had asked may come late.
                if self.scene.recorder.is_quiet(0) {
                    self.strange("fenced-member", error.to_string());
                }
                false
            }
            GroupError::TooManyCommits => true,
            GroupError::NotSubscribed => false,
            GroupError::Consumer(ConsumerError::Client { cause, .. }) => {
                let _judged = self.judge("read as a member", ApiKey::Fetch, Err::<(), _>(cause.clone()), &[]);
                true
            }
            GroupError::Consumer(_) => {
                if !self.loses() {
                    unexpected();
                }
                true
            }
            GroupError::Client(cause) => {
                let _judged = self.judge("be a member", ApiKey::JoinGroup, Err::<(), _>(cause.clone()), &[]);
                true
            }
            _ => {
                unexpected();
                true
            }
        }
    }
}
