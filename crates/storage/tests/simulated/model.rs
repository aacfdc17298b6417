//! What a store must hold after a sequence of operations: computed from the operations alone, in the plainest way.

use std::collections::BTreeMap;

use quipu_base::{PartitionIndex, TopicId, TopicIdPartition};

/// A partition of the tests, by number. The last one is the metadata partition.
pub(crate) const PARTITIONS: usize = 4;

pub(crate) fn partition(number: usize) -> TopicIdPartition {
    if number + 1 == PARTITIONS {
        return TopicIdPartition::METADATA;
    }
    let index = PartitionIndex(i32::try_from(number).expect("small"));
    TopicIdPartition { topic_id: TopicId([0x51; 16]), partition: index }
}

/// Milliseconds between two records of a batch.
pub(crate) const RECORD_MS: i64 = 3;

/// Something that was submitted, with what it came out as.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Op {
    Append {
        log: usize,
        batch: Batch,
    },
    LogStart {
        log: usize,
        offset: i64,
    },
    /// To what the log's end became.
    Truncate {
        log: usize,
        target: i64,
    },
    Delete {
        log: usize,
    },
    SetState {
        log: usize,
        value: Vec<u8>,
    },
    Step {
        log: usize,
        step: ModelStep,
    },
}

/// All of it, or nothing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct ModelStep {
    pub(crate) begin_anew: Option<i64>,
    pub(crate) truncate: Option<i64>,
    pub(crate) append: Vec<Batch>,
    pub(crate) log_start: Option<i64>,
    pub(crate) replica: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Batch {
    pub(crate) base: i64,
    pub(crate) epoch: i32,
    /// Producer id and first sequence.
    pub(crate) producer: Option<(i64, i32)>,
    /// Of the first record; each further one is later by [`RECORD_MS`].
    pub(crate) timestamp: i64,
    pub(crate) values: Vec<Vec<u8>>,
}

impl Batch {
    pub(crate) fn last(&self) -> i64 {
        self.end() - 1
    }

    pub(crate) fn end(&self) -> i64 {
        self.base + i64::try_from(self.values.len()).expect("small")
    }
}

/// One log as it must be.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(crate) struct ModelLog {
    /// Those below the log start as well: producers remember them.
    pub(crate) batches: Vec<Batch>,
    pub(crate) log_start: i64,
    pub(crate) log_end: i64,
    pub(crate) state: Option<Vec<u8>>,
    pub(crate) replica: Option<Vec<u8>>,
}

/// A store as it must be.
pub(crate) type Model = BTreeMap<usize, ModelLog>;

pub(crate) fn after(ops: &[Op]) -> Model {
    let mut model = Model::new();
    for op in ops {
        apply(&mut model, op);
    }
    model
}

pub(crate) fn apply(model: &mut Model, op: &Op) {
    match op {
        Op::Append { log, batch } => model.entry(*log).or_default().append(batch),
        Op::LogStart { log, offset } => {
            let log = model.entry(*log).or_default();
            log.log_start = log.log_start.max(*offset);
        }
        Op::Truncate { log, target } => model.entry(*log).or_default().truncate(*target),
        Op::Delete { log } => {
            model.remove(log);
        }
        Op::SetState { log, value } => model.entry(*log).or_default().state = Some(value.clone()),
        Op::Step { log, step } => model.entry(*log).or_default().step(step),
    }
}

impl ModelStep {
    /// Whether it changes anything.
    pub(crate) fn changes(&self, log: &ModelLog) -> bool {
        self.begin_anew.is_some()
            || self.truncate.is_some_and(|to| to < log.log_end)
            || !self.append.is_empty()
            || self.log_start.is_some_and(|to| to > log.log_start)
            || self.replica.is_some()
    }
}

/// What can be seen of a log from outside, in a form that is easy to compare.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(crate) struct Seen {
    pub(crate) log_start: i64,
    pub(crate) log_end: i64,
    /// Offset, timestamp, value.
    pub(crate) records: Vec<(i64, i64, Vec<u8>)>,
    /// Epoch and start.
    pub(crate) epochs: Vec<(i32, i64)>,
    /// Id, and of each batch first sequence and base offset.
    pub(crate) producers: Vec<(i64, Vec<(i32, i64)>)>,
    pub(crate) state: Option<Vec<u8>>,
    pub(crate) replica: Option<Vec<u8>>,
}

impl ModelLog {
    fn append(&mut self, batch: &Batch) {
        assert_eq!(batch.base, self.log_end, "offsets are dense");
        self.log_end = batch.end();
        self.batches.push(batch.clone());
    }

    pub(crate) fn step(&mut self, step: &ModelStep) {
        if let Some(at) = step.begin_anew {
            let (state, replica) = (self.state.take(), self.replica.take());
            *self = Self { log_start: at, log_end: at, state, replica, ..Self::default() };
        }
        if let Some(to) = step.truncate {
            self.truncate(to);
        }
        for batch in &step.append {
            self.append(batch);
        }
        self.log_start = self.log_start.max(step.log_start.unwrap_or(0));
        if let Some(replica) = &step.replica {
            self.replica = Some(replica.clone());
        }
    }

    /// Removes the batches that reach `target`.
    pub(crate) fn truncate(&mut self, target: i64) {
        if target < self.log_end {
            self.log_end = self.truncated_to(target);
            self.batches.retain(|batch| batch.last() < target);
        }
    }

    /// Where the log ends after a truncation to `target`.
    pub(crate) fn truncated_to(&self, target: i64) -> i64 {
        let first_gone = self.batches.iter().find(|batch| batch.last() >= target);
        first_gone.map_or(target, |batch| batch.base.min(target)).max(self.log_start)
    }

    pub(crate) fn seen(&self) -> Seen {
        let mut records = Vec::new();
        for batch in &self.batches {
            let times = (0..).map(|index| batch.timestamp + index * RECORD_MS);
            let all = (batch.base..).zip(times).zip(&batch.values).map(|((offset, time), value)| (offset, time, value));
            let left = all.filter(|(offset, ..)| *offset >= self.log_start);
            records.extend(left.map(|(offset, time, value)| (offset, time, value.clone())));
        }
        Seen {
            log_start: self.log_start,
            log_end: self.log_end,
            records,
            epochs: self.epochs(),
            producers: self.producers(),
            state: self.state.clone(),
            replica: self.replica.clone(),
        }
    }

    fn epochs(&self) -> Vec<(i32, i64)> {
        let mut epochs: Vec<(i32, i64)> = Vec::new();
        for batch in &self.batches {
            if epochs.last().is_none_or(|(epoch, _)| *epoch < batch.epoch) {
                epochs.push((batch.epoch, batch.base));
            }
        }
        let in_force = epochs.iter().rposition(|(_, start)| *start <= self.log_start);
        let mut shown = epochs.split_off(in_force.unwrap_or(0));
        if let Some((_, start)) = shown.first_mut() {
            *start = self.log_start.max(*start);
        }
        shown
    }

    fn producers(&self) -> Vec<(i64, Vec<(i32, i64)>)> {
        let mut producers: BTreeMap<i64, Vec<(i32, i64)>> = BTreeMap::new();
        for batch in &self.batches {
            if let Some((id, sequence)) = batch.producer {
                let remembered = producers.entry(id).or_default();
                remembered.push((sequence, batch.base));
                if remembered.len() > 5 {
                    remembered.remove(0);
                }
            }
        }
        producers.into_iter().collect()
    }

    /// The next sequence of a producer.
    pub(crate) fn next_sequence(&self, id: i64) -> i32 {
        let of_producer = |batch: &&Batch| batch.producer.is_some_and(|(producer, _)| producer == id);
        self.batches.iter().rev().find(of_producer).map_or(0, |batch| {
            let (_, first) = batch.producer.expect("it was looked for");
            first + i32::try_from(batch.values.len()).expect("small")
        })
    }
}
