//! What is measured of ours alone: a coordinator with 100,000 committed offsets that is killed, and compaction under a light load.
//!
//! A failover counts as detected when a survivor names another coordinator for any group of the killed one; it is over when all of
//! these groups' offsets are read back from whoever coordinates them now. Compaction may take three times as long as this disk takes
//! to read what is there and to write what stays.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use quipu_testkit::process::run as run_process;
use quipu_testkit::scratch::Scratch;
use quipu_testkit::wire::{Body, Wire};
use quipu_testkit::{Failure, Result, page_cache};

use super::LOOK;
use crate::bench::Programs;
use crate::bench::cluster::size;
use crate::bench::metrics::{Figures, Metric};
use crate::bench::round::{Plan, Workload, create_topic, load, load_command, load_through, mebibytes, milliseconds};
use crate::bench::server::{Kind, Server};

const NODES: usize = 3;
/// Offsets of each group, one a partition.
const OFFSETS: i32 = 100;
const LIMIT: Duration = Duration::from_secs(300);
const SEGMENT_BYTES: usize = 16 << 20;

/// Runs what the plan includes.
pub(crate) fn run(programs: &Programs, plan: &Plan) -> Result<Figures> {
    let mut figures = Figures::new();
    if plan.includes(Workload::GroupFailover) {
        failover(programs, plan, &mut figures)?;
    }
    if plan.includes(Workload::Compaction) {
        compaction(programs, plan, &mut figures)?;
    }
    Ok(figures)
}

fn failover(programs: &Programs, plan: &Plan, figures: &mut Figures) -> Result<()> {
    let scratch = Scratch::new("bench-groups-failover")?;
    let mut server = Server::start_nodes(programs, Kind::Quipu, scratch.path(), NODES)?;
    let topic = create_topic(programs, &mut server, "kept", usize::try_from(OFFSETS).expect("it is positive"))?;
    let addresses = server.addresses();
    let mut nodes: Vec<Wire> = addresses.iter().map(|address| Wire::connect(*address)).collect::<Result<_>>()?;
    let groups: Vec<String> = (0..plan.records(1000)).map(|number| format!("kept-{number:04}")).collect();
    let mut lost = Vec::new();
    for group in &groups {
        let coordinator = fill(&mut nodes, &addresses, &topic, group)?;
        if coordinator == NODES - 1 {
            lost.push(group.as_str());
        }
    }
    let begun = Instant::now();
    server.node(NODES).kill();
    let mut detected = None;
    let mut left = lost.clone();
    while let Some(group) = left.last() {
        if let Some(found) = coordinator(&mut nodes[0], &addresses, group)?.filter(|found| *found != NODES - 1) {
            detected.get_or_insert_with(|| begun.elapsed());
            if read_back(&mut nodes[found], &topic, group)? {
                left.pop();
                continue;
            }
        }
        if begun.elapsed() > LIMIT {
            return Err(Failure::new(format!("{} groups have no coordinator after {LIMIT:?}", left.len())));
        }
        std::thread::sleep(LOOK);
    }
    let all = begun.elapsed();
    println!(
        "  {} of {} groups have a new coordinator after {all:?}, detected after {detected:?}",
        lost.len(),
        groups.len()
    );
    figures.insert(Metric::GroupFailover, milliseconds(all));
    figures.insert(Metric::GroupFailoverSpread, milliseconds(all.saturating_sub(detected.unwrap_or(all))));
    server.restart(NODES)?;
    server.stop()
}

/// Which node coordinates the group, from 0; `None` while nobody does.
fn coordinator(wire: &mut Wire, addresses: &[SocketAddr], group: &str) -> Result<Option<usize>> {
    let mut reply = wire.call(10, 1, &Body::new().string(group).i8(0).into_bytes())?;
    reply.i32()?;
    let error = reply.i16()?;
    reply.string()?;
    reply.i32()?;
    reply.string()?;
    let port = reply.i32()?;
    let found = addresses.iter().position(|address| i32::from(address.port()) == port);
    Ok(found.filter(|_| error == 0))
}

/// Commits the group's offsets; tells who coordinates it.
fn fill(nodes: &mut [Wire], addresses: &[SocketAddr], topic: &str, group: &str) -> Result<usize> {
    let begun = Instant::now();
    loop {
        if let Some(found) = coordinator(&mut nodes[0], addresses, group)?
            && commit(&mut nodes[found], topic, group)?
        {
            return Ok(found);
        }
        if begun.elapsed() > LIMIT {
            return Err(Failure::new(format!("{group} can't commit")));
        }
        std::thread::sleep(LOOK);
    }
}

fn commit(wire: &mut Wire, topic: &str, group: &str) -> Result<bool> {
    let mut body = Body::new().string(group).i32(-1).string("").i64(-1).i32(1).string(topic).i32(OFFSETS);
    for partition in 0..OFFSETS {
        body = body.i32(partition).i64(i64::from(partition) + 7).string("");
    }
    let mut reply = wire.call(8, 2, &body.into_bytes())?;
    reply.count()?;
    reply.string()?;
    let mut done = 0;
    for _ in 0..reply.count()? {
        reply.i32()?;
        done += i32::from(reply.i16()? == 0);
    }
    Ok(done == OFFSETS)
}

/// Whether the node serves all of the group's offsets; other offsets than those that were committed are an error.
fn read_back(wire: &mut Wire, topic: &str, group: &str) -> Result<bool> {
    let mut body = Body::new().string(group).i32(1).string(topic).i32(OFFSETS);
    for partition in 0..OFFSETS {
        body = body.i32(partition);
    }
    let mut reply = wire.call(9, 2, &body.into_bytes())?;
    let mut read = 0;
    let mut wrong = 0;
    for _ in 0..reply.count()? {
        reply.string()?;
        for _ in 0..reply.count()? {
            let (partition, offset) = (reply.i32()?, reply.i64()?);
            reply.string()?;
            read += i32::from(reply.i16()? == 0);
            wrong += i32::from(offset != i64::from(partition) + 7);
        }
    }
    if reply.i16()? != 0 || read != OFFSETS {
        return Ok(false);
    }
    if wrong == 0 { Ok(true) } else { Err(Failure::new(format!("{group} has lost {wrong} of its offsets"))) }
}

fn compaction(programs: &Programs, plan: &Plan, figures: &mut Figures) -> Result<()> {
    let scratch = Scratch::new("bench-compaction")?;
    let settings = [("log.cleaner.backoff.ms", "100")];
    let mut server = Server::start_with(programs, Kind::Quipu, scratch.path(), &settings)?;
    let records = plan.records(1_000_000);
    let segment = SEGMENT_BYTES.to_string();
    let configs =
        [("segment.bytes", segment.as_str()), ("file.delete.delay.ms", "0"), ("min.cleanable.dirty.ratio", "0.01")];
    Wire::connect(server.addresses()[0])?.create_topic("compacted", 1, &configs)?;
    let light = create_topic(programs, &mut server, "light", 4)?;
    let flags = ["--keys", &(records / 10).to_string()].map(str::to_owned);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    load(programs, &mut server, "produce", "compacted", 1, 1024, &[("--records", records)], &flags)?;
    // A stop leaves everything in segments.
    server.stop()?;
    let mut server = Server::start_with(programs, Kind::Quipu, scratch.path(), &settings)?;
    let numbers = [("--rate", 2000), ("--seconds", plan.seconds(20))];
    let before = load(programs, &mut server, "open-loop", &light, 4, 1024, &numbers, &[])?;
    figures.insert(Metric::CompactionLightP99, before.milliseconds("p99_us")?);

    let directory = largest(&server.data().join("seg"))?;
    let bytes = size(&directory)?;
    let allowed = copy_time(&directory, &scratch.join("copied"))?;
    let base = server.memory()?.resident_bytes;
    let set = set_command(programs, &mut server)?;
    let command = load_command(programs, &mut server, "open-loop", &light, 4, 1024, &numbers);
    let (mut took, mut highest) = (Duration::ZERO, base);
    let during = load_through("while a topic is compacted", command, || {
        // The load is the clock of this measurement: compaction begins when it runs.
        std::thread::sleep(Duration::from_secs(1));
        run_process("quipu config set", set, &[], LIMIT)?;
        let begun = Instant::now();
        // What lives, what is not closed yet, and the batches' own bytes.
        let goal = bytes / 8.0 + 2.0 * SEGMENT_BYTES as f64;
        while size(&directory)? > goal {
            highest = highest.max(server.memory()?.resident_bytes);
            if begun.elapsed() > LIMIT {
                return Err(Failure::new(format!("{} bytes of {bytes} are left after {LIMIT:?}", size(&directory)?)));
            }
            std::thread::sleep(LOOK);
        }
        took = begun.elapsed();
        println!("  {:.0} MB became {:.0} in {took:?}", bytes / 1e6, size(&directory)? / 1e6);
        Ok(())
    })?;
    figures.insert(Metric::Compaction, milliseconds(took));
    figures.insert(Metric::CompactionAllowed, 3.0 * milliseconds(allowed));
    figures.insert(Metric::CompactionMemory, mebibytes(highest - base));
    figures.insert(Metric::CompactionP99, during.milliseconds("p99_us")?);
    server.stop()
}

/// The directory of the partition with the most bytes.
fn largest(partitions: &Path) -> Result<PathBuf> {
    let mut found: Option<(f64, PathBuf)> = None;
    for entry in std::fs::read_dir(partitions).map_err(Failure::context(partitions.display()))? {
        let path = entry.map_err(Failure::context(partitions.display()))?.path();
        let bytes = size(&path)?;
        if found.as_ref().is_none_or(|(most, _)| bytes > *most) {
            found = Some((bytes, path));
        }
    }
    found.map(|(_, path)| path).ok_or_else(|| Failure::new("no partition has segments"))
}

fn set_command(programs: &Programs, server: &mut Server) -> Result<Command> {
    let quipu = programs.quipu.as_ref().ok_or_else(|| Failure::new("no quipu binary was built"))?;
    let mut command = Command::new(quipu);
    command.args(["config", "set", "--topic", "compacted", "cleanup.policy=compact"]);
    command.args(["--bootstrap", &server.bootstrap()]);
    Ok(command)
}

/// How long this disk takes to read the segments, and to write a tenth of them durably.
fn copy_time(directory: &Path, file: &Path) -> Result<Duration> {
    page_cache::forget(directory)?;
    let begun = Instant::now();
    let mut copied = std::fs::File::create(file).map_err(Failure::context(file.display()))?;
    let mut buffer = vec![0; 1 << 20];
    let mut blocks = 0_u32;
    for path in segments(directory)? {
        let mut segment = std::fs::File::open(&path).map_err(Failure::context(path.display()))?;
        loop {
            let read = segment.read(&mut buffer).map_err(Failure::context(path.display()))?;
            if read == 0 {
                break;
            }
            if blocks.is_multiple_of(10) {
                copied.write_all(&buffer[..read]).map_err(Failure::context(file.display()))?;
            }
            blocks += 1;
        }
    }
    copied.sync_all().map_err(Failure::context(file.display()))?;
    let took = begun.elapsed();
    std::fs::remove_file(file).map_err(Failure::context(file.display()))?;
    Ok(took)
}

fn segments(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(Failure::context(directory.display()))? {
        let path = entry.map_err(Failure::context(directory.display()))?.path();
        if path.is_file() {
            found.push(path);
        }
    }
    Ok(found)
}
