//! One shard that is led here: the machine, its writes under way, and the replies parked behind them.
//!
//! ```text
//! turn's records -> gathered -> under way (at most WRITES_UNDER_WAY_MAX) -> committed
//! turn's replies -> parked behind the write that the records gathered so far will be part of -> Effect::Reply
//! ```
//!
//! A turn without records is parked as well while records are on their way: its reply may tell of them.

use core::fmt;
use std::collections::{BTreeSet, VecDeque};

use quipu_env::Instant;

use crate::{
    limits,
    machine::{Context, Machine, Record, Token, Turn},
};

/// A write's number, from 1 in ascending order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct WriteId(pub u64);

/// Why a request gets no answer of the machine's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unanswered {
    /// Its records were not committed, or it was asked after that: another shard will know more.
    Failed,
    /// Too much waits already.
    Full,
    /// Its records were not committed in time. They may be later.
    TimedOut,
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Failed => "the coordinator lost its partition before the records were committed: ask again",
            Self::Full => "the coordinator has too many requests that wait for their records: ask again later",
            Self::TimedOut => "the coordinator's records were not committed in time: ask again",
        })
    }
}

impl core::error::Error for Unanswered {}

/// What the shell has to do.
#[derive(Debug)]
pub enum Effect<R> {
    /// Append these records as one batch, behind all earlier writes, and say what became of it.
    Write {
        /// Its number.
        id: WriteId,
        /// At least one.
        records: Vec<Record>,
    },
    /// Answer.
    Reply {
        /// Whom.
        to: Token,
        /// With what.
        reply: Result<R, Unanswered>,
    },
}

/// Replies that wait for a write.
struct Parked<R> {
    behind: WriteId,
    until: Instant,
    to: Token,
    reply: R,
}

/// Records that will be one write.
struct Gathered {
    id: WriteId,
    records: Vec<Record>,
    bytes: usize,
}

/// See the module.
pub struct Shard<M: Machine> {
    machine: M,
    is_failed: bool,
    /// The last write's number, gathered or under way.
    last: WriteId,
    /// Invariant: their ids ascend, above all that are under way.
    gathered: VecDeque<Gathered>,
    gathered_bytes: usize,
    /// Written and not committed.
    under_way: BTreeSet<WriteId>,
    /// In the order of their writes. Invariant: `behind` and `until` ascend.
    parked: VecDeque<Parked<M::Reply>>,
    effects: Vec<Effect<M::Reply>>,
}

impl<M: Machine> Shard<M> {
    /// A shard whose machine has replayed the log.
    pub fn new(machine: M, context: &Context) -> Self {
        let mut shard = Self {
            machine,
            is_failed: false,
            last: WriteId(0),
            gathered: VecDeque::new(),
            gathered_bytes: 0,
            under_way: BTreeSet::new(),
            parked: VecDeque::new(),
            effects: Vec::new(),
        };
        let turn = shard.machine.handle_loaded(context);
        shard.take(context, turn);
        shard
    }

    /// The machine, to look at.
    pub const fn machine(&self) -> &M {
        &self.machine
    }

    /// Whether a write failed: the state can't be trusted, and nothing is answered any more.
    #[must_use]
    pub const fn is_failed(&self) -> bool {
        self.is_failed
    }

    /// Whether nothing is on its way to the log.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.under_way.is_empty() && self.gathered.is_empty()
    }

    /// A request.
    pub fn handle(&mut self, context: &Context, from: Token, request: M::Request) {
        let refusal = if self.is_failed {
            Some(Unanswered::Failed)
        } else if self.parked.len() >= limits::PARKED_MAX || self.gathered_bytes >= limits::GATHERED_BYTES_MAX {
            Some(Unanswered::Full)
        } else {
            None
        };
        if let Some(refusal) = refusal {
            return self.effects.push(Effect::Reply { to: from, reply: Err(refusal) });
        }
        let turn = self.machine.handle(context, from, request);
        self.take(context, turn);
    }

    /// Something that the machine has to know, whatever waits: it is never refused, and nobody is answered.
    pub fn tell(&mut self, context: &Context, request: M::Request) {
        if self.is_failed {
            return;
        }
        let mut turn = self.machine.handle(context, Token::NOBODY, request);
        turn.replies.retain(|(to, _)| *to != Token::NOBODY);
        self.take(context, turn);
    }

    /// What became of a write: committed, or not.
    ///
    /// Writes are committed in order: one that is says the same of all before it.
    pub fn handle_written(&mut self, id: WriteId, is_committed: bool) {
        if self.is_failed || !self.under_way.contains(&id) {
            return;
        }
        if !is_committed {
            return self.become_failed();
        }
        self.under_way = self.under_way.split_off(&WriteId(id.0 + 1));
        while self.parked.front().is_some_and(|parked| parked.behind <= id) {
            let Parked { to, reply, .. } = self.parked.pop_front().expect("it was just seen");
            self.effects.push(Effect::Reply { to, reply: Ok(reply) });
        }
        self.flush();
    }

    /// Lets the machine do what is due, and gives up on replies that are parked for too long.
    pub fn on_deadline(&mut self, context: &Context) {
        if self.is_failed {
            return;
        }
        while self.parked.front().is_some_and(|parked| parked.until <= context.now) {
            let Parked { to, .. } = self.parked.pop_front().expect("it was just seen");
            self.effects.push(Effect::Reply { to, reply: Err(Unanswered::TimedOut) });
        }
        if self.machine.next_deadline().is_some_and(|at| at <= context.now) {
            let turn = self.machine.on_deadline(context);
            self.take(context, turn);
        }
    }

    /// When [`Self::on_deadline`] is to be called.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.is_failed {
            return None;
        }
        let parked = self.parked.front().map(|parked| parked.until);
        [self.machine.next_deadline(), parked].into_iter().flatten().min()
    }

    /// What is to be done, in order.
    pub fn take_effects(&mut self) -> Vec<Effect<M::Reply>> {
        core::mem::take(&mut self.effects)
    }

    fn take(&mut self, context: &Context, turn: Turn<M::Reply>) {
        let Turn { records, replies } = turn;
        self.gather(records);
        let is_early = self.machine.planted("groups.acknowledged-unwritten");
        let behind = (!self.is_idle() && !is_early).then_some(self.last);
        for (to, reply) in replies {
            match behind {
                Some(behind) => {
                    let until = context.now + limits::PARKED_TIME_MAX;
                    self.parked.push_back(Parked { behind, until, to, reply });
                }
                None => self.effects.push(Effect::Reply { to, reply: Ok(reply) }),
            }
        }
        self.flush();
    }

    /// A turn's records stay together, unless they are more than fit.
    fn gather(&mut self, records: Vec<Record>) {
        let mut part = Vec::new();
        let mut bytes = 0;
        for record in records {
            if bytes > 0 && bytes + record.bytes() > limits::TURN_BYTES_MAX {
                self.gather_part(core::mem::take(&mut part), bytes);
                bytes = 0;
            }
            bytes += record.bytes();
            part.push(record);
        }
        if !part.is_empty() {
            self.gather_part(part, bytes);
        }
    }

    fn gather_part(&mut self, mut records: Vec<Record>, bytes: usize) {
        self.gathered_bytes += bytes;
        match self.gathered.back_mut().filter(|last| last.bytes + bytes <= limits::WRITE_BYTES_MAX) {
            Some(last) => {
                last.records.append(&mut records);
                last.bytes += bytes;
            }
            None => {
                self.last = WriteId(self.last.0 + 1);
                self.gathered.push_back(Gathered { id: self.last, records, bytes });
            }
        }
    }

    fn flush(&mut self) {
        while self.under_way.len() < limits::WRITES_UNDER_WAY_MAX
            && let Some(Gathered { id, records, bytes }) = self.gathered.pop_front()
        {
            self.gathered_bytes -= bytes;
            self.under_way.insert(id);
            self.effects.push(Effect::Write { id, records });
        }
    }

    fn become_failed(&mut self) {
        self.is_failed = true;
        self.gathered.clear();
        self.gathered_bytes = 0;
        self.under_way.clear();
        for Parked { to, .. } in core::mem::take(&mut self.parked) {
            self.effects.push(Effect::Reply { to, reply: Err(Unanswered::Failed) });
        }
    }
}
