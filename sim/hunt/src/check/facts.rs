//! What a history says of each log, gathered once for all checkers.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::{History, LogIndex, Op, Outcome, Value, What};

/// A record at an offset, as one operation told it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Sighting {
    pub(super) log: LogIndex,
    pub(super) offset: i64,
    pub(super) value: Value,
    /// Which operation told it.
    pub(super) op: usize,
    /// When it was told.
    pub(super) at: u64,
}

/// See the module.
pub(super) struct Facts<'a> {
    pub(super) history: &'a History,
    /// The first sighting at each place.
    pub(super) known: BTreeMap<(LogIndex, i64), Sighting>,
    /// Sightings that say something else than the first at their place.
    pub(super) conflicts: Vec<Sighting>,
    /// The first sighting of each record.
    pub(super) places: BTreeMap<Value, Sighting>,
    /// Sightings of records that were seen elsewhere before.
    pub(super) moved: Vec<Sighting>,
    /// Who sent each record.
    pub(super) senders: BTreeMap<Value, usize>,
    /// By topic name and partition: below this offset somebody asked for deletion.
    pub(super) deletable: BTreeMap<(&'a str, i32), i64>,
    /// Ids of topics that somebody asked to delete.
    pub(super) deleted: BTreeSet<&'a str>,
}

impl<'a> Facts<'a> {
    pub(super) fn new(history: &'a History) -> Self {
        let mut facts = Self {
            history,
            known: BTreeMap::new(),
            conflicts: Vec::new(),
            places: BTreeMap::new(),
            moved: Vec::new(),
            senders: BTreeMap::new(),
            deletable: BTreeMap::new(),
            deleted: BTreeSet::new(),
        };
        for (index, op) in history.ops.iter().enumerate() {
            facts.take_in(index, op);
        }
        facts
    }

    fn take_in(&mut self, index: usize, op: &'a Op) {
        match &op.what {
            What::Send { values, .. } => {
                values.iter().for_each(|value| {
                    self.senders.insert(*value, index);
                });
            }
            What::DeleteRecords { log, to, .. } if op.outcome != Outcome::Fail => {
                let name = self.history.name(*log);
                let below = self.deletable.entry((&name.topic, name.partition)).or_insert(0);
                *below = (*below).max(if *to < 0 { i64::MAX } else { *to });
            }
            What::DeleteTopic { id, .. } => {
                self.deleted.insert(id);
            }
            _ => {}
        }
        sightings(index, op, |sighting| self.see(sighting));
    }

    fn see(&mut self, sighting: Sighting) {
        let first = self.known.entry((sighting.log, sighting.offset)).or_insert(sighting);
        if first.value != sighting.value {
            self.conflicts.push(sighting);
        }
        let first = self.places.entry(sighting.value).or_insert(sighting);
        if (first.log, first.offset) != (sighting.log, sighting.offset) {
            self.moved.push(sighting);
        }
    }

    /// Below this offset a log's records may be gone because somebody asked for it.
    pub(super) fn deletable_below(&self, log: LogIndex) -> i64 {
        let name = self.history.name(log);
        self.deletable.get(&(name.topic.as_str(), name.partition)).copied().unwrap_or(0)
    }

    /// Whether somebody asked to delete the log's topic.
    pub(super) fn may_be_deleted(&self, log: LogIndex) -> bool {
        self.deleted.contains(self.history.name(log).id.as_str())
    }

    /// Place and record, for messages.
    pub(super) fn show(&self, sighting: &Sighting) -> String {
        format!("{} offset {}", self.history.name(sighting.log), sighting.offset)
    }
}

/// Every record whose place an operation tells.
pub(super) fn sightings(index: usize, op: &Op, mut see: impl FnMut(Sighting)) {
    let Some(at) = op.completed.filter(|_| op.outcome == Outcome::Ok) else { return };
    match &op.what {
        What::Send { log, values, base_offset: Some(base) } if *base >= 0 => {
            for (offset, value) in (*base..).zip(values) {
                see(Sighting { log: *log, offset, value: *value, op: index, at });
            }
        }
        What::Poll { log, records, .. } | What::Audit { log, records, .. } | What::Take { log, records, .. } => {
            for found in records {
                see(Sighting { log: *log, offset: found.offset, value: found.value, op: index, at });
            }
        }
        _ => {}
    }
}
