//! From a plan that fails to a small one that fails in the same way.
//!
//! ```text
//! fewer faults -> fewer clients -> fewer operations -> milder faults, smaller operations -> simpler sizes -> earlier
//!   -> again, until nothing helps any more
//! ```
//!
//! Invariants
//! - What is kept fails the check that the first plan failed first: another failure is another bug.
//! - It ends: every step makes the plan smaller, and there is a limit of time.
//!
//! Not here: what is wrong with it.

use core::time::Duration;
use std::time::Instant;

use crate::{
    plan::{Client, Config, Plan, operation::Operation},
    run::{self, Options},
};

/// Seeds that are tried for a smaller plan that does not fail with its own: what is left out shifts what chance does.
const SEEDS_TRIED: u64 = 4;

/// What came of it.
#[derive(Debug)]
pub struct Shrunk {
    /// The smallest plan found.
    pub plan: Plan,
    /// The check that it fails.
    pub checker: String,
    /// Runs that it took.
    pub runs: u64,
}

/// Shrinks a plan within a time. None if it does not fail at all.
#[must_use]
pub fn shrink(plan: &Plan, options: &Options, limit: Duration, mut tell: impl FnMut(&Plan, u64)) -> Option<Shrunk> {
    let outcome = run::run(plan, options);
    let checker = outcome.failed_checker()?.to_owned();
    let mut shrinker = Shrinker {
        best: plan.clone(),
        checker,
        options,
        deadline: Instant::now() + limit,
        runs: 1,
        seeds: 1,
        tell: &mut tell,
    };
    loop {
        let before = shrinker.best.clone();
        shrinker.round();
        if shrinker.best == before {
            if shrinker.seeds == SEEDS_TRIED {
                break;
            }
            // What does not fail with the same seed may with another.
            shrinker.seeds = SEEDS_TRIED;
        }
        if shrinker.is_late() {
            break;
        }
    }
    Some(Shrunk { plan: shrinker.best, checker: shrinker.checker, runs: shrinker.runs })
}

struct Shrinker<'a> {
    best: Plan,
    checker: String,
    options: &'a Options,
    deadline: Instant,
    runs: u64,
    /// Seeds to try for each plan.
    seeds: u64,
    tell: &'a mut dyn FnMut(&Plan, u64),
}

impl Shrinker<'_> {
    fn is_late(&self) -> bool {
        Instant::now() >= self.deadline
    }

    fn round(&mut self) {
        self.drop_some(|plan| plan.faults.len(), |plan, index| drop(plan.faults.remove(index)));
        self.drop_some(|plan| plan.workload.clients.len(), |plan, index| drop(plan.workload.clients.remove(index)));
        self.drop_some(Plan::operation_count, drop_operation);
        self.drop_some(|plan| plan.workload.topics.len(), |plan, index| drop(plan.workload.topics.remove(index)));
        self.milder_faults();
        self.simpler_operations();
        self.simpler_settings();
        self.earlier();
    }

    /// Keeps a plan if it fails in the same way.
    fn try_plan(&mut self, plan: Plan) -> bool {
        if plan == self.best || plan.budget != self.best.budget || self.is_late() {
            return false;
        }
        for step in 0..self.seeds {
            let candidate = Plan { seed: plan.seed.wrapping_add(step), ..plan.clone() };
            self.runs += 1;
            let outcome = run::run(&candidate, self.options);
            if outcome.failed_checker() == Some(&self.checker) {
                self.best = candidate;
                (self.tell)(&self.best, self.runs);
                return true;
            }
        }
        false
    }

    /// Leaves out as many of a plan's parts as possible: halves first, then ever fewer at once.
    fn drop_some(&mut self, count: impl Fn(&Plan) -> usize, remove: impl Fn(&mut Plan, usize)) {
        let mut size = count(&self.best);
        while size > 0 {
            let mut end = count(&self.best);
            while end > 0 {
                let start = end.saturating_sub(size);
                let mut plan = self.best.clone();
                (start..end).rev().for_each(|index| remove(&mut plan, index));
                self.try_plan(plan);
                end = start;
            }
            size = if size == 1 { 0 } else { size.div_ceil(2) };
            if self.is_late() {
                return;
            }
        }
    }

    fn milder_faults(&mut self) {
        for index in (0..self.best.faults.len()).rev() {
            while let Some(fault) = self.best.faults.get(index).map(|timed| timed.fault.clone()) {
                let milder = fault.simpler().into_iter();
                let found = milder.take(8).any(|fault| {
                    let mut plan = self.best.clone();
                    plan.faults[index].fault = fault;
                    self.try_plan(plan)
                });
                if !found || self.is_late() {
                    break;
                }
            }
        }
    }

    fn simpler_operations(&mut self) {
        for client in 0..self.best.workload.clients.len() {
            for index in 0..self.best.workload.clients[client].operations.len() {
                for operation in self.best.workload.clients[client].operations[index].simpler() {
                    let mut plan = self.best.clone();
                    plan.workload.clients[client].operations[index] = operation;
                    if self.try_plan(plan) || self.is_late() {
                        break;
                    }
                }
            }
        }
    }

    fn simpler_settings(&mut self) {
        for nodes in 1..self.best.config.nodes {
            let mut plan = self.best.clone();
            plan.config.nodes = nodes;
            plan.config.controllers = plan.config.controllers.min(nodes - 1);
            if self.try_plan(plan) {
                break;
            }
        }
        for change in CONFIG {
            let mut plan = self.best.clone();
            change(&mut plan.config, &Config::default());
            self.try_plan(plan);
        }
        for client in 0..self.best.workload.clients.len() {
            for change in CLIENT {
                let mut plan = self.best.clone();
                change(&mut plan.workload.clients[client], &Client::default());
                self.try_plan(plan);
            }
        }
        for topic in 0..self.best.workload.topics.len() {
            for partitions in [1, self.best.workload.topics[topic].partitions / 2] {
                let mut plan = self.best.clone();
                plan.workload.topics[topic].partitions = partitions.max(1);
                self.try_plan(plan);
            }
            let mut plan = self.best.clone();
            plan.workload.topics[topic].kafka.clear();
            self.try_plan(plan);
        }
    }

    fn earlier(&mut self) {
        for index in 0..self.best.faults.len() {
            for at_ms in [0, self.best.faults[index].at_ms / 2] {
                let mut plan = self.best.clone();
                plan.faults[index].at_ms = at_ms;
                plan.faults.sort_by_key(|timed| timed.at_ms);
                if self.try_plan(plan) {
                    break;
                }
            }
        }
        for heal_ms in [0, self.best.heal_ms / 2] {
            self.try_plan(Plan { heal_ms, ..self.best.clone() });
        }
    }
}

/// Removes an operation, counted over all clients.
fn drop_operation(plan: &mut Plan, mut index: usize) {
    for client in &mut plan.workload.clients {
        if index < client.operations.len() {
            client.operations.remove(index);
            return;
        }
        index -= client.operations.len();
    }
}

/// Sets one thing to its default.
type Change<T> = fn(&mut T, &T);

const CONFIG: &[Change<Config>] = &[
    |config, plain| *config = plain.clone(),
    // Of a cluster.
    |config, plain| *config = Config { nodes: config.nodes, controllers: config.controllers, ..plain.clone() },
    |config, plain| config.controllers = plain.controllers,
    |config, plain| config.racks = plain.racks.clone(),
    |config, plain| config.shards = plain.shards,
    |config, plain| config.buggify = plain.buggify,
    |config, plain| config.kafka = plain.kafka.clone(),
    |config, plain| config.metadata_snapshot_bytes = plain.metadata_snapshot_bytes,
    |config, plain| config.power_cut = plain.power_cut,
    |config, plain| (config.torn_sectors, config.garbage_tails) = (plain.torn_sectors, plain.garbage_tails),
    |config, plain| config.direct_io = plain.direct_io,
    |config, plain| config.sync_us = plain.sync_us,
    |config, plain| {
        (config.latency_min_us, config.latency_max_us) = (plain.latency_min_us, plain.latency_max_us);
    },
    |config, plain| config.window_bytes = plain.window_bytes,
    |config, plain| {
        (config.wal_file_bytes, config.memory_tail_bytes) = (plain.wal_file_bytes, plain.memory_tail_bytes);
    },
    |config, plain| {
        (config.memory_requests_bytes, config.memory_replies_bytes) =
            (plain.memory_requests_bytes, plain.memory_replies_bytes);
    },
];

const CLIENT: &[Change<Client>] = &[
    |client, plain| {
        let (name, operations) = (client.name.clone(), client.operations.clone());
        // The wire has no members of groups.
        let kind = if operations.iter().any(Operation::is_of_members) { client.kind } else { plain.kind };
        *client = Client { name, kind, operations, ..plain.clone() };
    },
    |client, plain| {
        client.group_protocol = plain.group_protocol;
        client.group_commits = plain.group_commits;
        client.group_commit_every = plain.group_commit_every;
        client.group_static = plain.group_static;
    },
    |client, plain| client.codec = plain.codec.clone(),
    |client, plain| client.pipelined = plain.pipelined,
    |client, plain| client.pace_ms = plain.pace_ms,
    |client, plain| (client.timeout_ms, client.patience_ms) = (plain.timeout_ms, plain.patience_ms),
    |client, plain| {
        (client.produce_version, client.fetch_version) = (plain.produce_version, plain.fetch_version);
    },
    |client, plain| client.read_committed = plain.read_committed,
    |client, plain| {
        client.fetch_min_bytes = plain.fetch_min_bytes;
        client.fetch_max_bytes = plain.fetch_max_bytes;
        client.partition_max_bytes = plain.partition_max_bytes;
        client.fetch_wait_ms = plain.fetch_wait_ms;
    },
];
