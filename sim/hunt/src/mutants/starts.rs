//! Bugs of starts: what is taken in from the disk.

use super::Mutant;

pub(super) const BUGS: &[Mutant] = &[
    Mutant {
        name: "open.still-clean",
        bug: "The mark of an orderly stop is not taken away by the next start.",
        story: "Kafka's .kafka_cleanshutdown: recovery is skipped if the file is there, so whatever leaves it in place (KAFKA-10101 \
                deals with one that can't be deleted) makes the start after the next crash trust a log that nobody has looked at.",
    },
    Mutant {
        name: "open.producers-not-restored",
        bug: "The producers that the manifest remembers are not taken over by a start.",
        story: "Kafka before 2.5 forgot a producer when its last batch was deleted (KAFKA-7190, KIP-360): its next batch was answered \
                with UNKNOWN_PRODUCER_ID, and whoever began anew at sequence 0 could append a batch twice.",
    },
    Mutant {
        name: "open.end-from-segments",
        bug: "Where a log ends is taken from the last segment that is left, not from what was given out.",
        story: "InnoDB's AUTO_INCREMENT until MySQL 8.0 (bug 199, open from 2003 to 2016): at each start the counter was the largest \
                value in the table plus one, so numbers of deleted rows were given out again.",
    },
    Mutant {
        name: "recovery.producers-not-replayed",
        bug: "Batches that are replayed from the log do not tell the producer state.",
        story: "Kafka rebuilds what it knows of producers from a snapshot and the records behind it. The review of KAFKA-5435 \
                (2017) found that the first segment could be missed if the log start lay inside it: its producers are then \
                unknown, and a retry of one of their batches is taken for a new one.",
    },
    Mutant {
        name: "recovery.log-start-lost",
        bug: "A move of the log start that is only in the write-ahead log is not replayed.",
        story: "Kafka keeps log start offsets in a file that is written once a minute (KIP-107): after DeleteRecords and a crash the \
                old start is back. What was deleted, for privacy perhaps, is served again.",
    },
    Mutant {
        name: "start.deleted-topic-kept",
        bug: "A start replays the frames of a deleted topic and keeps what they make.",
        story: "Kafka: a broker that was down while a topic was deleted brings its logs back as stray partitions that nobody \
                removes (KAFKA-14616; the subject of KIP-516). Disks fill up with them.",
    },
    Mutant {
        name: "start.epoch-not-stored",
        bug: "A broker serves without having stored the registration under which it does.",
        story: "KIP-966 has brokers keep their last broker epoch in the file of a clean shutdown, so that the controller can tell a disk that has \
                missed something. If the file is not there everybody looks as if it had: after a failure of all nobody may lead.",
    },
    Mutant {
        name: "start.replaced-goes-on",
        bug: "A node that finds another process registered in its place goes on as if nothing had happened.",
        story: "A node is cut off, or asleep, for longer than its session, and somebody starts a second process with its id and another \
                directory: a wrong copy of a configuration, or an orchestrator that gave the node up. Once the second one is gone, the first \
                must serve again. Found by the simulator in this broker: its heartbeats carried a broker epoch that the controller did not \
                take any more, for ever, and the cluster stayed a node short.",
    },
    Mutant {
        name: "start.moved-replica-kept",
        bug: "The logs of replicas that were moved to other nodes while this one was down are kept.",
        story: "Kafka's stray partitions (KAFKA-14616, KAFKA-15605): a broker that is down while a partition is reassigned hears of it only \
                from a later image, and what it holds then belongs to nobody. Such logs filled disks for months, and one that was made a \
                replica again began with what it had.",
    },
    Mutant {
        name: "open.lost-names-trusted",
        bug: "A start takes the names of superblock and manifest that it finds for durable.",
        story: "Quipu's own, found by opening what a power loss would leave: a first start could not sync its directory and ended, \
                the next one found superblock and manifest in the page cache and went on. After the power loss the log was there, \
                and the files without which nobody can read it were not.",
    },
    Mutant {
        name: "start.orphans-kept",
        bug: "A start does not look for segment files that the manifest does not have.",
        story: "Quipu's own: removed names reach the device late, so after a clean stop and a power loss the files of a deleted \
                topic were back, and nobody looked for them. LevelDB and its successors look through the directory at each open \
                and remove what no version names, for this reason.",
    },
];
