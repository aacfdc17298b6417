//! Bugs of consumer groups and their coordinators (`quipu-groups`, `quipu-coordinator`), of both protocols.

use super::Mutant;

pub(super) const BUGS: &[Mutant] = &[
    Mutant {
        name: "groups.acknowledged-unwritten",
        bug: "A coordinator answers before its records are committed.",
        story: "Kafka, KAFKA-20634: a high watermark that moved over records that were about to be lost let commits be acknowledged that no \
                later coordinator has. Whatever a coordinator tells before its log is replicated, the next one does not know.",
    },
    Mutant {
        name: "groups.epoch-forgotten",
        bug: "The next coordinator of a KIP-848 group begins its epochs at 0.",
        story: "Elasticsearch before 7.0 could go on from a cluster state of an older version after a restart: numbers that go back let the \
                past win over the present.",
    },
    Mutant {
        name: "groups.follower-assigns",
        bug: "Whatever member brings assignments is taken for the leader.",
        story: "Kafka, KAFKA-13435 (KIP-814): who assigns has to be clear to both sides. A static leader that came back was told that another \
                one leads, so nobody assigned; had both believed they do, the last one to write would have had it.",
    },
    Mutant {
        name: "groups.generation-not-bumped",
        bug: "A new generation bears the number of the one before.",
        story: "Kafka, KAFKA-8104: a consumer that mixed up an old generation's state with the new one could not join again. The number is all \
                that tells an answer, or a commit, of one generation from another's.",
    },
    Mutant {
        name: "groups.given-before-released",
        bug: "A partition goes to its next owner while the one before still reads it.",
        story: "Kafka, KAFKA-12984: two members that both said that they owned a partition broke the cooperative assignor, which may give to one \
                only what the other has released. KIP-848 has the coordinator wait instead.",
    },
    Mutant {
        name: "groups.live-offsets-expired",
        bug: "Offsets expire a time after their commit, although the group reads the topic.",
        story: "Kafka before 2.1, KAFKA-4682 (KIP-211): a group that read a quiet topic for more than a day lost its offsets while it ran, and \
                began at the end, or at the beginning, after its next restart.",
    },
    Mutant {
        name: "groups.member-epoch-not-bumped",
        bug: "A member of a KIP-848 group that has what it is to have keeps its old epoch.",
        story: "KIP-1251 tells of the reverse, a member whose epoch was ahead of what it had been told, and whose commits were refused in every \
                rebalance. Two sides that do not agree on an epoch answer each other for ever.",
    },
    Mutant {
        name: "groups.owners-forgotten",
        bug: "The next coordinator of a KIP-848 group does not know who has what.",
        story: "Chubby's and ZooKeeper's lesson: a lease server that fails over must know every lease that it gave, or wait for all of them to \
                end. Kafka writes each member's current assignment (KIP-848) for this reason alone.",
    },
    Mutant {
        name: "groups.rebalance-unbounded",
        bug: "A rebalance waits for every member, however long it takes to join again.",
        story: "Kafka before 0.10.1 (KIP-62): one consumer that was busy with its records while a thread sent its heartbeats would have held up \
                its group for ever; hence a time-out of the rebalance's own. KAFKA-9752: with one kind of member it still did.",
    },
    Mutant {
        name: "groups.revocation-unbounded",
        bug: "A member of a KIP-848 group that never gives its partitions up is waited for without end.",
        story: "The same story told again by KIP-848: a member blocked in a callback heartbeats on from the background. The coordinator's \
                rebalance time-out fences it.",
    },
    Mutant {
        name: "groups.session-not-extended",
        bug: "A heartbeat of a stable group is answered, and does not extend the session.",
        story: "Leases that are renewed in the answer and not in the table: holders are thrown out in the middle of their work, with nothing wrong \
                on their side. Groups that rebalance every session's length do little else (KIP-345 counts what that costs).",
    },
    Mutant {
        name: "groups.stale-epoch-commits",
        bug: "Commits to a KIP-848 group are taken whatever their epoch.",
        story: "The fenced consumer that wakes up after a long pause of its garbage collector and commits what another has long read on: the \
                reason for epochs in every lease since Chubby's sequencers.",
    },
    Mutant {
        name: "groups.static-fenced-wrongly",
        bug: "A static member that comes back is given a new id, and its name stays with the old one.",
        story: "Kafka, KAFKA-10284 (2020): a static member's new id was not written with the group; after a failover the coordinator knew the \
                old one, and fenced the consumer that was alive.",
    },
    Mutant {
        name: "groups.wake-up-lost",
        bug: "A member that leaves a stable group leaves it as it is.",
        story: "Kafka, KAFKA-6653: a delayed operation, a group's join among them, could miss the event that would have completed it. Nothing is \
                lost, and nobody reads until something else happens.",
    },
    Mutant {
        name: "groups.zombie-commit",
        bug: "Commits of the classic protocol are taken from whoever brings them.",
        story: "Kafka before 0.9 had no generations in commits: a member that had been out for minutes set the group back. Kafka's own answer is \
                ILLEGAL_GENERATION.",
    },
];
