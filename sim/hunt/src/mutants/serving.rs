//! Bugs that clients meet without the broker having to start anew, and those of the logs behind them.

use super::Mutant;

pub(super) const BUGS: &[Mutant] = &[
    Mutant {
        name: "broker.acknowledge-unsynced",
        bug: "A produce is answered before its records are synced.",
        story: "NATS JetStream 2.12.1 (Jepsen, 2025) synced every two minutes and acknowledged at once: a power loss took \
                acknowledged messages. So did Elasticsearch before 2.0 and MongoDB before its journal was awaited.",
    },
    Mutant {
        name: "broker.high-watermark-ahead",
        bug: "The high watermark is the log's end, not the end of what is durable.",
        story: "Kafka, KAFKA-20634: a high watermark that moved over records that were about to be lost completed the requests \
                waiting for it, so commits were acknowledged that no later coordinator has. And clients that were told of an \
                offset see the end go back (KAFKA-2334).",
    },
    Mutant {
        name: "controller.topic-id-reused",
        bug: "A new topic gets the id of one that was deleted.",
        story: "Before topic ids (KIP-516) a topic was its name: deleted and made again, a broker or a consumer that had missed it \
                served, or read on in, the old topic's records under the new one's offsets.",
    },
    Mutant {
        name: "connection.reply-overtakes",
        bug: "Of two requests under way on a connection the second is answered first.",
        story: "redis-py in March 2023: a cancelled call left its reply in the connection, and every later caller got the reply \
                of the one before. ChatGPT showed users the titles of each other's chats, and some their payment details.",
    },
    Mutant {
        name: "connection.partial-write-ignored",
        bug: "What the kernel does not take of a write at once is dropped.",
        story: "The oldest bug of socket servers; Gazelle (pull request 13, 2015) and Bun (issue 32087) had it in writev: a peer that \
                reads slowly makes the kernel take a part, the rest is counted as sent, and the stream goes on in the middle of \
                something else.",
    },
    Mutant {
        name: "connection.room-not-given-back",
        bug: "The memory that a reply takes from its budget stays taken when the reply has left.",
        story: "Go's HTTP/2 client (golang/go issue 16481, 2016): the connection's share of a stream that ended in an error was \
                not given back, and after enough of them all streams waited for room that nobody held. Whatever is bounded by \
                waiting stops for good when it leaks.",
    },
    Mutant {
        name: "fetch.wake-up-lost",
        bug: "A fetch that waits registers for growth after it has looked at the log, not before.",
        story: "Kafka, KAFKA-6653: a delayed operation could miss the event that would have completed it, and sat in purgatory until \
                its time-out. Nothing is lost; everything is late, and only sometimes.",
    },
    Mutant {
        name: "fetch.wall-clock",
        bug: "How long a fetch may wait is measured by the wall clock.",
        story: "Cloudflare's resolvers at the leap second of 2017: the difference of two wall-clock times was negative and a random \
                generator panicked. Programs that sleep by a clock that an administrator or NTP may set back sleep for as long as \
                it was set back.",
    },
    Mutant {
        name: "log.duplicate-answered-unsynced",
        bug: "A batch sent again is answered at once, although the original is still being synced.",
        story: "Apache Pulsar, issue 5218 (2019): deduplication remembered the highest sequence before it was persisted. When \
                the write to BookKeeper failed, the producer's retry was answered as a duplicate, with success, and the message \
                was nowhere.",
    },
    Mutant {
        name: "produce.gap-believed",
        bug: "A leader refuses a producer's batch for a gap in its sequence, without knowing whether it still leads.",
        story: "An answer from a deposed leader is a stale read: etcd and Consul served such reads until leaders had to confirm their lead \
                first. Here it is final for the producer, which takes acknowledged records for lost and begins anew with their successors.",
    },
    Mutant {
        name: "produce.turned-away-forgotten",
        bug: "A batch refused for lack of room does not keep out those behind it.",
        story: "Kafka, KAFKA-5494 (2017): with more than one request under way, a batch that failed and could be tried again was \
                overtaken by the next ones; they failed for their sequence numbers, or got in before it. The first release with \
                idempotence had to forbid more than one request.",
    },
    Mutant {
        name: "produce.room-taken-in-parts",
        bug: "Room is taken batch by batch while holding what was taken before.",
        story: "Dining philosophers in production: PostgreSQL's JDBC driver had to bound the replies that a batch may have under way, \
                since client and server each waited for the other to read. Two requests that each hold half of a budget wait for \
                the other half for ever.",
    },
    Mutant {
        name: "produce.timeout-told-as-refusal",
        bug: "A produce whose sync takes too long is answered with an error that means that nothing was stored.",
        story: "CockroachDB (Jepsen, 2016) told clients to try again when it could not know whether a commit had happened, and rows \
                were inserted twice; the answer was a result that says that it is ambiguous.",
    },
    Mutant {
        name: "segment.index-off-by-one",
        bug: "A read from a segment begins one index entry too late.",
        story: "Vonnegut, a log in the manner of Kafka (pull request 57, 2017): a lookup below the first index entry answered \
                with that entry's position and not with the file's start, so reads began behind the record that they were for. \
                No checksum fails; the consumer just never sees some records.",
    },
    Mutant {
        name: "segment.rot-served",
        bug: "The batches of a segment are served although they do not match their checksums.",
        story: "Kafka's brokers check a batch when it is produced and never again: what rots on the disk goes out by sendfile as it is, \
                and whoever notices is the consumer, which stops at \"record is corrupt\" and has to be put behind it by hand; \
                followers copy what they can, and the rest of the cluster is not told.",
    },
    Mutant {
        name: "partition.damage-hidden",
        bug: "Whoever asks for a damaged partition gets its offsets, which end before the damage, as if nothing were wrong.",
        story: "A Kafka broker that takes a log directory offline answers for its partitions with NOT_LEADER_OR_FOLLOWER, or they \
                have no leader at all (KIP-112): with no other replica clients look for one for ever, and nobody is told that \
                records are lost. FAST 2017 (\"Redundancy Does Not Imply Fault Tolerance\") names silence as the worst answer to rot.",
    },
];
