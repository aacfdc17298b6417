//! Drives a store by a script, and keeps a history of what was submitted and what was acknowledged.

use std::sync::{Arc, Mutex, MutexGuard};

use quipu_base::{BrokerId, LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};
use quipu_env::{Clock, Env, File, Segment};
use quipu_records::{BatchBuilder, BatchHeader, Batches, NewRecord};
use quipu_storage::{Class, Log, LogOptions, OpenError, StateKind, Step, Store, StoreOptions, Ticket};

use crate::model::{self, Batch, Model, ModelStep, Op, PARTITIONS, RECORD_MS, Seen, partition};

/// The data directory.
pub(crate) const DIR: &str = "/data";

/// What outlives the processes of a run.
#[derive(Default)]
pub(crate) struct History(Mutex<Inner>);

#[derive(Default)]
pub(crate) struct Inner {
    /// Everything submitted, in the order of the WAL.
    pub(crate) submitted: Vec<Op>,
    /// So many of them were acknowledged.
    pub(crate) acknowledged: usize,
}

impl History {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().expect("no test panics while it holds this")
    }

    /// The store holds what a prefix of the history says, with all that was acknowledged: from now on, that is the history.
    pub(crate) fn settle(&self, seen: &[Option<Seen>]) {
        let mut inner = self.lock();
        let mut model = model::after(&inner.submitted[..inner.acknowledged]);
        for count in inner.acknowledged..=inner.submitted.len() {
            if count > inner.acknowledged {
                model::apply(&mut model, &inner.submitted[count - 1]);
            }
            if (0..PARTITIONS).all(|log| model.get(&log).map(model::ModelLog::seen) == seen[log]) {
                inner.submitted.truncate(count);
                inner.acknowledged = count;
                return;
            }
        }
        let acknowledged = model::after(&inner.submitted[..inner.acknowledged]);
        let differing = seen.iter().enumerate().filter_map(|(log, seen)| {
            let expected = acknowledged.get(&log).map(model::ModelLog::seen);
            (expected != *seen).then(|| format!("log {log}\nacknowledged {expected:?}\nfound        {seen:?}\n"))
        });
        panic!(
            "{}the store holds no prefix of the {} operations submitted, of which {} were acknowledged; of those not: {:?}",
            differing.collect::<String>(),
            inner.submitted.len(),
            inner.acknowledged,
            &inner.submitted[inner.acknowledged..]
        );
    }
}

/// Settings that make everything happen often.
pub(crate) fn small_options() -> StoreOptions {
    StoreOptions {
        wal_file_bytes: 64 * 1024,
        wal_total_bytes: 256 * 1024,
        tail_bytes: 256 * 1024,
        tail_reserve_bytes: 16 * 1024,
        index_interval_bytes: 256,
        open_files_max: 3,
        ..StoreOptions::new(DIR, BrokerId(1))
    }
}

/// An open store and its history.
pub(crate) struct Driver<E: Env> {
    pub(crate) env: E,
    pub(crate) store: Store<E>,
    history: Arc<History>,
    pub(crate) log_options: LogOptions,
    last: Ticket,
}

impl<E: Env> Driver<E> {
    /// Opens the store, and checks what it holds against the history.
    pub(crate) async fn open(env: E, options: StoreOptions, log_options: LogOptions, history: Arc<History>) -> Self {
        Self::try_open(env, options, log_options, history).await.expect("the store opens")
    }

    /// The same, on a disk that may fail.
    pub(crate) async fn try_open(
        env: E,
        options: StoreOptions,
        log_options: LogOptions,
        history: Arc<History>,
    ) -> Result<Self, OpenError> {
        let (store, _) = Store::open(env.clone(), options).await?;
        let driver = Self { env, store, history, log_options, last: Ticket::NONE };
        let seen = driver.look().await;
        driver.history.settle(&seen);
        Ok(driver)
    }

    pub(crate) fn log(&self, number: usize) -> Log<E> {
        let log = self.store.log(partition(number));
        log.set_options(self.log_options);
        log
    }

    fn model(&self) -> Model {
        model::after(&self.history.lock().submitted)
    }

    /// What the store holds: of each partition that has data.
    pub(crate) async fn look(&self) -> Vec<Option<Seen>> {
        let with_data = self.store.partitions();
        let mut all = Vec::new();
        for number in 0..PARTITIONS {
            all.push(if with_data.contains(&partition(number)) { Some(see(&self.log(number)).await) } else { None });
        }
        all
    }

    /// Whether room can be had now.
    pub(crate) async fn has_room(&self, bytes: usize, class: Class) -> bool {
        self.store.reserve(bytes, class).await.is_ok()
    }

    fn note(&mut self, op: Op, ticket: Ticket) {
        self.history.lock().submitted.push(op);
        self.last = self.last.max(ticket);
    }

    /// Waits until all that was submitted is durable.
    pub(crate) async fn acknowledge(&mut self) {
        let count = self.history.lock().submitted.len();
        let last = self.last;
        self.store.durable().wait_for(|durable| *durable >= last).await.expect("the WAL runs");
        self.history.lock().acknowledged = count;
    }

    pub(crate) async fn append(&mut self, number: usize, epoch: i32, producer: Option<i64>, values: &[Vec<u8>]) {
        let model = self.model().remove(&number).unwrap_or_default();
        // Now and then back in time.
        let timestamp = 1000 + model.log_end * 10 - (model.log_end % 7) * 25;
        let producer = producer.map(|id| (id, model.next_sequence(id)));
        let batch = build(producer, timestamp, values);
        let reservation = self.store.reserve(batch.bytes().len(), Class::Normal).await.expect("there is room");
        let now = self.env.clock().wall();
        let log = self.log(number);
        let appended = log
            .append(reservation, LeaderEpoch(epoch), batch.bytes(), batch.header(), now)
            .expect("the batch is in sequence");
        assert!(!appended.duplicate);
        let base = appended.base_offset.0;
        let values = values.to_vec();
        self.note(
            Op::Append { log: number, batch: Batch { base, epoch, producer, timestamp, values } },
            appended.ticket,
        );
    }

    pub(crate) async fn move_log_start(&mut self, number: usize, offset: i64) {
        let log = self.log(number);
        let reservation = self.store.reserve(0, Class::Reserve).await.expect("there is room");
        let is_new = Offset(offset) > log.offsets().log_start;
        let ticket = log.set_log_start(reservation, Offset(offset)).expect("the offset is durable");
        if !is_new {
            return;
        }
        self.note(Op::LogStart { log: number, offset }, ticket);
    }

    pub(crate) async fn truncate(&mut self, number: usize, to: i64) {
        let log = self.log(number);
        let reservation = self.store.reserve(0, Class::Reserve).await.expect("there is room");
        // All frames before it are durable when it is submitted.
        let before = self.history.lock().submitted.len();
        let is_new = Offset(to) < log.offsets().log_end;
        let ticket = log.truncate(reservation, Offset(to)).await.expect("the offset is in the log");
        assert_eq!(self.history.lock().submitted.len(), before, "one task drives a store");
        if !is_new {
            return;
        }
        self.note(Op::Truncate { log: number, target: to }, ticket);
        let expected = self.model().remove(&number).unwrap_or_default().log_end;
        assert_eq!(log.offsets().log_end, Offset(expected));
    }

    pub(crate) fn delete(&mut self, number: usize) {
        let ticket = self.store.delete(partition(number));
        self.note(Op::Delete { log: number }, ticket);
    }

    pub(crate) async fn set_state(&mut self, number: usize, value: &[u8]) {
        let log = self.log(number);
        let reservation = self.store.reserve(value.len(), Class::Reserve).await.expect("there is room");
        let ticket = log.set_state(reservation, StateKind::Label, value.to_vec().into()).expect("the log is there");
        self.note(Op::SetState { log: number, value: value.to_vec() }, ticket);
    }

    /// Makes a step. Each batch is (leader epoch, producer, values); its place follows from the model.
    pub(crate) async fn step(&mut self, number: usize, mut plan: ModelStep, batches: &[NewBatch]) {
        let log = self.log(number);
        let mut model = self.model().remove(&number).unwrap_or_default();
        let before = model.clone();
        model.step(&plan);
        let mut step = Step {
            begin_anew: plan.begin_anew.map(Offset),
            truncate: plan.truncate.map(Offset),
            log_start: plan.log_start.map(Offset),
            ..Step::default()
        };
        for NewBatch { epoch, producer, values } in batches {
            let timestamp = 1000 + model.log_end * 10;
            let producer = producer.map(|id| (id, model.next_sequence(id)));
            let batch = Batch { base: model.log_end, epoch: *epoch, producer, timestamp, values: values.clone() };
            step.append.push(placed(&batch));
            model.step(&ModelStep { append: vec![batch.clone()], ..ModelStep::default() });
            plan.append.push(batch);
        }
        if let Some(value) = &plan.replica {
            step.states.push((StateKind::Replica, value.clone().into()));
        }
        let reservation = self.store.reserve(step.reservation_bytes(), Class::Normal).await.expect("there is room");
        let ticket = log.step(reservation, step).await.expect("the step fits the log");
        if plan.changes(&before) {
            self.note(Op::Step { log: number, step: plan }, ticket);
        }
        let expected = self.model().remove(&number).unwrap_or_default();
        assert_eq!(log.offsets().log_end, Offset(expected.log_end));
        assert_eq!(log.offsets().log_start, Offset(expected.log_start));
    }

    /// Stops and opens again.
    pub(crate) async fn reopen(mut self, options: StoreOptions) -> Self {
        self.acknowledge().await;
        self.store.close().await.expect("closes");
        let Self { env, store, history, log_options, .. } = self;
        drop(store);
        Self::open(env, options, log_options, history).await
    }
}

/// A batch to be appended in a step.
#[derive(Clone, Debug)]
pub(crate) struct NewBatch {
    pub(crate) epoch: i32,
    pub(crate) producer: Option<i64>,
    pub(crate) values: Vec<Vec<u8>>,
}

/// The bytes of a batch with its final offset and leader epoch.
pub(crate) fn placed(batch: &Batch) -> bytes::Bytes {
    let built = build(batch.producer, batch.timestamp, &batch.values);
    let header =
        BatchHeader { base_offset: Offset(batch.base), leader_epoch: LeaderEpoch(batch.epoch), ..*built.header() };
    let mut bytes = header.encode().to_vec();
    bytes.extend_from_slice(&built.bytes()[bytes.len()..]);
    bytes.into()
}

fn build(producer: Option<(i64, i32)>, timestamp: i64, values: &[Vec<u8>]) -> quipu_records::Batch {
    let mut builder = BatchBuilder::new();
    if let Some((id, sequence)) = producer {
        builder = builder.producer(ProducerId(id), ProducerEpoch(0), Sequence(sequence));
    }
    for (index, value) in (0..).zip(values) {
        let timestamp = Timestamp(timestamp + index * RECORD_MS);
        let record = NewRecord { timestamp, key: None, value: Some(value.as_slice()), headers: &[] };
        builder.push(&record).expect("a small record");
    }
    builder.build().expect("a batch")
}

/// Everything that a log tells.
pub(crate) async fn see<E: Env>(log: &Log<E>) -> Seen {
    let offsets = log.offsets();
    assert_eq!(offsets.durable_end, offsets.log_end, "nothing is under way");
    let epochs = log.epochs().into_iter().map(|entry| (entry.epoch.0, entry.start.0)).collect();
    let producers = log.producers().into_iter().map(|state| {
        let batches = state.batches.iter().map(|batch| (batch.first_sequence.0, batch.base_offset.0));
        (state.producer_id.0, batches.collect())
    });
    Seen {
        log_start: offsets.log_start.0,
        log_end: offsets.log_end.0,
        records: read_all(log, 700).await,
        epochs,
        producers: producers.collect(),
        state: log.durable_state(StateKind::Label),
        replica: log.durable_state(StateKind::Replica),
    }
}

/// All records, read `max_bytes` at a time.
pub(crate) async fn read_all<E: Env>(log: &Log<E>, max_bytes: usize) -> Vec<(i64, i64, Vec<u8>)> {
    let mut records = Vec::new();
    let offsets = log.offsets();
    let mut next = offsets.log_start;
    while next < offsets.log_end {
        let read = log.read(next, offsets.log_end, max_bytes, true).await.expect("all is readable");
        assert!(read.next_offset > next, "a read makes progress");
        for segment in read.segments {
            for batch in Batches::new(bytes_of::<E>(segment).await) {
                let batch = batch.expect("whole batches");
                batch.check_crc().expect("a good checksum");
                for record in &batch.records(1 << 20).expect("decodes") {
                    let record = record.expect("decodes");
                    if record.offset >= offsets.log_start {
                        let value = record.value.expect("a value").to_vec();
                        records.push((record.offset.0, record.timestamp.0, value));
                    }
                }
            }
        }
        next = read.next_offset;
    }
    records
}

pub(crate) async fn bytes_of<E: Env>(segment: Segment<<E::Disk as quipu_env::Disk>::File>) -> bytes::Bytes {
    match segment {
        Segment::Bytes(bytes) => bytes,
        Segment::File { file, position, length } => file.read_at(position, length).await.expect("readable"),
    }
}
