//! Bugs of partition replicas: elections, appends, acknowledgements, configurations, damaged disks (`quipu-replication`), and what a
//! follower's log knows of producers.

use super::Mutant;

pub(super) const BUGS: &[Mutant] = &[
    Mutant {
        name: "replication.no-seal",
        bug: "A leader becomes active without asking any other member.",
        story: "View changes that drop commits: MongoDB's first protocol and Elasticsearch before 7.0 let a primary begin with what it had \
                itself. BookKeeper's fencing before recovery, and Viewstamped Replication's start-view quorum, exist to forbid it.",
    },
    Mutant {
        name: "replication.seal-counted-twice",
        bug: "A candidate counts its own log twice among those that are sealed.",
        story: "Off by one in a quorum: MongoDB and Elasticsearch (minimum_master_nodes, until 7.0) left the count to people, and clusters set to \
                one too few split in two. Whoever answered is not enough to have met every committed record.",
    },
    Mutant {
        name: "replication.adoption-skipped",
        bug: "A candidate has the others sealed, but keeps its own log, whoever has more.",
        story: "Fencing without recovery reads: BookKeeper's recovery fences the ledger and then must read and copy what lies behind the last \
                add confirmed. A reader that only fenced saw ledgers end before acknowledged entries.",
    },
    Mutant {
        name: "replication.label-early",
        bug: "A part of the new leader's log makes a follower believe that it has all of it.",
        story: "Viewstamped Replication Revisited (2012) compares by the last normal view for this reason: a replica in the middle of a state \
                transfer has the new view's number and not its log, and must not win the next view change with it.",
    },
    Mutant {
        name: "replication.compare-by-last-epoch",
        bug: "The log to adopt is chosen by the epoch of its last record, not by the epoch whose log it fully is.",
        story: "Raft compares by the last entry's term, which is right only because a leader commits nothing before an entry of its own. \
                Without such no-op entries (Kafka's offsets leave no room for them) a leader that has written one record alone beats those \
                that hold committed ones.",
    },
    Mutant {
        name: "replication.acknowledge-before-sync",
        bug: "A follower acknowledges what it has not synced.",
        story: "Kafka, and Redpanda's write caching, answer from the page cache: a rack that loses power loses what it acknowledged (Jepsen's \
                report on NATS JetStream of 2025 is the same story: the default syncs every two minutes).",
    },
    Mutant {
        name: "replication.own-unsynced",
        bug: "A leader counts its own records before they are synced.",
        story: "The leader's disk is one of the quorum (Raft's dissertation, 10.2.1), and is easily taken for granted: Redpanda's acks=1 and Kafka's \
                leaders answer from their page cache. The power goes, and one copy fewer than promised is left.",
    },
    Mutant {
        name: "replication.acknowledge-without-label",
        bug: "Records copied below the epoch's start count as acknowledged.",
        story: "Kafka's followers report the offset that they fetch next, wherever the leader's epoch began. KIP-966 had to keep apart who is \
                caught up with the present leader and who only has many records.",
    },
    Mutant {
        name: "replication.acknowledge-log-end",
        bug: "A follower acknowledges the end of its log, not the end that was proven to match.",
        story: "Kafka before KIP-279: a follower that had been a leader in between fetched from its own log end, which a new leader took as \
                proof that everything before it was equal. Logs parted after two fast failovers.",
    },
    Mutant {
        name: "replication.tail-kept",
        bug: "A follower keeps records beyond the end of the log that it labels.",
        story: "Inconsistent offsets: a deposed leader's unacknowledged records stay where the new leader will write others. Kafka lost and \
                doubled messages this way until leader epochs came (KIP-101).",
    },
    Mutant {
        name: "replication.truncated-to-high-watermark",
        bug: "A replica that starts cuts its log at the high watermark that it had stored.",
        story: "Kafka before KIP-101: followers truncated to their high watermark, which they learn one round late. Restart a follower, lose the \
                leader, and the follower leads without messages that had been acknowledged.",
    },
    Mutant {
        name: "replication.previous-epoch-unchecked",
        bug: "An append is taken in wherever the log ends, without comparing the epoch of the record before.",
        story: "KIP-279 and KIP-320: leader and follower agreed on an offset for the latest epoch only, and after fast failovers the records \
                before it were different. The logs stayed apart for good, and consumers saw one or the other.",
    },
    Mutant {
        name: "replication.epochs-not-truncated",
        bug: "Cutting the log leaves the epochs of what was cut in the table.",
        story: "KAFKA-10706: a follower's epoch cache kept an entry beyond the truncated log, so every answer about epochs was wrong and the \
                follower truncated the same records again for ever.",
    },
    Mutant {
        name: "replication.follower-high-watermark-unbounded",
        bug: "A follower takes the leader's high watermark, whether its own records are proven to match or not.",
        story: "Fetching from followers (KIP-392) shows consumers what the follower takes for committed: a stale tail below a number that came \
                from the leader is read as committed, and replaced a moment later.",
    },
    Mutant {
        name: "replication.same-epoch-resume",
        bug: "A leader that restarts goes on in the epoch in which it had led.",
        story: "KAFKA-10527: a broker that restarted quickly became leader again in the same epoch. What it had lost in the crash was \
                written anew under the same epoch, and followers could not see the difference.",
    },
    Mutant {
        name: "replication.promise-and-report-apart",
        bug: "A sealed member reports its log, and makes the promise durable in a second step.",
        story: "BookKeeper's recovery reads carry the fence with them, so that a bookie fences the ledger in the step in which it answers where \
                it ends. Between two steps the old writer still gets its last acknowledgement.",
    },
    Mutant {
        name: "replication.lost-source-counted",
        bug: "A member whose log can't be copied any more still counts for the election.",
        story: "Found in Quipu's own model before there was code: a source seals for somebody newer while its log is being copied; the candidate \
                goes on with what it has and begins an epoch without acknowledged records.",
    },
    Mutant {
        name: "replication.piece-from-moved-source",
        bug: "A source gives pieces of its log to a candidate of an epoch that it has left behind.",
        story: "Log transfers that outlive their view: Viewstamped Replication Revisited answers state requests only in the view that \
                they name, since a log that has moved on is a mixture of two.",
    },
    Mutant {
        name: "replication.commit-by-one",
        bug: "One synced copy is enough for a commit.",
        story: "Commit without a quorum: Redis, and MongoDB with its default of w:1, acknowledged on the primary alone (Jepsen, 2013). Each \
                failover lost what had not been copied yet.",
    },
    Mutant {
        name: "replication.quorum-from-live-config",
        bug: "The quorum is computed from the topic's configuration at the moment, not taken from the partition's record.",
        story: "Kafka reads min.insync.replicas at each append, and KIP-966 had to say what an election may conclude from it. With quorums it is \
                fatal: half of the members count with one number, the next leader seals with another.",
    },
    Mutant {
        name: "replication.no-joint-quorum",
        bug: "While a change of members is asked for, commits count in the old configuration only.",
        story: "Raft's joint consensus and KIP-497's maximal in-sync set exist because a change may be in force before the leader knows of it. \
                Who counts with the old set alone commits what the new set's next leader never saw.",
    },
    Mutant {
        name: "replication.pending-dropped-on-time-out",
        bug: "A requested change of members is forgotten when no answer comes in time.",
        story: "A leader that gives up waiting does not know whether the controller will carry the change out all the same. Kafka's leaders \
                (KIP-497) count with the larger set until they are told, since the set they asked for may be in force.",
    },
    Mutant {
        name: "replication.pending-dropped-on-refusal",
        bug: "A requested change is forgotten when a controller says that it can't do it now.",
        story: "A request that one controller refused may have reached another one, or be carried out when it is repeated by the network. \
                Kafka's AlterPartition had the same question with fenced controllers (KIP-497).",
    },
    Mutant {
        name: "replication.pending-dropped-on-conflict",
        bug: "A requested change is forgotten when it is said to be out of date.",
        story: "INVALID_UPDATE_VERSION in Kafka (KIP-497): the answer to the first copy of a request may be that the second one has already \
                won. Who takes it for a refusal counts with members who have been replaced.",
    },
    Mutant {
        name: "replication.expand-without-catch-up",
        bug: "A replica becomes a member before it has caught up.",
        story: "CockroachDB before 19.2 counted a new copy of a range from the moment at which it was added, empty: quorums were complete \
                on paper, and one failure later the range had none. The next election could choose who has nothing.",
    },
    Mutant {
        name: "replication.shrink-without-catch-up",
        bug: "Members leave although those that stay lack committed records.",
        story: "With a quorum smaller than the set, the copies of a record may be on exactly those who leave. Delos seals and copies before \
                it reconfigures; systems that only drop members lose what was acknowledged.",
    },
    Mutant {
        name: "replication.shrinks-below-minimum",
        bug: "Members leave until fewer than min.insync.replicas are left.",
        story: "The last replica standing (KIP-966): Kafka's in-sync set shrinks to one broker, which then fails; what was acknowledged with \
                more copies is lost by an unclean election, or by that broker's unclean shutdown.",
    },
    Mutant {
        name: "replication.leader-not-checked",
        bug: "A leader asks for a configuration with itself in it before its own disk has what it takes.",
        story: "The leader counts like any other when its disk may lag behind its followers'. Found in Quipu's own model: a leader with a \
                stalled disk left a configuration in which its copy was needed and not there.",
    },
    Mutant {
        name: "replication.delete-forgotten-by-seal",
        bug: "A new leader does not take over the log start that others report.",
        story: "Kafka's log start offsets lag by up to a minute on disk (KIP-107), and a new leader's may be older than what was \
                confirmed: records that were deleted, for privacy perhaps, are back.",
    },
    Mutant {
        name: "replication.delete-forgotten-by-change",
        bug: "A replica becomes a member although it has not made a confirmed deletion durable.",
        story: "Confirmed by a quorum, forgotten by its successor: the same as for records, and easy to forget for log starts. Cassandra's \
                tombstones that a repaired replica never saw bring deleted rows back.",
    },
    Mutant {
        name: "replication.delete-without-joint-quorum",
        bug: "While a change of members is asked for, deletions count in the old configuration only.",
        story: "The joint quorum of commits, forgotten for the other promise that a leader makes. Cassandra's and Riak's deleted rows that \
                came back after a change of members are its relatives.",
    },
    Mutant {
        name: "replication.incarnation-from-disk",
        bug: "A start counts its incarnation up from the one on its own disk.",
        story: "KIP-903 and KIP-841: a broker that came back was taken for the one that had been in sync. A counter on the disk that was lost or \
                restored repeats numbers, so that messages for an earlier life are accepted.",
    },
    Mutant {
        name: "replication.answers-before-unfenced",
        bug: "A node answers other replicas before it is unfenced under its new broker epoch.",
        story: "KIP-841: a fenced or stopping broker came back into the in-sync set by its fetches, before the controller had taken note of what \
                had become of it.",
    },
    Mutant {
        name: "replication.wiped-counted",
        bug: "A report of a member with another disk, or of a faulty one, counts for an election.",
        story: "KIP-966's unclean shutdowns, and Kafka's clusters that were restarted with one empty disk: the broker with nothing is in sync on \
                paper, is elected, and everybody truncates to nothing.",
    },
    Mutant {
        name: "replication.restored-trusted",
        bug: "A disk that is older than the node's last service is trusted.",
        story: "A virtual machine put back to last night's snapshot still has its id, its vote and its place in the quorum. Manuals \
                warn of it; in most systems nothing notices.",
    },
    Mutant {
        name: "replication.damage-truncated",
        bug: "Damaged records, and all behind them, are cut off, and the replica goes on.",
        story: "Protocol-Aware Recovery (FAST 2018) flipped bits in the logs of ZooKeeper, LogCabin, etcd and others: most cut the log at the \
                first bad checksum, and a leader that does so makes the others drop committed records, too.",
    },
    Mutant {
        name: "replication.damaged-promise-kept",
        bug: "A replica whose disk lost something trusts the promise that the disk still shows.",
        story: "Protocol-Aware Recovery (FAST 2018): a node that lost the end of its log may have lost its vote as well, and gives it again. \
                It must learn from the others what it may have promised.",
    },
    Mutant {
        name: "replication.cleared-without-stamp",
        bug: "An append for an earlier incarnation makes a faulty replica sound again.",
        story: "A message on its way while a node loses its disk proves something of the disk that is gone. KIP-903 put the broker epoch into \
                fetches for this reason.",
    },
    Mutant {
        name: "replication.cleared-below-log-start",
        bug: "A replica is sound again before it has the leader's log start.",
        story: "A rebuilt replica that does not know of a deletion leads later on, and deleted records are read again. Cassandra's rows \
                that come back when a replica was away for longer than tombstones are kept are the same.",
    },
    Mutant {
        name: "step.label-not-written",
        bug: "Whose log a replica holds is kept in memory, and not written with the step that completes it.",
        story: "Viewstamped Replication's last normal view has to be as durable as the log: the paper of 2012 keeps both in memory and so needs a \
                recovery protocol. With the one and without the other, a whole log loses the next election to a longer stale one.",
    },
    Mutant {
        name: "step.log-start-not-written",
        bug: "A follower keeps the log start that its leader tells in memory only.",
        story: "Kafka's log start offsets reach a checkpoint file once a minute (KIP-107): after a crash a broker knows an older one, and what was \
                deleted and confirmed is readable there again.",
    },
    Mutant {
        name: "step.producers-forgotten",
        bug: "Batches that a follower writes do not tell the producer state.",
        story: "Duplicates after a retry across a leader change: Kafka's idempotence (KIP-98) rests on followers that rebuild the producers' \
                state from the log. Kept at the leader only, the retry that it never answered is appended again by the next one.",
    },
    Mutant {
        name: "truncate.producers-kept",
        bug: "Cutting the log leaves the producers' sequences as they were.",
        story: "Kafka rolls its producer state back to a snapshot whenever it truncates (KIP-98): kept, the retry of a batch that was cut off is \
                answered as a duplicate of it. It is acknowledged, and nowhere.",
    },
];
