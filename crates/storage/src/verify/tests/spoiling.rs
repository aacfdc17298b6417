//! Bits are flipped, files are cut and removed: `verify` tells of each.

use std::path::Path;

use bytes::Bytes;
use quipu_base::{Offset, checksum::crc32c};
use quipu_env::{Disk, Env};

use super::kit::*;
use crate::{
    LiveRange, VerifyReport,
    manifest::{self, FILE_NAME},
    verify::verify,
};

/// Positions looked at in each range, besides those near its ends.
const PROBES: u64 = 16;

/// Whether something told covers the byte.
fn is_told(report: &VerifyReport, file: &str, position: u64) -> bool {
    let holds = |at: u64, length: u64| (at..at + length).contains(&position);
    report.damaged.iter().any(|damage| damage.file == file && holds(damage.position, damage.length))
        || report.cut.iter().any(|cut| cut.file == file && holds(cut.position, cut.length))
}

/// Both ends of a range, where headers are, and places spread over it.
fn positions(live: &LiveRange) -> Vec<u64> {
    let length = live.to - live.from;
    let mut positions: Vec<u64> = (0..PROBES).map(|probe| live.from + probe * length / PROBES).collect();
    let near = (0..100.min(length)).step_by(7);
    positions.extend(near.flat_map(|distance| [live.from + distance, live.to - 1 - distance]));
    positions.sort_unstable();
    positions.dedup();
    positions
}

async fn flip_everywhere<E: Env>(env: &E, dir: &Path) {
    let whole = report(env, dir).await;
    assert!(whole.ok, "{:?}", whole.damaged);
    let mut flips = 0;
    for live in &whole.live {
        let path = dir.join(&live.file);
        let bytes = read_file(env, &path).await;
        for position in positions(live) {
            let byte = bytes[usize::try_from(position).unwrap()];
            let bit = u8::try_from((position * 7 + 3) % 8).unwrap();
            patch(env, &path, position, &[byte ^ (1 << bit)]).await;
            let spoilt = report(env, dir).await;
            patch(env, &path, position, &[byte]).await;
            assert!(
                is_told(&spoilt, &live.file, position),
                "bit {bit} of byte {position} of {} ({}): damaged {:?}, cut {:?}",
                live.file,
                live.what,
                spoilt.damaged,
                spoilt.cut
            );
            let in_log = live.file.starts_with("wal/") || live.file == FILE_NAME;
            assert!(!spoilt.ok || in_log, "only what a power cut may leave is no damage: {spoilt:?}");
            flips += 1;
        }
    }
    assert!(flips > 500, "{flips} flips");
    assert_eq!(report(env, dir).await, whole, "all was put back");
}

#[test]
fn every_flipped_bit_is_told_after_a_clean_stop() {
    in_directory("flip-clean", |env, dir| async move {
        stopped(&env, &dir).await;
        flip_everywhere(&env, &dir).await;
    });
}

#[test]
fn a_footer_of_a_later_release_is_refused_by_name() {
    in_directory("newer-footer", |env, dir| async move {
        stopped(&env, &dir).await;
        let of_rolled = format!("segment footer of partition {ROLLED}");
        let footer = report(&env, &dir).await.live.into_iter().find(|live| live.what == of_rolled && live.from > 0);
        let footer = footer.expect("sealed segments have one");
        let path = dir.join(&footer.file);
        let place = |at: u64| usize::try_from(at).unwrap();
        let mut bytes = read_file(&env, &path).await[place(footer.from)..place(footer.to)].to_vec();
        bytes[8] = 2;
        let (covered, crc) = bytes.split_at_mut(place(footer.to - footer.from) - 4);
        crc.copy_from_slice(&crc32c(covered).to_le_bytes());
        patch(&env, &path, footer.from, &bytes).await;
        let told = verify(&env, &dir).await.expect_err("it is refused").to_string();
        assert!(told.contains("later release"), "{told}");
        let store = open(&env, &dir).await;
        let read = store.log(ROLLED).read(Offset(0), Offset(24), 1 << 20, true).await;
        let Err(told) = read.map(drop) else { panic!("it is served") };
        let told = told.to_string();
        assert!(told.contains("version 2") && told.contains("later release"), "{told}");
        store.close().await.expect("a clean stop");
    });
}

#[test]
fn every_flipped_bit_is_told_after_a_kill() {
    in_directory("flip-killed", |env, dir| async move {
        killed(&env, &dir).await;
        flip_everywhere(&env, &dir).await;
    });
}

#[test]
fn damage_in_a_segment_names_its_batch() {
    in_directory("names", |env, dir| async move {
        stopped(&env, &dir).await;
        let live = report(&env, &dir).await.live;
        let of = |live: &&LiveRange| live.what.starts_with(&format!("batches of partition {GROWING}"));
        let segment = live.iter().find(of).expect("it has a segment");
        // Twelve batches of some 400 bytes, two records each; then one of 20,000.
        patch(&env, &dir.join(&segment.file), 10_000, b"#").await;
        let damaged = report(&env, &dir).await.damaged;
        let [damage] = &damaged[..] else { panic!("{damaged:?}") };
        assert_eq!(damage.topic.as_deref(), Some(&*TOPIC.to_string()));
        assert_eq!((damage.partition, damage.base_offset), (Some(1), Some(24)));
        assert!(damage.length > 20_000 && damage.length < 21_000, "{damage:?}");
    });
}

#[test]
fn damage_to_unproven_groups_is_cut_and_proven_groups_name_their_frame() {
    in_directory("frames", |env, dir| async move {
        killed(&env, &dir).await;
        let before = report(&env, &dir).await;
        let live = before.live.iter().find(|live| live.file.starts_with("wal/")).expect("live groups");
        // The first live group is proven by those that follow it. Its payloads come after one page at most.
        let path = dir.join(&live.file);
        let bytes = read_file(&env, &path).await;
        let batch = find(&bytes, live.from, b"vvvvvvvvvvvvvvvv");
        patch(&env, &path, batch, b"#").await;
        let spoilt = report(&env, &dir).await;
        assert!(!spoilt.ok);
        let damage = spoilt.damaged.iter().find(|damage| damage.base_offset.is_some()).expect("a frame is named");
        assert!(damage.position <= batch && batch < damage.position + damage.length, "{damage:?}");
        assert_eq!(damage.topic.as_deref(), Some(&*TOPIC.to_string()));
    });
}

fn find(bytes: &Bytes, from: u64, needle: &[u8]) -> u64 {
    let start = usize::try_from(from).unwrap();
    let found = bytes[start..].windows(needle.len()).position(|window| window == needle);
    from + u64::try_from(found.expect("it is there")).unwrap()
}

#[test]
fn files_cut_short_are_told() {
    in_directory("short", |env, dir| async move {
        killed(&env, &dir).await;
        let whole = report(&env, &dir).await;
        for live in &whole.live {
            let path = dir.join(&live.file);
            let bytes = read_file(&env, &path).await;
            for length in [live.from, (live.from + live.to) / 2, live.to - 1] {
                write_file(&env, &path, bytes.slice(..usize::try_from(length).unwrap())).await;
                let spoilt = report(&env, &dir).await;
                let told = !spoilt.ok || spoilt.cut.len() > whole.cut.len();
                // The end of a log without proof: it may never have been there.
                let may_be_missed = live.file.starts_with("wal/") || live.file == FILE_NAME;
                assert!(told || may_be_missed, "{} cut to {length} bytes: {spoilt:?}", live.file);
                assert!(
                    !spoilt.ok || spoilt.live != whole.live || !spoilt.cut.is_empty(),
                    "{} cut to {length} bytes looks whole: {spoilt:?}",
                    live.file
                );
            }
            write_file(&env, &path, bytes).await;
        }
        assert_eq!(report(&env, &dir).await, whole, "all was put back");
    });
}

#[test]
fn missing_files_are_told() {
    in_directory("missing", |env, dir| async move {
        killed(&env, &dir).await;
        let whole = report(&env, &dir).await;
        let mut files: Vec<&String> = whole.live.iter().map(|live| &live.file).collect();
        files.dedup();
        assert!(files.len() > 5, "{files:?}");
        for file in files {
            let path = dir.join(file);
            let bytes = read_file(&env, &path).await;
            env.disk().remove(&path).await.expect("remove");
            let spoilt = report(&env, &dir).await;
            assert!(!spoilt.ok, "{file} is missing: {spoilt:?}");
            write_file(&env, &path, bytes).await;
        }
        assert_eq!(report(&env, &dir).await, whole, "all was put back");
    });
}

/// A start removes files that were never used, and the power may bring back some of them.
#[test]
fn only_a_gap_before_a_used_file_is_damage() {
    in_directory("gap", |env, dir| async move {
        killed(&env, &dir).await;
        let last = env.disk().list(&dir.join("wal")).await.expect("list").len() - 1;
        let behind_gap = dir.join(format!("wal/{:04}", last + 2));
        for unused in [0, 100, 3 * 4096] {
            write_file(&env, &behind_gap, vec![0; unused].into()).await;
            let report = report(&env, &dir).await;
            assert!(report.ok, "{unused} zeros: {:?}", report.damaged);
        }
        write_file(&env, &behind_gap, vec![7; 4096].into()).await;
        let report = report(&env, &dir).await;
        let told: Vec<&str> = report.damaged.iter().map(|damage| damage.file.as_str()).collect();
        assert_eq!(told, [format!("wal/{:04}", last + 1)]);
    });
}

#[test]
fn a_torn_edit_is_no_damage() {
    in_directory("torn", |env, dir| async move {
        // How long the last edit is depends on how far the checkpoint before the stop came: not each spans sectors.
        for attempt in 0..50 {
            let dir = dir.join(attempt.to_string());
            stopped(&env, &dir).await;
            let path = dir.join(FILE_NAME);
            let mut bytes = read_file(&env, &path).await.to_vec();
            let end = usize::try_from(manifest::parse(&bytes, &path).expect("whole").end).unwrap();
            bytes[end - 1] ^= 1;
            let last = manifest::parse(&bytes, &path).expect("the other copy reads").half_written.expect("a bad half");
            assert!(!report_of(&env, &dir, &bytes).await.ok, "a flipped bit is damage");
            bytes[end - 1] ^= 1;
            let copy = usize::try_from(last.position).unwrap();
            let sector = (copy + 1).next_multiple_of(512);
            if sector < end {
                bytes[sector..end].fill(0);
                let report = report_of(&env, &dir, &bytes).await;
                assert!(report.ok && report.cut.len() == 1, "sectors that were never written are not: {report:?}");
                return;
            }
        }
        panic!("no last edit spans sectors");
    });
}

async fn report_of<E: Env>(env: &E, dir: &Path, manifest: &[u8]) -> VerifyReport {
    write_file(env, &dir.join(FILE_NAME), Bytes::copy_from_slice(manifest)).await;
    report(env, dir).await
}
