//! What replicas hold, asked of their brokers: before an election that may lose records, and of replicas that said that they can't lead.
//!
//! ```text
//! whom to ask, about what -> AskReports to each broker -> its shards -> Reports back -> all have answered, or the time is up
//!   -> an unclean election is decided | doubts are dropped | who asked has them
//! ```
//!
//! Invariants
//! - A collection ends at its deadline at the latest, with the reports that have come.
//! - A report counts only from the broker that holds the replica.
//!
//! Not here: what is made of reports (`quipu-controller`).

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use quipu_base::{BrokerId, LeaderEpoch, TopicIdPartition};
use quipu_controller::{ElectUnclean, LogReport, UncleanElection, limits::ASKS_PER_REQUEST_MAX};
use quipu_env::{Clock, Env, Instant};
use tokio::sync::oneshot;

use super::{
    Quorum, Report,
    control::{Job, Work},
    messages::Message,
};
use crate::shard::Command;

/// How long a broker has to say what its replicas hold.
const ANSWER_TIME: Duration = Duration::from_secs(1);
/// Collections under way at once.
const COLLECTIONS_MAX: usize = 16;

/// A partition, its leader epoch, and whose reports are wanted.
pub(crate) type Wanted = (TopicIdPartition, LeaderEpoch, Vec<BrokerId>);

/// What reports are collected for.
pub(super) enum Purpose {
    /// Topics that may lose records want a leader.
    Election,
    /// Replicas that said that they can't lead may have been mended.
    Doubts,
    /// Somebody on this node asks.
    Asker(oneshot::Sender<Vec<UncleanElection>>),
}

struct Collection {
    purpose: Purpose,
    deadline: Instant,
    waiting: BTreeSet<BrokerId>,
    elections: BTreeMap<TopicIdPartition, UncleanElection>,
}

/// The collections of this node.
pub(super) struct Collections {
    last: u64,
    under_way: BTreeMap<u64, Collection>,
}

impl Collections {
    /// `last` is drawn at random: an answer to an earlier start of the node must find nothing.
    pub(super) const fn new(last: u64) -> Self {
        Self { last, under_way: BTreeMap::new() }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.under_way.values().map(|collection| collection.deadline).min()
    }

    /// Whether the controller waits for reports for this purpose already.
    fn has(&self, purpose: &Purpose) -> bool {
        let kind = core::mem::discriminant(purpose);
        self.under_way.values().any(|collection| core::mem::discriminant(&collection.purpose) == kind)
    }

    fn hear(&mut self, id: u64, from: BrokerId, reports: Vec<(TopicIdPartition, LogReport)>) {
        let Some(collection) = self.under_way.get_mut(&id) else { return };
        if !collection.waiting.remove(&from) {
            return;
        }
        for (partition, report) in reports.into_iter().filter(|(_, report)| report.member.broker == from) {
            if let Some(election) = collection.elections.get_mut(&partition) {
                election.reports.push(report);
            }
        }
    }

    fn take_done(&mut self, now: Instant) -> Vec<(Purpose, Vec<UncleanElection>)> {
        let is_done =
            |_: &u64, collection: &mut Collection| collection.waiting.is_empty() || collection.deadline <= now;
        let done: Vec<_> = self.under_way.extract_if(.., is_done).collect();
        done.into_iter()
            .map(|(_, collection)| (collection.purpose, collection.elections.into_values().collect()))
            .collect()
    }
}

impl<E: Env> Quorum<E> {
    /// Asks for reports. One collection of the controller's own for each purpose is enough.
    pub(super) fn collect(&mut self, wanted: Vec<Wanted>, purpose: Purpose) {
        let is_own = !matches!(purpose, Purpose::Asker(_));
        if wanted.is_empty()
            || self.collections.under_way.len() >= COLLECTIONS_MAX
            || (is_own && self.collections.has(&purpose))
        {
            // Who asks hears that nobody has reported.
            if let Purpose::Asker(reply) = purpose {
                drop(reply.send(wanted.into_iter().map(election).collect()));
            }
            return;
        }
        let mut of: BTreeMap<BrokerId, Vec<TopicIdPartition>> = BTreeMap::new();
        for (partition, _, electorate) in wanted.iter().take(ASKS_PER_REQUEST_MAX) {
            electorate.iter().for_each(|broker| of.entry(*broker).or_default().push(*partition));
        }
        self.collections.last = self.collections.last.wrapping_add(1);
        let id = self.collections.last;
        let collection = Collection {
            purpose,
            deadline: self.env.clock().now() + ANSWER_TIME,
            waiting: of.keys().copied().collect(),
            elections: wanted.into_iter().take(ASKS_PER_REQUEST_MAX).map(|one| (one.0, election(one))).collect(),
        };
        self.collections.under_way.insert(id, collection);
        for (broker, partitions) in of {
            if broker == self.settings.me.id {
                self.ask_shards(broker, id, partitions);
            } else {
                // A message that is lost is an answer that does not come.
                self.say(broker, &Message::AskReports { id, partitions });
            }
        }
    }

    /// Another node, or this one, wants to know what replicas here hold.
    pub(super) fn ask_shards(&self, to: BrokerId, id: u64, partitions: Vec<TopicIdPartition>) {
        let (shards, reporter) = (self.serving.shards().to_vec(), self.reporter.clone());
        if partitions.len() > ASKS_PER_REQUEST_MAX || shards.is_empty() {
            return;
        }
        self.aside(async move {
            let mut reports = Vec::new();
            for shard in shards {
                let (reply, answer) = oneshot::channel();
                let command = Command::Report { partitions: partitions.clone(), reply };
                if shard.send(command).await.is_ok() {
                    // A shard that is gone holds nothing.
                    reports.extend(answer.await.unwrap_or_default());
                }
            }
            drop(reporter.send(Report::Replicas { to, id, reports }).await);
        });
    }

    /// The shards have answered.
    pub(super) fn on_replicas(&mut self, to: BrokerId, id: u64, reports: Vec<(TopicIdPartition, LogReport)>) {
        if to == self.settings.me.id {
            self.hear_reports(id, to, reports);
        } else {
            self.say(to, &Message::Reports { id, reports });
        }
    }

    pub(super) fn hear_reports(&mut self, id: u64, from: BrokerId, reports: Vec<(TopicIdPartition, LogReport)>) {
        self.collections.hear(id, from, reports);
        self.end_collections();
    }

    /// Hands on what is complete, or has waited long enough.
    pub(super) fn end_collections(&mut self) {
        for (purpose, partitions) in self.collections.take_done(self.env.clock().now()) {
            match purpose {
                Purpose::Election => {
                    let request = ElectUnclean { partitions, is_forced: false };
                    // Asked for again if this node leads still, and there was no room.
                    let _taken = self.take_on(Job { work: Work::Asked(request.into()), asker: None });
                }
                Purpose::Doubts => self.drop_doubts(&partitions),
                // Who asked may be gone.
                Purpose::Asker(reply) => drop(reply.send(partitions)),
            }
        }
    }
}

fn election((partition, leader_epoch, _): Wanted) -> UncleanElection {
    UncleanElection { partition, leader_epoch, reports: Vec::new() }
}
