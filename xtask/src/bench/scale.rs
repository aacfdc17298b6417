//! What is measured of our broker alone: 10,000 idle partitions, a restart with 1 GiB of log, recovery after `kill -9`.
//!
//! Read [`super::metrics`] for the goals.

use std::time::Instant;

use quipu_testkit::Result;
use quipu_testkit::scratch::Scratch;

use super::Programs;
use super::cluster::size;
use super::metrics::{Figures, Metric};
use super::round::{create_topic, idle, load, milliseconds};
use super::server::{Kind, Server};

/// Runs it once.
pub(crate) fn run(programs: &Programs, quick: bool) -> Result<Figures> {
    let scratch = Scratch::new("bench-scale")?;
    let mut figures = Figures::new();
    let records = if quick { 200_000 } else { 1_048_576 };

    let mut server = Server::start(programs, Kind::Quipu, scratch.path())?;
    for topic in 0..10 {
        create_topic(programs, &mut server, &format!("idle{topic}"), 1000)?;
    }
    let (cpu, memory) = idle(&mut server)?;
    figures.insert(Metric::ManyIdleCpu, cpu);
    figures.insert(Metric::ManyIdleMemory, memory);
    let topic = create_topic(programs, &mut server, "log", 4)?;
    load(programs, &mut server, "produce", &topic, 4, 1024, &[("--records", records)], &[])?;
    server.stop()?;

    let mut server = Server::start(programs, Kind::Quipu, scratch.path())?;
    figures.insert(Metric::ManyStart, milliseconds(server.started_in()));
    load(programs, &mut server, "produce", &topic, 4, 1024, &[("--records", records / 2)], &[])?;
    // Dropping it is `kill -9`.
    drop(server);

    // As much as recovery can have to read.
    let wal_bytes = size(&scratch.join("data").join("wal"))?;
    let begin = Instant::now();
    let server = Server::start(programs, Kind::Quipu, scratch.path())?;
    figures.insert(Metric::Recovery, milliseconds(begin.elapsed()));
    figures.insert(Metric::RecoveryAllowed, 2000.0 + wal_bytes / 1e6);
    server.stop()?;
    Ok(figures)
}
