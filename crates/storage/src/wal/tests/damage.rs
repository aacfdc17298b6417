//! Bytes that were synced, and change afterwards: always reported, never cut silently, and they take no more than they must.

use core::time::Duration;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use quipu_env::{Clock, Env, OpenOptions};
use quipu_sim::{Node, NodeConfig, Sim, SimConfig, World, disk::KeepAll};
use rand::RngExt;

use super::kit::*;
use crate::wal::{
    Affected, Class, GroupSequence, ScanMode, Wal, WalOptions,
    format::{GroupPlan, encode_group},
    shared::file_path,
};

const PAGE: u64 = 4096;

/// A frame that was written, and its group.
type Written = (u64, GroupSequence);

/// Overwrites bytes on the device; answers what was there.
fn overwrite(node: &Node, path: &Path, position: u64, bytes: &[u8]) -> Bytes {
    let old = node.with_disk(|disk| {
        let file = disk.open(path, OpenOptions::READ).unwrap();
        let old = disk.read(&file, position, bytes.len()).unwrap();
        disk.close(file);
        old
    });
    put(node, path, position, bytes);
    old
}

fn put(node: &Node, path: &Path, position: u64, bytes: &[u8]) {
    node.with_disk(|disk| {
        let file = disk.open(path, OpenOptions::WRITE).unwrap();
        disk.write(&file, position, &[Bytes::copy_from_slice(bytes)]).unwrap();
        disk.sync(&file, &mut KeepAll).unwrap();
        disk.close(file);
    });
}

fn file(number: u32) -> PathBuf {
    file_path(&dir(), number)
}

/// Writes `lengths` as frames, each burst followed by a wait.
async fn write_bursts<E: Env>(wal: &Wal<E>, bursts: &[&[usize]]) {
    let mut number = 0;
    for burst in bursts {
        let mut last = wal.last_ticket();
        for length in *burst {
            last = wal.submit(frame(number, *length));
            number += 1;
        }
        wait_durable(wal, last).await;
    }
}

fn written(sink: &Sink) -> Vec<Written> {
    let groups = sink.groups.lock().unwrap();
    groups.iter().flat_map(|(group, frames)| frames.iter().map(|(number, _)| (*number, *group))).collect()
}

/// A node whose WAL holds the bursts, stopped cleanly or, after the last group was proven, killed.
async fn prepare(world: &World, bursts: &'static [&'static [usize]], clean: bool) -> (Node, Vec<Written>) {
    let node = world.node("a", NodeConfig::default());
    let process = node.start(|env| async move {
        let (wal, sink, superblock) = start(&env).await;
        write_bursts(&wal, bursts).await;
        if clean {
            stop(&env, wal, superblock).await;
        } else {
            env.clock().sleep(Duration::from_millis(50)).await;
        }
        written(&sink)
    });
    let written = process.join().await.unwrap();
    node.power_cut();
    (node, written)
}

async fn inspect(node: &Node) -> Recovered {
    node.start(|env| async move { scan(&env, ScanMode::Inspect).await }).join().await.unwrap()
}

/// Every frame is there, or reported damaged together with its partition.
fn check_nothing_is_cut_silently(written: &[Written], recovered: &Recovered, what: &str) {
    let found = recovered.numbers();
    for (number, group) in written {
        if found.contains(number) {
            continue;
        }
        let partition = partition(i32::try_from(number % 5).unwrap());
        let reported = recovered
            .end
            .damage
            .iter()
            .any(|damage| damage.first <= *group && *group <= damage.last && damage.affected.concerns(&partition));
        assert!(reported, "{what}: frame {number} of group {group} is gone: {:?}", recovered.end.damage);
    }
    assert_eq!(recovered.end.cut, [], "{what}");
}

/// Small groups, a group of many pages, and enough to fill more than two files.
const BURSTS: &[&[usize]] = &[
    &[10],
    &[10, 20, 30],
    &[4000],
    &[100, 9000, 200],
    &[10],
    &[50_000],
    &[10, 20],
    &[30],
    &[30_000, 10],
    &[20_000],
    &[10],
    &[10, 10],
    &[300],
    &[5000],
    &[10],
];

fn every_page_in_turn(clean: bool, bytes: [u8; 4096]) {
    Sim::new(1, SimConfig::default()).run(|world| async move {
        let (node, written) = prepare(&world, BURSTS, clean).await;
        let whole = inspect(&node).await;
        assert_eq!(whole.numbers().len(), written.len());
        assert_eq!(whole.end.damage, []);
        let mut damaged = 0;
        let groups: Vec<_> =
            whole.groups.iter().map(|group| (group.file.clone(), group.position, group.length)).collect();
        for (path, position, length) in groups {
            for page in (position..position + length).step_by(4096) {
                let old = overwrite(&node, &path, page, &bytes);
                let recovered = inspect(&node).await;
                let what = format!("{} at {page}", path.display());
                check_nothing_is_cut_silently(&written, &recovered, &what);
                // One page is one page of one group: all other groups are there.
                let lost = recovered.end.damage.iter().map(|damage| damage.last.0 - damage.first.0 + 1).sum::<u64>();
                assert!(lost <= 1, "{what}: {:?}", recovered.end.damage);
                damaged += lost;
                overwrite(&node, &path, page, &old);
            }
        }
        assert!(damaged > 20, "most pages matter: {damaged}");
    });
}

#[test]
fn every_page_zeroed_after_a_clean_stop() {
    every_page_in_turn(true, [0; 4096]);
}

#[test]
fn every_page_zeroed_after_a_proof() {
    every_page_in_turn(false, [0; 4096]);
}

#[test]
fn every_page_garbled_after_a_clean_stop() {
    every_page_in_turn(true, core::array::from_fn(|index| (index * 37).to_le_bytes()[0] ^ 0x5a));
}

/// Every bit of a small group, in place.
#[test]
fn every_flipped_bit_of_a_group_is_found_or_harmless() {
    Sim::new(2, SimConfig::default()).run(|world| async move {
        let (node, written) = prepare(&world, &[&[10], &[10, 20], &[30]], true).await;
        let whole = inspect(&node).await;
        let group = &whole.groups[1];
        for position in group.position..group.position + 500 {
            for bit in 0..8 {
                node.with_disk(|disk| disk.flip_bit(&group.file, position, bit)).unwrap();
                let recovered = inspect(&node).await;
                check_nothing_is_cut_silently(&written, &recovered, &format!("bit {bit} at {position}"));
                node.with_disk(|disk| disk.flip_bit(&group.file, position, bit)).unwrap();
            }
        }
    });
}

/// Longer ranges, anywhere, several at once.
#[test]
fn garbled_ranges_are_reported() {
    for seed in 0..80 {
        Sim::new(seed, SimConfig::default()).run(|world| async move {
            let mut rng = world.rng("damage");
            let (node, written) = prepare(&world, BURSTS, true).await;
            for _ in 0..rng.random_range(1..4) {
                let pages = rng.random_range(1..12) * 4096;
                let position = rng.random_range(0..(FILE_BYTES - pages) / 512) * 512;
                let garbage: Vec<u8> = (0..pages).map(|_| rng.random_range(0..=255)).collect();
                overwrite(&node, &file(rng.random_range(0..3)), position, &garbage);
            }
            check_nothing_is_cut_silently(&written, &inspect(&node).await, "garbage");
        });
    }
}

#[test]
fn a_lost_file_is_reported() {
    for number in 0..3 {
        Sim::new(3, SimConfig::default()).run(|world| async move {
            let (node, written) = prepare(&world, BURSTS, true).await;
            node.with_disk(|disk| disk.remove(&file(number))).unwrap();
            let recovered = inspect(&node).await;
            assert!(!recovered.end.damage.is_empty());
            check_nothing_is_cut_silently(&written, &recovered, "a lost file");
        });
    }
}

#[test]
fn unreadable_pages_are_damage() {
    Sim::new(4, SimConfig::default()).run(|world| async move {
        let (node, written) = prepare(&world, BURSTS, true).await;
        let whole = inspect(&node).await;
        for group in &whole.groups {
            for sector in (group.position..group.position + group.length).step_by(512).take(20) {
                let old = overwrite(&node, &group.file, sector, &[0; 512]);
                node.with_disk(|disk| disk.make_unreadable(&group.file, sector..sector + 512)).unwrap();
                check_nothing_is_cut_silently(&written, &inspect(&node).await, "an unreadable sector");
                put(&node, &group.file, sector, &old);
            }
        }
        assert_eq!(inspect(&node).await.end.damage, []);
    });
}

/// Bad payloads concern their partitions only, and the rest of the group is read.
#[test]
fn a_bad_payload_concerns_its_partition_only() {
    Sim::new(5, SimConfig::default()).run(|world| async move {
        let (node, _) = prepare(&world, &[&[10], &[10, 4000, 30], &[30]], false).await;
        let whole = inspect(&node).await;
        let group = whole.groups[1..].iter().find(|group| group.frames.len() > 1).expect("a burst makes a group");
        let bad = group.frames.iter().position(|frame| frame.payload.len() == 4008).unwrap();
        let faulty = group.frames[bad].partition;
        node.with_disk(|disk| disk.flip_bit(&group.file, group.position + 2000, 3)).unwrap();
        let recovered = inspect(&node).await;
        let damage = &recovered.end.damage;
        assert_eq!(damage.len(), 1);
        assert_eq!(damage[0].affected, Affected::Only(vec![faulty]));
        assert_eq!((damage[0].position, damage[0].length), (group.position, group.length));
        assert_eq!(recovered.numbers().len(), whole.numbers().len() - 1);
    });
}

/// Without any directory, whoever is proven untouched by a later frame is.
#[test]
fn without_a_directory_later_frames_prove_who_is_untouched() {
    Sim::new(6, SimConfig::default()).run(|world| async move {
        // Frames 0 to 4 belong to partitions 0 to 4; 5 to partition 0; 6, 7 to 1, 2.
        let (node, _) = prepare(&world, &[&[10, 10, 10, 10, 10], &[10], &[10, 10]], true).await;
        let whole = inspect(&node).await;
        let group = whole.groups.iter().find(|group| group.frames[0].base_offset.0 == 5).unwrap();
        overwrite(&node, &group.file, group.position, &[0; 4096]);
        let recovered = inspect(&node).await;
        let damage = &recovered.end.damage;
        assert_eq!(damage.len(), 1, "{damage:?}");
        assert_eq!((damage[0].first, damage[0].last), (group.sequence, group.sequence));
        assert_eq!(damage[0].affected, Affected::AllBut(vec![partition(1), partition(2)]));
        assert!(damage[0].affected.concerns(&partition(0)) && damage[0].affected.concerns(&partition(4)));
        assert_eq!((damage[0].position, damage[0].length), (group.position, PAGE));
    });
}

/// The log goes on behind damage, at its end as well, and the damage is reported until a checkpoint covers it.
#[test]
fn the_log_goes_on_behind_damage() {
    for lost in 0..5_usize {
        Sim::new(7, SimConfig::default()).run(|world| async move {
            let (node, written) = prepare(&world, &[&[10], &[10, 20], &[30], &[10], &[500]], true).await;
            let whole = inspect(&node).await;
            let group = &whole.groups[lost.min(whole.groups.len() - 1)];
            overwrite(&node, &group.file, group.position, &[0; 4096]);
            let process = node.start(|env| async move {
                let recovered = scan(&env, ScanMode::Recover).await;
                let mut expected = recovered.numbers();
                let damage = recovered.end.damage.clone();
                let (wal, _sink, _superblock) = go_on(&env, recovered, options()).await;
                for number in 1000..1020 {
                    let ticket = wal.submit(frame(number, 100));
                    wait_durable(&wal, ticket).await;
                    expected.push(number);
                }
                (expected, damage)
            });
            let (expected, damage) = process.join().await.unwrap();
            assert_eq!(damage.len(), 1);
            node.power_cut();
            let again = inspect(&node).await;
            assert_eq!(again.numbers(), expected);
            assert_eq!(again.end.damage.len(), 1);
            assert_eq!((again.end.damage[0].first, again.end.damage[0].last), (damage[0].first, damage[0].last));
            check_nothing_is_cut_silently(&written, &again, "after another start");
        });
    }
}

/// A group that is whole and in its place, but follows a group that is not in the log.
#[test]
fn a_group_that_names_another_predecessor_does_not_count() {
    Sim::new(9, SimConfig::default()).run(|world| async move {
        let (node, written) = prepare(&world, &[&[10], &[20], &[30]], true).await;
        let whole = inspect(&node).await;
        let group = &whole.groups[2];
        let mut plan = GroupPlan {
            generation: group.generation,
            sequence: group.sequence,
            synced_up_to: group.synced_up_to,
            file: 0,
            position: group.position,
            previous_hash: None,
            reach: 1 << 23,
            directory_tag: whole.superblock.tag(),
        };
        let forge = |plan: &GroupPlan| encode_group(plan, &[(frame(77, 10), GroupSequence::NONE)]).bytes;
        overwrite(&node, &group.file, group.position, &forge(&plan));
        assert_eq!(inspect(&node).await.numbers(), [0, 1, 77], "only the writer knows the generation");
        plan.previous_hash = Some(12_345);
        overwrite(&node, &group.file, group.position, &forge(&plan));
        let recovered = inspect(&node).await;
        assert_eq!(recovered.numbers(), [0, 1]);
        check_nothing_is_cut_silently(&written, &recovered, "another predecessor");
    });
}

/// What lies in the wrong place is not taken, however whole it is.
#[test]
fn misplaced_groups_do_not_count() {
    Sim::new(8, SimConfig::default()).run(|world| async move {
        let (node, written) = prepare(&world, &[&[10], &[20], &[30]], true).await;
        let whole = inspect(&node).await;
        let [first, second, third] = &whole.groups[..] else { panic!("three bursts, three groups") };
        let bytes = node.with_disk(|disk| disk.contents(&first.file)).unwrap();
        let page = |position: u64| bytes[usize::try_from(position).unwrap()..][..4096].to_vec();
        // A write that went to its neighbour's place: one group is lost, none comes twice.
        overwrite(&node, &first.file, second.position, &page(third.position));
        let recovered = inspect(&node).await;
        assert_eq!(recovered.numbers(), [0, 2]);
        check_nothing_is_cut_silently(&written, &recovered, "a misdirected write");
        // A copy in another file.
        overwrite(&node, &first.file, second.position, &page(second.position));
        node.with_disk(|disk| {
            let file = disk.open(&file(7), OpenOptions::CREATE).unwrap();
            disk.write(&file, 0, &[page(third.position).into()]).unwrap();
            disk.close(file);
        });
        assert_eq!(inspect(&node).await.numbers(), [0, 1, 2]);
    });
}

/// Before the first group is read nothing tells how far one may stretch. Here a long one is the only one left, and what announced
/// it is lost together with its first page.
#[test]
fn a_long_group_is_found_by_its_end() {
    const LENGTH: usize = 80 << 20;
    Sim::new(10, SimConfig::default()).run(|world| async move {
        let node = world.node("a", NodeConfig::default());
        let process = node.start(|env| async move {
            let recovered = scan(&env, ScanMode::Recover).await;
            let options = WalOptions { file_bytes: 2 * LENGTH as u64, total_bytes: 4 * LENGTH as u64, ..options() };
            let (wal, sink, _superblock) = go_on(&env, recovered, options).await;
            write_bursts(&wal, &[&[10]]).await;
            let permit = wal.reserve_space(LENGTH, Class::Normal).await.unwrap();
            let ticket = wal.submit(frame(1, LENGTH - 8));
            drop(permit);
            wait_durable(&wal, ticket).await;
            // Until it is proven.
            env.clock().sleep(Duration::from_millis(50)).await;
            let written = written(&sink);
            write_covered(&env, written[1].1.previous()).await;
            written
        });
        let written = process.join().await.unwrap();
        let whole = inspect(&node).await;
        let long = whole.groups.iter().find(|group| group.sequence == written[1].1).unwrap();
        assert_eq!((long.file.as_path(), long.position), (file(1).as_path(), 2 * PAGE), "behind what announces it");
        overwrite(&node, &file(0), 0, &vec![0; 1 << 20]);
        overwrite(&node, &file(1), 0, &[0; 3 * 4096]);
        let recovered = inspect(&node).await;
        check_nothing_is_cut_silently(&written[1..], &recovered, "a long group's first page");
        assert!(recovered.end.damage.len() == 1, "{:?}", recovered.end.damage);
    });
}
