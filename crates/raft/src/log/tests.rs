//! The log against a plain list of entries.

use bytes::Bytes;
use proptest::{collection, prelude::*};
use quipu_base::{BrokerId, DirectoryId};

use super::*;
use crate::{
    entry::Data,
    voters::{ReplicaKey, VoterSet},
};

fn voters(id: i32) -> VoterSet {
    VoterSet::new([ReplicaKey { id: BrokerId(id), directory: DirectoryId([1; 16]) }]).unwrap()
}

fn entry(epoch: i32, records: u32) -> Entry {
    let payload = if records == 0 {
        Payload::Voters(voters(epoch))
    } else {
        Payload::Data(Data { records, bytes: Bytes::from(vec![7; 10]) })
    };
    Entry { epoch: LeaderEpoch(epoch), payload }
}

/// What the log must know, worked out record by record.
struct Plain {
    base: LogBase,
    entries: Vec<(Offset, Entry)>,
}

impl Plain {
    fn end(&self) -> Offset {
        self.entries.last().map_or(self.base.point.offset, |(at, entry)| entry.end(*at).unwrap())
    }

    fn epoch_before(&self, offset: Offset) -> Option<LeaderEpoch> {
        if offset == self.base.point.offset {
            return Some(self.base.point.epoch);
        }
        let holds = |(at, entry): &&(Offset, Entry)| *at < offset && offset <= entry.end(*at).unwrap();
        self.entries.iter().find(holds).map(|(_, entry)| entry.epoch)
    }

    fn voters_at(&self, offset: Offset) -> VoterSet {
        let sets = self.entries.iter().filter(|(at, _)| *at < offset).filter_map(|(_, entry)| match &entry.payload {
            Payload::Voters(voters) => Some(voters),
            _ => None,
        });
        sets.last().unwrap_or(&self.base.voters).clone()
    }
}

#[derive(Clone, Debug)]
enum Change {
    Push { later: i32, records: u32 },
    Truncate(prop::sample::Index),
    Trim(prop::sample::Index),
}

fn changes() -> impl Strategy<Value = Change> {
    prop_oneof![
        6 => (0..3_i32, 0..4_u32).prop_map(|(later, records)| Change::Push { later: later / 2, records }),
        1 => any::<prop::sample::Index>().prop_map(Change::Truncate),
        1 => any::<prop::sample::Index>().prop_map(Change::Trim),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_knows_what_a_list_knows(changes in collection::vec(changes(), 1..60)) {
        let base = LogBase { point: LogPoint::START, voters: voters(9) };
        let mut log = Log::new(LogSummary::from_base(base.clone())).unwrap();
        let mut plain = Plain { base, entries: Vec::new() };
        for change in changes {
            match change {
                Change::Push { later, records } => {
                    let entry = entry(log.end().epoch.get().max(0) + later, records);
                    plain.entries.push((plain.end(), entry.clone()));
                    log.push(entry);
                }
                Change::Truncate(at) if !plain.entries.is_empty() => {
                    let at = at.index(plain.entries.len());
                    log.truncate(plain.entries[at].0, false);
                    plain.entries.truncate(at);
                }
                Change::Trim(at) if !plain.entries.is_empty() => {
                    let at = at.index(plain.entries.len());
                    let offset = plain.entries[at].0;
                    let point = LogPoint { offset, epoch: plain.epoch_before(offset).unwrap() };
                    plain.base = LogBase { point, voters: plain.voters_at(offset) };
                    plain.entries.drain(..at);
                    log.trim(offset);
                }
                _ => {}
            }
            compare(&log, &plain)?;
        }
    }
}

fn compare(log: &Log, plain: &Plain) -> Result<(), TestCaseError> {
    prop_assert_eq!(log.start(), plain.base.point.offset);
    prop_assert_eq!(log.end().offset, plain.end());
    prop_assert_eq!(log.voters(), &plain.voters_at(plain.end()));
    for offset in log.start().get() - 2..plain.end().get() + 3 {
        let offset = Offset(offset);
        prop_assert_eq!(log.epoch_before(offset), plain.epoch_before(offset), "before {}", offset);
        if let Some(base) = log.base_at(offset) {
            prop_assert_eq!(base.voters, plain.voters_at(offset));
        }
    }
    for (index, (at, _)) in plain.entries.iter().enumerate() {
        let cached = log.cached(*at, usize::MAX, usize::MAX).unwrap();
        prop_assert!(cached.iter().eq(plain.entries[index..].iter().map(|(_, entry)| entry)));
    }
    let mut summary = LogSummary::from_base(plain.base.clone());
    plain.entries.iter().for_each(|(_, entry)| summary.push(entry).unwrap());
    let again = Log::new(summary).unwrap();
    prop_assert_eq!(&again.epochs, &log.epochs);
    prop_assert_eq!(&again.voter_sets, &log.voter_sets);
    Ok(())
}

#[test]
fn where_logs_may_agree() {
    let mut log = Log::new(LogSummary::empty(voters(9))).unwrap();
    // Epochs 1, 1, 3, 3, 5 at offsets 0 to 4.
    [1, 1, 3, 3, 5].into_iter().for_each(|epoch| log.push(entry(epoch, 1)));
    let last_before = |offset, epoch| {
        let point = log.last_before(LogPoint { offset: Offset(offset), epoch: LeaderEpoch(epoch) });
        (point.offset.get(), point.epoch.get())
    };
    assert_eq!(last_before(9, 5), (5, 5), "a shorter log ends before");
    assert_eq!(last_before(4, 4), (4, 3));
    assert_eq!(last_before(4, 2), (2, 1), "an epoch that is not there");
    assert_eq!(last_before(3, 9), (3, 3));
    assert_eq!(last_before(3, 0), (0, -1), "nothing in common");
}

#[test]
fn the_cache_keeps_what_is_not_durable_and_forgets_the_rest() {
    let mut log = Log::new(LogSummary::empty(voters(9))).unwrap();
    let big = Entry {
        epoch: LeaderEpoch(1),
        payload: Payload::Data(Data { records: 1, bytes: Bytes::from(vec![0; CACHE_BYTES_MAX / 4]) }),
    };
    (0..8).for_each(|_| log.push(big.clone()));
    log.shrink_cache(Offset(2));
    assert_eq!(log.cache_start(), Offset(2), "the others may be nowhere else");
    log.shrink_cache(Offset(8));
    assert!(log.cache_bytes <= CACHE_BYTES_MAX && log.cache_start() > Offset(2));
    assert_eq!(log.cached(Offset(2), 1, 1), None);
    let first = log.cache_start();
    assert_eq!(log.cached(first, 1, 9).map(|entries| entries.len()), Some(1), "one at least, however large");
}

#[test]
fn what_does_not_add_up_is_refused() {
    let good = LogSummary {
        base: LogBase { point: LogPoint { offset: Offset(3), epoch: LeaderEpoch(1) }, voters: voters(1) },
        epochs: vec![LogPoint { offset: Offset(3), epoch: LeaderEpoch(2) }],
        voter_sets: vec![(Offset(4), voters(2))],
        end: Offset(6),
    };
    assert!(Log::new(good.clone()).is_ok());
    let point = |offset, epoch| LogPoint { offset: Offset(offset), epoch: LeaderEpoch(epoch) };
    let bad = [
        LogSummary { end: Offset(2), ..good.clone() },
        LogSummary { end: Offset(3), ..good.clone() },
        LogSummary { epochs: Vec::new(), ..good.clone() },
        LogSummary { epochs: vec![point(4, 2)], ..good.clone() },
        LogSummary { epochs: vec![point(3, 0)], ..good.clone() },
        LogSummary { epochs: vec![point(3, 2), point(5, 2)], ..good.clone() },
        LogSummary { epochs: vec![point(3, 2), point(6, 3)], ..good.clone() },
        LogSummary { voter_sets: vec![(Offset(6), voters(2))], ..good.clone() },
        LogSummary { voter_sets: vec![(Offset(5), voters(2)), (Offset(4), voters(1))], ..good.clone() },
        LogSummary { voter_sets: vec![(Offset(5), VoterSet::EMPTY)], ..good },
    ];
    for summary in bad {
        assert!(matches!(Log::new(summary.clone()), Err(StartError::BadLog { .. })), "{summary:?}");
    }
}
