//! The same operations on a cluster of ours and on one of the `raft` crate, and the same outcome.
//!
//! What is compared after each operation, once no message is left: who leads, every replica's epoch, every log, and what is
//! committed. The two agree where these rules hold: an election is begun only where no leader is within reach (the crates
//! have different rules for who listens to a candidate then); check-quorum is off on both sides, since time plays no part;
//! entries that the crates make by themselves (empty ones there, control entries here) are left out.

use std::collections::BTreeSet;

use bytes::Bytes;
use proptest::{collection, prelude::*};
use quipu_raft::{Data, Message, Payload};
use raft::{Config, GetEntriesContext, RawNode, StateRole, Storage, eraftpb, storage::MemStorage};
use slog::{Discard, Logger, o};

use crate::{
    ledger::Ledger,
    replica::{Disk, HEARTBEAT, Output, Planted, Replica, key, voters},
};

const NODES: usize = 3;

#[derive(Clone, Copy, Debug)]
enum Operation {
    Campaign(usize),
    /// Whoever leads tells its peers that it does.
    Beat,
    Propose(usize),
    Restart(usize),
    Transfer(usize),
    /// This one is reached by nobody until the next such operation; `NODES`: all links work.
    Isolate(usize),
}

/// A cluster to which operations are done.
trait Cluster {
    fn campaign(&mut self, at: usize);
    fn beat(&mut self);
    fn propose(&mut self, at: usize, text: &str);
    fn restart(&mut self, at: usize);
    fn transfer(&mut self, to: usize);
    /// Delivers everything that does not cross to or from `isolated`, until nothing is left.
    fn settle(&mut self, isolated: usize);
    fn outcome(&self) -> Outcome;
}

#[derive(PartialEq, Eq, Debug)]
struct Outcome {
    nodes: Vec<NodeOutcome>,
    /// What anybody knows to be committed.
    committed: BTreeSet<String>,
}

#[derive(PartialEq, Eq, Debug)]
struct NodeOutcome {
    leads: bool,
    epoch: u64,
    /// Epochs and texts.
    log: Vec<(u64, String)>,
}

struct Ours {
    replicas: Vec<Replica>,
    wire: Vec<Message>,
    ledger: Ledger,
    committed: BTreeSet<String>,
}

impl Ours {
    fn new() -> Self {
        let planted = Planted(Some("raft.no-check-quorum"));
        let make = |id| Replica::new(key(id), Disk::new(voters(&[1, 2, 3])), &[], planted);
        let mut ours = Self {
            replicas: (1..=3).map(make).collect(),
            wire: Vec::new(),
            ledger: Ledger::default(),
            committed: BTreeSet::new(),
        };
        (0..NODES).for_each(|index| ours.restart(index));
        ours
    }

    fn take(&mut self, index: usize) {
        let mut outputs = self.replicas[index].take();
        while !self.replicas[index].queue.is_empty() {
            outputs.extend(self.replicas[index].persist_one());
        }
        for output in outputs {
            match output {
                Output::Send(message) => self.wire.push(message),
                Output::Committed { from, until } => {
                    let replica = &mut self.replicas[index];
                    let epoch = replica.node().epoch();
                    self.ledger.on_commit(replica, epoch, from, until).unwrap();
                    let texts = replica.history.iter().filter_map(|(_, entry)| text_of(&entry.payload));
                    self.committed.extend(texts);
                }
                _ => {}
            }
        }
    }

    /// The leader of the latest epoch.
    fn leader(&self) -> Option<usize> {
        let leads = |index: &usize| self.replicas[*index].is_leader();
        (0..NODES).filter(leads).max_by_key(|index| self.replicas[*index].disk.hard.epoch)
    }
}

fn text_of(payload: &Payload) -> Option<String> {
    match payload {
        Payload::Data(data) => Some(String::from_utf8(data.bytes.to_vec()).unwrap()),
        _ => None,
    }
}

impl Cluster for Ours {
    fn campaign(&mut self, at: usize) {
        // So long after the last sign of a leader that nobody waits for it.
        let due = self.replicas.iter().map(|replica| replica.node.as_ref().unwrap().next_deadline()).max().unwrap();
        let now = due + HEARTBEAT * 100;
        self.replicas.iter_mut().for_each(|replica| replica.now = now);
        self.replicas[at].node().on_deadline(now);
        self.take(at);
    }

    fn beat(&mut self) {
        for index in 0..NODES {
            let now = self.replicas[index].now + HEARTBEAT * 4;
            self.replicas[index].now = now;
            if self.replicas[index].is_leader() {
                self.replicas[index].node().on_deadline(now);
                self.take(index);
            }
        }
    }

    fn propose(&mut self, at: usize, text: &str) {
        let now = self.replicas[at].now;
        let entry = Data { records: 1, bytes: Bytes::copy_from_slice(text.as_bytes()) };
        self.replicas[at].node().handle_proposal(now, vec![entry]).ok();
        self.take(at);
    }

    fn restart(&mut self, at: usize) {
        self.replicas[at].crash(0);
        self.replicas[at].start(1).unwrap();
        self.take(at);
    }

    fn transfer(&mut self, to: usize) {
        let Some(leader) = self.leader() else { return };
        let (now, to) = (self.replicas[leader].now, self.replicas[to].key);
        self.replicas[leader].node().handle_transfer(now, to).ok();
        self.take(leader);
    }

    fn settle(&mut self, isolated: usize) {
        while !self.wire.is_empty() {
            let message = self.wire.remove(0);
            let index = |key| self.replicas.iter().position(|replica| replica.key == key).unwrap();
            let (from, to) = (index(message.from), index(message.to));
            if from == isolated || to == isolated {
                continue;
            }
            let now = self.replicas[to].now;
            self.replicas[to].node().handle_message(now, message.from.id, message).unwrap();
            self.take(to);
        }
    }

    fn outcome(&self) -> Outcome {
        let epoch = |epoch: quipu_base::LeaderEpoch| u64::try_from(epoch.get()).unwrap();
        let node = |replica: &Replica| {
            let entries = replica.disk.entries.iter();
            let log = entries.filter_map(|(_, entry)| Some((epoch(entry.epoch), text_of(&entry.payload)?)));
            NodeOutcome { leads: replica.is_leader(), epoch: epoch(replica.disk.hard.epoch), log: log.collect() }
        };
        Outcome { nodes: self.replicas.iter().map(node).collect(), committed: self.committed.clone() }
    }
}

struct Theirs {
    nodes: Vec<RawNode<MemStorage>>,
    wire: Vec<eraftpb::Message>,
    committed: BTreeSet<String>,
}

fn id(index: usize) -> u64 {
    u64::try_from(index).unwrap() + 1
}

impl Theirs {
    fn new() -> Self {
        let ids: Vec<u64> = (0..NODES).map(id).collect();
        let make = |index| Self::start(index, MemStorage::new_with_conf_state((ids.clone(), vec![])));
        Self { nodes: (0..NODES).map(make).collect(), wire: Vec::new(), committed: BTreeSet::new() }
    }

    fn start(index: usize, storage: MemStorage) -> RawNode<MemStorage> {
        let config =
            Config { id: id(index), election_tick: 10, heartbeat_tick: 3, pre_vote: true, ..Config::default() };
        RawNode::new(&config, storage, &Logger::root(Discard, o!())).unwrap()
    }

    fn take(&mut self, index: usize) {
        while self.nodes[index].has_ready() {
            let node = &mut self.nodes[index];
            let mut ready = node.ready();
            self.wire.extend(ready.take_messages());
            let mut committed = ready.take_committed_entries();
            node.store().wl().append(ready.entries()).unwrap();
            if let Some(hard) = ready.hs() {
                node.store().wl().set_hardstate(hard.clone());
            }
            self.wire.extend(ready.take_persisted_messages());
            let mut light = node.advance(ready);
            if let Some(commit) = light.commit_index() {
                node.store().wl().mut_hard_state().set_commit(commit);
            }
            self.wire.extend(light.take_messages());
            committed.extend(light.take_committed_entries());
            node.advance_apply();
            let texts = committed.iter().filter(|entry| !entry.get_data().is_empty());
            self.committed.extend(texts.map(|entry| String::from_utf8(entry.get_data().to_vec()).unwrap()));
        }
    }

    fn leads(&self, index: usize) -> bool {
        self.nodes[index].raft.state == StateRole::Leader
    }
}

impl Cluster for Theirs {
    fn campaign(&mut self, at: usize) {
        self.nodes[at].campaign().unwrap();
        self.take(at);
    }

    fn beat(&mut self) {
        for index in 0..NODES {
            if self.leads(index) {
                self.nodes[index].ping();
                self.take(index);
            }
        }
    }

    fn propose(&mut self, at: usize, text: &str) {
        // A follower here would hand it on to its leader.
        if self.leads(at) {
            self.nodes[at].propose(Vec::new(), text.as_bytes().to_vec()).ok();
            self.take(at);
        }
    }

    fn restart(&mut self, at: usize) {
        let storage = self.nodes[at].store().clone();
        self.nodes[at] = Self::start(at, storage);
    }

    fn transfer(&mut self, to: usize) {
        let leader = (0..NODES).filter(|index| self.leads(*index)).max_by_key(|index| self.nodes[*index].raft.term);
        if let Some(leader) = leader {
            self.nodes[leader].transfer_leader(id(to));
            self.take(leader);
        }
    }

    fn settle(&mut self, isolated: usize) {
        while !self.wire.is_empty() {
            let message = self.wire.remove(0);
            if message.get_from() == id(isolated) || message.get_to() == id(isolated) {
                continue;
            }
            let to = usize::try_from(message.get_to()).unwrap() - 1;
            self.nodes[to].step(message).ok();
            self.take(to);
        }
    }

    fn outcome(&self) -> Outcome {
        let node = |node: &RawNode<MemStorage>| {
            let (first, last) = (node.store().first_index().unwrap(), node.store().last_index().unwrap());
            let read = |from| node.store().entries(from, last + 1, None, GetEntriesContext::empty(false)).unwrap();
            let entries = if last < first { Vec::new() } else { read(first) };
            let data = entries.iter().filter(|entry| !entry.get_data().is_empty());
            let log = data.map(|entry| (entry.get_term(), String::from_utf8(entry.get_data().to_vec()).unwrap()));
            NodeOutcome { leads: node.raft.state == StateRole::Leader, epoch: node.raft.term, log: log.collect() }
        };
        Outcome { nodes: self.nodes.iter().map(node).collect(), committed: self.committed.clone() }
    }
}

/// Whether both crates have the same rules for it now.
fn is_agreed(operation: Operation, ours: &Ours, isolated: usize) -> bool {
    let reaches = |from: usize, to: usize| from == to || (from != isolated && to != isolated);
    match operation {
        Operation::Campaign(at) => (0..NODES).all(|other| !reaches(at, other) || !ours.replicas[other].is_leader()),
        // One that cannot follow would be waited for until a tick, which is not given here.
        Operation::Transfer(to) => ours.leader().is_some_and(|leader| leader != to && reaches(leader, to)),
        _ => true,
    }
}

fn apply(cluster: &mut dyn Cluster, operation: Operation, isolated: usize, text: &str) {
    match operation {
        Operation::Campaign(at) => cluster.campaign(at),
        Operation::Propose(at) => cluster.propose(at, text),
        Operation::Restart(at) => cluster.restart(at),
        Operation::Transfer(to) => {
            cluster.transfer(to);
        }
        Operation::Beat | Operation::Isolate(_) => {}
    }
    cluster.settle(isolated);
    for _ in 0..3 {
        cluster.beat();
        cluster.settle(isolated);
    }
}

fn operations() -> impl Strategy<Value = Operation> {
    prop_oneof![
        4 => (0..NODES).prop_map(Operation::Campaign),
        1 => Just(Operation::Beat),
        6 => (0..NODES).prop_map(Operation::Propose),
        2 => (0..NODES).prop_map(Operation::Restart),
        1 => (0..NODES).prop_map(Operation::Transfer),
        3 => (0..=NODES).prop_map(Operation::Isolate),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn both_come_to_the_same(operations in collection::vec(operations(), 1..40)) {
        let (mut ours, mut theirs) = (Ours::new(), Theirs::new());
        let mut isolated = NODES;
        for (count, operation) in operations.into_iter().enumerate() {
            if !is_agreed(operation, &ours, isolated) {
                continue;
            }
            if let Operation::Isolate(index) = operation {
                isolated = index;
            }
            let text = format!("d{count}");
            apply(&mut ours, operation, isolated, &text);
            apply(&mut theirs, operation, isolated, &text);
            prop_assert_eq!(ours.outcome(), theirs.outcome(), "after {:?}, isolated {}", operation, isolated);
        }
    }
}
