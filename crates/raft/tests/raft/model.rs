//! The code itself under a model checker: every order of a few events among few nodes.
//!
//! The network keeps every message for ever and delivers it whenever and as often as it likes: that is loss, doubling and
//! reordering at once. A node may crash at any moment, with any part of what was on its way to its disk, and starts again at
//! once. Time is a choice: any node that does not lead may find its deadline passed at any moment. The judge is part of the
//! state, since what it remembers decides what is wrong.

use std::hash::{DefaultHasher, Hash, Hasher};

use quipu_raft::Message;
use stateright::{Checker, HasDiscoveries, Model, Property};

use crate::{
    ledger::{Ledger, Verdict},
    replica::{Disk, Output, Planted, Replica, data, key, voters},
};

/// States looked at, at most: a search that reaches it has not been everywhere.
const STATES_MAX: usize = 150_000;

/// How far the search goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) nodes: i32,
    pub(crate) epoch_max: i32,
    pub(crate) proposals: usize,
    pub(crate) crashes: usize,
    pub(crate) depth: usize,
    /// What has happened before it begins.
    pub(crate) story: &'static [Step],
}

/// Replicas are counted from 0.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Step {
    Timeout(usize),
    /// Everything sent so far from one to another.
    Exchange(usize, usize),
    Persist(usize),
    Deliver(usize),
    Crash(usize, usize),
    Propose(usize),
}

use Step::{Crash, Deliver, Exchange, Persist, Propose, Timeout};

/// From nothing at all.
const SCRATCH: Bounds = Bounds { nodes: 3, epoch_max: 1, proposals: 0, crashes: 1, depth: 11, story: &[] };

/// Two candidates of one epoch have their pre-votes from 2.
pub(crate) const VOTES: Bounds = Bounds {
    nodes: 3,
    epoch_max: 1,
    proposals: 0,
    crashes: 2,
    depth: 12,
    story: &[Timeout(0), Timeout(1), Exchange(0, 2), Exchange(1, 2), Exchange(2, 0), Exchange(2, 1)],
};

/// Replica 0 leads, and has its first entries on its own disk; they are on their way to that of replica 1.
const ENTRIES: Bounds = Bounds {
    nodes: 3,
    epoch_max: 2,
    proposals: 1,
    crashes: 1,
    depth: 11,
    story: &[
        Timeout(0),
        Exchange(0, 2),
        Exchange(2, 0),
        Persist(0),
        Exchange(0, 2),
        Persist(2),
        Exchange(2, 0),
        Persist(0),
        Exchange(0, 1),
    ],
};

/// The same, and replica 1 loses what was on its way; replica 2 is about to campaign.
pub(crate) const FOLLOWER_LOST: Bounds = Bounds {
    nodes: 3,
    epoch_max: 2,
    proposals: 0,
    crashes: 1,
    depth: 11,
    story: &[
        Timeout(0),
        Exchange(0, 2),
        Exchange(2, 0),
        Persist(0),
        Exchange(0, 2),
        Persist(2),
        Exchange(2, 0),
        Persist(0),
        Exchange(0, 1),
        Exchange(1, 0),
        Crash(1, 0),
        Timeout(2),
        Exchange(2, 1),
        Exchange(1, 2),
    ],
};

/// Replica 1 has the first entries of leader 0, which loses them itself; replica 2 is about to campaign.
const LEADER_LOST: Bounds = Bounds {
    nodes: 3,
    epoch_max: 2,
    proposals: 0,
    crashes: 1,
    depth: 11,
    story: &[
        Timeout(0),
        Exchange(0, 2),
        Exchange(2, 0),
        Persist(0),
        Exchange(0, 2),
        Persist(2),
        Exchange(2, 0),
        Exchange(0, 1),
        Persist(1),
        Persist(1),
        Exchange(1, 0),
        Exchange(0, 1),
        Crash(0, 0),
        Timeout(2),
        Exchange(2, 0),
        Exchange(0, 2),
    ],
};

/// Two nodes, and everything that can happen to them.
const TWO: Bounds = Bounds { nodes: 2, epoch_max: 2, proposals: 1, crashes: 1, depth: 14, story: &[] };

#[derive(Clone)]
pub(crate) struct State {
    replicas: Vec<Replica>,
    /// Every message sent, once, in the order of their hashes.
    wire: Vec<Message>,
    ledger: Ledger,
    proposals: usize,
    crashes: usize,
    verdict: Verdict,
}

impl Hash for State {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.replicas, &self.wire, &self.ledger, self.proposals, self.crashes, self.verdict.is_ok()).hash(state);
    }
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        digest(self) == digest(other)
    }
}

fn digest(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

impl State {
    fn settle(&mut self, index: usize) {
        let outputs = self.replicas[index].take();
        self.judge(index, outputs);
    }

    fn judge(&mut self, index: usize, outputs: Vec<Output>) {
        let judged = self.judge_all(index, outputs);
        if self.verdict.is_ok() {
            self.verdict = judged;
        }
    }

    fn judge_all(&mut self, index: usize, outputs: Vec<Output>) -> Verdict {
        self.ledger.on_log(&self.replicas[index].memory)?;
        for output in outputs {
            match output {
                Output::Send(message) => {
                    self.ledger.on_send(&message)?;
                    let place = digest(&message);
                    if let Err(at) = self.wire.binary_search_by_key(&place, digest) {
                        self.wire.insert(at, message);
                    }
                }
                Output::Committed { from, until } => {
                    let epoch = self.replicas[index].node().epoch();
                    self.ledger.on_commit(&self.replicas[index], epoch, from, until)?;
                }
                Output::BecameLeader { epoch, start } => self.ledger.on_leader(&self.replicas[index], epoch, start)?,
                Output::Persisting | Output::ReadReady { .. } | Output::ReadFailed(_) | Output::Told(_) => {}
            }
        }
        Ok(())
    }

    fn deliver(&mut self, message: Message) {
        let Some(index) = self.replicas.iter().position(|replica| replica.key == message.to) else { return };
        let replica = &mut self.replicas[index];
        let now = replica.now;
        if let Err(error) = replica.node().handle_message(now, message.from.id, message) {
            self.judge(index, Vec::new());
            self.verdict = self.verdict.clone().and(Err(format!("only sound messages are sent: {error}")));
        }
        self.settle(index);
    }

    fn apply(&mut self, step: Step) {
        match step {
            Timeout(index) => {
                let replica = &mut self.replicas[index];
                replica.now = replica.node().next_deadline();
                let now = replica.now;
                replica.node().on_deadline(now);
                self.settle(index);
            }
            Exchange(from, to) => {
                let (from, to) = (self.replicas[from].key, self.replicas[to].key);
                let sent: Vec<Message> =
                    self.wire.iter().filter(|one| one.from == from && one.to == to).cloned().collect();
                sent.into_iter().for_each(|message| self.deliver(message));
            }
            Persist(index) => {
                let outputs = self.replicas[index].persist_one();
                self.judge(index, outputs);
            }
            Deliver(at) => self.deliver(self.wire[at].clone()),
            Crash(index, kept) => {
                self.crashes += 1;
                self.replicas[index].crash(kept);
                self.replicas[index].start(1).unwrap();
                self.settle(index);
            }
            Propose(index) => {
                self.proposals += 1;
                let entry = data(&format!("d{}", self.proposals), 1);
                let replica = &mut self.replicas[index];
                let now = replica.now;
                replica.node().handle_proposal(now, vec![entry]).unwrap();
                self.settle(index);
            }
        }
    }
}

pub(crate) struct Cluster {
    bounds: Bounds,
    bug: Option<&'static str>,
}

impl Model for Cluster {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let ids: Vec<i32> = (1..=self.bounds.nodes).collect();
        let make = |id: &i32| Replica::new(key(*id), Disk::new(voters(&ids)), &[], Planted(self.bug));
        let replicas = ids.iter().map(make).collect();
        let (wire, ledger) = (Vec::new(), Ledger::default());
        let mut state = State { replicas, wire, ledger, proposals: 0, crashes: 0, verdict: Ok(()) };
        for index in 0..state.replicas.len() {
            state.replicas[index].start(1).unwrap();
            state.settle(index);
        }
        self.bounds.story.iter().for_each(|step| state.apply(*step));
        vec![state]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Step>) {
        if state.verdict.is_err() {
            return;
        }
        for (index, replica) in state.replicas.iter().enumerate() {
            let epoch = replica.node.as_ref().unwrap().epoch();
            if !replica.is_leader() && epoch.get() < self.bounds.epoch_max {
                actions.push(Timeout(index));
            }
            if !replica.queue.is_empty() {
                actions.push(Persist(index));
            }
            if state.crashes < self.bounds.crashes {
                actions.extend((0..=replica.queue.len()).map(|kept| Crash(index, kept)));
            }
            if replica.is_leader() && state.proposals < self.bounds.proposals {
                actions.push(Propose(index));
            }
        }
        actions.extend((0..state.wire.len()).map(Deliver));
    }

    fn next_state(&self, last: &State, step: Step) -> Option<State> {
        let mut state = last.clone();
        state.apply(step);
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("nothing goes wrong", |_, state: &State| state.verdict.is_ok()),
            Property::sometimes("a replica leads", |_, state: &State| state.ledger.leaders() > 0),
        ]
    }
}

/// Searches within `bounds`; how many states there are, or what goes wrong.
pub(crate) fn search(bounds: Bounds, bug: Option<&'static str>) -> Result<usize, String> {
    let checker = Cluster { bounds, bug }.checker().target_max_depth(bounds.depth).target_state_count(STATES_MAX);
    let checker = checker.finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    match checker.discovery("nothing goes wrong") {
        Some(path) => Err(path.last_state().verdict.clone().unwrap_err()),
        None => Ok(checker.unique_state_count()),
    }
}

#[test]
fn elections_from_scratch() {
    assert!(search(SCRATCH, None).unwrap() > 10_000);
}

#[test]
fn two_candidates_of_one_epoch() {
    assert!(search(VOTES, None).unwrap() > 10_000);
}

#[test]
fn a_leader_s_entries_on_their_way() {
    assert!(search(ENTRIES, None).unwrap() > 10_000);
}

#[test]
fn entries_are_lost() {
    assert!(search(FOLLOWER_LOST, None).unwrap() > 1000);
    assert!(search(LEADER_LOST, None).unwrap() > 1000);
}

#[test]
fn two_nodes_and_a_crash() {
    assert!(search(TWO, None).unwrap() > 10_000);
}
