//! Bugs of the metadata quorum: votes, entries, voters, reads (`quipu-raft`).

use super::Mutant;

pub(super) const BUGS: &[Mutant] = &[
    Mutant {
        name: "raft.vote-unpersisted",
        bug: "A vote is told before it is durable.",
        story: "Raft's paper keeps term and vote on stable storage for one reason: who restarts without them votes a second time in the \
                same term. Ganesan and others (OSDI 2016) crashed replicas together and found systems that answered before they had synced.",
    },
    Mutant {
        name: "raft.vote-forgotten",
        bug: "A restart does not read back whom it had voted for.",
        story: "RethinkDB 2.2.3 (Jepsen, 2016): a node that was removed deleted its Raft state and came back as an empty member, which could \
                vote again in a term in which it had voted. Two leaders followed, and acknowledged writes were lost.",
    },
    Mutant {
        name: "raft.vote-twice",
        bug: "A second candidate gets a vote in the same epoch, too.",
        story: "Elasticsearch before 7.0 (issue 2488, open from 2012): votes had no terms, so a node between two halves of a network voted \
                for a master on either side, and both went on to acknowledge writes.",
    },
    Mutant {
        name: "raft.grant-any-log",
        bug: "A vote is given to a candidate whose log lacks entries that the voter has.",
        story: "MongoDB's protocol version 0 (Jepsen, 2013 and 2017) elected by priority and by clocks: a primary whose oplog was behind won, \
                and the others rolled back what had been acknowledged.",
    },
    Mutant {
        name: "raft.epoch-regresses",
        bug: "A restart takes the epoch from the last entry of its log.",
        story: "ZooKeeper keeps the epoch that it accepted and the one that it follows in two small files beside the log, and has had to \
                repair starts at which they disagreed with it (ZOOKEEPER-1653): a server that forgets an epoch accepts an older leader.",
    },
    Mutant {
        name: "raft.campaign-unpersisted",
        bug: "A candidate asks for votes before its own is durable.",
        story: "When etcd's raft learned to write asynchronously (2022) a candidate's vote for itself had to become a message like any other, \
                answered by the disk: counted at once, a crash lets the same node vote for somebody else in that term.",
    },
    Mutant {
        name: "raft.prevote-raises-epoch",
        bug: "Asking whether an election could be won raises the epoch already.",
        story: "Cloudflare's outage of November 2020: behind a half-dead switch one etcd member heard the others but not the leader, and \
                deposed it again and again with ever higher terms. The control plane could not write for hours.",
    },
    Mutant {
        name: "raft.no-check-quorum",
        bug: "A leader that hears nobody goes on as leader.",
        story: "Omni-Paxos (EuroSys 2023) names the quorum-loss scenario: a leader that reaches its followers, or some of them, one way only \
                stays leader without being able to commit anything, and nobody else is elected.",
    },
    Mutant {
        name: "raft.commit-old-epoch",
        bug: "An entry of an earlier epoch is committed by counting its copies.",
        story: "Figure 8 of Raft's paper: an entry of an earlier term can be on a majority and still be overwritten by a leader that does not \
                have it. Teaching implementations fail here first, and only after three leaders in a row.",
    },
    Mutant {
        name: "raft.ack-unpersisted",
        bug: "A follower acknowledges entries before they are durable.",
        story: "etcd 3.5.0 to 3.5.2 (2022): what it had applied and the note of how far that was did not become durable together, so a member \
                killed under load came back without entries that it had confirmed, and the members differed for good.",
    },
    Mutant {
        name: "raft.ack-own-end",
        bug: "A follower acknowledges up to the end of its log, not up to what was proven to match.",
        story: "The Students' Guide to Raft (2016) has it among the common mistakes: a heartbeat that fits is answered with success, and the \
                leader takes it that the whole log matches. What lies behind may be another leader's.",
    },
    Mutant {
        name: "raft.own-unpersisted",
        bug: "The leader counts its own entries before they are durable.",
        story: "Raft's dissertation (10.2.1) lets a leader write to its disk while it sends, if it counts itself only when the write is done. \
                Who forgets the condition commits with one copy fewer than a majority, and a power cut of the leader takes it.",
    },
    Mutant {
        name: "raft.truncate-short-append",
        bug: "An append that ends before the log does cuts off the rest, even if nothing differs.",
        story: "The Students' Guide to Raft (2016): a late message that has been overtaken makes the follower drop entries that it has already \
                confirmed, and the leader, which counts them, is wrong about a majority.",
    },
    Mutant {
        name: "raft.conflict-ignored",
        bug: "An entry at the same offset is taken for the leader's, whatever its epoch.",
        story: "Kafka before KIP-101 compared offsets only: a follower whose log had parted from the leader's kept its own messages at the same \
                offsets, and replicas differed without anybody noticing.",
    },
    Mutant {
        name: "raft.commit-unclamped",
        bug: "A follower takes the leader's commit point for its own, beyond what it has proven to match.",
        story: "Raft's rule is min(leaderCommit, index of the last new entry). The Students' Guide to Raft (2016) explains why the second part \
                must stand there: a heartbeat to a follower with a stale tail commits that tail.",
    },
    Mutant {
        name: "raft.snapshot-no-voters",
        bug: "The voter set is not in the snapshot.",
        story: "etcd's raft puts the configuration into the snapshot's metadata because a start from a snapshot without it knows no voters, or \
                those that it was founded with: a node that was removed long ago counts again.",
    },
    Mutant {
        name: "raft.voters-kept",
        bug: "A voter set stays in force when its entry is cut off the log.",
        story: "A configuration takes effect when it is written, not when it is committed (Raft's dissertation, 4.1), so cutting it must bring \
                back the one before. Libraries that keep it in a field of its own forget that.",
    },
    Mutant {
        name: "raft.two-voter-changes",
        bug: "A voter change is accepted before the last one is committed.",
        story: "Majorities of configurations that differ by one voter intersect; of two such steps they need not. RethinkDB 2.2.3 and RedisRaft \
                (Jepsen, 2016 and 2020) split in two during changes of members.",
    },
    Mutant {
        name: "raft.voters-before-own-entry",
        bug: "A new leader changes voters before it has committed an entry of its own epoch.",
        story: "The bug in Raft's single-server change that its author announced in July 2015, after the dissertation: two leaders in a row \
                each add or remove one server from what they know, and get majorities that do not meet.",
    },
    Mutant {
        name: "raft.observer-counted",
        bug: "Observers count towards the majority.",
        story: "CockroachDB before 19.2 made a new copy of a range a full member before it had any data; the next failure left a range that had \
                its majority on paper only. It brought learners, which must not be counted.",
    },
    Mutant {
        name: "raft.directory-ignored",
        bug: "A node whose disk was replaced is taken for the voter that it was.",
        story: "KIP-853 gave KRaft's voters directory ids: before, a controller that came back with an empty disk under the same id voted \
                as if it had forgotten nothing, and could elect a leader without committed metadata.",
    },
    Mutant {
        name: "raft.read-no-barrier",
        bug: "A leader answers reads without asking whether it still leads.",
        story: "etcd 0.4.1 and Consul 0.5 (Jepsen, 2014): reads went to the leader's memory, and one behind a partition answered with values \
                that had been overwritten elsewhere.",
    },
    Mutant {
        name: "raft.read-before-own-entry",
        bug: "A new leader answers reads before it has committed an entry of its own epoch.",
        story: "A new leader does not know yet how far its predecessor had committed (Raft's dissertation, 6.4). etcd answered such reads from \
                an old commit point until 2021, when it began to put them off.",
    },
];
