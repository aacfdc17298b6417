use quipu_env::Env;
use quipu_sim::{
    NodeConfig, Sim, SimConfig, SimEnv, World,
    disk::{Count, CrashPlan, KeepAll, Moment},
};
use rand::RngExt;

use super::*;

fn sample(generation_count: u64) -> Superblock {
    Superblock {
        cluster_id: Some(ClusterId([3; 16])),
        broker_epoch: Some(BrokerEpoch(77)),
        wal_generations: (1..=generation_count)
            .map(|number| WalGeneration { generation: number * 0x9e37_79b9, first: GroupSequence(number * 10) })
            .collect(),
        synced_up_to: GroupSequence(12_345),
        clean: false,
        ..Superblock::new(BrokerId(5), DirectoryId([9; 16]))
    }
}

fn valid(bytes: &[u8], copy: u16) -> Option<Superblock> {
    match decode(bytes, copy) {
        CopyReading::Valid(superblock) => Some(superblock),
        CopyReading::Newer(_) | CopyReading::Invalid => None,
    }
}

fn path() -> PathBuf {
    PathBuf::from("/superblock")
}

fn run<T: Send>(seed: u64, scenario: impl AsyncFnOnce(World) -> T + Send) -> T {
    Sim::new(seed, SimConfig::default()).run(|world| async move { scenario(world).await }).value
}

async fn read_it(env: SimEnv) -> Result<Option<Superblock>, SuperblockError> {
    read(env.disk(), Path::new("/")).await
}

#[test]
fn a_directory_with_another_id_keeps_that_of_its_files() {
    let other = Superblock { directory_id: DirectoryId([4; 16]), ..sample(GENERATIONS_MAX as u64) };
    assert_eq!(other.tag(), sample(0).tag(), "groups go on naming the first one");
    assert_eq!(valid(&other.encode(1), 1), Some(other));
}

#[test]
fn a_copy_that_was_cut_off_is_told_from_one_that_rots() {
    let state = |sequence| Superblock { sequence, synced_up_to: GroupSequence(sequence * 1000), ..sample(2) };
    let file = |first: u64, last: u64| {
        let copies = [state(first).encode(0), state(first).encode(1), state(last).encode(2), state(last).encode(3)];
        copies.concat()
    };
    // The first pair was being written when the power went: 40 bytes of the new copy 0 arrived.
    let mut torn = file(7, 7);
    torn[..40].copy_from_slice(&state(8).encode(0)[..40]);
    assert!(!is_whole_copy(&torn, 0) && may_be_torn(&torn, 0));
    // And with the second pair.
    let mut torn = file(8, 7);
    torn[3 * COPY_BYTES..3 * COPY_BYTES + 40].copy_from_slice(&state(8).encode(3)[..40]);
    assert!(!is_whole_copy(&torn[3 * COPY_BYTES..], 3) && may_be_torn(&torn, 3));
    for copy in 0..COPY_COUNT {
        let mut rotten = file(8, 8);
        rotten[usize::from(copy) * COPY_BYTES + 100] ^= 4;
        assert!(!may_be_torn(&rotten, copy), "one bit of copy {copy}");
    }
    // Two pairs are never written at once.
    let mut torn = file(7, 7);
    torn[..40].copy_from_slice(&state(8).encode(0)[..40]);
    torn[2 * COPY_BYTES] ^= 1;
    assert!(!may_be_torn(&torn, 0));
}

#[test]
fn copies_round_trip() {
    for count in [0, 1, 3, GENERATIONS_MAX as u64] {
        for superblock in [sample(count), Superblock::new(BrokerId(0), DirectoryId::ZERO)] {
            assert_eq!(valid(&superblock.encode(2), 2), Some(superblock));
        }
    }
}

#[test]
fn a_number_that_could_not_rise_any_more_is_damage() {
    let superblock = |sequence| Superblock { sequence, ..sample(1) };
    assert_eq!(valid(&superblock(u64::MAX).encode(0), 0), None);
    assert_eq!(valid(&superblock(u64::MAX - 1).encode(0), 0), Some(superblock(u64::MAX - 1)));
}

#[test]
fn layout_is_as_documented() {
    let bytes = sample(2).encode(3);
    assert_eq!(bytes[0..8], *b"QuipuSup");
    assert_eq!(bytes[8..12], [1, 0, 3, 0]);
    assert_eq!(bytes[24..28], 3_u32.to_le_bytes());
    assert_eq!(bytes[28..32], 5_i32.to_le_bytes());
    assert_eq!(bytes[32..48], [9; 16]);
    assert_eq!(bytes[48..64], [3; 16]);
    assert_eq!(bytes[64..72], 77_i64.to_le_bytes());
    assert_eq!(bytes[72..80], 12_345_u64.to_le_bytes());
    assert_eq!(bytes[80..88], [2, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bytes[88..96], 0x9e37_79b9_u64.to_le_bytes());
    assert_eq!(bytes[96..104], 10_u64.to_le_bytes());
    assert!(bytes[120..].iter().all(|byte| *byte == 0));
}

#[test]
fn no_flipped_bit_and_no_truncation_is_accepted() {
    let bytes = sample(3).encode(1);
    for bit in 0..bytes.len() * 8 {
        let mut bad = bytes;
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(matches!(decode(&bad, 1), CopyReading::Invalid), "bit {bit}");
    }
    for length in 0..bytes.len() {
        assert!(matches!(decode(&bytes[..length], 1), CopyReading::Invalid));
    }
    assert!(matches!(decode(&bytes, 0), CopyReading::Invalid), "a copy in another one's place");
}

#[test]
fn one_whole_copy_is_enough() {
    for kept in 0..COPY_COUNT {
        let found = run(1, async |world| {
            let node = world.node("a", NodeConfig::default());
            let written = node.start(|env| async move {
                let mut superblock = sample(2);
                write(env.disk(), Path::new("/"), &mut superblock).await.unwrap();
                superblock
            });
            let written = written.join().await.unwrap();
            node.with_disk(|disk| {
                for copy in (0..COPY_COUNT).filter(|copy| *copy != kept) {
                    disk.flip_bit(&path(), copy_position(copy) + 100, 0).unwrap();
                }
            });
            (written, node.start(read_it).join().await.unwrap().unwrap())
        });
        assert_eq!(found.1, Some(found.0));
    }
}

#[test]
fn without_a_whole_copy_it_is_damaged_and_says_what_to_do() {
    let found = run(1, async |world| {
        let node = world.node("a", NodeConfig::default());
        assert!(node.start(read_it).join().await.unwrap().unwrap().is_none());
        let writing = node.start(|env| async move { write(env.disk(), Path::new("/"), &mut sample(2)).await });
        writing.join().await.unwrap().unwrap();
        node.with_disk(|disk| {
            for copy in 0..COPY_COUNT {
                disk.flip_bit(&path(), copy_position(copy) + 100, 0).unwrap();
            }
        });
        node.start(read_it).join().await.unwrap()
    });
    let error = found.unwrap_err();
    assert!(matches!(error, SuperblockError::Damaged { .. }));
    assert!(error.to_string().contains("/superblock") && error.to_string().contains("restore"), "{error}");
}

#[test]
fn a_newer_format_is_refused_by_name() {
    let found = run(1, async |world| {
        let node = world.node("a", NodeConfig::default());
        let writing = node.start(|env| async move { write(env.disk(), Path::new("/"), &mut sample(2)).await });
        writing.join().await.unwrap().unwrap();
        node.with_disk(|disk| {
            let mut newer = sample(2).encode(3);
            newer[8] = 2;
            let crc = copy_crc(&newer);
            newer[12..16].copy_from_slice(&crc.to_le_bytes());
            let file = disk.open(&path(), OpenOptions::WRITE).unwrap();
            disk.write(&file, copy_position(3), &[newer.to_vec().into()]).unwrap();
            disk.sync(&file, &mut KeepAll).unwrap();
            disk.close(file);
        });
        node.start(read_it).join().await.unwrap()
    });
    assert!(matches!(found, Err(SuperblockError::Newer { found: 2, .. })));
}

#[test]
fn too_many_generations_are_refused_before_anything_is_written() {
    let found = run(1, async |world| {
        let node = world.node("a", NodeConfig::default());
        let writing = node.start(|env| async move {
            let result = write(env.disk(), Path::new("/"), &mut sample(GENERATIONS_MAX as u64 + 1)).await;
            (result, read_it(env).await)
        });
        writing.join().await.unwrap()
    });
    assert!(matches!(found.0, Err(SuperblockError::TooManyGenerations { .. })));
    assert!(matches!(found.1, Ok(None)));
}

/// Writes one after the other, each with its own number of synced groups, until the power goes.
#[test]
fn a_crash_leaves_the_old_or_the_new() {
    for seed in 0..400 {
        run(seed, async |world| {
            let mut rng = world.rng("crash");
            let node = world.node("a", NodeConfig::default());
            let moment = if rng.random_range(0..2) == 0 { Moment::Before } else { Moment::After };
            node.crash_at_disk_operation(CrashPlan { count: Count::Changes, at: rng.random_range(0..30), moment });
            let done = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
            let progress = std::sync::Arc::clone(&done);
            drop(node.start(|env| async move {
                let mut superblock = sample(5);
                for number in 1.. {
                    superblock.mark_clean(GroupSequence(number));
                    write(env.disk(), Path::new("/"), &mut superblock).await.unwrap();
                    progress.store(number, std::sync::atomic::Ordering::Relaxed);
                }
            }));
            drop(node.wait_down().await);
            let done = done.load(std::sync::atomic::Ordering::Relaxed);
            let found = node.start(read_it).join().await.unwrap().expect("never damaged");
            let found = found.map_or(0, |superblock| superblock.synced_up_to.0);
            assert!(found == done || found == done + 1, "{done} were written, {found} was read");
        });
    }
}
