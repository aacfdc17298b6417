//! Several nodes of the real binary as one cluster: each a process with its own directory, all on the loopback interface.
//!
//! Invariant: a node that is dropped is killed. Not here: one broker ([`crate::broker`]), clusters of Apache Kafka
//! ([`crate::kafka`]).

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::broker::{Broker, Options};
use crate::{Failure, Result};

/// A running cluster; node `i` has the id `i + 1`.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Broker>,
    started_in: Duration,
}

impl Cluster {
    /// Starts `nodes` nodes of `binary` with directories `n1`, `n2`, ... below `directory`, all of them voters, and waits until
    /// every one is ready. Topics get as many replicas as there are nodes, three at most.
    pub fn start(binary: &Path, directory: &Path, nodes: usize) -> Result<Self> {
        let peers = free_addresses(nodes)?;
        let voters: Vec<String> = peers.iter().zip(1..).map(|(peer, id)| format!("{id}@{peer}")).collect();
        let settings = directory.join("cluster.toml");
        let replicas = nodes.min(3);
        let quorum = replicas.div_ceil(2);
        let text =
            format!("[defaults]\n\"default.replication.factor\" = {replicas}\n\"min.insync.replicas\" = {quorum}\n");
        std::fs::write(&settings, text).map_err(Failure::context(settings.display()))?;
        let options = |(peer, id): (&SocketAddr, usize)| {
            let mut config = std::ffi::OsString::from("--config=");
            config.push(&settings);
            let identity =
                [format!("--node-id={id}"), format!("--peer-listen={peer}"), format!("--voters={}", voters.join(","))];
            Options::with_binary(binary, directory.join(format!("n{id}"))).arguments([config]).arguments(identity)
        };
        let all: Vec<Options> = peers.iter().zip(1..).map(options).collect();
        let begin = Instant::now();
        let nodes = together(all, Broker::start_with)?;
        Ok(Self { nodes, started_in: begin.elapsed() })
    }

    /// From the start of the processes until the last was ready.
    pub fn started_in(&self) -> Duration {
        self.started_in
    }

    /// Every node's address, as clients take them.
    pub fn bootstrap(&self) -> String {
        self.nodes.iter().map(Broker::bootstrap).collect::<Vec<_>>().join(",")
    }

    /// The nodes, in the order of their ids.
    pub fn nodes(&mut self) -> &mut [Broker] {
        &mut self.nodes
    }

    /// Stops every node in good order, all at once.
    pub fn stop(self) -> Result<()> {
        let statuses = together(self.nodes, |mut node| node.stop())?;
        match statuses.into_iter().find(|status| !status.success()) {
            Some(status) => Err(Failure::new(format!("a node ended with {status}"))),
            None => Ok(()),
        }
    }
}

/// Does `work` on all of `items` at once: a node of a new cluster waits for the others.
pub(crate) fn together<A: Send, B: Send>(items: Vec<A>, work: impl Fn(A) -> Result<B> + Sync) -> Result<Vec<B>> {
    std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = items.into_iter().map(|item| scope.spawn(move || work(item))).collect();
        threads.into_iter().map(|thread| thread.join().expect("starting and stopping does not panic")).collect()
    })
}

/// Loopback addresses with ports that nobody uses now.
pub(crate) fn free_addresses(count: usize) -> Result<Vec<SocketAddr>> {
    let bind = || TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| Ok((listener.local_addr()?, listener)));
    // All are held until the last has been found, so that no two are the same.
    let held: std::io::Result<Vec<_>> = (0..count).map(|_| bind()).collect();
    let held = held.map_err(Failure::context("no free loopback port"))?;
    Ok(held.into_iter().map(|(address, _)| address).collect())
}
