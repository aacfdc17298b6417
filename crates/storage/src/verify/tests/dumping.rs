//! What `dump` tells is what a start would find.

use core::ops::ControlFlow;
use std::collections::BTreeMap;

use quipu_base::{Offset, PartitionIndex, TopicIdPartition};
use quipu_records::Batch;

use super::kit::*;
use crate::{
    verify::{DumpEntry, DumpOptions, DumpedBatch, dump},
    wal::FrameKind,
};

fn batches(entries: &[DumpEntry]) -> Vec<&DumpedBatch> {
    entries.iter().filter_map(as_batch).collect()
}

fn as_batch(entry: &DumpEntry) -> Option<&DumpedBatch> {
    match entry {
        DumpEntry::Batch(batch) => Some(batch),
        _ => None,
    }
}

/// The first and the last offset of each partition's batches, which must lie behind one another.
fn spans(entries: &[DumpEntry]) -> BTreeMap<TopicIdPartition, (i64, i64)> {
    let mut spans = BTreeMap::new();
    for batch in batches(entries) {
        assert!(batch.is_good, "{batch:?}");
        let (base, last) = (batch.header.base_offset.0, batch.header.last_offset().0);
        let span = spans.entry(batch.partition).or_insert((base, base - 1));
        assert_eq!(span.1 + 1, base, "{} has no gaps and no repetitions", batch.partition);
        span.1 = last;
    }
    spans
}

fn expected() -> BTreeMap<TopicIdPartition, (i64, i64)> {
    BTreeMap::from([(ROLLED, (0, 23)), (GROWING, (0, 35)), (YOUNG, (0, 9)), (CUT, (4, 29))])
}

#[test]
fn it_tells_what_a_start_would_find() {
    in_directory("dump", |env, dir| async move {
        killed(&env, &dir).await;
        let entries = dumped(&env, &dir, DumpOptions::default()).await;
        assert_eq!(spans(&entries), expected());
        assert!(batches(&entries).iter().any(|batch| batch.file.starts_with("wal/") && batch.group.is_some()));
        let store = open(&env, &dir).await;
        for (partition, (first, last)) in expected() {
            let offsets = store.log(partition).offsets();
            assert_eq!((offsets.log_start, offsets.log_end), (Offset(first), Offset(last + 1)), "{partition}");
        }
        store.close().await.expect("a clean stop");
        let copy = TestDir::new("dump-stopped");
        copy_directory(&env, &dir, copy.path()).await;
        let entries = dumped(&env, copy.path(), DumpOptions::default()).await;
        assert_eq!(spans(&entries), expected());
        assert!(batches(&entries).iter().all(|batch| batch.file.starts_with("seg/") && batch.group.is_none()));
    });
}

#[test]
fn every_batch_lies_where_it_is_said_to() {
    in_directory("dump-places", |env, dir| async move {
        killed(&env, &dir).await;
        let options = DumpOptions { with_bytes: true, ..DumpOptions::default() };
        for batch in batches(&dumped(&env, &dir, options).await) {
            let position = usize::try_from(batch.position).unwrap();
            let file = read_file(&env, &dir.join(&batch.file)).await;
            let stored = Batch::parse_checked(file.slice(position..position + batch.header.total_bytes()));
            let stored = stored.expect("a batch lies there");
            assert_eq!(*stored.header(), batch.header);
            assert_eq!(Some(stored.bytes()), batch.bytes.as_ref());
        }
    });
}

#[test]
fn it_can_be_narrowed_down_and_stopped() {
    in_directory("dump-some", |env, dir| async move {
        killed(&env, &dir).await;
        let partition = Some(PartitionIndex(1));
        let options = DumpOptions { topic_id: Some(TOPIC), partition, ..DumpOptions::default() };
        let entries = dumped(&env, &dir, DumpOptions { wal: true, ..options }).await;
        assert_eq!(spans(&entries), BTreeMap::from([(GROWING, (0, 35))]));
        let mut groups = Vec::new();
        for entry in &entries {
            match entry {
                DumpEntry::Group(group) => groups.push((group.sequence, 0)),
                DumpEntry::Frame(frame) => {
                    assert_eq!(frame.partition, GROWING);
                    groups.last_mut().expect("frames follow their group").1 += 1;
                }
                _ => {}
            }
        }
        assert!(!groups.is_empty() && groups.iter().all(|(_, frames)| *frames > 0), "{groups:?}");
        let mut told = 0;
        let on_entry = |_| {
            told += 1;
            if told == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        dump(&env, &dir, DumpOptions::default(), on_entry).await.expect("a dump");
        assert_eq!(told, 3);
    });
}

#[test]
fn the_wal_is_told_frame_by_frame() {
    in_directory("dump-wal", |env, dir| async move {
        killed(&env, &dir).await;
        let entries = dumped(&env, &dir, DumpOptions { wal: true, ..DumpOptions::default() }).await;
        let (mut group, mut kinds, mut left) = (0, BTreeMap::new(), 0);
        for entry in &entries {
            match entry {
                DumpEntry::Batch(_) => assert_eq!(group, 0, "batches come first"),
                DumpEntry::Damage(damage) => panic!("{damage:?}"),
                DumpEntry::Group(next) => {
                    assert!(group == 0 || next.sequence.0 == group + 1, "group {} follows {group}", next.sequence);
                    assert_eq!(left, 0, "every frame of group {group} is told");
                    (group, left) = (next.sequence.0, next.frame_count);
                }
                DumpEntry::Frame(frame) => {
                    assert_eq!(frame.group.0, group);
                    assert!(frame.is_good);
                    left -= 1;
                    *kinds.entry(frame.kind).or_insert(0) += 1;
                }
            }
        }
        assert_eq!(kinds[&FrameKind::Append], 15);
        assert_eq!((kinds[&FrameKind::Truncate], kinds[&FrameKind::PartitionDelete]), (1, 1));
        assert_eq!(kinds[&FrameKind::LogStart], 1);
    });
}

#[test]
fn damage_is_told_and_the_rest_goes_on() {
    in_directory("dump-bad", |env, dir| async move {
        stopped(&env, &dir).await;
        let all = dumped(&env, &dir, DumpOptions::default()).await;
        let all = batches(&all);
        let (bad, gone) = (all[1], all[all.len() - 1]);
        // One loses a bit in its records, the other its magic.
        patch(&env, &dir.join(&bad.file), bad.position + 100, b"#").await;
        patch(&env, &dir.join(&gone.file), gone.position + 16, b"#").await;
        let entries = dumped(&env, &dir, DumpOptions::default()).await;
        let told = batches(&entries);
        assert_eq!(told.len(), all.len() - 1);
        assert!(!told[1].is_good && told.iter().filter(|batch| !batch.is_good).count() == 1);
        let damage = entries.iter().find_map(|entry| match entry {
            DumpEntry::Damage(damage) => Some(damage),
            _ => None,
        });
        let damage = damage.expect("damage is told");
        assert_eq!((damage.file.as_str(), damage.position), (gone.file.as_str(), gone.position));
        assert_eq!(damage.base_offset, Some(gone.header.base_offset.0));
    });
}
