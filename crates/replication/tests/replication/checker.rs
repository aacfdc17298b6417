//! What must hold, judged from the outside: from disks, committed records as they were claimed, and answers to clients.
//!
//! - At most one leader per epoch commits.
//! - A committed record never changes, and is in the log of whoever commits in a later epoch.
//! - Sound replicas are equal below their high watermarks, byte for byte; reads see only committed records.
//! - Nothing vanishes before somebody asked to delete it; what was confirmed as deleted stays deleted.
//! - The configuration in force holds Q members with every committed record and every confirmed deletion, but for the lost.
//! - log start <= high watermark <= log end.

use std::collections::{BTreeMap, BTreeSet};

use quipu_base::Offset;
use quipu_replication::{Configuration, Member, PartitionState, Replica};

use crate::{
    disk::{Disk, Rec},
    probe::TestProbe,
};

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Checker {
    /// Committed records with the epoch of the leader that first committed them.
    pub(crate) committed: BTreeMap<i64, (Rec, i32)>,
    pub(crate) committed_end: i64,
    pub(crate) delete_requested: i64,
    pub(crate) delete_confirmed: i64,
    committers: BTreeMap<i32, usize>,
    /// Nodes that lost synced data and were not made whole since.
    pub(crate) lost: BTreeSet<usize>,
    pub(crate) violation: Option<String>,
}

impl Checker {
    pub(crate) fn fail(&mut self, what: String) {
        self.violation.get_or_insert(what);
    }

    /// A leader says that everything below `end` is committed.
    pub(crate) fn on_commit(&mut self, node: usize, replica: &Replica<TestProbe>, disk: &Disk, end: Offset) {
        let epoch = replica.promised().0;
        let first = *self.committers.entry(epoch).or_insert(node);
        if first != node {
            self.fail(format!("nodes {first} and {node} both commit in epoch {epoch}"));
        }
        let log = &disk.written;
        for offset in log.log_start..end.0 {
            let Some(record) = log.records.get(&offset).copied() else {
                self.fail(format!("node {node} commits offset {offset}, which it does not have"));
                return;
            };
            let (known, _) = *self.committed.entry(offset).or_insert((record, epoch));
            if known != record {
                self.fail(format!("offset {offset} was {known:?}, node {node} commits {record:?} in epoch {epoch}"));
            }
        }
        // A leader of a later epoch has what earlier ones committed, also above its own high watermark.
        for (offset, (record, by)) in self.committed.range(end.0.max(log.log_start)..) {
            if *by < epoch && log.records.get(offset) != Some(record) {
                self.violation.get_or_insert(format!(
                    "node {node} commits in epoch {epoch} without offset {offset}, committed in epoch {by}"
                ));
            }
        }
        if log.log_start < self.delete_confirmed && self.committers.keys().all(|known| *known <= epoch) {
            self.fail(format!("node {node} leads from {}, deleted is {}", log.log_start, self.delete_confirmed));
        }
        self.committed_end = self.committed_end.max(end.0);
    }

    /// A client was told that its records are kept by a quorum.
    pub(crate) fn on_produced(&mut self, base: i64, records: &[Rec]) {
        for (offset, record) in (base..).zip(records) {
            let kept = self.committed.get(&offset).map(|(known, _)| known);
            if kept != Some(record) {
                self.fail(format!("offset {offset} was confirmed as {record:?}, committed is {kept:?}"));
            }
        }
    }

    /// What a client or another replica may see of this replica.
    pub(crate) fn check_replica(&mut self, node: usize, replica: &Replica<TestProbe>, disk: &Disk) {
        let log = &disk.written;
        let (shape, high_watermark) = (replica.log(), replica.high_watermark().0);
        let on_disk = log.shape();
        let differs = shape.epochs.first_difference(&on_disk.epochs, on_disk.log_start, on_disk.log_end).is_some();
        if (shape.log_start, shape.log_end) != (on_disk.log_start, on_disk.log_end) || differs {
            self.fail(format!("node {node} believes in {shape:?}, its disk has {on_disk:?}"));
        }
        if log.log_start > self.delete_requested {
            self.fail(format!("node {node} begins at {}, deleted is {}", log.log_start, self.delete_requested));
        }
        if replica.is_faulty() {
            return;
        }
        if log.log_start > high_watermark || high_watermark > log.log_end {
            self.fail(format!("node {node}: {} <= {high_watermark} <= {}", log.log_start, log.log_end));
        }
        if high_watermark > self.committed_end {
            self.fail(format!("node {node} shows {high_watermark}, committed is {}", self.committed_end));
        }
        for offset in log.log_start..high_watermark.min(log.log_end) {
            let committed = self.committed.get(&offset).map(|(record, _)| record);
            if committed.is_some() && log.records.get(&offset) != committed {
                let found = log.records.get(&offset);
                self.fail(format!("node {node} shows {found:?} at {offset}, committed is {committed:?}"));
            }
        }
    }

    /// Whether a disk has every committed record that it has not deleted.
    fn has_committed(&self, disk: &Disk) -> bool {
        let log = &disk.durable;
        let has = |(offset, (record, _)): (&i64, &(Rec, i32))| log.records.get(offset) == Some(record);
        self.committed.range(log.log_start..).all(has)
    }

    pub(crate) fn check_configuration(&mut self, record: &PartitionState, disks: &BTreeMap<usize, &Disk>) {
        let configuration = &record.configuration;
        let count = |holds: &dyn Fn(&Disk) -> bool| {
            let counts = |member: &&Member| {
                let node = usize::try_from(member.node.0).unwrap();
                let disk = disks[&node];
                disk.directory_id != member.directory_id || self.lost.contains(&node) || holds(disk)
            };
            configuration.members.iter().filter(counts).count()
        };
        let records = count(&|disk| self.has_committed(disk));
        let deletions = count(&|disk| disk.durable.log_start >= self.delete_confirmed);
        if records.min(deletions) < configuration.quorum {
            self.fail(format!(
                "{records} of {} members have everything up to {}, {deletions} begin at {}, Q is {}",
                configuration.members.len(),
                self.committed_end,
                self.delete_confirmed,
                configuration.quorum
            ));
        }
    }

    /// Whether a configuration has at most Q - 1 lost members, `node` counted as lost.
    pub(crate) fn bears(
        &self,
        configuration: &Configuration,
        node: Option<usize>,
        disks: &BTreeMap<usize, &Disk>,
    ) -> bool {
        let is_lost = |member: &&Member| {
            let number = usize::try_from(member.node.0).unwrap();
            Some(number) == node || self.lost.contains(&number) || disks[&number].directory_id != member.directory_id
        };
        configuration.members.iter().filter(is_lost).count() < configuration.quorum
    }
}
