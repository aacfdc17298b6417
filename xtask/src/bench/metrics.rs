//! What is measured, in which unit, and what is to be reached.

use std::collections::BTreeMap;

use super::server::Kind;

/// One figure of one round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Metric {
    Produce1k,
    Produce1kCpu,
    Produce100,
    Sync64,
    OneP50,
    OpenP50,
    OpenP99,
    OpenP999,
    Consume1,
    Consume1Cpu,
    Consume4,
    Disk1,
    Disk4,
    Many,
    Start,
    IdleMemory,
    IdleCpu,
    LoadMemory,
    ManyIdleMemory,
    ManyIdleCpu,
    ManyStart,
    Recovery,
    RecoveryAllowed,
    ClusterStart,
    ClusterIdleMemory,
    ClusterProduce1k,
    ClusterProduce100,
    ClusterSync64,
    ClusterSync64P99,
    ClusterOneP50,
    ClusterOpenP99,
    ClusterLoadMemory,
    ClusterHealthyP999,
    ClusterStallP999,
    ClusterHealthyGap,
    ClusterFollowerGap,
    ClusterLeaderGap,
    ClusterControllerGap,
    ClusterManyCpu,
    ClusterManyMemory,
    ClusterFailover,
    ClusterFailoverSpread,
    ClusterLightP99,
    ClusterRebuildP99,
    ClusterRebuild,
    GroupJoin,
    GroupCommitCpu,
    GroupCommitP50,
    GroupCommitP99,
    GroupGrow,
    GroupGrowPaused,
    GroupFailover,
    GroupFailoverSpread,
    Compaction,
    CompactionAllowed,
    CompactionMemory,
    CompactionLightP99,
    CompactionP99,
    IdleFetchBytesFew,
    IdleFetchBytes,
    IdleFetchCpuFew,
    IdleFetchCpu,
}

impl Metric {
    /// Its name in tables, with the unit.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Produce1k => "produce 1 KB, 4 partitions: MB/s",
            Self::Produce1kCpu => "produce 1 KB: broker CPU s/GB",
            Self::Produce100 => "produce 100 B, 4 partitions: records/s",
            Self::Sync64 => "64 synchronous producers: requests/s",
            Self::OneP50 => "one record at a time: p50 ms",
            Self::OpenP50 => "5,000 x 1 KB/s: p50 ms",
            Self::OpenP99 => "5,000 x 1 KB/s: p99 ms",
            Self::OpenP999 => "5,000 x 1 KB/s: p99.9 ms",
            Self::Consume1 => "consume 1 partition, memory: MB/s",
            Self::Consume1Cpu => "consume 1 partition: broker CPU s/GB",
            Self::Consume4 => "consume 4 partitions, memory: MB/s",
            Self::Disk1 => "consume 1 partition, disk: MB/s",
            Self::Disk4 => "consume 4 partitions, disk: MB/s",
            Self::Many => "1,000 partitions in turn: records/s",
            Self::Start => "start, empty directory: ms",
            Self::IdleMemory => "memory, idle: MiB",
            Self::IdleCpu => "CPU, idle: % of a core",
            Self::LoadMemory => "memory, highest under load: MiB",
            Self::ManyIdleMemory => "memory, 10,000 idle partitions: MiB",
            Self::ManyIdleCpu => "CPU, 10,000 idle partitions: % of a core",
            Self::ManyStart => "start, 10,000 partitions and 1 GiB: ms",
            Self::Recovery => "recovery after kill -9: ms",
            Self::RecoveryAllowed => "  allowed: 2 s + WAL at 1 GB/s: ms",
            Self::ClusterStart => "3 nodes: start together: ms",
            Self::ClusterIdleMemory => "3 nodes: memory, 1,000 idle partitions: MiB",
            Self::ClusterProduce1k => "3 nodes: produce 1 KB: MB/s",
            Self::ClusterProduce100 => "3 nodes: produce 100 B: records/s",
            Self::ClusterSync64 => "3 nodes: 64 synchronous producers: /s",
            Self::ClusterSync64P99 => "3 nodes: 64 synchronous producers: p99 ms",
            Self::ClusterOneP50 => "3 nodes: one record at a time: p50 ms",
            Self::ClusterOpenP99 => "3 nodes: 5,000 x 1 KB/s: p99 ms",
            Self::ClusterLoadMemory => "3 nodes: memory, highest under load: MiB",
            Self::ClusterHealthyP999 => "3 nodes: 1,000/s, healthy: p99.9 ms",
            Self::ClusterStallP999 => "3 nodes: 1,000/s, follower stopped: p99.9 ms",
            Self::ClusterHealthyGap => "3 nodes: worst gap, healthy: ms",
            Self::ClusterFollowerGap => "3 nodes: gap, follower killed: ms",
            Self::ClusterLeaderGap => "3 nodes: gap, leader killed: ms",
            Self::ClusterControllerGap => "3 nodes: gap, leader + controller killed: ms",
            Self::ClusterManyCpu => "3 nodes: CPU, 10,000 idle: % of a core each",
            Self::ClusterManyMemory => "3 nodes: memory, 10,000 idle: MiB",
            Self::ClusterFailover => "3 nodes: 10,000 partitions, node killed: ms",
            Self::ClusterFailoverSpread => "  of it after detection: ms",
            Self::ClusterLightP99 => "3 nodes: 2,000/s: p99 ms",
            Self::ClusterRebuildP99 => "3 nodes: 2,000/s during a rebuild: p99 ms",
            Self::ClusterRebuild => "3 nodes: rebuild of a wiped node: MB/s",
            Self::GroupJoin => "1,000 members join a classic group: ms",
            Self::GroupCommitCpu => "10,000 groups commit each second: % of a core",
            Self::GroupCommitP50 => "10,000 groups commit each second: p50 ms",
            Self::GroupCommitP99 => "10,000 groups commit each second: p99 ms",
            Self::GroupGrow => "one joins 100 (KIP-848): heartbeats until rest",
            Self::GroupGrowPaused => "  members that paused and keep what they had",
            Self::GroupFailover => "100,000 offsets, coordinator killed: ms",
            Self::GroupFailoverSpread => "  of it after detection: ms",
            Self::Compaction => "compaction of 1 GB, 10 % live: ms",
            Self::CompactionAllowed => "  allowed: 3 x the disk's time: ms",
            Self::CompactionMemory => "compaction: memory beside what was there: MiB",
            Self::CompactionLightP99 => "2,000/s without compaction: p99 ms",
            Self::CompactionP99 => "2,000/s during compaction: p99 ms",
            Self::IdleFetchBytesFew => "session of 10 idle partitions: bytes/poll",
            Self::IdleFetchBytes => "session of 1,000 idle partitions: bytes/poll",
            Self::IdleFetchCpuFew => "session of 10 idle partitions: CPU us/poll",
            Self::IdleFetchCpu => "session of 1,000 idle partitions: CPU us/poll",
        }
    }

    /// All, in the order of the report.
    pub(crate) const ALL: [Self; 62] = [
        Self::Produce1k,
        Self::Produce1kCpu,
        Self::Produce100,
        Self::Sync64,
        Self::OneP50,
        Self::OpenP50,
        Self::OpenP99,
        Self::OpenP999,
        Self::Consume1,
        Self::Consume1Cpu,
        Self::Consume4,
        Self::Disk1,
        Self::Disk4,
        Self::Many,
        Self::Start,
        Self::IdleMemory,
        Self::IdleCpu,
        Self::LoadMemory,
        Self::ManyIdleMemory,
        Self::ManyIdleCpu,
        Self::ManyStart,
        Self::Recovery,
        Self::RecoveryAllowed,
        Self::ClusterStart,
        Self::ClusterIdleMemory,
        Self::ClusterProduce1k,
        Self::ClusterProduce100,
        Self::ClusterSync64,
        Self::ClusterSync64P99,
        Self::ClusterOneP50,
        Self::ClusterOpenP99,
        Self::ClusterLoadMemory,
        Self::ClusterHealthyP999,
        Self::ClusterStallP999,
        Self::ClusterHealthyGap,
        Self::ClusterFollowerGap,
        Self::ClusterLeaderGap,
        Self::ClusterControllerGap,
        Self::ClusterManyCpu,
        Self::ClusterManyMemory,
        Self::ClusterFailover,
        Self::ClusterFailoverSpread,
        Self::ClusterLightP99,
        Self::ClusterRebuildP99,
        Self::ClusterRebuild,
        Self::GroupJoin,
        Self::GroupCommitCpu,
        Self::GroupCommitP50,
        Self::GroupCommitP99,
        Self::GroupGrow,
        Self::GroupGrowPaused,
        Self::GroupFailover,
        Self::GroupFailoverSpread,
        Self::Compaction,
        Self::CompactionAllowed,
        Self::CompactionMemory,
        Self::CompactionLightP99,
        Self::CompactionP99,
        Self::IdleFetchBytesFew,
        Self::IdleFetchBytes,
        Self::IdleFetchCpuFew,
        Self::IdleFetchCpu,
    ];
}

/// The figures of one round.
pub(crate) type Figures = BTreeMap<Metric, f64>;

/// Every figure of every round, by server.
#[derive(Debug)]
pub(crate) struct Results {
    kinds: Vec<Kind>,
    figures: BTreeMap<(Kind, Metric), Vec<f64>>,
}

impl Results {
    /// No rounds yet, for these servers.
    pub(crate) fn new(kinds: &[Kind]) -> Self {
        Self { kinds: kinds.to_vec(), figures: BTreeMap::new() }
    }

    /// Adds a round's figures.
    pub(crate) fn add(&mut self, kind: Kind, figures: Figures) {
        for (metric, figure) in figures {
            self.figures.entry((kind, metric)).or_default().push(figure);
        }
    }

    /// The servers.
    pub(crate) fn kinds(&self) -> &[Kind] {
        &self.kinds
    }

    /// All rounds' figures; empty when it wasn't measured.
    pub(crate) fn all(&self, kind: Kind, metric: Metric) -> &[f64] {
        self.figures.get(&(kind, metric)).map(Vec::as_slice).unwrap_or_default()
    }

    /// The median of the rounds.
    pub(crate) fn median(&self, kind: Kind, metric: Metric) -> Option<f64> {
        let mut sorted = self.all(kind, metric).to_vec();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        match sorted.len() {
            0 => None,
            count if count % 2 == 1 => Some(sorted[middle]),
            _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
        }
    }
}

/// What a figure of ours is held against.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Bound {
    /// At least this many times the other's.
    TimesAtLeast(Kind, f64),
    /// At most this many times the other's.
    TimesAtMost(Kind, f64),
    /// At most this much.
    PlainAtMost(f64),
    /// At most another figure of ours.
    OursAtMost(Metric),
    /// At most another figure of ours and that much more.
    OursAndAtMost(Metric, f64),
    /// At most that many times another figure of ours, or that much more than it.
    OursTimesOrAndAtMost(Metric, f64, f64),
    /// At least this much.
    PlainAtLeast(f64),
}

/// One goal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Goal {
    pub(crate) metric: Metric,
    pub(crate) bound: Bound,
    /// Where the client is the limit, this part of what it reaches against the sink is enough.
    pub(crate) of_sink: Option<f64>,
}

const fn goal(metric: Metric, bound: Bound) -> Goal {
    Goal { metric, bound, of_sink: None }
}

const fn capped(metric: Metric, bound: Bound, of_sink: f64) -> Goal {
    Goal { metric, bound, of_sink: Some(of_sink) }
}

/// What is to be reached on a machine of 2 cores with the client on the same two.
pub(crate) const GOALS: [Goal; 48] = [
    capped(Metric::Produce1k, Bound::TimesAtLeast(Kind::Kafka, 1.5), 0.85),
    capped(Metric::Produce1k, Bound::TimesAtLeast(Kind::KafkaFlush, 1.5), 0.85),
    capped(Metric::Produce100, Bound::TimesAtLeast(Kind::Kafka, 1.1), 0.85),
    capped(Metric::Produce100, Bound::TimesAtLeast(Kind::KafkaFlush, 1.3), 0.85),
    capped(Metric::Sync64, Bound::TimesAtLeast(Kind::Kafka, 2.0), 0.6),
    capped(Metric::Sync64, Bound::TimesAtLeast(Kind::KafkaFlush, 20.0), 0.6),
    goal(Metric::OneP50, Bound::TimesAtMost(Kind::Kafka, 1.5)),
    goal(Metric::OneP50, Bound::TimesAtMost(Kind::KafkaFlush, 0.4)),
    goal(Metric::OpenP99, Bound::TimesAtMost(Kind::Kafka, 0.5)),
    goal(Metric::OpenP99, Bound::TimesAtMost(Kind::KafkaFlush, 0.02)),
    capped(Metric::Consume1, Bound::TimesAtLeast(Kind::Kafka, 1.3), 0.85),
    goal(Metric::Consume1Cpu, Bound::TimesAtMost(Kind::Kafka, 0.4)),
    goal(Metric::Produce1kCpu, Bound::TimesAtMost(Kind::Kafka, 0.3)),
    goal(Metric::Start, Bound::PlainAtMost(300.0)),
    goal(Metric::IdleMemory, Bound::PlainAtMost(40.0)),
    goal(Metric::IdleCpu, Bound::PlainAtMost(1.0)),
    // 128 MiB of requests, 128 of tail, 64 of replies, and 64.
    goal(Metric::LoadMemory, Bound::PlainAtMost(384.0)),
    goal(Metric::ManyIdleMemory, Bound::PlainAtMost(120.0)),
    goal(Metric::ManyIdleCpu, Bound::PlainAtMost(1.0)),
    goal(Metric::ManyStart, Bound::PlainAtMost(1000.0)),
    goal(Metric::Recovery, Bound::OursAtMost(Metric::RecoveryAllowed)),
    capped(Metric::ClusterProduce1k, Bound::TimesAtLeast(Kind::Kafka, 1.5), 0.85),
    capped(Metric::ClusterProduce100, Bound::TimesAtLeast(Kind::Kafka, 1.2), 0.85),
    goal(Metric::ClusterSync64, Bound::TimesAtLeast(Kind::Kafka, 3.0)),
    goal(Metric::ClusterOneP50, Bound::TimesAtMost(Kind::Kafka, 0.8)),
    goal(Metric::ClusterOpenP99, Bound::TimesAtMost(Kind::Kafka, 0.1)),
    goal(Metric::ClusterStallP999, Bound::OursTimesOrAndAtMost(Metric::ClusterHealthyP999, 2.0, 2.0)),
    goal(Metric::ClusterFollowerGap, Bound::OursAndAtMost(Metric::ClusterHealthyGap, 50.0)),
    goal(Metric::ClusterLeaderGap, Bound::PlainAtMost(1200.0)),
    goal(Metric::ClusterControllerGap, Bound::PlainAtMost(1200.0)),
    goal(Metric::ClusterFailoverSpread, Bound::PlainAtMost(1000.0)),
    goal(Metric::ClusterStart, Bound::PlainAtMost(1500.0)),
    goal(Metric::ClusterIdleMemory, Bound::PlainAtMost(64.0)),
    goal(Metric::ClusterLoadMemory, Bound::PlainAtMost(400.0)),
    goal(Metric::ClusterManyCpu, Bound::PlainAtMost(2.0)),
    goal(Metric::ClusterRebuild, Bound::PlainAtLeast(100.0)),
    goal(Metric::ClusterRebuildP99, Bound::OursTimesOrAndAtMost(Metric::ClusterLightP99, 2.0, 0.0)),
    goal(Metric::GroupJoin, Bound::TimesAtMost(Kind::Kafka, 0.5)),
    goal(Metric::GroupCommitCpu, Bound::TimesAtMost(Kind::Kafka, 0.5)),
    goal(Metric::GroupCommitP99, Bound::PlainAtMost(5.0)),
    goal(Metric::GroupGrow, Bound::PlainAtMost(2.0)),
    goal(Metric::GroupGrowPaused, Bound::PlainAtMost(0.0)),
    goal(Metric::GroupFailoverSpread, Bound::PlainAtMost(1000.0)),
    goal(Metric::Compaction, Bound::OursAtMost(Metric::CompactionAllowed)),
    goal(Metric::CompactionMemory, Bound::PlainAtMost(64.0)),
    goal(Metric::CompactionP99, Bound::OursTimesOrAndAtMost(Metric::CompactionLightP99, 1.5, 0.0)),
    goal(Metric::IdleFetchBytes, Bound::OursAtMost(Metric::IdleFetchBytesFew)),
    // Two readings of a clock that ticks a hundred times a second differ by a little.
    goal(Metric::IdleFetchCpu, Bound::OursTimesOrAndAtMost(Metric::IdleFetchCpuFew, 1.1, 1.0)),
];
