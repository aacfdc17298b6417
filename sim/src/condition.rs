//! What is wrong with a machine, apart from its clock, its disk's contents and its network.
//!
//! Each thing has the number of the fault that it belongs to; with several of one kind the worst counts.

use core::task::Waker;
use std::collections::{BTreeMap, BTreeSet};

/// See the module.
#[derive(Default)]
pub(crate) struct Condition {
    pauses: BTreeSet<u64>,
    /// Tasks that would have run.
    paused: Vec<Waker>,
    slow_disk: BTreeMap<u64, u64>,
    /// Nanoseconds that each step of a task takes.
    slow_cpu: BTreeMap<u64, u64>,
    /// Until when each shard is busy.
    busy_until: BTreeMap<u16, u64>,
    /// Files and connections that may be open.
    descriptors: BTreeMap<u64, u64>,
}

impl Condition {
    pub(crate) fn pause(&mut self, number: u64) {
        self.pauses.insert(number);
    }

    /// Ends one pause. The tasks to be woken, when it was the last.
    pub(crate) fn resume(&mut self, number: u64) -> Vec<Waker> {
        if self.pauses.remove(&number) && self.pauses.is_empty() {
            core::mem::take(&mut self.paused)
        } else {
            Vec::new()
        }
    }

    /// A new process runs: it was never paused, and nobody has kept its shards busy.
    pub(crate) fn boot(&mut self) -> Vec<Waker> {
        self.pauses.clear();
        self.busy_until.clear();
        core::mem::take(&mut self.paused)
    }

    /// Whether tasks may be kept from running.
    pub(crate) fn holds_tasks(&self) -> bool {
        !self.pauses.is_empty() || !self.slow_cpu.is_empty()
    }

    /// Whether the process is paused: then the task waits for the end of that.
    pub(crate) fn must_wait(&mut self, task: &Waker) -> bool {
        if self.pauses.is_empty() {
            return false;
        }
        self.paused.push(task.clone());
        true
    }

    /// Takes the next free time of a shard for one step of a task: when that is.
    pub(crate) fn take_turn(&mut self, shard: u16, now: u64) -> u64 {
        let Some(step) = self.slow_cpu.values().max() else { return now };
        let busy_until = self.busy_until.entry(shard).or_insert(0);
        let turn = now.max(*busy_until);
        *busy_until = turn.saturating_add(*step);
        turn
    }

    pub(crate) fn slow_cpu(&mut self, number: u64, step_nanos: u64) {
        self.slow_cpu.insert(number, step_nanos);
    }

    pub(crate) fn slow_disk(&mut self, number: u64, factor: u64) {
        self.slow_disk.insert(number, factor);
    }

    /// How many times as long operations of the disk take.
    pub(crate) fn disk_factor(&self) -> Option<u64> {
        self.slow_disk.values().max().copied()
    }

    pub(crate) fn limit_descriptors(&mut self, number: u64, limit: u64) {
        self.descriptors.insert(number, limit);
    }

    pub(crate) fn descriptor_limit(&self) -> Option<u64> {
        self.descriptors.values().min().copied()
    }

    /// Ends what has that number, but for pauses.
    pub(crate) fn end(&mut self, number: u64) {
        self.slow_disk.remove(&number);
        self.slow_cpu.remove(&number);
        self.descriptors.remove(&number);
    }
}
