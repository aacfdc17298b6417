//! Bugs of the write-ahead log.

use super::Mutant;

pub(super) const BUGS: &[Mutant] = &[
    Mutant {
        name: "wal.sync-retried",
        bug: "A sync of the log that fails is tried again, and the second answer is believed.",
        story: "PostgreSQL until 2018 (\"fsyncgate\"): a checkpoint whose fsync failed was tried again. Linux had marked the pages \
                clean at the first failure, so the second fsync succeeded and wrote nothing, the log was recycled, and the data \
                was gone. MySQL and MongoDB had to change as well. The answer is to stop at the first failure.",
    },
    Mutant {
        name: "wal.file-name-unsynced",
        bug: "The directory is not synced after a file of the log is made.",
        story: "The study behind ALICE (OSDI 2014) found the same in ZooKeeper and in other stores: a new log file is written and \
                synced, its name is not. After a power loss the file has no name, and every acknowledged write in it is gone.",
    },
    Mutant {
        name: "wal.name-sync-retried",
        bug: "If the sync of the log's directory fails after a file was made in it, it is tried again and then believed.",
        story: "The same trap as with a file's contents, one floor up: a name is data of its directory. What a failed sync has \
                given up is clean for the next one, which has nothing to do and says that all is well (Rebello and others, ATC \
                2020, for files). Quipu's own simulator found it in this log: the next start synced the directory of a file \
                that it had found, and acknowledged into a file whose name the device never had.",
    },
    Mutant {
        name: "wal.directory-name-trusted",
        bug: "A start that finds the log's directory empty takes its name for durable.",
        story: "Quipu's own: a first start made the directory and could not sync the one above it, so it ended. The next start \
                found the directory, synced again, and went on. Whoever finds something after a failed sync sees the page \
                cache, not the device (PostgreSQL's \"fsyncgate\" of 2018, for names instead of pages).",
    },
    Mutant {
        name: "wal.unreadable-once-cut",
        bug: "What of the log can't be read at the first attempt is taken for torn.",
        story: "Quipu's own: at a start the last group could not be read just then, nothing proved it, and an acknowledged record \
                was cut as a tear; it had been asked for only once more. Bairavasundaram and others (\"An Analysis of Latent Sector Errors in Disk Drives\", \
                SIGMETRICS 2007) tell how common reads are that fail; some succeed when they are asked again.",
    },
    Mutant {
        name: "wal.torn-group-accepted",
        bug: "Recovery takes a group whose payloads do not match their checksums.",
        story: "etcd issue 5230 (2016): once files were preallocated, a crash could leave a record of which only some pages had \
                arrived; the end of the file no longer told. Members refused to start, or would have replayed garbage, until torn \
                writes were recognised as such and cut.",
    },
    Mutant {
        name: "wal.earlier-life-accepted",
        bug: "Recovery takes a group that was cut by an earlier start: neither generations nor the chain of hashes tell lives apart.",
        story: "RocksDB's recycled log files (recycle_log_file_num): old records behind the new end looked like a continuation. \
                Each record had to carry the number of the log it belongs to, and the strict recovery modes refuse recycled files \
                to this day because an old record and a corrupt new one can't be told apart.",
    },
    Mutant {
        name: "wal.in-flight-taken-for-proof",
        bug: "A whole group behind a torn one is taken as proof that the torn one had been synced.",
        story: "A log that keeps several writes in flight tears in the middle: the second may arrive and the first not. \
                Alagappan and others (\"Protocol-Aware Recovery\", FAST 2018) tell how stores entangle crashes and damage; one \
                that reads any valid record behind a bad one as damage refuses to start, or gives its data up, after an ordinary \
                power loss.",
    },
    Mutant {
        name: "wal.rot-cut-as-tear",
        bug: "Whatever can't be read is taken for the torn end of the log, and cut with all that follows.",
        story: "Ganesan and others (\"Redundancy Does Not Imply Fault Tolerance\", FAST 2017) found that Kafka among others \
                takes a rotten entry for an interrupted write and cuts the log there, with everything acknowledged behind it. \
                NATS JetStream 2.12.1 lost large parts of a stream to one flipped bit (Jepsen, 2025).",
    },
    Mutant {
        name: "wal.step-torn",
        bug: "What a replica changes in one step is written in several groups of the log.",
        story: "Etcd writes a Raft follower's hard state and entries in one record since a crash between the two left a vote without \
                the log that it was given for; TiKV's raft-engine was built around such batches. A reader of a log that knows only \
                single records calls a half of a change a state.",
    },
];
