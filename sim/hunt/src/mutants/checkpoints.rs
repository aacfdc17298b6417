//! Bugs of checkpoints and the manifest.

use super::Mutant;

pub(super) const BUGS: &[Mutant] = &[
    Mutant {
        name: "checkpoint.recycled-early",
        bug: "The log's space is used again as soon as a checkpoint begins, before its segments are synced.",
        story: "go-ethereum's freezer moves old blocks from the database into files of its own, syncs them, and deletes them \
                from the database. It synced only the newest file: when a batch had filled one file and begun the next, the \
                first one was not safe when its blocks were deleted. Whatever frees a log must have synced all that replaces it.",
    },
    Mutant {
        name: "checkpoint.edit-before-data",
        bug: "The manifest counts batches of a segment that has been written and not synced.",
        story: "Bitcoin Core until pull request 14501: the index of blocks could be durable before the block files that it names \
                were, so that after a power loss the node knew of blocks that it did not have.",
    },
    Mutant {
        name: "checkpoint.file-name-unsynced",
        bug: "A partition's directory is not synced after a segment file is made in it.",
        story: "Kafka, KAFKA-3968, open from 2016 to 2021: a new segment was flushed, its parent directory was not. After a power \
                loss the segment could have disappeared although its bytes had been synced.",
    },
    Mutant {
        name: "checkpoint.directory-name-unsynced",
        bug: "The directory of all partitions is not synced after a partition's directory is made in it.",
        story: "The first fix of KAFKA-3968 synced only the directory that the file is in. A directory's own name needs its parent \
                synced; the fix had to be reworked (pull request 10680).",
    },
    Mutant {
        name: "checkpoint.directory-name-trusted",
        bug: "A partition's directory is used again after the sync of its name has failed.",
        story: "Quipu's own: the sync of the directory above failed, the round was given up, and the next one found the directory \
                there and synced again. The second sync had nothing left to write, the log's space was used again, and a power \
                loss took the partition's segments. The same mistake as a file's second fsync (\"fsyncgate\", 2018).",
    },
    Mutant {
        name: "checkpoint.producers-ahead",
        bug: "A snapshot of the producers has batches that are still on their way to the log.",
        story: "Kafka, KAFKA-6683 (2018): producer state was changed before the append it belonged to was done, and a snapshot \
                taken at that moment held batches from behind its own offset. Whoever loads such a snapshot takes a batch that \
                was lost for a duplicate, or fails; the replica fetcher did.",
    },
    Mutant {
        name: "checkpoint.tail-dropped-early",
        bug: "Batches leave memory when they are in a segment, before the log knows that segment.",
        story: "Kafka's producer, KAFKA-19012: a pooled buffer was given back while it was still under way, and records turned up \
                in other topics. Whoever frees a buffer by another clock than that of its last reader leaves a gap in which \
                readers see too little, or somebody else's bytes.",
    },
    Mutant {
        name: "checkpoint.covers-unflushed",
        bug: "A checkpoint counts as complete although one of its logs could not be flushed.",
        story: "Linux until 4.13: an error of write-back was reported to whoever asked first and then forgotten, so the next sync \
                said that all was well. PostgreSQL's checkpointer, which opens files anew, could see none of it and move the redo \
                pointer past data that was never written.",
    },
    Mutant {
        name: "checkpoint.failed-round-forgotten",
        bug: "After a checkpoint that fails, its logs are no longer marked as to be flushed.",
        story: "Ext4 and XFS mark pages clean when their write-back fails (Rebello and others, \"Can Applications Recover from \
                fsync Failures?\", ATC 2020): what is not dirty is not tried again. Redis, LMDB, LevelDB, SQLite and PostgreSQL \
                all lost data to it in their experiments.",
    },
    Mutant {
        name: "manifest.renamed-unsynced",
        bug: "A new manifest takes the place of the old one before its bytes are synced.",
        story: "Ext4 with delayed allocation (Ubuntu bug 317781, 2009): write a new file, rename it over the old one, lose power, \
                find a file of length zero. KDE and GNOME lost their settings in great numbers.",
    },
    Mutant {
        name: "manifest.name-unsynced",
        bug: "The directory is not synced after a new manifest takes the place of the old one.",
        story: "LevelDB (ALICE, OSDI 2014) renamed a new CURRENT into place without syncing the directory, then removed the files \
                that the old one names: after a power loss the old name was back and what it points to was gone.",
    },
    Mutant {
        name: "repair.believed-unsynced",
        bug: "A segment that was fetched again from a peer counts as repaired before it is synced.",
        story: "CORDS (Ganesan and others, \"Redundancy Does Not Imply Fault Tolerance\", FAST 2017): stores that repair a block from a \
                replica write it back without waiting for the disk, and after the next power loss the copy that was counted on \
                is as bad as before, while the peer may have gone.",
    },
    Mutant {
        name: "repair.name-unsynced",
        bug: "The name of a repaired segment's file is not made durable before the manifest counts it.",
        story: "All File Systems Are Not Created Equal (ALICE, OSDI 2014): of the eleven applications studied most took a new file \
                for there once it was synced itself, without a sync of its directory; after a power loss the metadata named files \
                that did not exist.",
    },
];
