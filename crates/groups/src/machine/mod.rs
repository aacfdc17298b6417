//! The groups of one shard: requests to the group that they are about, bounds, timers, the sweep for expired offsets.
//!
//! Invariants
//! - A group is in the map if it was written, has offsets, members or ids that were given; others leave no trace.
//! - The counts are the sums over all groups.
//!
//! Not here: what happens within a group (`classic`, `consumer`), requests of the consumer protocol (`modern`),
//! parking and writing (`quipu-coordinator`).

mod modern;

use core::ops::Bound;
use std::{collections::BTreeMap, sync::Arc};

use quipu_coordinator::{Context, Machine, Record, Token, Turn};
use quipu_env::{Instant, NoProbe, Probe};

use crate::{
    classic::{Classic, Desk, State},
    codec::{self, Said},
    consumer::{Consumer, ConsumerSettings, Topics},
    describe,
    error::GroupError,
    limits,
    offsets::{Kept, Offsets, Since},
    planted::Planted,
    request::{
        Commit, DeleteOffsets, Fetch, Fetched, Join, Joined, Leave, Leaver, Outcome, Reply, Request, TopicPartition,
    },
    settings::Settings,
    timers::{Owner, Timers},
};

/// One group.
pub(crate) struct Group {
    pub(crate) classic: Classic,
    /// If it is of the consumer protocol; nothing is in `classic` then.
    pub(crate) consumer: Option<Consumer>,
    pub(crate) offsets: Offsets,
}

impl Group {
    fn new(id: &Arc<str>, now_ms: i64) -> Self {
        Self { classic: Classic::new(Arc::clone(id), now_ms), consumer: None, offsets: Offsets::default() }
    }

    /// Whether a record of it may be in the log.
    fn is_written(&self) -> bool {
        self.classic.generation > 0 || self.consumer.is_some()
    }

    fn size(&self) -> usize {
        self.classic.size() + self.consumer.as_ref().map_or(0, Consumer::size)
    }

    fn bytes(&self) -> usize {
        self.classic.bytes() + self.consumer.as_ref().map_or(0, Consumer::bytes)
    }

    /// Whether it has no members.
    fn is_empty(&self) -> bool {
        self.classic.state() == State::Empty && self.consumer.as_ref().is_none_or(|consumer| consumer.size() == 0)
    }

    /// Whether anything but its offsets keeps it alive.
    fn is_idle(&self) -> bool {
        self.classic.is_idle() && self.consumer.as_ref().is_none_or(|consumer| consumer.size() == 0)
    }

    /// Whether its members read the topic, as far as that can be told.
    fn is_subscribed(&self, topic: &str) -> bool {
        match &self.consumer {
            Some(consumer) => consumer.subscribed().iter().any(|name| &***name == topic),
            None => self.classic.is_subscribed(topic),
        }
    }
}

/// See the module. `P`: planted bugs (see `quipu_env::Probe`).
pub struct Groups<P = NoProbe> {
    probe: P,
    settings: Settings,
    consumer_settings: Arc<ConsumerSettings>,
    /// None until the broker tells of them.
    topics: Option<Arc<Topics>>,
    groups: BTreeMap<Arc<str>, Group>,
    timers: Timers,
    member_count: usize,
    member_bytes: usize,
    offset_count: usize,
    /// When the sweep goes on, once the log is replayed.
    sweep_at: Option<Instant>,
    /// The last group that this sweep has looked at.
    swept: Option<Arc<str>>,
}

impl Groups {
    /// No groups.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self::with_probe(settings, NoProbe)
    }
}

impl<P: Probe> Groups<P> {
    /// No groups.
    #[must_use]
    pub fn with_probe(settings: Settings, probe: P) -> Self {
        Self {
            probe,
            settings,
            consumer_settings: Arc::default(),
            topics: None,
            groups: BTreeMap::new(),
            timers: Timers::default(),
            member_count: 0,
            member_bytes: 0,
            offset_count: 0,
            sweep_at: None,
            swept: None,
        }
    }

    /// With other settings for groups of the consumer protocol.
    #[must_use]
    pub fn with_consumer_settings(self, consumer_settings: ConsumerSettings) -> Self {
        Self { consumer_settings: Arc::new(consumer_settings), ..self }
    }

    /// Number of groups.
    #[must_use]
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Has the group do something; afterwards the counts are right, and it is gone if nothing is left of it.
    fn with<R>(
        &mut self,
        context: &Context,
        turn: &mut Turn<Reply>,
        id: &Arc<str>,
        act: impl FnOnce(&mut Classic, &mut Desk<'_>) -> R,
    ) -> Option<R> {
        let planted = Planted::of(&self.probe);
        let group = self.groups.get_mut(id)?;
        let before = (group.size(), group.bytes());
        let mut desk = Desk { context, settings: &self.settings, timers: &mut self.timers, turn, planted };
        let result = act(&mut group.classic, &mut desk);
        self.member_count = self.member_count - before.0 + group.size();
        self.member_bytes = self.member_bytes - before.1 + group.bytes();
        self.drop_if_nothing(id);
        Some(result)
    }

    fn drop_if_nothing(&mut self, id: &Arc<str>) {
        let is_nothing = |group: &Group| !group.is_written() && group.is_idle() && group.offsets.is_empty();
        if self.groups.get(id).is_some_and(is_nothing) {
            self.groups.remove(id);
        }
    }

    /// The group, made if need be. Errors: there are too many.
    fn ensure(&mut self, context: &Context, id: &Arc<str>) -> Result<(), GroupError> {
        if self.groups.contains_key(id) {
            return Ok(());
        }
        if self.groups.len() >= limits::GROUPS_MAX {
            return Err(GroupError::Full);
        }
        self.groups.insert(Arc::clone(id), Group::new(id, context.wall.get()));
        Ok(())
    }

    fn join(&mut self, context: &Context, from: Token, join: Join) -> Turn<Reply> {
        let mut turn = Turn::default();
        if let Err(error) = self.check_join(context, &join) {
            turn.reply(from, Reply::Join(Joined::refused(error, Arc::clone(&join.member_id))));
            return turn;
        }
        if self.is_modern(&join.group) {
            let joined = self.join_modern(context, &join, &mut turn);
            turn.reply(from, Reply::Join(joined));
            return turn;
        }
        self.end_modern(&join.group, &mut turn);
        let room = limits::MEMBER_BYTES_MAX.saturating_sub(self.member_bytes);
        let group = Arc::clone(&join.group);
        self.with(context, &mut turn, &group, |group, desk| group.handle_join(desk, from, join, room));
        turn
    }

    fn check_join(&mut self, context: &Context, join: &Join) -> Result<(), GroupError> {
        if join.group.is_empty() {
            return Err(GroupError::InvalidGroupId);
        }
        let Settings { session_timeout_min, session_timeout_max, .. } = self.settings;
        if join.session_timeout < session_timeout_min || join.session_timeout > session_timeout_max {
            return Err(GroupError::InvalidSessionTimeout);
        }
        if !join.member_id.is_empty() && !self.groups.contains_key(&join.group) {
            return Err(GroupError::UnknownMemberId);
        }
        if join.member_id.is_empty() && self.member_count >= limits::MEMBERS_MAX {
            return Err(GroupError::Full);
        }
        self.ensure(context, &join.group)
    }

    fn leave(&mut self, context: &Context, leave: Leave, turn: &mut Turn<Reply>) -> Reply {
        let Leave { group, members } = leave;
        if group.is_empty() {
            return Reply::Leave(Err(GroupError::InvalidGroupId));
        }
        if self.groups.get(&group).is_some_and(|group| group.consumer.is_some()) {
            return Reply::Leave(Ok(self.leave_modern(context, turn, &group, members)));
        }
        if self.groups.contains_key(&group) {
            let left = self.with(context, turn, &group, |group, desk| group.handle_leave(desk, members));
            return Reply::Leave(Ok(left.unwrap_or_default()));
        }
        let unknown = |leaver: Leaver| (leaver, Err(GroupError::UnknownMemberId));
        Reply::Leave(Ok(members.into_iter().map(unknown).collect()))
    }

    fn commit(&mut self, context: &Context, commit: Commit, turn: &mut Turn<Reply>) -> Reply {
        let Commit { member, retention, offsets } = commit;
        if let Err(error) = self.check_commit(context, turn, &member) {
            return Reply::Commit(offsets.iter().map(|_| Err(error)).collect());
        }
        Reply::Commit(self.commit_checked(context, Commit { member, retention, offsets }, turn))
    }

    /// By whoever may.
    fn commit_checked(&mut self, context: &Context, commit: Commit, turn: &mut Turn<Reply>) -> Vec<Outcome> {
        let Commit { member, retention, offsets } = commit;
        let now = context.wall.get();
        let expire_ms = retention.map(|time| now.saturating_add(i64::try_from(time.as_millis()).unwrap_or(i64::MAX)));
        let mut results = Vec::with_capacity(offsets.len());
        let group = self.groups.get_mut(&member.group).expect("it was checked");
        let before = group.offsets.len();
        for (partition, committed) in offsets {
            let is_known = group.offsets.get(&partition).is_some();
            let result = if committed.metadata.encode_utf16().count() > self.settings.offset_metadata_bytes_max {
                Err(GroupError::OffsetMetadataTooLarge)
            } else if !is_known && self.offset_count + group.offsets.len() - before >= limits::OFFSETS_MAX {
                Err(GroupError::Full)
            } else {
                let kept = Kept { committed, commit_ms: now, expire_ms };
                turn.write(codec::offset(&member.group, &partition, Some(&kept)));
                group.offsets.insert(partition, kept);
                Ok(())
            };
            results.push(result);
        }
        self.offset_count = self.offset_count - before + group.offsets.len();
        self.drop_if_nothing(&member.group);
        results
    }

    /// Whether the member may commit; notes its sign of life, and makes a group for whoever commits without being a member.
    fn check_commit(
        &mut self,
        context: &Context,
        turn: &mut Turn<Reply>,
        member: &crate::request::MemberOf,
    ) -> Result<(), GroupError> {
        if !self.groups.contains_key(&member.group) {
            if member.generation >= 0 {
                return Err(GroupError::IllegalGeneration);
            }
            self.ensure(context, &member.group)?;
        }
        let group = self.groups.get_mut(&member.group).expect("it was just seen");
        if let Some(consumer) = &group.consumer {
            let of = (&*member.member_id, member.generation);
            let checked = consumer.check_commit(of, false, &Topics::default(), core::iter::empty());
            return checked.map_err(|error| error.classic());
        }
        if !self.probe.planted("groups.zombie-commit") {
            group.classic.check_commit(member)?;
        }
        let planted = Planted::of(&self.probe);
        let mut desk = Desk { context, settings: &self.settings, timers: &mut self.timers, turn, planted };
        group.classic.note_commit(&mut desk, member);
        Ok(())
    }

    fn fetch(&self, fetch: Fetch) -> Vec<Fetched> {
        let group = self.groups.get(&fetch.group);
        match fetch.partitions {
            Some(partitions) => partitions
                .into_iter()
                .map(|partition| {
                    let kept = group.and_then(|group| group.offsets.get(&partition));
                    Fetched { committed: kept.map(|kept| kept.committed.clone()), partition }
                })
                .collect(),
            None => {
                let all = group.into_iter().flat_map(|group| group.offsets.iter());
                all.map(|(partition, kept)| Fetched { partition, committed: Some(kept.committed.clone()) }).collect()
            }
        }
    }

    fn delete_offsets(&mut self, delete: DeleteOffsets, turn: &mut Turn<Reply>) -> Reply {
        let DeleteOffsets { group: id, partitions } = delete;
        let Some(group) = self.groups.get_mut(&id) else {
            return Reply::DeleteOffsets(Err(GroupError::GroupIdNotFound));
        };
        let is_consumer = group.classic.protocol_type.as_deref() == Some("consumer") || group.consumer.is_some();
        if !group.is_empty() && !is_consumer {
            return Reply::DeleteOffsets(Err(GroupError::NonEmptyGroup));
        }
        let mut results = Vec::with_capacity(partitions.len());
        for partition in partitions {
            results.push(if group.is_subscribed(&partition.topic) {
                Err(GroupError::SubscribedToTopic)
            } else {
                if group.offsets.remove(&partition) {
                    self.offset_count -= 1;
                    turn.write(codec::offset(&id, &partition, None));
                }
                Ok(())
            });
        }
        self.drop_if_nothing(&id);
        Reply::DeleteOffsets(Ok(results))
    }

    fn delete(&mut self, id: &Arc<str>, turn: &mut Turn<Reply>) -> Result<(), GroupError> {
        let group = self.groups.get(id).ok_or(GroupError::GroupIdNotFound)?;
        if !group.is_empty() {
            return Err(GroupError::NonEmptyGroup);
        }
        self.erase(id, turn);
        Ok(())
    }

    /// A group without members goes, with all its offsets.
    fn erase(&mut self, id: &Arc<str>, turn: &mut Turn<Reply>) {
        let Some(group) = self.groups.remove(id) else { return };
        self.member_count -= group.size();
        self.member_bytes -= group.bytes();
        self.offset_count -= group.offsets.len();
        for (partition, _) in group.offsets.iter() {
            turn.write(codec::offset(id, &partition, None));
        }
        if group.classic.generation > 0 {
            turn.write(codec::group(id, None));
        }
        if let Some(consumer) = &group.consumer {
            consumer.erase(turn);
        }
    }

    fn forget_topics(&mut self, topics: &[Arc<str>], turn: &mut Turn<Reply>) {
        let ids: Vec<Arc<str>> = self.groups.keys().cloned().collect();
        for id in ids {
            let group = self.groups.get_mut(&id).expect("it was just seen");
            let gone: Vec<TopicPartition> = topics.iter().flat_map(|topic| group.offsets.of_topic(topic)).collect();
            for partition in gone {
                group.offsets.remove(&partition);
                self.offset_count -= 1;
                turn.write(codec::offset(&id, &partition, None));
            }
            self.drop_if_nothing(&id);
        }
    }

    /// Looks at some groups for expired offsets, and at the next ones soon after.
    fn sweep(&mut self, context: &Context, turn: &mut Turn<Reply>) {
        let from = self.swept.take().map_or(Bound::Unbounded, Bound::Excluded);
        let ids = self.groups.range::<Arc<str>, _>((from, Bound::Unbounded)).map(|(id, _)| Arc::clone(id));
        let ids: Vec<Arc<str>> = ids.take(limits::SWEEP_GROUPS_MAX).collect();
        let is_last = ids.len() < limits::SWEEP_GROUPS_MAX;
        for id in &ids {
            self.sweep_group(context, id, turn);
            if turn.records.len() >= limits::SWEEP_RECORDS_MAX {
                self.swept = Some(Arc::clone(id));
                break;
            }
        }
        if self.swept.is_none() && !is_last {
            self.swept = ids.last().cloned();
        }
        let pause = if self.swept.is_some() { SWEEP_PAUSE } else { self.settings.offsets_retention_check };
        self.sweep_at = Some(context.now + pause);
    }

    fn sweep_group(&mut self, context: &Context, id: &Arc<str>, turn: &mut Turn<Reply>) {
        let Some(group) = self.groups.get_mut(id) else { return };
        let classic = &group.classic;
        let is_empty = group.is_empty();
        let consumed = group.consumer.as_ref().map(Consumer::subscribed);
        let since = match (&classic.protocol_type, is_empty) {
            (Some(_), true) if classic.state_since_ms() >= 0 => Since::Empty(classic.state_since_ms()),
            _ => Since::Commit,
        };
        let ignores_members = self.probe.planted("groups.live-offsets-expired");
        let is_read = |topic: &str| match classic.subscribed() {
            _ if is_empty || ignores_members => false,
            _ if consumed.is_some() => consumed.iter().flatten().any(|name| &***name == topic),
            Some(topics) => classic.state() != State::Stable || topics.contains(topic),
            None => true,
        };
        let is_expired = |(partition, kept): &(TopicPartition, &Kept)| {
            !is_read(&partition.topic) && kept.is_expired(context.wall, since, self.settings.offsets_retention)
        };
        let expired: Vec<TopicPartition> =
            group.offsets.iter().filter(is_expired).map(|(partition, _)| partition).collect();
        for partition in &expired {
            group.offsets.remove(partition);
            turn.write(codec::offset(id, partition, None));
        }
        self.offset_count -= expired.len();
        if !expired.is_empty() {
            tracing::info!(group = %id, offsets = expired.len(), "committed offsets have expired");
        }
        if group.offsets.is_empty() && group.is_idle() {
            self.erase(id, turn);
        }
    }

    fn ring(&mut self, context: &Context, turn: &mut Turn<Reply>, entry: (Instant, Arc<str>, Owner)) {
        let (at, id, owner) = entry;
        if let Owner::ConsumerSession(member_id) | Owner::Revocation(member_id) | Owner::Step(member_id) = &owner {
            self.ring_modern(context, turn, (at, &id, &owner), member_id);
            return;
        }
        self.with(context, turn, &id, |group, desk| match &owner {
            Owner::Join => group.on_join_alarm(desk, at),
            Owner::Sync => group.on_sync_alarm(desk, at),
            Owner::Session(member_id) => group.on_session_alarm(desk, at, member_id),
            Owner::Pending(member_id) => group.on_pending_alarm(desk, at, member_id),
            Owner::ConsumerSession(_) | Owner::Revocation(_) | Owner::Step(_) => {}
        });
    }

    fn replay_said(&mut self, said: Said) {
        match said {
            Said::Offset { group: id, partition, kept } => {
                let group = self.groups.entry(Arc::clone(&id)).or_insert_with(|| Group::new(&id, -1));
                match kept {
                    Some(kept) => group.offsets.insert(partition, kept),
                    None => drop(group.offsets.remove(&partition)),
                }
                self.drop_if_nothing(&id);
            }
            Said::Group { group: id, value } => {
                let group = self.groups.entry(Arc::clone(&id)).or_insert_with(|| Group::new(&id, -1));
                group.classic = match &value {
                    Some(value) => {
                        group.consumer = None;
                        Classic::restore(Arc::clone(&id), value)
                    }
                    None => Classic::new(Arc::clone(&id), -1),
                };
                self.drop_if_nothing(&id);
            }
            Said::Consumer { group, said } => self.replay_modern(&group, said),
            Said::Other => {}
        }
    }
}

/// Between two steps of one sweep: others come in between.
const SWEEP_PAUSE: core::time::Duration = core::time::Duration::from_millis(10);

impl<P: Probe> Machine for Groups<P> {
    type Request = Request;
    type Reply = Reply;

    fn replay(&mut self, record: &Record) {
        match codec::decode(record) {
            Ok(said) => self.replay_said(said),
            Err(error) => tracing::warn!(%error, "a record of __consumer_offsets is not understood, and passed over"),
        }
    }

    fn handle_loaded(&mut self, context: &Context) -> Turn<Reply> {
        let mut turn = Turn::default();
        self.member_count = self.groups.values().map(Group::size).sum();
        self.member_bytes = self.groups.values().map(Group::bytes).sum();
        self.offset_count = self.groups.values().map(|group| group.offsets.len()).sum();
        self.sweep_at = Some(context.now + self.settings.offsets_retention_check);
        let ids: Vec<Arc<str>> = self.groups.keys().cloned().collect();
        for id in ids {
            self.with(context, &mut turn, &id, Classic::handle_loaded);
            self.with_modern(context, &mut turn, &id, Consumer::settle);
        }
        turn
    }

    fn handle(&mut self, context: &Context, from: Token, request: Request) -> Turn<Reply> {
        let mut turn = Turn::default();
        let reply = match request {
            Request::Join(join) => return self.join(context, from, join),
            Request::Sync(sync) if self.is_modern(&sync.member.group) => {
                let id = Arc::clone(&sync.member.group);
                let synced =
                    self.with_modern(context, &mut turn, &id, |group, hall| group.handle_classic_sync(hall, &sync));
                Reply::Sync(synced.unwrap_or(Err(GroupError::UnknownMemberId)))
            }
            Request::Sync(sync) => {
                let id = Arc::clone(&sync.member.group);
                match self.with(context, &mut turn, &id, |group, desk| group.handle_sync(desk, from, sync)) {
                    Some(()) => return turn,
                    None => Reply::Sync(Err(GroupError::UnknownMemberId)),
                }
            }
            Request::Heartbeat(of) if self.is_modern(&of.group) => {
                let beat = self.with_modern(context, &mut turn, &of.group, |group, hall| {
                    group.handle_classic_heartbeat(hall, &of)
                });
                Reply::Heartbeat(beat.unwrap_or(Err(GroupError::UnknownMemberId)))
            }
            Request::Heartbeat(member) => {
                let id = Arc::clone(&member.group);
                let beat = self.with(context, &mut turn, &id, |group, desk| group.handle_heartbeat(desk, &member));
                Reply::Heartbeat(beat.unwrap_or(Err(GroupError::UnknownMemberId)))
            }
            Request::Leave(leave) => self.leave(context, leave, &mut turn),
            Request::Commit(commit) => self.commit(context, commit, &mut turn),
            Request::Fetch(fetch) => Reply::Fetch(self.fetch(fetch)),
            Request::DeleteOffsets(delete) => self.delete_offsets(delete, &mut turn),
            Request::List(list) => Reply::List(describe::list(&self.groups, &list)),
            Request::Describe(id) => Reply::Describe(describe::describe(self.groups.get(&id))),
            Request::Delete(id) => Reply::Delete(self.delete(&id, &mut turn)),
            Request::Consumer(request) => Reply::Consumer(self.handle_modern(context, request, &mut turn)),
            Request::TopicsDeleted(topics) => {
                self.forget_topics(&topics, &mut turn);
                Reply::TopicsDeleted
            }
        };
        turn.reply(from, reply);
        turn
    }

    fn on_deadline(&mut self, context: &Context) -> Turn<Reply> {
        let mut turn = Turn::default();
        while let Some(entry) = self.timers.pop(context.now) {
            self.ring(context, &mut turn, entry);
        }
        if self.sweep_at.is_some_and(|at| at <= context.now) {
            self.sweep(context, &mut turn);
        }
        turn
    }

    fn planted(&self, name: &'static str) -> bool {
        self.probe.planted(name)
    }

    fn next_deadline(&self) -> Option<Instant> {
        [self.timers.next(), self.sweep_at].into_iter().flatten().min()
    }
}
