//! Random schedules: a cluster in virtual time, a seed that decides everything, and the judge after each step.
//!
//! Messages are lost, doubled, late and overtaken; links are cut, one way too; nodes crash and lose what was not durable, pause,
//! start again, are wiped; snapshots, reads, voter changes and transfers come in between. In the end all heals, and the
//! cluster must serve.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use quipu_base::{LeaderEpoch, Offset};
use quipu_env::Instant;
use quipu_raft::{Entry, Message, Payload, ReplicaKey, VoterSet};
use rand::{RngExt, SeedableRng, rngs::SmallRng};

use crate::{
    catalogue::PROFILES,
    ledger::{Ledger, Verdict},
    replica::{Disk, ELECTION_TIMEOUT, Output, Planted, Replica, data, key, keyed, voters},
};

/// What is said of a run in which a node refused a message.
pub(crate) const REFUSED: &str = "only sound messages are sent";

/// How often a fault or an operation happens, in thousandths per step, and how the network is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Profile {
    pub(crate) founders: i32,
    pub(crate) observers: i32,
    pub(crate) steps: usize,
    pub(crate) loss: u32,
    pub(crate) doubled: u32,
    pub(crate) late: u32,
    pub(crate) crash: u32,
    pub(crate) cut: u32,
    pub(crate) pause: u32,
    pub(crate) wipe: u32,
    pub(crate) snapshot: u32,
    pub(crate) change: u32,
    pub(crate) transfer: u32,
    pub(crate) read: u32,
    pub(crate) propose: u32,
    /// Slowest persist, in milliseconds.
    pub(crate) sync_ms: u64,
}

impl Profile {
    pub(crate) const MIXED: Self = Self {
        founders: 3,
        observers: 2,
        steps: 2500,
        loss: 30,
        doubled: 30,
        late: 30,
        crash: 6,
        cut: 6,
        pause: 3,
        wipe: 0,
        snapshot: 10,
        change: 6,
        transfer: 3,
        read: 30,
        propose: 60,
        sync_ms: 15,
    };
}

#[derive(Clone, Debug)]
enum Event {
    Deliver(Message),
    Persisted { index: usize, start: u64 },
    Start(usize),
    Resume(usize),
    Heal,
}

pub(crate) struct World {
    profile: Profile,
    rng: SmallRng,
    seed: u64,
    now: Instant,
    planted: Planted,
    pub(crate) replicas: Vec<Replica>,
    /// How often each started: an answer of the disk to an earlier life is nobody's.
    starts: Vec<u64>,
    paused: BTreeSet<usize>,
    lives: BTreeMap<i32, u8>,
    events: BTreeMap<(Instant, u64), Event>,
    next_event: u64,
    /// When each disk is done with what it has.
    disk_free: Vec<Instant>,
    cuts: BTreeSet<(usize, usize)>,
    pub(crate) ledger: Ledger,
    next_read: u64,
    next_data: u64,
    calm: bool,
    refused: Option<String>,
}

impl World {
    pub(crate) fn new(profile: Profile, seed: u64, bug: Option<&'static str>) -> Self {
        let planted = Planted(bug);
        let founders: Vec<i32> = (1..=profile.founders).collect();
        let mut replicas: Vec<Replica> = Vec::new();
        for id in 1..=profile.founders + profile.observers {
            let known = if id <= profile.founders { voters(&founders) } else { VoterSet::EMPTY };
            replicas.push(Replica::new(key(id), Disk::new(known), &founders, planted));
        }
        let count = replicas.len();
        let mut world = Self {
            profile,
            rng: SmallRng::seed_from_u64(seed),
            seed,
            now: Instant::from_nanos(1),
            planted,
            replicas,
            starts: vec![0; count],
            paused: BTreeSet::new(),
            lives: BTreeMap::new(),
            events: BTreeMap::new(),
            next_event: 0,
            disk_free: vec![Instant::ZERO; count],
            cuts: BTreeSet::new(),
            ledger: Ledger::default(),
            next_read: 0,
            next_data: 0,
            calm: false,
            refused: None,
        };
        for index in 0..count {
            world.at(Duration::ZERO, Event::Start(index));
        }
        world
    }

    fn chance(&mut self, thousandths: u32) -> bool {
        self.rng.random_range(0..1000) < thousandths
    }

    fn at(&mut self, delay: Duration, event: Event) {
        self.next_event += 1;
        self.events.insert((self.now + delay, self.next_event), event);
    }

    fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_micros(self.rng.random_range(from * 1000..=to * 1000))
    }

    fn pick(&mut self) -> usize {
        self.rng.random_range(0..self.replicas.len())
    }

    /// The next thing in time: an event, or a deadline of a node.
    fn step(&mut self) -> Verdict {
        let deadline = |(index, replica): (usize, &Replica)| Some((replica.node.as_ref()?.next_deadline(), index));
        let running = self.replicas.iter().enumerate().filter(|(index, _)| !self.paused.contains(index));
        let deadline = running.filter_map(deadline).min();
        let event = self.events.first_key_value().map(|((at, _), _)| *at);
        match (event, deadline) {
            (Some(at), Some((due, _))) if at <= due => self.next(at),
            (Some(at), None) => self.next(at),
            (_, Some((due, index))) => {
                self.now = self.now.max(due);
                let now = self.now;
                self.replicas[index].now = now;
                self.replicas[index].node().on_deadline(now);
                self.settle(index)
            }
            (None, None) => Ok(()),
        }
    }

    fn next(&mut self, at: Instant) -> Verdict {
        let Some(((_, _), event)) = self.events.pop_first() else { return Ok(()) };
        self.now = self.now.max(at);
        match event {
            Event::Deliver(message) => self.deliver(message),
            Event::Persisted { index, start } => {
                if self.starts[index] != start || !self.replicas[index].is_up() {
                    return Ok(());
                }
                let outputs = self.with_time(index, Replica::persist_one);
                self.judge(index, outputs)
            }
            Event::Start(index) => self.start(index),
            Event::Resume(index) => {
                self.paused.remove(&index);
                Ok(())
            }
            Event::Heal => {
                self.cuts.clear();
                Ok(())
            }
        }
    }

    fn with_time<T>(&mut self, index: usize, act: impl FnOnce(&mut Replica) -> T) -> T {
        let replica = &mut self.replicas[index];
        replica.now = self.now;
        act(replica)
    }

    fn start(&mut self, index: usize) -> Verdict {
        if self.replicas[index].is_up() {
            return Ok(());
        }
        let seed = self.seed;
        self.with_time(index, |replica| replica.start(seed)).map_err(|error| format!("a node starts: {error}"))?;
        self.ledger.on_history(&self.replicas[index])?;
        self.settle(index)
    }

    fn deliver(&mut self, message: Message) -> Verdict {
        let Some(index) = self.replicas.iter().position(|replica| replica.key.id == message.to.id) else {
            return Ok(());
        };
        if self.paused.contains(&index) {
            let delay = self.millis(1, 20);
            self.at(delay, Event::Deliver(message));
            return Ok(());
        }
        if !self.replicas[index].is_up() {
            return Ok(());
        }
        let from = message.from.id;
        let refused = self.with_time(index, |replica| {
            let now = replica.now;
            replica.node().handle_message(now, from, message).err()
        });
        // What is for a directory that is gone is refused; nothing else should be. Told at the end: first the judge has its say.
        if let Some(error) = refused.filter(|error| !matches!(error, quipu_raft::MessageError::WrongReceiver(_))) {
            self.refused.get_or_insert_with(|| format!("{REFUSED}: {error}"));
        }
        self.settle(index)
    }

    fn settle(&mut self, index: usize) -> Verdict {
        let outputs = self.replicas[index].take();
        self.judge(index, outputs)
    }

    fn judge(&mut self, index: usize, outputs: Vec<Output>) -> Verdict {
        self.ledger.on_log(&self.replicas[index].memory)?;
        for output in outputs {
            match output {
                Output::Send(message) => {
                    self.ledger.on_send(&message)?;
                    self.send(index, message);
                }
                Output::Persisting => self.persisting(index),
                Output::Committed { from, until } => {
                    let epoch = self.replicas[index].node().epoch();
                    self.ledger.on_commit(&self.replicas[index], epoch, from, until)?;
                }
                Output::ReadReady { context, offset } => self.ledger.on_read_ready(context, offset)?,
                Output::BecameLeader { epoch, start } => self.ledger.on_leader(&self.replicas[index], epoch, start)?,
                Output::ReadFailed(_) | Output::Told(_) => {}
            }
        }
        self.ledger.on_history_of(&self.replicas[index])
    }

    fn persisting(&mut self, index: usize) {
        let cost = self.millis(0, self.profile.sync_ms);
        let done = self.disk_free[index].max(self.now) + cost;
        self.disk_free[index] = done;
        let start = self.starts[index];
        self.at(done.since(self.now), Event::Persisted { index, start });
    }

    fn send(&mut self, from: usize, message: Message) {
        let to = self.replicas.iter().position(|replica| replica.key.id == message.to.id);
        if to.is_some_and(|to| self.cuts.contains(&(from, to))) || (!self.calm && self.chance(self.profile.loss)) {
            return;
        }
        let copies = if !self.calm && self.chance(self.profile.doubled) { 2 } else { 1 };
        for _ in 0..copies {
            let late = !self.calm && self.chance(self.profile.late);
            let delay = if late { self.millis(20, 900) } else { self.millis(0, 4) };
            self.at(delay, Event::Deliver(message.clone()));
        }
    }

    /// Something happens, or nothing.
    fn disturb(&mut self) -> Verdict {
        let profile = self.profile;
        if self.chance(profile.crash) {
            let index = self.pick();
            self.crash(index);
        }
        if self.chance(profile.cut) {
            self.cut();
        }
        if self.chance(profile.pause) {
            let index = self.pick();
            self.paused.insert(index);
            let delay = self.millis(50, 1500);
            self.at(delay, Event::Resume(index));
        }
        if self.chance(profile.wipe) {
            self.wipe();
        }
        if self.chance(profile.snapshot) {
            let (index, keep) = (self.pick(), self.rng.random());
            if self.replicas[index].is_up() {
                self.with_time(index, |replica| replica.take_snapshot(keep));
                self.settle(index)?;
            }
        }
        self.operate()
    }

    /// What people and the controller do.
    fn operate(&mut self) -> Verdict {
        let profile = self.profile;
        if self.chance(profile.propose) {
            let index = self.pick();
            self.propose(index)?;
        }
        if self.chance(profile.read) {
            let index = self.pick();
            self.read(index)?;
        }
        if self.chance(profile.change) {
            self.change_voters()?;
        }
        if self.chance(profile.transfer) {
            let (index, to) = (self.pick(), self.pick());
            let to = self.replicas[to].key;
            if self.replicas[index].is_up() {
                self.with_time(index, |replica| {
                    let now = replica.now;
                    replica.node().handle_transfer(now, to).ok()
                });
                self.settle(index)?;
            }
        }
        Ok(())
    }

    pub(crate) fn crash(&mut self, index: usize) {
        if !self.replicas[index].is_up() {
            return;
        }
        let kept = self.rng.random_range(0..=self.replicas[index].queue.len());
        self.replicas[index].crash(kept);
        self.starts[index] += 1;
        self.disk_free[index] = self.now;
        let delay = if self.rng.random() { self.millis(1, 30) } else { self.millis(30, 1500) };
        self.at(delay, Event::Start(index));
    }

    fn cut(&mut self) {
        let alone = self.pick();
        let (outward, inward) = (self.rng.random_range(0..3) > 0, self.rng.random_range(0..3) > 0);
        for other in (0..self.replicas.len()).filter(|other| *other != alone) {
            if outward {
                self.cuts.insert((alone, other));
            }
            if inward {
                self.cuts.insert((other, alone));
            }
        }
        let delay = self.millis(100, 2500);
        self.at(delay, Event::Heal);
    }

    /// A node loses its directory and begins with a new one, knowing nothing. Never so many that committed entries may be lost:
    /// only one that does not vote as far as the others know, or one voter while everybody is up.
    fn wipe(&mut self) {
        let index = self.pick();
        let id = self.replicas[index].key.id.get();
        let all_up = self.replicas.iter().all(Replica::is_up) && self.lives.is_empty();
        if !all_up {
            return;
        }
        let life = self.lives.entry(id).or_insert(1);
        *life += 1;
        let founders: Vec<i32> = (1..=self.profile.founders).collect();
        let fresh = Replica::new(keyed(id, *life), Disk::new(VoterSet::EMPTY), &founders, self.planted);
        self.replicas[index] = fresh;
        self.starts[index] += 1;
        let delay = self.millis(1, 100);
        self.at(delay, Event::Start(index));
    }

    fn propose(&mut self, index: usize) -> Verdict {
        if !self.replicas[index].is_up() {
            return Ok(());
        }
        self.next_data += 1;
        let entry = data(&format!("d{}", self.next_data), self.rng.random_range(1..4));
        self.with_time(index, |replica| {
            let now = replica.now;
            replica.node().handle_proposal(now, vec![entry]).ok()
        });
        self.settle(index)
    }

    fn read(&mut self, index: usize) -> Verdict {
        if !self.replicas[index].is_up() {
            return Ok(());
        }
        self.next_read += 1;
        let context = self.next_read;
        self.ledger.on_read(context);
        self.with_time(index, |replica| {
            let now = replica.now;
            replica.node().handle_read_index(now, context).ok()
        });
        self.settle(index)
    }

    fn change_voters(&mut self) -> Verdict {
        let Some(index) = self.replicas.iter().position(Replica::is_leader) else { return Ok(()) };
        let target = self.pick();
        let target = self.replicas[target].key;
        let old = self.replicas[index].node().voters().get(target.id);
        let count = self.replicas[index].node().voters().len();
        self.with_time(index, |replica| {
            let now = replica.now;
            match old {
                Some(old) if old != target || count > 2 => replica.node().handle_remove_voter(now, old).ok(),
                Some(_) => None,
                None => replica.node().handle_add_voter(now, target).ok(),
            }
        });
        self.settle(index)
    }

    /// Runs the schedule, then lets everything heal and demands that the cluster serves.
    pub(crate) fn run(&mut self) -> Verdict {
        for _ in 0..self.profile.steps {
            self.disturb()?;
            self.step()?;
        }
        self.heal()?;
        self.refused.take().map_or(Ok(()), Err)
    }

    pub(crate) fn heal(&mut self) -> Verdict {
        self.calm = true;
        self.cuts.clear();
        self.paused.clear();
        for index in 0..self.replicas.len() {
            self.start(index)?;
        }
        let until = self.now + ELECTION_TIMEOUT * 40;
        let (mut proposed, mut wanted) = (false, Offset(i64::MAX));
        while self.now < until {
            self.step()?;
            let leader = self.replicas.iter().position(Replica::is_leader);
            if let Some(leader) = leader.filter(|_| !proposed && self.now + ELECTION_TIMEOUT * 20 > until) {
                self.propose(leader)?;
                wanted = self.replicas[leader].memory.end();
                proposed = true;
            }
            if self.replicas.iter().all(|replica| replica.applied() >= wanted) {
                return Ok(());
            }
        }
        let applied: Vec<(ReplicaKey, Offset, LeaderEpoch)> = self
            .replicas
            .iter()
            .map(|replica| {
                (replica.key, replica.applied(), replica.node.as_ref().map_or(LeaderEpoch(-1), |node| node.epoch()))
            })
            .collect();
        Err(format!("liveness: all is healed, and {wanted} is not applied everywhere: {applied:?}"))
    }
}

pub(crate) fn run(profile: Profile, seed: u64, bug: Option<&'static str>) -> Result<World, String> {
    let mut world = World::new(profile, seed, bug);
    world.run().map_err(|error| format!("seed {seed}: {error}"))?;
    Ok(world)
}

/// Runs on without faults for so long.
fn pass(world: &mut World, time: Duration) -> Verdict {
    let until = world.now + time;
    while world.now < until {
        world.step()?;
    }
    Ok(())
}

/// A calm cluster of three, and the index of its leader.
fn calm(seed: u64, bug: Option<&'static str>) -> Result<(World, usize), String> {
    let mut world = World::new(Profile { observers: 0, ..Profile::MIXED }, seed, bug);
    world.calm = true;
    pass(&mut world, ELECTION_TIMEOUT * 10)?;
    let leader = world.replicas.iter().position(Replica::is_leader).ok_or("liveness: nobody leads")?;
    Ok((world, leader))
}

/// A replica that was cut off for long comes back: nobody is deposed, no epoch begins.
pub(crate) fn comes_back(seed: u64, bug: Option<&'static str>) -> Verdict {
    let (mut world, leader) = calm(seed, bug)?;
    let epoch = world.replicas[leader].node().epoch();
    let away = (leader + 1) % 3;
    for other in (0..3).filter(|other| *other != away) {
        world.cuts.insert((away, other));
        world.cuts.insert((other, away));
    }
    pass(&mut world, ELECTION_TIMEOUT * 10)?;
    world.cuts.clear();
    pass(&mut world, ELECTION_TIMEOUT * 10)?;
    let same = world.replicas[leader].is_leader() && world.replicas[leader].node().epoch() == epoch;
    if same {
        Ok(())
    } else {
        Err("stability: a replica that was cut off deposed the leader when it came back".to_owned())
    }
}

/// A leader that is cut off leads no longer than two election time-outs.
pub(crate) fn is_cut_off(seed: u64, bug: Option<&'static str>) -> Verdict {
    let (mut world, leader) = calm(seed, bug)?;
    for other in (0..3).filter(|other| *other != leader) {
        world.cuts.insert((leader, other));
        world.cuts.insert((other, leader));
    }
    pass(&mut world, ELECTION_TIMEOUT * 2)?;
    if world.replicas[leader].is_leader() {
        return Err("stability: a leader that hears nobody still leads".to_owned());
    }
    Ok(())
}

#[test]
fn a_replica_that_comes_back_deposes_nobody() {
    (0..20).try_for_each(|seed| comes_back(seed, None)).unwrap();
}

#[test]
fn a_leader_that_is_cut_off_steps_down() {
    (0..20).try_for_each(|seed| is_cut_off(seed, None)).unwrap();
}

/// What happened in a set of runs: a checker that saw nothing happen proves nothing.
#[derive(Default, Debug)]
struct Seen {
    leaders: usize,
    records: i64,
    reads: u64,
    installed: u64,
    read_back: u64,
    voter_sets: usize,
    promoted: usize,
}

impl Seen {
    fn add(&mut self, mut world: World) {
        self.leaders += world.ledger.leaders();
        self.records += world.ledger.committed_end().get();
        self.reads += world.ledger.reads_ready;
        self.installed += world.replicas.iter().map(|replica| replica.installed).sum::<u64>();
        self.read_back += world.replicas.iter().map(|replica| replica.read_back).sum::<u64>();
        let is_set = |entry: &Entry| matches!(entry.payload, Payload::Voters(_));
        self.voter_sets += world.replicas[0].history.iter().filter(|(_, entry)| is_set(entry)).count() - 1;
        let founders = world.profile.founders;
        let voters = world.replicas[0].node().voters().clone();
        self.promoted += voters.iter().filter(|voter| voter.id.get() > founders).count();
    }
}

#[test]
fn nothing_goes_wrong() {
    let mut seen = Seen::default();
    for profile in PROFILES {
        (0..60).for_each(|seed| seen.add(run(*profile, seed, None).unwrap()));
    }
    let Seen { leaders, records, reads, installed, read_back, voter_sets, promoted } = seen;
    let much = leaders > 1000 && records > 5000 && reads > 2000 && read_back > 500;
    assert!(much && installed > 100 && voter_sets > 200 && promoted > 50, "{seen:?}");
}
