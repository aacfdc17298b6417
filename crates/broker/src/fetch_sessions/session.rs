//! One fetch session (KIP-227): the partitions that a client reads, and which of them there may be something to tell of.
//!
//! ```text
//! idle -> to be looked at: asked for anew, changed (its waiters tell), or never looked at
//! to be looked at -> idle: it has no records from where the client reads on, and nothing else that the client was not told
//! ```
//!
//! Invariants
//! - An idle partition is one whose last look found nothing, and which has not changed since: nothing is done for it, whatever
//!   the number of idle partitions.
//! - A partition that this broker does not lead, or that has an error, is never idle: it is looked up again with every request.
//! - Who got records goes to the end of the line, so that everybody's turn comes when an answer has no room for all.
//!
//! Not here: reading ([`crate::handlers`]'s fetch); how many sessions there may be ([`super`]).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use quipu_base::{PartitionIndex, TopicId, TopicIdPartition, limits};
use quipu_env::Env;
use quipu_protocol::{
    ErrorCode,
    messages::fetch::{EpochEndOffset, FetchPartition, FetchTopic, ForgottenTopic, PartitionData},
};

use crate::{
    errors::{self, Refusal},
    node::View,
    partition::Partition,
    waiters::{Changes, Registration},
};

/// How a topic is named in a session: all by id, or all by name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum TopicKey {
    Id(TopicId),
    /// A copy: a slice of the request would keep all of it in memory.
    Name(Arc<str>),
}

/// What a client was last told of a partition that has no records for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Told {
    high_watermark: i64,
    last_stable_offset: i64,
    log_start_offset: i64,
}

impl Told {
    fn of(data: &PartitionData) -> Self {
        let PartitionData { high_watermark, last_stable_offset, log_start_offset, .. } = *data;
        Self { high_watermark, last_stable_offset, log_start_offset }
    }
}

struct Slot<E: Env> {
    topic: TopicKey,
    wanted: FetchPartition,
    told: Option<Told>,
    /// Its place in the line of those to be looked at; none if it is idle.
    turn: Option<u64>,
    /// The partition, and the registration with its waiters, as long as this broker led it when it was looked up.
    led: Option<(Arc<Partition<E>>, Registration)>,
}

/// See the module.
pub(crate) struct Session<E: Env> {
    by_id: bool,
    epoch: i32,
    places: BTreeMap<(TopicKey, i32), u32>,
    slots: Vec<Option<Slot<E>>>,
    free: Vec<u32>,
    line: BTreeSet<(u64, u32)>,
    turns: u64,
    changes: Arc<Changes>,
}

/// A partition to be looked at.
pub(crate) struct Candidate<E: Env> {
    /// Its number in the session.
    pub(crate) number: u32,
    pub(crate) wanted: FetchPartition,
    pub(crate) partition: Result<Arc<Partition<E>>, Refusal>,
}

impl<E: Env> Session<E> {
    /// A session without partitions.
    pub(crate) fn new(by_id: bool) -> Self {
        Self {
            by_id,
            epoch: 1,
            places: BTreeMap::new(),
            slots: Vec::new(),
            free: Vec::new(),
            line: BTreeSet::new(),
            turns: 0,
            changes: Arc::default(),
        }
    }

    /// The number of its partitions.
    pub(crate) fn size(&self) -> usize {
        self.places.len()
    }

    /// Where changes of its partitions are told.
    pub(crate) fn changes(&self) -> &Arc<Changes> {
        &self.changes
    }

    /// Begins the request of this number. Errors: it is not the next one's, or names topics the other way.
    pub(crate) fn begin(&mut self, epoch: i32, by_id: bool) -> Result<(), ErrorCode> {
        if epoch != self.epoch {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        if by_id != self.by_id {
            return Err(ErrorCode::FetchSessionTopicIdError);
        }
        self.epoch = epoch.checked_add(1).unwrap_or(1);
        Ok(())
    }

    /// What is fetched from now on, besides what was. False if that is more than any session may have, or no topic could have
    /// such a name.
    pub(crate) fn add(&mut self, topics: &[FetchTopic]) -> bool {
        for topic in topics {
            if topic.topic.len() > limits::TOPIC_NAME_LENGTH_MAX {
                return false;
            }
            let key = self.key(topic.topic_id, &topic.topic);
            for wanted in &topic.partitions {
                self.want(&key, wanted);
                if self.size() > limits::FETCH_SESSION_PARTITIONS_MAX {
                    return false;
                }
            }
        }
        true
    }

    fn key(&self, id: TopicId, name: &str) -> TopicKey {
        if self.by_id {
            return TopicKey::Id(id);
        }
        let key = TopicKey::Name(name.into());
        // One text for all partitions of a topic.
        let known = self.places.range((key.clone(), i32::MIN)..=(key.clone(), i32::MAX)).next();
        known.map_or(key, |((known, _), _)| known.clone())
    }

    fn want(&mut self, topic: &TopicKey, wanted: &FetchPartition) {
        let number = match self.places.get(&(topic.clone(), wanted.partition)) {
            Some(number) => *number,
            None => self.place(topic, wanted),
        };
        if let Some(slot) = &mut self.slots[index(number)] {
            slot.wanted = wanted.clone();
        }
        self.line_up(number);
    }

    fn place(&mut self, topic: &TopicKey, wanted: &FetchPartition) -> u32 {
        let slot = Slot { topic: topic.clone(), wanted: wanted.clone(), told: None, turn: None, led: None };
        let number = match self.free.pop() {
            Some(number) => {
                self.slots[index(number)] = Some(slot);
                number
            }
            None => {
                self.slots.push(Some(slot));
                u32::try_from(self.slots.len() - 1).expect("the partitions of all sessions are bounded below that")
            }
        };
        self.places.insert((topic.clone(), wanted.partition), number);
        number
    }

    /// What is fetched no more.
    pub(crate) fn forget(&mut self, topics: &[ForgottenTopic]) {
        for topic in topics {
            let key = self.key(topic.topic_id, &topic.topic);
            for partition in &topic.partitions {
                let Some(number) = self.places.remove(&(key.clone(), *partition)) else { continue };
                let slot = self.slots[index(number)].take().expect("every place has a slot");
                if let Some(turn) = slot.turn {
                    self.line.remove(&(turn, number));
                }
                self.free.push(number);
            }
        }
    }

    /// The answer to the request that began the session has told the client this.
    pub(crate) fn note_told(&mut self, topic_id: TopicId, name: &str, answers: &[PartitionData]) {
        let key = self.key(topic_id, name);
        for data in answers {
            let place = self.places.get(&(key.clone(), data.partition_index));
            if let Some(slot) = place.and_then(|number| self.slots[index(*number)].as_mut()) {
                slot.told = is_sound(data).then(|| Told::of(data));
            }
        }
    }

    fn line_up(&mut self, number: u32) {
        if let Some(slot) = self.slots.get_mut(index(number)).and_then(Option::as_mut)
            && slot.turn.is_none()
        {
            slot.turn = Some(self.turns);
            self.line.insert((self.turns, number));
            self.turns += 1;
        }
    }

    fn leave_line(&mut self, number: u32) {
        if let Some(slot) = self.slots[index(number)].as_mut()
            && let Some(turn) = slot.turn.take()
        {
            self.line.remove(&(turn, number));
        }
    }

    /// Lines up what changed since the last call.
    pub(crate) fn take_changes(&mut self) {
        for number in self.changes.take() {
            self.line_up(number);
        }
    }

    /// Everything that has to be looked at, in its turn. What changes from now on is told.
    pub(crate) fn candidates(&mut self, view: &View<E>) -> Vec<Candidate<E>> {
        let line: Vec<u32> = self.line.iter().map(|(_, number)| *number).collect();
        line.into_iter().map(|number| self.candidate(number, view)).collect()
    }

    fn candidate(&mut self, number: u32, view: &View<E>) -> Candidate<E> {
        let slot = self.slots[index(number)].as_mut().expect("whatever is in the line has a slot");
        if !slot.led.as_ref().is_some_and(|(partition, _)| partition.is_active()) {
            slot.led = None;
        }
        let partition = match &slot.led {
            Some((partition, _)) => Ok(Arc::clone(partition)),
            None => find(view, &slot.topic, slot.wanted.partition).inspect(|partition| {
                let registration = partition.waiters.register_among(&self.changes, number);
                slot.led = Some((Arc::clone(partition), registration));
            }),
        };
        Candidate { number, wanted: slot.wanted.clone(), partition }
    }

    /// Whether the client has to be told what a look found. If not, the partition is idle from here on, unless there are records
    /// that found no room.
    pub(crate) fn is_news(&mut self, number: u32, data: &PartitionData) -> bool {
        let slot = self.slots[index(number)].as_ref().expect("it was just looked at");
        let has_records = data.records.as_ref().is_some_and(|records| !records.is_empty());
        if !is_sound(data) || has_records || data.preferred_read_replica >= 0 || slot.told != Some(Told::of(data)) {
            return true;
        }
        if slot.wanted.fetch_offset >= data.high_watermark {
            self.leave_line(number);
        }
        false
    }

    /// The client is told what a look found.
    pub(crate) fn tell(&mut self, number: u32, data: &PartitionData) {
        let is_sound = is_sound(data);
        let has_records = data.records.as_ref().is_some_and(|records| !records.is_empty());
        let slot = self.slots[index(number)].as_mut().expect("it was just looked at");
        slot.told = is_sound.then(|| Told::of(data));
        let is_idle = is_sound && slot.wanted.fetch_offset >= data.high_watermark;
        if is_idle || has_records {
            self.leave_line(number);
        }
        if has_records {
            self.line_up(number);
        }
    }

    /// What a topic is called in an answer.
    pub(crate) fn topic(&self, number: u32) -> &TopicKey {
        &self.slots[index(number)].as_ref().expect("it was just looked at").topic
    }
}

fn index(number: u32) -> usize {
    usize::try_from(number).expect("a slot's number fits")
}

/// Whether the answer has neither an error nor a divergence: both are told with every answer.
fn is_sound(data: &PartitionData) -> bool {
    data.error_code == ErrorCode::None.code() && data.diverging_epoch == EpochEndOffset::default()
}

fn find<E: Env>(view: &View<E>, topic: &TopicKey, partition: i32) -> Result<Arc<Partition<E>>, Refusal> {
    let (known, by_id) = match topic {
        TopicKey::Id(id) => (view.image.topic_by_id(*id), true),
        TopicKey::Name(name) => (view.image.topic(name), false),
    };
    let topic_id = known.map(quipu_metadata::Topic::topic_id).ok_or_else(|| errors::unknown_topic(by_id))?;
    view.partition(TopicIdPartition { topic_id, partition: PartitionIndex(partition) })
}
