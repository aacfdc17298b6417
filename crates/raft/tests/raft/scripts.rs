//! Stories told by scripts: `../scripts/*.txt`, each a list of commands, `----`, what comes of them, and an empty line.
//!
//! `UPDATE_SCRIPTS=1 cargo test -p quipu-raft scripts` writes what comes of them anew; read the difference. The judge looks on.
//!
//! | command | |
//! |---|---|
//! | `cluster 1 2 3 observers 4` | makes and starts them |
//! | `timeout 1` | the clock goes to the node's next deadline, and it alone notices |
//! | `wait 1 300` | the clock goes on, in ms, and it alone notices; `wait all 300`: all do |
//! | `pass 300` | the clock goes on for all, and everything arrives and is durable at once |
//! | `deliver 1>2`, `drop 1>2` | what is on that link; `*` for any node |
//! | `persist 1` | the oldest persist on its way is durable; `persist all`: all of all |
//! | `run` | delivers and persists everything until nothing is left |
//! | `cut 1`, `heal` | from now on nothing is sent to it or by it; all links work |
//! | `propose 1 a`, `propose 1 a*3` | data with one record, or three |
//! | `read 1 7`, `transfer 1 2`, `add 1 4`, `remove 1 2`, `snapshot 1 [keep]`, `lost 1 2` | at node 1 |
//! | `crash 1`, `start 1`, `wipe 1` | loses what is not durable; starts; starts with a new directory |
//! | `show 1` | its state |
//! | `quietly COMMAND` | without telling |

use std::collections::BTreeSet;
use std::fmt::Write;
use std::time::Duration;

use quipu_base::{BrokerId, Offset};
use quipu_env::Instant;
use quipu_raft::{Body, LogPoint, Message, ReplicaKey, VoterSet};

use crate::{
    ledger::{Ledger, Verdict},
    replica::{Disk, Output, Planted, Replica, data, key, keyed, tell, voters},
};

pub(crate) struct Script {
    planted: Planted,
    replicas: Vec<Replica>,
    wire: Vec<Message>,
    cut: BTreeSet<i32>,
    ledger: Ledger,
    told: String,
    verdict: Verdict,
    now: Instant,
}

impl Script {
    fn new(bug: Option<&'static str>) -> Self {
        Self {
            planted: Planted(bug),
            replicas: Vec::new(),
            wire: Vec::new(),
            cut: BTreeSet::new(),
            ledger: Ledger::default(),
            told: String::new(),
            verdict: Ok(()),
            now: Instant::ZERO,
        }
    }

    /// What comes of a command.
    fn run(&mut self, line: &str) -> String {
        self.told.clear();
        let quiet = line.strip_prefix("quietly ");
        self.command(quiet.unwrap_or(line));
        if quiet.is_some() { String::new() } else { self.told.clone() }
    }

    fn command(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (command, rest) = words.split_first().unwrap();
        match (*command, rest) {
            ("cluster", ids) => self.cluster(ids),
            ("timeout", [id]) => self.timeout(self.index(id)),
            ("wait", [id, ms]) => self.wait(id, ms.parse().unwrap()),
            ("pass", [ms]) => self.pass(ms.parse().unwrap()),
            ("deliver", [link]) => self.deliver(link),
            ("drop", [link]) => drop(self.take_link(link)),
            ("persist", ["all"]) => self.persist_all(),
            ("persist", [id]) => self.persist(self.index(id)),
            ("run", []) => self.settle_all(),
            ("cut", [id]) => drop(self.cut.insert(id.parse().unwrap())),
            ("heal", []) => self.cut.clear(),
            ("crash", [id]) => {
                let index = self.index(id);
                self.replicas[index].crash(0);
            }
            ("start", [id]) => self.start(self.index(id)),
            ("wipe", [id]) => self.wipe(id.parse().unwrap()),
            ("show", [id]) => self.show(self.index(id)),
            ("snapshot", [id, keep @ ..]) => {
                let index = self.index(id);
                let taken = self.replicas[index].take_snapshot(!keep.is_empty());
                self.tell(if taken { "taken" } else { "nothing to take" });
                self.settle(index);
            }
            (_, [id, arguments @ ..]) => self.ask(command, self.index(id), arguments),
            _ => panic!("no such command: {line}"),
        }
    }

    fn ask(&mut self, command: &str, index: usize, arguments: &[&str]) {
        let peer = |text: &str| self.key_of(text.parse().unwrap());
        let target = arguments[0];
        let replica_key =
            if command == "add" || command == "remove" || command == "transfer" { peer(target) } else { key(0) };
        let replica = &mut self.replicas[index];
        let now = replica.now;
        let node = replica.node();
        let answer = match command {
            "propose" => {
                let (text, records) = target.split_once('*').unwrap_or((target, "1"));
                let proposed = node.handle_proposal(now, vec![data(text, records.parse().unwrap())]);
                proposed
                    .map(|at| format!("at {}..{} in epoch {}", at.start, at.end, at.epoch))
                    .map_err(|error| error.to_string())
            }
            "read" => {
                let context = target.parse().unwrap();
                self.ledger.on_read(context);
                node.handle_read_index(now, context).map(|()| "asked".to_owned()).map_err(|error| error.to_string())
            }
            "transfer" => {
                node.handle_transfer(now, replica_key).map(|()| "asked".to_owned()).map_err(|error| error.to_string())
            }
            "add" => {
                node.handle_add_voter(now, replica_key).map(|at| format!("at {at}")).map_err(|error| error.to_string())
            }
            "remove" => node
                .handle_remove_voter(now, replica_key)
                .map(|at| format!("at {at}"))
                .map_err(|error| error.to_string()),
            "lost" => {
                node.handle_peer_lost(now, BrokerId(target.parse().unwrap()));
                Ok("told".to_owned())
            }
            _ => panic!("no such command: {command}"),
        };
        self.tell(&answer.unwrap_or_else(|error| format!("refused: {error}")));
        self.settle(index);
    }

    fn tell(&mut self, line: &str) {
        writeln!(self.told, "{line}").unwrap();
    }

    fn index(&self, id: &str) -> usize {
        let id = BrokerId(id.parse().unwrap());
        self.replicas.iter().position(|replica| replica.key.id == id).unwrap()
    }

    /// The replica of a node; a voter's old directory if the first node that is up knows it so.
    fn key_of(&self, id: i32) -> ReplicaKey {
        let known = self.replicas.iter().filter_map(|replica| replica.node.as_ref());
        let voter = known.filter_map(|node| node.voters().get(BrokerId(id))).next();
        voter.unwrap_or_else(|| self.replicas[self.index(&id.to_string())].key)
    }

    fn cluster(&mut self, words: &[&str]) {
        let mut parts = words.split(|word| *word == "observers");
        let ids = |part: Option<&[&str]>| -> Vec<i32> {
            part.unwrap_or_default().iter().map(|word| word.parse().unwrap()).collect()
        };
        let (founders, observers) = (ids(parts.next()), ids(parts.next()));
        for id in founders.iter().chain(&observers) {
            let known = if founders.contains(id) { voters(&founders) } else { VoterSet::EMPTY };
            self.replicas.push(Replica::new(key(*id), Disk::new(known), &founders, self.planted));
        }
        for index in 0..self.replicas.len() {
            self.start(index);
        }
    }

    fn start(&mut self, index: usize) {
        // The seeds are such that nothing is due at the same time.
        if let Err(error) = self.replicas[index].start(7) {
            self.tell(&format!("{}: does not start: {error}", self.replicas[index].key.id));
            return;
        }
        self.settle(index);
    }

    fn wipe(&mut self, id: i32) {
        let index = self.index(&id.to_string());
        let contacts: Vec<i32> = self.replicas[index].contacts.iter().map(|id| id.get()).collect();
        let now = self.now;
        self.replicas[index] = Replica::new(keyed(id, 2), Disk::new(VoterSet::EMPTY), &contacts, self.planted);
        self.replicas[index].now = now;
        self.start(index);
    }

    /// One clock for all.
    fn set_clock(&mut self, now: Instant) {
        self.now = self.now.max(now);
        self.replicas.iter_mut().for_each(|replica| replica.now = self.now);
    }

    fn timeout(&mut self, index: usize) {
        self.set_clock(self.replicas[index].node.as_ref().unwrap().next_deadline());
        let now = self.now;
        self.replicas[index].node().on_deadline(now);
        self.settle(index);
    }

    fn wait(&mut self, id: &str, ms: u64) {
        let waiting: Vec<usize> = if id == "all" { (0..self.replicas.len()).collect() } else { vec![self.index(id)] };
        self.pass_for(&waiting, ms, false);
    }

    fn pass(&mut self, ms: u64) {
        let all: Vec<usize> = (0..self.replicas.len()).collect();
        self.pass_for(&all, ms, true);
    }

    /// Time goes on; what is due at those replicas happens.
    fn pass_for(&mut self, waiting: &[usize], ms: u64, settle: bool) {
        let until = self.now + Duration::from_millis(ms);
        loop {
            if settle {
                self.settle_all();
            }
            let deadline = |index: &usize| Some((self.replicas[*index].node.as_ref()?.next_deadline(), *index));
            let due = waiting.iter().filter_map(deadline).min().filter(|(at, _)| *at <= until);
            let Some((_, index)) = due else { break };
            self.timeout(index);
        }
        self.set_clock(until);
    }

    fn take_link(&mut self, link: &str) -> Vec<Message> {
        let (from, to) = link.split_once('>').unwrap();
        let fits = |id: BrokerId, wanted: &str| wanted == "*" || id == BrokerId(wanted.parse().unwrap());
        let wire = std::mem::take(&mut self.wire);
        let (taken, left) =
            wire.into_iter().partition(|message| fits(message.from.id, from) && fits(message.to.id, to));
        self.wire = left;
        taken
    }

    fn deliver(&mut self, link: &str) {
        for message in self.take_link(link) {
            self.deliver_one(message);
        }
    }

    fn deliver_one(&mut self, message: Message) {
        let Some(index) = self.replicas.iter().position(|replica| replica.key.id == message.to.id) else { return };
        if !self.replicas[index].is_up() {
            return;
        }
        self.tell(&say(&message));
        let replica = &mut self.replicas[index];
        let now = replica.now;
        if let Err(error) = replica.node().handle_message(now, message.from.id, message) {
            self.tell(&format!("  refused: {error}"));
        }
        self.settle(index);
    }

    fn persist(&mut self, index: usize) {
        let outputs = self.replicas[index].persist_one();
        self.judge(index, outputs);
    }

    fn persist_all(&mut self) {
        let waits = |replica: &Replica| replica.is_up() && !replica.queue.is_empty();
        while let Some(index) = self.replicas.iter().position(waits) {
            self.persist(index);
        }
    }

    fn settle_all(&mut self) {
        loop {
            self.persist_all();
            if self.wire.is_empty() {
                return;
            }
            let message = self.wire.remove(0);
            self.deliver_one(message);
        }
    }

    fn settle(&mut self, index: usize) {
        let outputs = self.replicas[index].take();
        self.judge(index, outputs);
    }

    fn judge(&mut self, index: usize, outputs: Vec<Output>) {
        let id = self.replicas[index].key.id;
        let mut verdict = self.ledger.on_log(&self.replicas[index].memory);
        for output in outputs {
            let judged = match &output {
                Output::Send(message) => self.ledger.on_send(message),
                Output::Committed { from, until } => {
                    let epoch = self.replicas[index].node().epoch();
                    self.ledger.on_commit(&self.replicas[index], epoch, *from, *until)
                }
                Output::ReadReady { context, offset } => self.ledger.on_read_ready(*context, *offset),
                Output::BecameLeader { epoch, start } => self.ledger.on_leader(&self.replicas[index], *epoch, *start),
                _ => Ok(()),
            };
            verdict = verdict.and(judged);
            let line = match output {
                Output::Send(message) => {
                    let is_cut = self.cut.contains(&id.get()) || self.cut.contains(&message.to.id.get());
                    if !is_cut {
                        self.wire.push(message);
                    }
                    continue;
                }
                Output::Persisting => self.persisting(index),
                Output::Committed { from, until } => format!("commits {from}..{until}"),
                Output::ReadReady { context, offset } => format!("read {context} is current from {offset} on"),
                Output::ReadFailed(context) => format!("read {context} fails"),
                Output::BecameLeader { epoch, start } => format!("leads epoch {epoch} from {start} on"),
                Output::Told(text) => text,
            };
            self.tell(&format!("  {id}: {line}"));
        }
        let verdict = verdict.and(self.ledger.on_history_of(&self.replicas[index]));
        if self.verdict.is_ok() {
            self.verdict = verdict;
        }
    }

    fn persisting(&self, index: usize) -> String {
        let (persist, _) = self.replicas[index].queue.back().unwrap();
        let mut text = format!("persists #{}", persist.number);
        if let Some(hard) = persist.hard_state {
            let vote = hard.vote.map_or("nobody".to_owned(), |vote| vote.id.to_string());
            write!(text, " epoch {} vote {vote}", hard.epoch).unwrap();
        }
        if let Some(meta) = &persist.install {
            write!(text, " install {}", point(meta.base.point)).unwrap();
        }
        if let Some(offset) = persist.truncate {
            write!(text, " cut at {offset}").unwrap();
        }
        if !persist.entries.is_empty() {
            let entries: Vec<String> = persist.entries.iter().map(tell).collect();
            write!(text, " {}+[{}]", persist.start, entries.join(" ")).unwrap();
        }
        text
    }

    fn show(&mut self, index: usize) {
        let replica = &self.replicas[index];
        let Some(node) = &replica.node else {
            self.tell("down");
            return;
        };
        let status = node.status();
        let role = if node.is_leader() { "leads" } else { "follows" };
        let leader = status.leader.map_or("nobody".to_owned(), |leader| leader.id.to_string());
        let entries: Vec<String> = replica.memory.entries.iter().map(|(_, entry)| tell(entry)).collect();
        let voters: Vec<String> = status.voters.iter().map(|voter| voter.id.to_string()).collect();
        let log = format!("{}+[{}]", status.log_start, entries.join(" "));
        let line = format!(
            "{role} {leader} in epoch {}, log {log} durable to {}, committed to {}, voters {}",
            status.epoch,
            status.durable_end,
            status.high_watermark,
            voters.join(" ")
        );
        self.tell(&line);
    }
}

fn point(point: LogPoint) -> String {
    if point == LogPoint::START { "0".to_owned() } else { format!("{}@{}", point.offset, point.epoch) }
}

fn say(message: &Message) -> String {
    let id = |replica: Option<ReplicaKey>| replica.map_or("nobody".to_owned(), |replica| replica.id.to_string());
    let yes = |granted: bool| if granted { "yes" } else { "no" };
    let offset = |offset: Option<Offset>| offset.map_or("unknown".to_owned(), |offset| offset.to_string());
    let body = match &message.body {
        Body::PreVote { next_epoch, log } => format!("PreVote for {next_epoch}, log {}", point(*log)),
        Body::PreVoteReply { next_epoch, granted, leader } => {
            format!("PreVoteReply for {next_epoch}: {}, leader {}", yes(*granted), id(*leader))
        }
        Body::Vote { log, transfer } => {
            format!("Vote log {}{}", point(*log), if *transfer { ", transfer" } else { "" })
        }
        Body::VoteReply { granted } => format!("VoteReply {}", yes(*granted)),
        Body::Append { start, entries, high_watermark } => {
            let entries: Vec<String> = entries.iter().map(tell).collect();
            format!("Append {}+[{}] committed {high_watermark}", point(*start), entries.join(" "))
        }
        Body::Appended { matched } => format!("Appended {matched}"),
        Body::Diverged { at, hint } => format!("Diverged at {at}, perhaps {}", point(*hint)),
        Body::Heartbeat { round, high_watermark } => format!("Heartbeat {round} committed {high_watermark}"),
        Body::HeartbeatReply { round } => format!("HeartbeatReply {round}"),
        Body::SnapshotChunk { snapshot, position, .. } => {
            format!("SnapshotChunk {} from {position}", point(snapshot.base.point))
        }
        Body::SnapshotProgress { snapshot, position } => format!("SnapshotProgress {} to {position}", point(*snapshot)),
        Body::Leader { leader } => format!("Leader {}", id(*leader)),
        Body::Read { context } => format!("Read {context}"),
        Body::ReadReply { context, offset: at } => format!("ReadReply {context}: {}", offset(*at)),
        other => format!("{other:?}"),
    };
    format!("{}>{} e{} {body}", message.from.id, message.to.id, message.epoch)
}

macro_rules! scripts {
    ($($name:ident),* $(,)?) => {
        const SCRIPTS: &[(&str, &str)] = &[$((stringify!($name), include_str!(concat!("../scripts/", stringify!($name), ".txt")))),*];

        $(#[test]
        fn $name() {
            check(stringify!($name));
        })*
    };
}

scripts![
    check_quorum,
    commands,
    directories,
    divergence,
    earlier_epoch,
    election,
    lost_leader,
    observers,
    pre_vote,
    reads,
    replication,
    restart,
    snapshot,
    snapshot_resumed,
    snapshot_voters,
    transfer,
    voters_by_two_leaders,
    voters_change,
    voters_cut_off,
];

/// Runs the commands of a script and gives the file as it should be.
fn play(name: &str, bug: Option<&'static str>) -> (String, Verdict) {
    let (_, text) = SCRIPTS.iter().find(|(known, _)| *known == name).unwrap();
    let mut script = Script::new(bug);
    let mut played = String::new();
    let mut pending = String::new();
    let mut expected = false;
    for line in text.lines() {
        match line.trim_end() {
            "" => {
                if expected || pending.is_empty() {
                    played += "\n";
                }
                expected = false;
            }
            "----" => {
                write!(played, "----\n{pending}").unwrap();
                pending.clear();
                expected = true;
            }
            _ if expected => {}
            line => {
                writeln!(played, "{line}").unwrap();
                if !line.starts_with('#') {
                    pending += &script.run(line);
                }
            }
        }
    }
    assert!(pending.is_empty(), "{name}: the last commands tell something, and `----` is missing");
    (played, script.verdict)
}

#[expect(clippy::disallowed_methods, reason = "a test writes its own script anew when it is told to")]
fn check(name: &str) {
    let (played, verdict) = play(name, None);
    verdict.unwrap();
    let (_, text) = SCRIPTS.iter().find(|(known, _)| *known == name).unwrap();
    if std::env::var_os("UPDATE_SCRIPTS").is_some() {
        let file = format!("{}/tests/scripts/{name}.txt", env!("CARGO_MANIFEST_DIR"));
        std::fs::write(file, &played).unwrap();
        return;
    }
    assert_eq!(played, *text, "{name}: another story than the script's");
}

/// What the judge says of a script with a planted bug.
pub(crate) fn judge(name: &str, bug: &'static str) -> Verdict {
    play(name, Some(bug)).1
}
