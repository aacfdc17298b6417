//! Nodes, network, controller and time; every step is one call, so that scripts, drawn schedules and a model checker can take it.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use quipu_base::{BrokerEpoch, BrokerId, Offset};
use quipu_env::Instant;
use quipu_replication::{
    Acks, Ask, BatchShape, Configuration, DurableState, Effect, Event, Identity, Member, Message, PartitionState,
    Refusal, Replica, Reply, RequestError, RequestId, RoleKind, Sender, Settings, Verdict, Write,
};

use crate::{
    checker::Checker,
    controller::{Controller, directory, node_id},
    disk::{Disk, Rec, Records},
    probe::TestProbe,
};

/// A message with its bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Packet {
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) sender: Sender,
    pub(crate) message: Message,
    pub(crate) bytes: Records,
}

/// How far a start has come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Stage {
    Down,
    /// Its process runs.
    Booted,
    Registered,
    /// Its broker epoch is in the superblock.
    Stored,
    Unfenced,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Node {
    pub(crate) disk: Disk,
    pub(crate) replica: Option<Replica<TestProbe>>,
    pub(crate) stage: Stage,
    /// The image of the metadata that it has read.
    pub(crate) seen: usize,
    pub(crate) registration: BrokerEpoch,
    pub(crate) wants_barrier: bool,
    /// The high watermark that its shell was told.
    pub(crate) shown: Offset,
    /// It was made whole, but may still lose that.
    became_sound: bool,
    pub(crate) snapshot: Option<Disk>,
    /// The highest end of an append of each epoch that has reached it since it booted.
    offered: BTreeMap<i32, i64>,
}

/// What a client waits for.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Request {
    Produce(Vec<Rec>),
    Delete(i64),
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct World {
    pub(crate) nodes: BTreeMap<usize, Node>,
    pub(crate) network: Vec<Packet>,
    pub(crate) asks: Vec<(usize, Ask)>,
    /// All changes ever asked for.
    pub(crate) changes: BTreeSet<(i32, u32, Vec<Member>, usize)>,
    pub(crate) answers: Vec<(usize, Verdict, Option<PartitionState>)>,
    pub(crate) controller: Controller,
    pub(crate) checker: Checker,
    pub(crate) now: Instant,
    pub(crate) replies: Vec<(u64, Reply)>,
    pub(crate) refusals: Vec<(usize, Refusal)>,
    /// Records that a shell sends at once.
    pub(crate) append_records_max: i64,
    /// What a source's shell says of the size of a record.
    pub(crate) record_bytes: u64,
    /// Tells every event and effect on standard output.
    pub(crate) is_traced: bool,
    next_record: u32,
    next_request: u64,
    waiting: BTreeMap<u64, (usize, Request)>,
    next_directory: usize,
    probe: TestProbe,
}

pub(crate) const SETTINGS: Settings = Settings {
    lag_time_max: Duration::from_millis(1000),
    resend_after: Duration::from_millis(200),
    ask_again_after: Duration::from_millis(500),
};

/// How long clients wait: longer than any test.
const PATIENCE: Duration = Duration::from_secs(100_000);

impl World {
    /// All nodes down, with empty disks; nodes beyond the replication factor are replicas, but no members.
    pub(crate) fn new(nodes: usize, replication_factor: usize, insync_replicas_min: usize, probe: TestProbe) -> Self {
        let node = |number: usize| Node {
            disk: Disk::new(directory(number)),
            replica: None,
            stage: Stage::Down,
            seen: 0,
            registration: BrokerEpoch(-1),
            wants_barrier: false,
            shown: Offset::ZERO,
            became_sound: false,
            snapshot: None,
            offered: BTreeMap::new(),
        };
        Self {
            nodes: (1..=nodes).map(|number| (number, node(number))).collect(),
            network: Vec::new(),
            asks: Vec::new(),
            changes: BTreeSet::new(),
            answers: Vec::new(),
            controller: Controller::new(nodes, replication_factor, insync_replicas_min),
            checker: Checker::default(),
            now: Instant::ZERO,
            replies: Vec::new(),
            refusals: Vec::new(),
            append_records_max: i64::MAX,
            record_bytes: 100,
            is_traced: false,
            next_record: 1,
            next_request: 1,
            waiting: BTreeMap::new(),
            next_directory: nodes + 1,
            probe,
        }
    }

    /// A world in which every node has started and is unfenced, node 1 leads, and everything is quiet.
    pub(crate) fn started(
        nodes: usize,
        replication_factor: usize,
        insync_replicas_min: usize,
        probe: TestProbe,
    ) -> Self {
        let mut world = Self::new(nodes, replication_factor, insync_replicas_min, probe);
        for node in 1..=nodes {
            world.start_fully(node);
        }
        world.settle();
        world
    }

    pub(crate) fn node_numbers(&self) -> Vec<usize> {
        self.nodes.keys().copied().collect()
    }

    pub(crate) fn node(&self, node: usize) -> &Node {
        &self.nodes[&node]
    }

    pub(crate) fn node_mut(&mut self, node: usize) -> &mut Node {
        self.nodes.get_mut(&node).unwrap()
    }

    pub(crate) fn replica(&self, node: usize) -> &Replica<TestProbe> {
        self.nodes[&node].replica.as_ref().unwrap()
    }

    pub(crate) fn node_replica(&mut self, node: usize) -> &mut Replica<TestProbe> {
        self.node_mut(node).replica.as_mut().unwrap()
    }

    pub(crate) fn is_up(&self, node: usize) -> bool {
        self.nodes[&node].replica.is_some()
    }

    // Replicas.

    /// Hands an event to a replica and carries out what comes of it. A node that is down does nothing.
    pub(crate) fn handle(&mut self, node: usize, event: Event, in_hand: &Records) {
        let now = self.now;
        let told = self.is_traced.then(|| format!("{event:?}"));
        let Some(replica) = &mut self.node_mut(node).replica else { return };
        let effects = replica.handle(now, event);
        if let Some(told) = told {
            println!("{now:?} node {node} <- {told}");
            effects.iter().for_each(|effect| println!("    -> {effect:?}"));
        }
        for effect in effects {
            self.carry_out(node, effect, in_hand);
        }
        let (replica, disk) = (self.nodes[&node].replica.as_ref().unwrap(), &self.nodes[&node].disk);
        self.checker.check_replica(node, replica, disk);
        self.check_configuration();
    }

    fn carry_out(&mut self, node: usize, effect: Effect, in_hand: &Records) {
        match effect {
            Effect::Write(write) => self.node_mut(node).disk.write(write, in_hand),
            Effect::Send { to, message } => self.send(node, to, message),
            Effect::Reply { id, reply } => self.on_reply(id, reply),
            Effect::HighWatermark(end) => {
                self.node_mut(node).shown = end;
                let (replica, disk) = (self.nodes[&node].replica.as_ref().unwrap(), &self.nodes[&node].disk);
                if replica.role() == RoleKind::Leader {
                    self.checker.on_commit(node, replica, disk, end);
                } else if end.0 > disk.durable.log_end {
                    let durable = disk.durable.log_end;
                    self.checker.fail(format!("node {node} knows {end} to be committed, and has {durable} synced"));
                }
            }
            Effect::AskController(ask) => {
                if let Ask::Change { epoch, version, configuration } = &ask {
                    let change = (epoch.0, version.0, configuration.members.clone(), configuration.quorum);
                    self.changes.insert(change);
                }
                self.asks.push((node, ask));
            }
            Effect::ReadBarrier => self.node_mut(node).wants_barrier = true,
            Effect::BecameSound => self.node_mut(node).became_sound = true,
            Effect::Refused(refusal) => self.refusals.push((node, refusal)),
            Effect::Activated { .. } | Effect::SteppedDown { .. } | Effect::BecameFaulty => {}
        }
    }

    fn send(&mut self, node: usize, to: BrokerId, mut message: Message) {
        let sender_node = &self.nodes[&node];
        let log = &sender_node.disk.written;
        let max = self.append_records_max;
        let range = match &mut message {
            Message::Append(append) => {
                append.shorten(Offset(append.start.0.saturating_add(max)));
                append.start.0..append.end.0
            }
            Message::Piece(piece) => {
                let wanted = u64::try_from(piece.end.0 - piece.start.0).unwrap();
                piece.wanted_bytes = wanted * self.record_bytes;
                piece.shorten(Offset(piece.start.0.saturating_add(max)));
                piece.start.0..piece.end.0
            }
            _ => 0..0,
        };
        let bytes: Records = log.records.range(range.clone()).map(|(at, record)| (*at, *record)).collect();
        assert_eq!(bytes.len(), usize::try_from(range.end - range.start).unwrap(), "what is sent can be read");
        // Only a planted bug speaks before it is registered.
        let incarnation = sender_node.replica.as_ref().unwrap().incarnation().unwrap_or(BrokerEpoch(0));
        if let Message::Acknowledged(progress) = &message {
            let offered = sender_node.offered.get(&progress.epoch.0).copied();
            if offered.is_none_or(|end| progress.end.0 > end) {
                let told = format!("node {node} acknowledges {progress:?}, offered was {offered:?}");
                self.checker.violation.get_or_insert(told);
            }
        }
        let own = Member { node: node_id(node), directory_id: sender_node.disk.directory_id };
        let sender = Sender { member: own, incarnation };
        let to = usize::try_from(to.0).unwrap();
        self.network.push(Packet { from: node, to, sender, message, bytes });
    }

    fn on_reply(&mut self, id: RequestId, reply: Reply) {
        self.replies.push((id.0, reply));
        let Some((_, request)) = self.waiting.remove(&id.0) else {
            return self.checker.fail(format!("request {} is answered twice", id.0));
        };
        match (request, reply) {
            (Request::Produce(records), Reply::Produced { base_offset }) => {
                self.checker.on_produced(base_offset.0, &records);
            }
            (Request::Delete(before), Reply::Deleted { .. }) => {
                self.checker.delete_confirmed = self.checker.delete_confirmed.max(before);
            }
            _ => {}
        }
    }

    pub(crate) fn check_configuration(&mut self) {
        let record = &self.controller.now().record;
        let disks: BTreeMap<usize, &Disk> = self.nodes.iter().map(|(number, node)| (*number, &node.disk)).collect();
        self.checker.check_configuration(record, &disks);
    }

    // Starts and stops.

    /// A node's process starts, and reads its disk.
    pub(crate) fn boot(&mut self, node: usize) {
        if self.is_up(node) {
            return;
        }
        let disk = &self.node(node).disk;
        let identity = Identity {
            member: Member { node: node_id(node), directory_id: disk.directory_id },
            stored_incarnation: disk.broker_epoch,
        };
        let state: DurableState = disk.durable.durable_state();
        let min = self.controller.log[self.node(node).seen].insync_replicas_min;
        let replica = Replica::new(identity, state, min, SETTINGS, self.probe.clone());
        let fresh = self.node_mut(node);
        fresh.shown = replica.high_watermark();
        fresh.replica = Some(replica);
        fresh.stage = Stage::Booted;
        fresh.wants_barrier = false;
        fresh.became_sound = false;
        fresh.offered = BTreeMap::new();
    }

    /// A node that booted registers, and reads the metadata that it had read before.
    pub(crate) fn register(&mut self, node: usize) {
        if self.node(node).stage != Stage::Booted {
            return;
        }
        let last_unfenced = self.controller.last_unfenced.get(&node_id(node)).copied();
        let directory_id = self.node(node).disk.directory_id;
        let registration = self.controller.register(node, directory_id);
        self.node_mut(node).stage = Stage::Registered;
        self.node_mut(node).registration = registration;
        self.handle(node, Event::Registered { broker_epoch: registration, last_unfenced }, &Records::new());
        self.tell_image(node);
    }

    pub(crate) fn start(&mut self, node: usize) {
        self.boot(node);
        self.register(node);
    }

    /// The broker epoch goes to the superblock, if the replica lets it.
    pub(crate) fn store_epoch(&mut self, node: usize) {
        let this = self.node_mut(node);
        if this.stage == Stage::Registered && this.replica.as_ref().unwrap().is_marked() {
            this.disk.broker_epoch = this.replica.as_ref().unwrap().incarnation();
            this.stage = Stage::Stored;
        }
    }

    pub(crate) fn pass_barrier(&mut self, node: usize) {
        if core::mem::take(&mut self.node_mut(node).wants_barrier) {
            let record = self.controller.now().record.clone();
            self.handle(node, Event::Barrier(record), &Records::new());
        }
    }

    pub(crate) fn unfence(&mut self, node: usize) {
        let registration = self.node(node).registration;
        if self.node(node).stage == Stage::Stored {
            self.controller.set_live(node, true);
            self.node_mut(node).stage = Stage::Unfenced;
            self.handle(node, Event::Unfenced { broker_epoch: registration }, &Records::new());
        }
    }

    /// Up and unfenced, with nothing left to do for its start.
    pub(crate) fn is_in_service(&self, node: usize) -> bool {
        let this = self.node(node);
        let view = self.controller.now().brokers.get(&node_id(node));
        this.stage == Stage::Unfenced && !this.wants_barrier && view.is_some_and(|view| view.live)
    }

    /// A node that was fenced while it was up.
    pub(crate) fn unfence_again(&mut self, node: usize) {
        let view = self.controller.now().brokers.get(&node_id(node)).copied();
        if self.node(node).stage == Stage::Unfenced && view.is_some_and(|view| !view.live) {
            self.controller.set_live(node, true);
        }
    }

    pub(crate) fn start_fully(&mut self, node: usize) {
        self.start(node);
        self.sync_all(node);
        self.store_epoch(node);
        self.pass_barrier(node);
        self.sync_all(node);
        self.unfence(node);
        self.read_metadata(node, self.controller.log.len() - 1);
    }

    pub(crate) fn fence(&mut self, node: usize) {
        let view = self.controller.now().brokers.get(&node_id(node)).copied();
        if view.is_some_and(|view| view.live) {
            self.controller.set_live(node, false);
        }
    }

    /// The node stops; the first `kept` of the steps under way were durable.
    pub(crate) fn crash(&mut self, node: usize, kept: usize) {
        self.sync_disk(node, kept);
        let this = self.node_mut(node);
        this.disk.cut_power();
        this.replica = None;
        this.stage = Stage::Down;
        self.waiting.retain(|_, (at, _)| *at != node);
    }

    // Faults of disks.

    /// Whether the rules bear the loss of what this node has.
    pub(crate) fn may_lose(&self, node: usize) -> bool {
        let current = &self.controller.now().record;
        let asked = self
            .changes
            .iter()
            .filter(|(epoch, version, ..)| (*epoch, *version) == (current.leader_epoch.0, current.version.0));
        let asked = asked.map(|(_, _, members, quorum)| Configuration { members: members.clone(), quorum: *quorum });
        let disks = self.disks();
        let mut all = asked.chain([current.configuration.clone()]);
        all.all(|all| all.member_on(node_id(node)).is_none() || self.checker.bears(&all, Some(node), &disks))
    }

    fn disks(&self) -> BTreeMap<usize, &Disk> {
        self.nodes.iter().map(|(number, node)| (*number, &node.disk)).collect()
    }

    /// An empty disk with a new directory id, for a node that is down.
    pub(crate) fn wipe(&mut self, node: usize) {
        self.checker.lost.insert(node);
        let number = self.next_directory;
        self.next_directory += 1;
        let this = self.node_mut(node);
        this.disk = Disk::new(directory(number));
        this.snapshot = None;
    }

    pub(crate) fn take_snapshot(&mut self, node: usize) {
        let this = self.node_mut(node);
        let mut disk = this.disk.clone();
        disk.cut_power();
        this.snapshot = Some(disk);
    }

    /// Whether the snapshot is older than the last unfenced incarnation, which is what the rules bear.
    pub(crate) fn has_old_snapshot(&self, node: usize) -> bool {
        let this = self.node(node);
        let stored = this.snapshot.as_ref().map(|disk| disk.broker_epoch);
        let last = self.controller.last_unfenced.get(&node_id(node));
        stored.is_some_and(|stored| stored < last.copied())
    }

    pub(crate) fn restore(&mut self, node: usize) {
        let snapshot = self.node(node).snapshot.clone().unwrap();
        self.checker.lost.insert(node);
        self.node_mut(node).disk = snapshot;
    }

    /// Any snapshot, given a new directory id by a tool that marks its replicas.
    pub(crate) fn restore_with_new_id(&mut self, node: usize) {
        self.restore(node);
        let number = self.next_directory;
        self.next_directory += 1;
        let disk = &mut self.node_mut(node).disk;
        disk.directory_id = directory(number);
        disk.durable.is_faulty = true;
        disk.cut_power();
    }

    /// A synced record of a node rots, and is found to have. Steps under way are synced first.
    pub(crate) fn damage(&mut self, node: usize, offset: i64) {
        self.sync_all(node);
        self.checker.lost.insert(node);
        self.node_mut(node).became_sound = false;
        let disk = &mut self.node_mut(node).disk;
        disk.durable.damage(offset);
        disk.written.damage(offset);
        self.handle(node, Event::Damage { range: Offset(offset)..Offset(offset + 1) }, &Records::new());
    }

    pub(crate) fn fail_writes(&mut self, node: usize) {
        let disk = &mut self.node_mut(node).disk;
        disk.cut_power();
        let state = disk.durable.durable_state();
        self.handle(node, Event::WriteFailed { state }, &Records::new());
    }

    // Progress.

    fn sync_disk(&mut self, node: usize, count: usize) -> Option<Write> {
        let this = self.node_mut(node);
        let last = this.disk.sync(count);
        if this.became_sound && !this.disk.durable.is_faulty {
            this.became_sound = false;
            self.checker.lost.remove(&node);
        }
        last
    }

    pub(crate) fn sync(&mut self, node: usize, count: usize) {
        if let Some(last) = self.sync_disk(node, count) {
            self.handle(node, Event::Synced { id: last.id }, &Records::new());
        }
    }

    pub(crate) fn sync_all(&mut self, node: usize) {
        while !self.node(node).disk.under_way.is_empty() {
            let count = self.node(node).disk.under_way.len();
            self.sync(node, count);
        }
    }

    pub(crate) fn deliver(&mut self, index: usize) {
        let packet = self.network.remove(index);
        self.deliver_packet(packet);
    }

    pub(crate) fn deliver_packet(&mut self, packet: Packet) {
        if let Message::Append(append) = &packet.message {
            let end = self.node_mut(packet.to).offered.entry(append.epoch.0).or_default();
            *end = append.end.0.max(*end);
        }
        let event = Event::Peer { sender: packet.sender, message: packet.message };
        self.handle(packet.to, event, &packet.bytes);
    }

    /// The node reads the metadata log up to `index`.
    pub(crate) fn read_metadata(&mut self, node: usize, index: usize) {
        if self.is_up(node) && index > self.node(node).seen {
            self.node_mut(node).seen = index;
            self.tell_image(node);
        }
    }

    fn tell_image(&mut self, node: usize) {
        let image = self.controller.log[self.node(node).seen].clone();
        for (broker, view) in &image.brokers {
            self.handle(node, Event::Broker { node: *broker, view: Some(*view) }, &Records::new());
        }
        self.handle(node, Event::InsyncReplicasMin(image.insync_replicas_min), &Records::new());
        self.handle(node, Event::Metadata(image.record), &Records::new());
    }

    /// The controller takes up a request; its answer is on the way then.
    pub(crate) fn control(&mut self, index: usize, declines: bool) {
        let (node, ask) = self.asks.remove(index);
        self.control_copy(node, &ask, declines);
    }

    pub(crate) fn control_copy(&mut self, node: usize, ask: &Ask, declines: bool) {
        // A configuration that could not bear what is lost already is beyond what the rules promise.
        let unbearable = match ask {
            Ask::Change { configuration, .. } => !self.checker.bears(configuration, None, &self.disks()),
            _ => false,
        };
        let (verdict, record) = self.controller.answer(ask, declines || unbearable);
        self.answers.push((node, verdict, Some(record)));
        self.check_configuration();
    }

    pub(crate) fn answer(&mut self, index: usize) {
        let (node, verdict, record) = self.answers.remove(index);
        self.handle(node, Event::Answer { verdict, record }, &Records::new());
    }

    pub(crate) fn pass_time(&mut self, by: Duration) {
        self.now = self.now + by;
        for node in self.node_numbers() {
            let due = self.node(node).replica.as_ref().and_then(Replica::next_deadline);
            if due.is_some_and(|due| due <= self.now) {
                self.handle(node, Event::Time, &Records::new());
                // Whoever keeps its timer would be called for ever.
                let next = self.node(node).replica.as_ref().and_then(Replica::next_deadline);
                assert!(next.is_none_or(|at| at > self.now), "node {node} leaves a time that has passed as it was");
            }
        }
    }

    // Clients.

    /// A client's request for `count` records; its number.
    pub(crate) fn produce_with(&mut self, node: usize, count: u32, acks: Acks) -> u64 {
        let id = self.next_request;
        self.next_request += 1;
        if !self.is_up(node) {
            return id;
        }
        let replica = self.replica(node);
        let (epoch, base) = (replica.promised().0, replica.log().log_end.0);
        let records: Vec<Rec> = (0..count).map(|index| Rec { id: self.next_record + index, epoch }).collect();
        self.next_record += count;
        let bytes: Records = (base..).zip(records.iter().copied()).collect();
        // Only what Q members are said to hold is judged by the checker.
        let judged = if acks == Acks::All { records } else { Vec::new() };
        self.waiting.insert(id, (node, Request::Produce(judged)));
        let batches = vec![BatchShape { record_count: count, bytes: 100 * count }];
        let deadline = self.now + PATIENCE;
        self.handle(node, Event::Produce { id: RequestId(id), batches, acks, deadline }, &bytes);
        id
    }

    pub(crate) fn produce(&mut self, node: usize, count: u32) -> u64 {
        self.produce_with(node, count, Acks::All)
    }

    pub(crate) fn delete(&mut self, node: usize, before: i64) -> u64 {
        let id = self.next_request;
        self.next_request += 1;
        let Some(replica) = &self.node(node).replica else { return id };
        if replica.role() == RoleKind::Leader && before <= replica.high_watermark().0 {
            self.checker.delete_requested = self.checker.delete_requested.max(before);
        }
        self.waiting.insert(id, (node, Request::Delete(before)));
        let deadline = self.now + PATIENCE;
        let event = Event::DeleteRecords { id: Some(RequestId(id)), before: Some(Offset(before)), deadline };
        self.handle(node, event, &Records::new());
        id
    }

    pub(crate) fn reply(&self, id: u64) -> Option<Reply> {
        self.replies.iter().find(|(known, _)| *known == id).map(|(_, reply)| *reply)
    }

    pub(crate) fn leader(&self) -> Option<usize> {
        let leads = |node: &usize| self.is_up(*node) && self.replica(*node).role() == RoleKind::Leader;
        self.node_numbers().into_iter().filter(leads).max_by_key(|node| self.replica(*node).promised())
    }

    // Quiet.

    /// Everything that is on its way arrives, in order, until nothing is; no time passes.
    pub(crate) fn settle(&mut self) {
        for _ in 0..10_000 {
            for node in self.node_numbers() {
                self.sync_all(node);
                self.read_metadata(node, self.controller.log.len() - 1);
            }
            if !self.network.is_empty() {
                self.deliver(0);
            } else if !self.asks.is_empty() {
                self.control(0, false);
            } else if !self.answers.is_empty() {
                self.answer(0);
            } else if self.nodes.values().all(|node| {
                node.disk.under_way.is_empty() && (node.replica.is_none() || node.seen + 1 == self.controller.log.len())
            }) {
                return;
            }
        }
        self.checker.fail("liveness: it never gets quiet".to_owned());
    }

    /// What is on its way between these nodes arrives, and is synced there; the rest is lost. They read no metadata.
    pub(crate) fn exchange(&mut self, nodes: &[usize]) {
        for _ in 0..10_000 {
            for node in nodes {
                self.sync_all(*node);
            }
            let between = |packet: &Packet| nodes.contains(&packet.from) && nodes.contains(&packet.to);
            match self.network.iter().position(between) {
                Some(index) => self.deliver(index),
                None => return self.network.clear(),
            }
        }
        self.checker.fail("liveness: an exchange does not end".to_owned());
    }

    /// Messages arrive, nothing is synced.
    pub(crate) fn settle_network(&mut self) {
        while !self.network.is_empty() {
            self.deliver(0);
        }
    }

    /// The controller takes up what it is asked, and answers arrive.
    pub(crate) fn settle_asks(&mut self) {
        while !self.asks.is_empty() {
            self.control(0, false);
        }
        while !self.answers.is_empty() {
            self.answer(0);
        }
    }

    /// As [`Self::exchange`], for a while.
    pub(crate) fn exchange_for_a_while(&mut self, nodes: &[usize]) {
        for _ in 0..10 {
            self.exchange(nodes);
            self.pass_time(Duration::from_millis(250));
        }
        self.exchange(nodes);
    }

    /// These nodes read all metadata.
    pub(crate) fn inform(&mut self, nodes: &[usize]) {
        for node in nodes {
            self.read_metadata(*node, self.controller.log.len() - 1);
        }
    }

    /// The controller has `node` lead; these nodes hear of it and talk to each other, nobody else does.
    pub(crate) fn lead_among(&mut self, node: usize, nodes: &[usize]) {
        self.controller.elect(Some(node_id(node)));
        self.inform(nodes);
        self.exchange(nodes);
    }

    /// Takes messages out of the network, to be delivered later.
    pub(crate) fn hold(&mut self, held: impl Fn(&Packet) -> bool) -> Vec<Packet> {
        let (taken, left) = core::mem::take(&mut self.network).into_iter().partition(|packet| held(packet));
        self.network = left;
        taken
    }

    /// Ends all faults, and requires that the partition comes back whole and takes a record.
    pub(crate) fn heal(&mut self) {
        for _ in 0..200 {
            for node in self.node_numbers() {
                self.start(node);
                self.sync_all(node);
                self.store_epoch(node);
                self.pass_barrier(node);
                self.sync_all(node);
                self.unfence(node);
                self.unfence_again(node);
            }
            self.settle();
            if self.checker.violation.is_some() || self.is_whole() {
                break;
            }
            if self.controller.now().record.leader.is_none() {
                self.controller.elect(None);
            }
            self.pass_time(Duration::from_millis(100));
        }
        if !self.is_whole() {
            let states: Vec<String> = self.node_numbers().into_iter().map(|node| self.describe(node)).collect();
            return self
                .checker
                .fail(format!("liveness: not whole again: {:?} {states:?}", self.controller.now().record));
        }
        let leader = self.leader().unwrap();
        let id = self.produce(leader, 1);
        for _ in 0..20 {
            self.settle();
            self.pass_time(Duration::from_millis(100));
        }
        if self.checker.violation.is_none() && !matches!(self.reply(id), Some(Reply::Produced { .. })) {
            let answer = self.reply(id);
            self.checker.fail(format!("liveness: a record is not taken: {answer:?} by {}", self.describe(leader)));
        }
        self.check_equal();
    }

    /// All logs are the same in the end, and their high watermarks.
    fn check_equal(&mut self) {
        let logs: BTreeSet<(i64, i64, i64, Vec<Rec>)> = self
            .nodes
            .values()
            .map(|node| {
                let log = &node.disk.durable;
                let shown = node.replica.as_ref().unwrap().high_watermark().0;
                (log.log_start, log.log_end, shown, log.records.values().copied().collect())
            })
            .collect();
        if logs.len() != 1 {
            self.checker.fail(format!("replicas differ after healing: {logs:?}"));
        }
    }

    fn is_whole(&self) -> bool {
        let image = self.controller.now();
        let Some(leader) = self.leader() else { return false };
        let replica = self.replica(leader);
        let wanted = Configuration::new(
            image.record.configuration.members.clone(),
            image.insync_replicas_min,
            image.record.replication_factor,
        );
        replica.latest_offset() == Ok(replica.log().log_end)
            && wanted.is_some_and(|wanted| wanted.quorum == image.record.configuration.quorum)
            && image.record.configuration.members.len() == self.nodes.len()
            && self.node_numbers().iter().all(|node| !self.replica(*node).is_faulty())
            && self.nodes.values().all(|node| node.shown == replica.log().log_end)
            && image.record.configuration.members.iter().all(|member| self.controller.is_live(*member))
    }

    pub(crate) fn describe(&self, node: usize) -> String {
        let this = self.node(node);
        let Some(replica) = &this.replica else { return format!("{node} down") };
        let log = replica.log();
        format!(
            "{node} {:?} {:?} {}..{} hw {} label {} promised {} {}",
            this.stage,
            replica.role(),
            log.log_start,
            log.log_end,
            replica.high_watermark(),
            replica.label(),
            replica.promised(),
            if replica.is_faulty() { "faulty" } else { "sound" },
        )
    }

    pub(crate) fn was_refused(&self, id: u64, error: RequestError) -> bool {
        self.reply(id) == Some(Reply::Failed(error))
    }
}
