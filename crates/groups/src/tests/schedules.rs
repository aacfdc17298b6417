//! Members of the consumer protocol under random schedules: answers are lost, members hang, leave, are dropped and come back, topics
//! grow, the coordinator moves. No partition is read by two members at once, and all is read once the group is left alone.

use core::time::Duration;
use std::{collections::BTreeSet, sync::Arc};

use proptest::prelude::*;
use quipu_base::{LeaderEpoch, Offset, PartitionIndex, Timestamp, TopicId};
use quipu_coordinator::{Context, Machine as _, Record, Token, Turn};
use quipu_env::Instant;

use super::{
    planted::{Planted, is_found},
    script::modern::topics,
};
use crate::{
    Groups, Settings,
    consumer::{
        ConsumerError, ConsumerReply, ConsumerRequest,
        request::{ConsumerBeat, ConsumerDescribed, ConsumerHeartbeat, Partitions},
    },
    request::{Commit, Committed, MemberOf, Reply, Request, TopicPartition},
};

#[derive(Clone, Debug)]
enum Step {
    /// A heartbeat; whether the answer is lost.
    Beat(usize, bool),
    /// It does what it was told.
    Obey(usize),
    Leave(usize),
    /// It wants these of the two topics from its next heartbeat on.
    Want(usize, u8),
    Wait(u64),
    Topics(u8, u8),
    Reload,
    /// It commits for a partition that is another's by now.
    Zombie(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let member = 0..MEMBERS;
    let step = prop_oneof![
        8 => (member.clone(), any::<bool>()).prop_map(|(member, lost)| Step::Beat(member, lost)),
        8 => member.clone().prop_map(|member| Step::Beat(member, false)),
        8 => member.clone().prop_map(Step::Obey),
        1 => member.clone().prop_map(Step::Leave),
        2 => (member, 0_u8..4).prop_map(|(member, mask)| Step::Want(member, mask)),
        1 => (1_u64..30).prop_map(Step::Wait),
        1 => (0_u8..5, 0_u8..5).prop_map(|(t, u)| Step::Topics(t, u)),
        1 => Just(Step::Reload),
        2 => (0..MEMBERS).prop_map(Step::Zombie),
    ];
    prop::collection::vec(step, 1..120)
}

const MEMBERS: usize = 4;
const REBALANCE: Duration = Duration::from_secs(40);

/// What a client does, as a client has to.
struct Client {
    id: Arc<str>,
    epoch: i32,
    wants: Vec<Arc<str>>,
    reads: Partitions,
    told: Option<Partitions>,
    /// The last answer was lost: it says everything again.
    is_unsure: bool,
}

impl Client {
    fn give_up(&mut self) {
        self.epoch = 0;
        self.reads.clear();
        self.told = None;
    }
}

struct World {
    planted: Planted,
    groups: Groups<Planted>,
    clients: Vec<Client>,
    log: Vec<Record>,
    now: Instant,
    version: i64,
    counts: (u8, u8),
    /// The highest epoch seen.
    epoch: i32,
}

impl World {
    fn new(planted: Planted) -> Self {
        let client = |at: usize| Client {
            id: format!("m{at}").into(),
            epoch: 0,
            wants: vec!["t".into(), "u".into()],
            reads: Partitions::new(),
            told: None,
            is_unsure: false,
        };
        let mut world = Self {
            planted,
            groups: Groups::with_probe(Settings::default(), planted),
            clients: (0..MEMBERS).map(client).collect(),
            log: Vec::new(),
            now: Instant::ZERO,
            version: 0,
            counts: (3, 2),
            epoch: 0,
        };
        world.reload();
        world
    }

    fn context(&self) -> Context {
        let wall = i64::try_from(self.now.as_nanos() / 1_000_000).unwrap();
        Context { now: self.now, wall: Timestamp(wall), fresh: [1; 16] }
    }

    fn take(&mut self, turn: Turn<Reply>) -> Option<ConsumerReply> {
        self.log.extend(turn.records);
        match turn.replies.into_iter().next() {
            Some((_, Reply::Consumer(reply))) => Some(reply),
            None => None,
            other => panic!("{other:?}"),
        }
    }

    fn ask(&mut self, request: ConsumerRequest) -> ConsumerReply {
        let turn = self.groups.handle(&self.context(), Token(1), Request::Consumer(request));
        self.take(turn).unwrap()
    }

    fn reload(&mut self) {
        self.groups = Groups::with_probe(Settings::default(), self.planted);
        for record in &self.log {
            self.groups.replay(record);
        }
        let turn = self.groups.handle_loaded(&self.context());
        assert!(turn.records.is_empty());
        self.tell_topics();
    }

    fn tell_topics(&mut self) {
        self.version += 1;
        let (t, u) = (self.counts.0.to_string(), self.counts.1.to_string());
        let mut pairs = vec![("t", t.as_str()), ("u", u.as_str())];
        pairs.retain(|(_, count)| *count != "0");
        self.ask(topics(self.version, &pairs));
    }

    fn describe(&mut self) -> Option<ConsumerDescribed> {
        match self.ask(ConsumerRequest::Describe("g".into())) {
            ConsumerReply::Describe(described) => described.ok(),
            other => panic!("{other:?}"),
        }
    }

    fn heartbeat(&mut self, at: usize, epoch: i32) -> Result<ConsumerBeat, ConsumerError> {
        let client = &self.clients[at];
        let is_full = epoch == 0 || client.is_unsure;
        let beat = ConsumerHeartbeat {
            group: "g".into(),
            member_id: Arc::clone(&client.id),
            member_epoch: epoch,
            instance_id: None,
            rack_id: None,
            rebalance_timeout: is_full.then_some(REBALANCE),
            subscribed_names: Some(client.wants.clone()),
            subscribed_regex: None,
            assignor: None,
            owned: Some(client.reads.clone()),
            client_id: "c".to_owned(),
            client_host: "h".to_owned(),
            makes_id: true,
        };
        match self.ask(ConsumerRequest::Heartbeat(beat)) {
            ConsumerReply::Heartbeat(beat) => beat,
            other => panic!("{other:?}"),
        }
    }

    fn beat(&mut self, at: usize, is_lost: bool) {
        let result = self.heartbeat(at, self.clients[at].epoch);
        let client = &mut self.clients[at];
        match result {
            Ok(_) if is_lost => {
                // What it was told before may not hold any more: it waits for the next answer.
                client.told = None;
                client.is_unsure = true;
            }
            Ok(beat) => {
                client.is_unsure = false;
                client.epoch = beat.member_epoch;
                if beat.assignment.is_some() {
                    client.told = beat.assignment;
                }
            }
            Err(_) => client.give_up(),
        }
    }

    fn obey(&mut self, at: usize) {
        let client = &mut self.clients[at];
        if let Some(told) = client.told.take() {
            client.reads = told;
        }
    }

    /// Time passes; who is dropped has noticed by its own clock.
    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.groups.next_deadline().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            let turn = self.groups.on_deadline(&self.context());
            self.take(turn);
        }
        self.now = end;
        let members: BTreeSet<Arc<str>> =
            self.describe().into_iter().flat_map(|group| group.members).map(|member| member.member_id).collect();
        for client in self.clients.iter_mut().filter(|client| !members.contains(&client.id)) {
            client.give_up();
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Beat(at, is_lost) => self.beat(*at, *is_lost),
            Step::Obey(at) => self.obey(*at),
            Step::Leave(at) => {
                self.clients[*at].give_up();
                let _gone = self.heartbeat(*at, -1);
            }
            Step::Want(at, mask) => {
                let wants = [(1, "t"), (2, "u")].into_iter().filter(|(bit, _)| mask & bit != 0);
                self.clients[*at].wants = wants.map(|(_, name)| name.into()).collect();
            }
            Step::Wait(seconds) => self.wait(Duration::from_secs(*seconds)),
            Step::Topics(t, u) => {
                self.counts = (*t, *u);
                self.tell_topics();
            }
            Step::Reload => self.reload(),
            Step::Zombie(at) => self.commit_of_anothers(*at),
        }
        self.check();
    }

    fn commit_of_anothers(&mut self, at: usize) {
        let Some(group) = self.describe() else { return };
        let id = Arc::clone(&self.clients[at].id);
        let others = group.members.iter().filter(|member| member.member_id != id);
        let Some(topic) = others.flat_map(|member| &member.assignment).next() else { return };
        let partition = TopicPartition { topic: Arc::clone(&topic.topic), partition: topic.partitions[0] };
        let committed = Committed {
            offset: Offset(1),
            leader_epoch: LeaderEpoch::NONE,
            metadata: String::new(),
            topic_id: topic.topic_id,
        };
        let generation = (self.clients[at].epoch - 1).max(0);
        let member = MemberOf { group: "g".into(), member_id: id, instance_id: None, generation };
        let commit = Commit { member, retention: None, offsets: vec![(partition, committed)] };
        match self.ask(ConsumerRequest::Commit(commit)) {
            ConsumerReply::Commit(result) => assert!(result.is_err(), "a commit of another's partition is taken"),
            other => panic!("{other:?}"),
        }
    }

    /// One has all and gives nothing up when the others come: they have it once its time is over.
    fn outlive_a_miser(&mut self) {
        self.wait(Duration::from_mins(2));
        self.clients.iter_mut().for_each(|client| client.wants = vec!["t".into(), "u".into()]);
        for _ in 0..3 {
            self.beat(0, false);
            self.obey(0);
        }
        for _ in 0..10 {
            for at in 0..MEMBERS {
                if at > 0 || self.clients[0].epoch > 0 {
                    self.beat(at, false);
                }
                if at > 0 {
                    self.obey(at);
                }
                self.check();
            }
            self.wait(Duration::from_secs(9));
        }
        let group = self.describe().expect("it is there");
        assert_eq!(group.state, "Stable", "a member that gives nothing up is waited for without end");
    }

    fn check(&mut self) {
        let mut read = BTreeSet::new();
        for client in &self.clients {
            for piece in pieces(&client.reads) {
                assert!(read.insert(piece), "two read {piece:?}");
            }
        }
        let Some(group) = self.describe() else { return };
        assert!(group.group_epoch >= self.epoch && group.assignment_epoch <= group.group_epoch);
        self.epoch = group.group_epoch;
        let mut assigned = BTreeSet::new();
        for topic in group.members.iter().flat_map(|member| &member.assignment) {
            for partition in &topic.partitions {
                assert!(assigned.insert((topic.topic_id, *partition)), "two have {partition} of {}", topic.topic);
            }
        }
    }

    /// Left alone, with answers that arrive: everybody is there and reads its part.
    fn settle(&mut self) {
        for _ in 0..3 {
            for _ in 0..10 {
                for at in 0..MEMBERS {
                    self.clients[at].is_unsure = true;
                    self.beat(at, false);
                    self.obey(at);
                    self.check();
                }
            }
            // Whoever was fenced comes in when its old session is over.
            for _ in 0..6 {
                self.wait(Duration::from_secs(9));
                for at in (0..MEMBERS).filter(|at| self.clients[*at].epoch > 0).collect::<Vec<_>>() {
                    self.beat(at, false);
                    self.obey(at);
                    self.check();
                }
            }
        }
        let group = self.describe().expect("it is there");
        assert_eq!((group.state, group.members.len()), ("Stable", MEMBERS));
        let read: BTreeSet<(TopicId, PartitionIndex)> =
            self.clients.iter().flat_map(|client| pieces(&client.reads)).collect();
        let is_wanted = |name: &str| self.clients.iter().any(|client| client.wants.iter().any(|want| &**want == name));
        let of = |name, count: u8| if is_wanted(name) { usize::from(count) } else { 0 };
        assert_eq!(read.len(), of("t", self.counts.0) + of("u", self.counts.1), "all that is wanted is read");
    }
}

fn pieces(partitions: &Partitions) -> Vec<(TopicId, PartitionIndex)> {
    partitions.iter().flat_map(|(topic, held)| held.iter().map(|partition| (*topic, *partition))).collect()
}

fn run(planted: Planted, steps: &[Step]) {
    let mut world = World::new(planted);
    for step in steps {
        world.step(step);
    }
    world.settle();
    world.outlive_a_miser();
}

proptest! {
    #[test]
    fn no_partition_is_read_by_two_at_once(steps in steps()) {
        run(Planted(None), &steps);
    }
}

#[test]
fn planted_bugs_are_found() {
    for bug in [
        "groups.member-epoch-not-bumped",
        "groups.given-before-released",
        "groups.revocation-unbounded",
        "groups.owners-forgotten",
        "groups.stale-epoch-commits",
        "groups.epoch-forgotten",
    ] {
        assert!(is_found(&steps(), 300, |steps| run(Planted(Some(bug)), &steps)), "{bug} is not found");
    }
}
