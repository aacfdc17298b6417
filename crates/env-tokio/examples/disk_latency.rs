//! What a durable write costs on this machine, and by which calls it is cheapest.
//!
//! ```text
//! cargo run --release -p quipu-env-tokio --example disk_latency -- DIRECTORY [ROUNDS]
//! ```
//!
//! Overwrites zero-filled files and prints medians for 4 KiB and 1 MiB, each way of the kernel alone (no threads between),
//! then what the broker sees: the same write through `File::write_sync`, and the bare hop to an I/O thread and back. The ways
//! take turns, so that a slow moment of a shared disk hits all of them alike.
#![expect(clippy::print_stdout, reason = "printing is what it is for")]

use std::{
    env,
    error::Error,
    fs, io,
    io::IoSlice,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use bytes::Bytes;
use quipu_env::{AlignedBuf, Disk, Env, File, Lane, OpenOptions};
use quipu_env_tokio::{Options, TokioEnv, TokioFile};
use rustix::{
    fs::{Mode, OFlags},
    io::ReadWriteFlags,
};

const FILE_BYTES: usize = 32 << 20;
const ROUNDS: usize = 300;

/// One way to make a write durable, by system calls.
#[derive(Clone, Copy)]
struct Way {
    name: &'static str,
    open: OFlags,
    flags: ReadWriteFlags,
    syncs: bool,
}

const WAYS: [Way; 4] = [
    Way { name: "O_DIRECT, fdatasync", open: OFlags::DIRECT, flags: ReadWriteFlags::empty(), syncs: true },
    Way { name: "O_DIRECT, RWF_DSYNC", open: OFlags::DIRECT, flags: ReadWriteFlags::DSYNC, syncs: false },
    Way { name: "page cache, fdatasync", open: OFlags::empty(), flags: ReadWriteFlags::empty(), syncs: true },
    Way { name: "page cache, RWF_DSYNC", open: OFlags::empty(), flags: ReadWriteFlags::DSYNC, syncs: false },
];

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let directory = arguments.next().ok_or("usage: disk_latency DIRECTORY [ROUNDS]")?;
    let rounds = arguments.next().map_or(Ok(ROUNDS), |text| text.parse())?;
    // A file for each way: pages that one leaves in the cache would have to be dropped by another.
    let paths: Vec<PathBuf> =
        (0..=WAYS.len()).map(|number| Path::new(&directory).join(format!("disk_latency-{number}.tmp"))).collect();
    let measured = measure(&paths, rounds);
    for path in &paths {
        fs::remove_file(path)?;
    }
    measured
}

fn measure(paths: &[PathBuf], rounds: usize) -> Result<(), Box<dyn Error>> {
    for path in paths {
        fill_with_zeros(path)?;
    }
    for length in [4 << 10, 1 << 20] {
        // The larger takes longer and varies less.
        let rounds = if length > 4 << 10 { rounds.div_ceil(3) } else { rounds };
        println!("{} KiB, {rounds} rounds, medians:", length >> 10);
        by_system_calls(paths, length, rounds)?;
        through_the_environment(&paths[WAYS.len()], length, rounds)?;
    }
    Ok(())
}

fn fill_with_zeros(path: &Path) -> io::Result<()> {
    let file = fs::File::create(path)?;
    let zeros = vec![0; 1 << 20];
    for number in 0..FILE_BYTES >> 20 {
        std::os::unix::fs::FileExt::write_all_at(&file, &zeros, (number << 20) as u64)?;
    }
    file.sync_all()?;
    // Out of the page cache, as a recycled WAL file is.
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
    Ok(())
}

/// Where round `round` writes: a log's order, from the start again at the end of the file.
fn position(round: usize, length: usize) -> u64 {
    (round * length % FILE_BYTES) as u64
}

fn by_system_calls(paths: &[PathBuf], length: usize, rounds: usize) -> io::Result<()> {
    let mut buffer = AlignedBuf::zeroed(length);
    let files = WAYS
        .iter()
        .zip(paths)
        .map(|(way, path)| rustix::fs::open(path, OFlags::RDWR | way.open, Mode::empty()))
        .collect::<Result<Vec<OwnedFd>, _>>()?;
    let mut taken = vec![Vec::new(); WAYS.len()];
    for round in 0..rounds {
        buffer.as_mut().fill(u8::try_from(round % 256).unwrap_or(0));
        for turn in 0..WAYS.len() {
            // Each way goes first as often as any other: the first pays for what the last left to the device.
            let number = (round + turn) % WAYS.len();
            let (way, file) = (WAYS[number], &files[number]);
            let begun = Instant::now();
            let slices = [IoSlice::new(buffer.as_ref())];
            let count = rustix::io::pwritev2(file, &slices, position(round, length), way.flags)?;
            assert_eq!(count, length, "a short write spoils the measurement");
            if way.syncs {
                rustix::fs::fdatasync(file)?;
            }
            taken[number].push(begun.elapsed());
        }
    }
    for (way, taken) in WAYS.iter().zip(taken) {
        print(way.name, taken, length);
    }
    Ok(())
}

fn through_the_environment(path: &Path, length: usize, rounds: usize) -> Result<(), Box<dyn Error>> {
    let runtime = TokioEnv::start(Options { shards: 1 })?;
    let (env, path) = (runtime.env(), PathBuf::from(path));
    let (writes, hops) = runtime.block_on(async move {
        let options = OpenOptions { direct: true, lane: Lane::Wal, ..OpenOptions::WRITE };
        let file = env.disk().open(&path, options).await?;
        time_file(&file, length, rounds).await
    })?;
    print("File::write_sync, Lane::Wal", writes, length);
    print("hop to a WAL thread and back", hops, 0);
    runtime.shutdown();
    Ok(())
}

async fn time_file(file: &TokioFile, length: usize, rounds: usize) -> io::Result<(Vec<Duration>, Vec<Duration>)> {
    let mut content = AlignedBuf::zeroed(length);
    content.as_mut().fill(7);
    let content: Bytes = content.freeze();
    let (mut writes, mut hops) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let begun = Instant::now();
        let written = file.write_sync(position(round, length), vec![content.clone()]).await?;
        writes.push(begun.elapsed());
        written.map_err(io::Error::other)?;
        let begun = Instant::now();
        // No bytes, so no system call. (Not `size`: asking for a file's times makes the next write note them exactly, which
        // costs 35 us on ext4.)
        file.forget_cached(0, 0).await;
        hops.push(begun.elapsed());
    }
    Ok((writes, hops))
}

fn print(name: &str, mut taken: Vec<Duration>, length: usize) {
    taken.sort_unstable();
    let (median, p99) = (taken[taken.len() / 2], taken[taken.len() * 99 / 100]);
    print!("  {name:30} {:>9.1} us   p99 {:>9.1} us", median.as_secs_f64() * 1e6, p99.as_secs_f64() * 1e6);
    if length >= 1 << 20 {
        print!("   {:.2} GB/s", f64::from(u32::try_from(length).unwrap_or(u32::MAX)) / median.as_secs_f64() / 1e9);
    }
    println!();
}
