//! Members of the classic protocol under random schedules: members hang, leave, start anew and commit late, writes are lost with their
//! coordinator, offsets are deleted. What holds all the time:
//!
//! - a partition has one owner in a generation;
//! - no commit of a generation that is over is taken;
//! - a commit that was acknowledged is there, until somebody deletes it or nobody has been in the group;
//! - who comes in time is known, and a static member under the id that it was given last.
//!
//! Left alone, the group is in one generation in which all is read, within a bounded time, though one of its members never joins again.

use core::time::Duration;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use proptest::prelude::*;
use quipu_base::{LeaderEpoch, Offset, PartitionIndex, Timestamp, TopicId};
use quipu_coordinator::{Context, Effect, Machine as _, Record, Shard, Token, WriteId};
use quipu_env::Instant;

use super::planted::{Planted, is_found};
use crate::{
    GroupError, Groups, Settings,
    request::{
        Commit, Committed, DeleteOffsets, Fetch, Join, Joined, Leave, Leaver, MemberOf, Protocol, Reply, Request, Sync,
        TopicPartition,
    },
    subscription,
};

const MEMBERS: usize = 4;
/// The one with an instance id.
const STATIC: usize = 0;
const PARTITIONS: i32 = 5;
const SESSION: Duration = Duration::from_secs(10);
const REBALANCE: Duration = Duration::from_secs(30);

#[derive(Clone, Debug)]
enum Step {
    /// It does what is next for it: join, ask for its assignment, or nothing.
    Act(usize),
    Beat(usize),
    Commit(usize),
    /// It commits as of the generation before its own.
    CommitLate(usize),
    Leave(usize),
    /// It starts anew, and knows nothing.
    Restart(usize),
    /// So many of the writes under way are kept.
    Keep(usize),
    /// Another coordinator has the log, without what was under way.
    Failover,
    Delete(i32),
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let member = || 0..MEMBERS;
    let step = prop_oneof![
        20 => member().prop_map(Step::Act),
        8 => member().prop_map(Step::Beat),
        4 => member().prop_map(Step::Commit),
        2 => member().prop_map(Step::CommitLate),
        1 => member().prop_map(Step::Leave),
        1 => member().prop_map(Step::Restart),
        6 => (1_usize..4).prop_map(Step::Keep),
        1 => Just(Step::Failover),
        1 => (0..PARTITIONS).prop_map(Step::Delete),
        3 => (1_u64..8).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..150)
}

#[derive(Clone, Debug)]
enum Phase {
    Out,
    Joining(Token),
    Joined(Joined),
    Syncing(Token),
    Reads(BTreeSet<i32>),
}

struct Client {
    id: Arc<str>,
    generation: i32,
    phase: Phase,
    /// The last time that the coordinator has heard of it in its generation, and said so.
    heard: Instant,
    asked: Instant,
    /// This coordinator told it its id and generation: another may know it by the one before only.
    is_known: bool,
    is_stuck: bool,
}

struct World {
    planted: Planted,
    shard: Shard<Groups<Planted>>,
    clients: Vec<Client>,
    log: Vec<Record>,
    under_way: BTreeMap<WriteId, Vec<Record>>,
    answers: BTreeMap<Token, Reply>,
    asked: u64,
    fresh: u8,
    now: Instant,
    /// Who was given what, by generation.
    owners: BTreeMap<(i32, i32), Arc<str>>,
    /// Commits on their way.
    commits: BTreeMap<Token, (i32, i64, i32)>,
    deletes: BTreeMap<Token, (i32, i64)>,
    /// What was acknowledged last.
    acknowledged: BTreeMap<i32, i64>,
    /// What must not be seen again.
    deleted: BTreeMap<i32, i64>,
    offset: i64,
    /// Everybody has had the time to come together, and comes in time.
    is_calm: bool,
}

impl World {
    fn new(planted: Planted) -> Self {
        let client = |_| Client {
            id: "".into(),
            generation: -1,
            phase: Phase::Out,
            heard: Instant::ZERO,
            asked: Instant::ZERO,
            is_known: false,
            is_stuck: false,
        };
        let groups = Groups::with_probe(settings(), planted);
        let context = Context { now: Instant::ZERO, wall: Timestamp(0), fresh: [0; 16] };
        Self {
            planted,
            shard: Shard::new(groups, &context),
            clients: (0..MEMBERS).map(client).collect(),
            log: Vec::new(),
            under_way: BTreeMap::new(),
            answers: BTreeMap::new(),
            asked: 0,
            fresh: 0,
            now: Instant::ZERO,
            owners: BTreeMap::new(),
            commits: BTreeMap::new(),
            deletes: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            deleted: BTreeMap::new(),
            offset: 0,
            is_calm: false,
        }
    }

    fn context(&mut self) -> Context {
        self.fresh = self.fresh.wrapping_add(1);
        let wall = i64::try_from(self.now.as_nanos() / 1_000_000).unwrap();
        Context { now: self.now, wall: Timestamp(wall), fresh: [self.fresh; 16] }
    }

    fn ask(&mut self, request: Request) -> Token {
        self.asked += 1;
        let token = Token(self.asked);
        let context = self.context();
        self.shard.handle(&context, token, request);
        self.carry_out();
        token
    }

    fn carry_out(&mut self) {
        for effect in self.shard.take_effects() {
            match effect {
                Effect::Write { id, records } => drop(self.under_way.insert(id, records)),
                Effect::Reply { to, reply: Ok(reply) } => drop(self.answers.insert(to, reply)),
                Effect::Reply { to, reply: Err(_) } => self.give_up(to),
            }
        }
    }

    /// Whoever waits for it asks again.
    fn give_up(&mut self, token: Token) {
        for client in &mut self.clients {
            let waits = matches!(client.phase, Phase::Joining(it) | Phase::Syncing(it) if it == token);
            if waits {
                (client.phase, client.is_known) = (Phase::Out, false);
            }
        }
    }

    fn keep(&mut self, count: usize) {
        for _ in 0..count {
            let Some((id, records)) = self.under_way.pop_first() else { return };
            self.log.extend(records);
            self.shard.handle_written(id, true);
            self.carry_out();
        }
    }

    fn failover(&mut self) {
        self.under_way.clear();
        self.answers.clear();
        (self.commits, self.deletes) = (BTreeMap::new(), BTreeMap::new());
        let mut groups = Groups::with_probe(settings(), self.planted);
        self.log.iter().for_each(|record| groups.replay(record));
        let context = self.context();
        self.shard = Shard::new(groups, &context);
        self.carry_out();
        for client in &mut self.clients {
            // Its sessions begin anew there.
            if client.heard > Instant::ZERO {
                client.heard = self.now;
            }
            client.is_known = false;
            if matches!(client.phase, Phase::Joining(_) | Phase::Syncing(_)) {
                client.phase = Phase::Out;
            }
        }
    }

    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.shard.next_deadline().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            let context = self.context();
            self.shard.on_deadline(&context);
            self.carry_out();
        }
        self.now = end;
    }

    fn of(&self, at: usize, back: i32) -> MemberOf {
        let client = &self.clients[at];
        MemberOf {
            group: "g".into(),
            member_id: Arc::clone(&client.id),
            instance_id: instance(at),
            generation: client.generation - back,
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Act(at) => self.act(*at),
            Step::Beat(at) => self.beat(*at),
            Step::Commit(at) => self.commit(*at, 0),
            Step::CommitLate(at) => self.commit(*at, 1),
            Step::Leave(at) => self.leave(*at),
            Step::Restart(at) => self.restart(*at),
            Step::Keep(count) => self.keep(*count),
            Step::Failover => self.failover(),
            Step::Delete(partition) => self.delete(*partition),
            Step::Wait(seconds) => self.wait(Duration::from_secs(*seconds)),
        }
        self.hear();
        self.check();
    }

    fn act(&mut self, at: usize) {
        if matches!(self.clients[at].phase, Phase::Out | Phase::Joined(_)) {
            self.clients[at].asked = self.now;
        }
        match self.clients[at].phase.clone() {
            Phase::Out if !self.clients[at].is_stuck => {
                let id = Arc::clone(&self.clients[at].id);
                let token = self.ask(Request::Join(join(at, id)));
                self.clients[at].phase = Phase::Joining(token);
            }
            Phase::Joined(joined) => {
                let sync = Sync {
                    member: self.of(at, 0),
                    protocol_type: None,
                    protocol: None,
                    assignments: assignments(&joined),
                };
                let token = self.ask(Request::Sync(sync));
                self.clients[at].phase = Phase::Syncing(token);
            }
            Phase::Out | Phase::Joining(_) | Phase::Syncing(_) | Phase::Reads(_) => {}
        }
    }

    fn beat(&mut self, at: usize) {
        if !matches!(self.clients[at].phase, Phase::Reads(_)) {
            return;
        }
        let token = self.ask(Request::Heartbeat(self.of(at, 0)));
        // Nothing is written for a heartbeat, but it may wait for what is.
        self.keep(usize::MAX);
        let Some(Reply::Heartbeat(result)) = self.answers.remove(&token) else { panic!("a heartbeat is answered") };
        let client = &mut self.clients[at];
        match result {
            Ok(()) => client.heard = self.now,
            Err(GroupError::RebalanceInProgress) => client.phase = Phase::Out,
            Err(error) => {
                assert!(
                    !(client.is_known && error == GroupError::FencedInstanceId),
                    "a static member is fenced, and nobody else bears its name"
                );
                let is_over = error == GroupError::IllegalGeneration;
                assert!(
                    !self.is_calm || client.is_stuck || is_over,
                    "a member that came in time is not known any more"
                );
                client.lose();
            }
        }
    }

    fn commit(&mut self, at: usize, back: i32) {
        let Phase::Reads(partitions) = &self.clients[at].phase else { return };
        let Some(partition) = partitions.first().copied() else { return };
        self.offset += 1;
        let (member, offset) = (self.of(at, back), self.offset);
        let generation = member.generation;
        let committed = Committed {
            offset: Offset(offset),
            leader_epoch: LeaderEpoch::NONE,
            metadata: String::new(),
            topic_id: TopicId::ZERO,
        };
        let commit = Commit { member, retention: None, offsets: vec![(place(partition), committed)] };
        let newest = self.owners.keys().next_back().map_or(0, |(newest, _)| *newest);
        let token = self.ask(Request::Commit(commit));
        self.commits.insert(token, (partition, offset, if generation < newest { -1 } else { generation }));
    }

    fn leave(&mut self, at: usize) {
        let leaver = Leaver { member_id: Arc::clone(&self.clients[at].id), instance_id: instance(at), reason: None };
        if !leaver.member_id.is_empty() {
            self.ask(Request::Leave(Leave { group: "g".into(), members: vec![leaver] }));
        }
        self.clients[at].lose();
    }

    fn restart(&mut self, at: usize) {
        self.clients[at].lose();
    }

    fn delete(&mut self, partition: i32) {
        let delete = DeleteOffsets { group: "g".into(), partitions: vec![place(partition)] };
        let offset = self.offset;
        let token = self.ask(Request::DeleteOffsets(delete));
        self.deletes.insert(token, (partition, offset));
    }

    /// Takes in the answers that have come.
    fn hear(&mut self) {
        for at in 0..MEMBERS {
            match self.clients[at].phase.clone() {
                Phase::Joining(token) => {
                    if let Some(Reply::Join(joined)) = self.answers.remove(&token) {
                        self.joined(at, joined);
                    }
                }
                Phase::Syncing(token) => {
                    if let Some(Reply::Sync(result)) = self.answers.remove(&token) {
                        self.synced(at, result.map(|synced| synced.assignment));
                    }
                }
                Phase::Out | Phase::Joined(_) | Phase::Reads(_) => {}
            }
        }
        let answered: Vec<(Token, Reply)> = core::mem::take(&mut self.answers).into_iter().collect();
        for (token, reply) in answered {
            match reply {
                Reply::Commit(results) => self.committed(token, results[0]),
                Reply::DeleteOffsets(Ok(results)) => {
                    if let (Some((partition, offset)), Ok(())) = (self.deletes.remove(&token), results[0]) {
                        self.acknowledged.retain(|known, acknowledged| *known != partition || *acknowledged > offset);
                        self.deleted.insert(partition, offset);
                    }
                }
                _ => {}
            }
        }
    }

    fn joined(&mut self, at: usize, joined: Joined) {
        let client = &mut self.clients[at];
        match joined.error {
            None => {
                client.heard = client.asked;
                (client.id, client.generation) = (Arc::clone(&joined.member_id), joined.generation);
                client.phase = Phase::Joined(joined);
                client.is_known = true;
            }
            Some(GroupError::MemberIdRequired) => {
                client.id = joined.member_id;
                client.phase = Phase::Out;
            }
            Some(GroupError::RebalanceInProgress) => (client.heard, client.phase) = (client.asked, Phase::Out),
            Some(error) => {
                assert!(
                    !(client.is_known && error == GroupError::FencedInstanceId),
                    "a static member is fenced, and nobody else bears its name"
                );
                client.lose();
            }
        }
    }

    fn synced(&mut self, at: usize, result: Result<bytes::Bytes, GroupError>) {
        let client = &mut self.clients[at];
        match result {
            Ok(assignment) => {
                client.heard = client.asked;
                let named = subscription::assigned(&assignment);
                let partitions: BTreeSet<i32> = named.into_iter().flat_map(|(_, partitions)| partitions).collect();
                for partition in &partitions {
                    let owner =
                        self.owners.entry((client.generation, *partition)).or_insert_with(|| Arc::clone(&client.id));
                    let is_same =
                        *owner == client.id || at == STATIC && owner.starts_with("i-") && client.id.starts_with("i-");
                    assert!(is_same, "two have partition {partition} in generation {}", client.generation);
                }
                client.phase = Phase::Reads(partitions);
            }
            Err(GroupError::RebalanceInProgress) => client.phase = Phase::Out,
            Err(error) => {
                assert!(
                    !(client.is_known && error == GroupError::FencedInstanceId),
                    "a static member is fenced, and nobody else bears its name"
                );
                client.lose();
            }
        }
    }

    fn committed(&mut self, token: Token, result: Result<(), GroupError>) {
        let Some((partition, offset, generation)) = self.commits.remove(&token) else { return };
        if result.is_ok() {
            assert!(generation >= 0, "a commit of a generation that is over is taken");
            let known = self.acknowledged.entry(partition).or_insert(offset);
            *known = offset.max(*known);
        }
    }

    /// What is committed is what was acknowledged, or is on its way.
    fn check(&mut self) {
        if self.clients.iter().all(|client| self.now >= client.heard + SESSION) {
            // Nobody may be in the group any more: what was committed expires, and the group begins anew.
            self.acknowledged.clear();
            self.owners.clear();
        }
        // Only what nobody can lose any more counts.
        let mut groups = Groups::with_probe(settings(), Planted(None));
        self.log.iter().for_each(|record| groups.replay(record));
        let now = Context { now: self.now, wall: Timestamp(0), fresh: [0; 16] };
        let fetch = Fetch { group: "g".into(), partitions: Some((0..PARTITIONS).map(place).collect()) };
        let turn = groups.handle(&now, Token(1), Request::Fetch(fetch));
        let Some((_, Reply::Fetch(fetched))) = turn.replies.into_iter().next() else { panic!("offsets are told") };
        for fetched in fetched {
            let partition = fetched.partition.partition.get();
            let found = fetched.committed.map(|committed| committed.offset.get());
            let least = self.acknowledged.get(&partition).copied();
            assert!(found >= least, "partition {partition}: {least:?} was acknowledged, and {found:?} is there");
            let deleted = self.deleted.get(&partition).copied();
            let is_back = found.is_some() && found <= deleted;
            assert!(!is_back, "partition {partition}: {found:?} is back, and was deleted");
        }
    }

    /// Left alone, for as long as a rebalance and a session may take; one of them sends heartbeats and does not join again.
    fn settle(&mut self, stuck: usize) {
        self.clients[stuck].is_stuck = true;
        self.rounds(80);
        self.check_settled(stuck);
    }

    fn rounds(&mut self, count: usize) {
        for round in 0..count {
            self.is_calm = round >= 60;
            for at in 0..MEMBERS {
                self.act(at);
                self.keep(usize::MAX);
                self.hear();
                if self.clients[at].is_stuck && !self.clients[at].id.is_empty() {
                    self.ask(Request::Heartbeat(self.of(at, 0)));
                    self.keep(usize::MAX);
                    self.hear();
                } else {
                    self.beat(at);
                }
                self.check();
            }
            self.wait(Duration::from_secs(1));
        }
    }

    fn check_settled(&self, stuck: usize) {
        let mut read: BTreeSet<i32> = BTreeSet::new();
        let mut generations = BTreeSet::new();
        for (at, client) in self.clients.iter().enumerate().filter(|(at, _)| *at != stuck) {
            let Phase::Reads(partitions) = &client.phase else {
                panic!("member {at} is not back after {}: {:?}", REBALANCE.as_secs(), client.phase)
            };
            generations.insert(client.generation);
            read.extend(partitions);
        }
        assert_eq!(generations.len(), 1, "they are not of one generation");
        // What the one that is stuck was given last is its own, while its heartbeats are answered. It may not know what that is: its
        // answer was lost, or told of a rebalance that was lost with its coordinator.
        let stuck = &self.clients[stuck];
        match &stuck.phase {
            _ if !generations.contains(&stuck.generation) => {}
            Phase::Reads(partitions) => read.extend(partitions),
            _ if !stuck.is_known => return,
            _ => {}
        }
        assert_eq!(read.len(), usize::try_from(PARTITIONS).unwrap(), "not everything is read");
    }
}

impl Client {
    fn lose(&mut self) {
        (self.id, self.generation, self.phase, self.heard) = ("".into(), -1, Phase::Out, Instant::ZERO);
    }
}

/// Offsets expire soon, but not while somebody may be in the group: its members are there all the time, or in the log.
fn settings() -> Settings {
    Settings {
        initial_rebalance_delay: Duration::from_secs(1),
        offsets_retention: Duration::from_secs(20),
        offsets_retention_check: Duration::from_secs(5),
        ..Settings::default()
    }
}

fn instance(at: usize) -> Option<Arc<str>> {
    (at == STATIC).then(|| "i".into())
}

fn place(partition: i32) -> TopicPartition {
    TopicPartition { topic: "t".into(), partition: PartitionIndex(partition) }
}

fn join(at: usize, member_id: Arc<str>) -> Join {
    Join {
        group: "g".into(),
        member_id,
        instance_id: instance(at),
        client_id: format!("c{at}"),
        client_host: "h".to_owned(),
        session_timeout: SESSION,
        rebalance_timeout: REBALANCE,
        protocol_type: "consumer".to_owned(),
        protocols: vec![Protocol {
            name: "range".to_owned(),
            metadata: bytes::Bytes::from_static(b"\0\0\0\0\0\x01\0\x01t\xff\xff\xff\xff"),
        }],
        reason: None,
        takes_member_id: true,
        skips_assignment: true,
    }
}

/// The leader's, one partition after the other; nothing from the others.
fn assignments(joined: &Joined) -> Vec<(Arc<str>, bytes::Bytes)> {
    let count = joined.members.len().max(1);
    let part = |index: usize| (0..PARTITIONS).filter(|at| usize::try_from(*at).unwrap() % count == index).collect();
    let members = joined.members.iter().enumerate();
    let of = |(index, member): (usize, &crate::request::JoinedMember)| {
        let named = vec![("t".to_owned(), part(index))];
        (Arc::clone(&member.member_id), subscription::assignment(0, &named))
    };
    members.map(of).collect()
}

/// `leaves`: the one that does not join again leaves the others, once they have come together.
fn run(planted: Planted, steps: &[Step], (stuck, leaves): (usize, bool)) {
    let mut world = World::new(planted);
    for step in steps {
        world.step(step);
    }
    if leaves {
        world.rounds(80);
        world.step(&Step::Leave(stuck));
    }
    world.settle(stuck);
}

fn schedules() -> impl Strategy<Value = (Vec<Step>, (usize, bool))> {
    (steps(), (0..MEMBERS, any::<bool>()))
}

proptest! {
    #[test]
    fn generations_have_one_owner_and_offsets_stay((steps, stuck) in schedules()) {
        run(Planted(None), &steps, stuck);
    }
}

#[test]
fn planted_bugs_are_found() {
    let bugs: [&'static str; 9] = [
        "groups.acknowledged-unwritten",
        "groups.zombie-commit",
        "groups.generation-not-bumped",
        "groups.wake-up-lost",
        "groups.rebalance-unbounded",
        "groups.static-fenced-wrongly",
        "groups.live-offsets-expired",
        "groups.follower-assigns",
        "groups.session-not-extended",
    ];
    let is_missed =
        |bug: &&'static str| !is_found(&schedules(), 400, |(steps, stuck)| run(Planted(Some(bug)), &steps, stuck));
    let missed: Vec<&str> = bugs.into_iter().filter(is_missed).collect();
    assert!(missed.is_empty(), "not found: {missed:?}");
}
