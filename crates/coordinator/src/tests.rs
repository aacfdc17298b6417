//! A register as the coordinator: what the shard promises, for any order of requests, commits, failures and time.

use core::time::Duration;
use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;
use quipu_base::Timestamp;
use quipu_env::Instant;

use crate::{Context, Effect, Machine, Record, Shard, Token, Turn, Unanswered, WriteId, limits};

fn context(now: Instant) -> Context {
    Context { now, wall: Timestamp(0), fresh: [0; 16] }
}

#[derive(Clone, Debug)]
enum Ask {
    Add(u8, u64),
    Read(u8),
    /// Answered at the deadline, with what is there then.
    Later(u8, Duration),
}

/// Sums by key.
#[derive(Default)]
struct Sums {
    sums: BTreeMap<u8, u64>,
    later: BTreeMap<(Instant, Token), u8>,
}

fn record(key: u8, sum: u64) -> Record {
    Record { key: Bytes::from(vec![key]), value: Some(Bytes::copy_from_slice(&sum.to_be_bytes())) }
}

impl Sums {
    fn sum(&self, key: u8) -> u64 {
        self.sums.get(&key).copied().unwrap_or(0)
    }
}

impl Machine for Sums {
    type Request = Ask;
    type Reply = (u8, u64);

    fn replay(&mut self, record: &Record) {
        let bytes = record.value.as_ref().expect("no tombstones here");
        self.sums.insert(record.key[0], u64::from_be_bytes(bytes[..].try_into().expect("eight bytes")));
    }

    fn handle_loaded(&mut self, _: &Context) -> Turn<(u8, u64)> {
        Turn::default()
    }

    fn handle(&mut self, context: &Context, from: Token, request: Ask) -> Turn<(u8, u64)> {
        let mut turn = Turn::default();
        match request {
            Ask::Add(key, more) => {
                let sum = self.sum(key) + more;
                self.sums.insert(key, sum);
                turn.write(record(key, sum));
                turn.reply(from, (key, sum));
            }
            Ask::Read(key) => turn.reply(from, (key, self.sum(key))),
            Ask::Later(key, wait) => drop(self.later.insert((context.now + wait, from), key)),
        }
        turn
    }

    fn on_deadline(&mut self, context: &Context) -> Turn<(u8, u64)> {
        let mut turn = Turn::default();
        while let Some(entry) = self.later.first_entry()
            && entry.key().0 <= context.now
        {
            let ((_, to), key) = entry.remove_entry();
            turn.reply(to, (key, self.sum(key)));
        }
        turn
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.later.first_key_value().map(|((at, _), _)| *at)
    }
}

/// The shell: a log, and what was told to whom.
struct World {
    shard: Shard<Sums>,
    now: Instant,
    tokens: u64,
    under_way: BTreeMap<WriteId, Vec<Record>>,
    last_id: WriteId,
    /// What is committed, by key.
    committed: BTreeMap<u8, u64>,
    told: BTreeMap<Token, Result<(u8, u64), Unanswered>>,
}

impl World {
    fn new() -> Self {
        let now = Instant::ZERO;
        Self {
            shard: Shard::new(Sums::default(), &context(now)),
            now,
            tokens: 0,
            under_way: BTreeMap::new(),
            last_id: WriteId(0),
            committed: BTreeMap::new(),
            told: BTreeMap::new(),
        }
    }

    fn ask(&mut self, ask: Ask) -> Token {
        self.tokens += 1;
        self.shard.handle(&context(self.now), Token(self.tokens), ask);
        self.carry_out();
        Token(self.tokens)
    }

    /// The first write under way is committed.
    fn commit(&mut self) {
        let Some((id, records)) = self.under_way.pop_first() else { return };
        for record in records {
            let mut replayed = Sums::default();
            replayed.replay(&record);
            self.committed.extend(replayed.sums);
        }
        self.shard.handle_written(id, true);
        self.carry_out();
    }

    fn fail(&mut self) {
        let Some((id, _)) = self.under_way.pop_first() else { return };
        self.shard.handle_written(id, false);
        self.carry_out();
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        self.shard.on_deadline(&context(self.now));
        self.carry_out();
    }

    fn carry_out(&mut self) {
        for effect in self.shard.take_effects() {
            match effect {
                Effect::Write { id, records } => {
                    assert_eq!(id.0, self.last_id.0 + 1, "writes leave in order");
                    assert!(!records.is_empty());
                    self.last_id = id;
                    self.under_way.insert(id, records);
                    assert!(self.under_way.len() <= limits::WRITES_UNDER_WAY_MAX);
                }
                Effect::Reply { to, reply } => {
                    if let Ok((key, sum)) = reply {
                        let committed = self.committed.get(&key).copied().unwrap_or(0);
                        assert!(sum <= committed, "{key} is {committed}, told {sum}: what is told is never undone");
                    }
                    assert_eq!(self.told.insert(to, reply), None, "a token is answered once");
                }
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Ask(Ask),
    Commit,
    Fail,
    Pass(Duration),
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..3_u8, 1..9_u64).prop_map(|(key, more)| Step::Ask(Ask::Add(key, more))),
        2 => (0..3_u8).prop_map(|key| Step::Ask(Ask::Read(key))),
        1 => (0..3_u8, 1..3000_u64).prop_map(|(key, ms)| Step::Ask(Ask::Later(key, Duration::from_millis(ms)))),
        4 => Just(Step::Commit),
        1 => Just(Step::Fail),
        1 => (1..1500_u64).prop_map(|ms| Step::Pass(Duration::from_millis(ms))),
    ]
}

proptest! {
    #[test]
    fn what_is_told_is_committed_and_survives(steps in prop::collection::vec(steps(), 1..120)) {
        let mut world = World::new();
        for step in steps {
            match step {
                Step::Ask(ask) => drop(world.ask(ask)),
                Step::Commit => world.commit(),
                Step::Fail => world.fail(),
                Step::Pass(time) => world.pass(time),
            }
            if world.shard.is_failed() {
                prop_assert_eq!(world.shard.next_deadline(), None);
                let token = world.ask(Ask::Read(0));
                prop_assert_eq!(&world.told[&token], &Err(Unanswered::Failed));
            }
        }
        // Whoever still waits is answered once everything is committed and all time is over.
        let is_failed = world.shard.is_failed();
        while !world.under_way.is_empty() && !is_failed {
            world.commit();
        }
        world.pass(Duration::from_hours(1));
        let unanswered = (1..=world.tokens).filter(|token| !world.told.contains_key(&Token(*token))).count();
        prop_assert!(unanswered == 0 || is_failed, "{} wait for ever", unanswered);
        if !is_failed {
            // Replay gives the state.
            let mut replayed = Sums::default();
            world.committed.iter().for_each(|(key, sum)| replayed.replay(&record(*key, *sum)));
            prop_assert_eq!(&replayed.sums, &world.shard.machine().sums);
        }
    }
}

#[test]
fn a_read_waits_for_what_it_tells() {
    let mut world = World::new();
    let add = world.ask(Ask::Add(1, 5));
    let read = world.ask(Ask::Read(1));
    assert!(world.told.is_empty());
    world.commit();
    assert_eq!(world.told[&add], Ok((1, 5)));
    assert_eq!(world.told[&read], Ok((1, 5)));
    assert_eq!(world.told.len(), 2);
}

#[test]
fn turns_are_gathered_while_the_disk_is_busy() {
    let mut world = World::new();
    for _ in 0..10 {
        world.ask(Ask::Add(1, 1));
    }
    let sizes: Vec<usize> = world.under_way.values().map(Vec::len).collect();
    assert_eq!(sizes, [1, 1]);
    world.commit();
    world.commit();
    assert_eq!(world.under_way.values().map(Vec::len).collect::<Vec<_>>(), [8], "eight turns in one write");
    world.commit();
    assert_eq!(world.told.len(), 10);
}

#[test]
fn a_failed_write_fails_everything_behind_it() {
    let mut world = World::new();
    let tokens: Vec<Token> = (0..4).map(|_| world.ask(Ask::Add(1, 1))).collect();
    world.commit();
    world.fail();
    assert_eq!(world.told[&tokens[0]], Ok((1, 1)));
    assert!(tokens[1..].iter().all(|token| world.told[token] == Err(Unanswered::Failed)));
    assert!(world.shard.is_failed());
}

#[test]
fn a_reply_that_is_parked_for_too_long_is_given_up_and_the_state_stays() {
    let mut world = World::new();
    let add = world.ask(Ask::Add(1, 5));
    assert_eq!(world.shard.next_deadline(), Some(Instant::ZERO + limits::PARKED_TIME_MAX));
    world.pass(limits::PARKED_TIME_MAX);
    assert_eq!(world.told[&add], Err(Unanswered::TimedOut));
    world.commit();
    let read = world.ask(Ask::Read(1));
    assert_eq!(world.told[&read], Ok((1, 5)));
}
