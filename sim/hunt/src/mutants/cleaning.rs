//! Bugs of retention and compaction.

use super::Mutant;

pub(super) const BUGS: &[Mutant] = &[
    Mutant {
        name: "compact.tombstone-dropped-early",
        bug: "Compaction drops a tombstone the first time that it meets it.",
        story: "Kafka, KAFKA-4529 (2016): when messages got timestamps of their own, the cleaner compared a tombstone with the time \
                of the wrong segments, and dropped it before `delete.retention.ms` had passed. A reader that had the older value \
                and came back for the rest never learned that it was deleted.",
    },
    Mutant {
        name: "compact.value-lost-at-segment-border",
        bug: "Compaction drops the last record of each segment, be it the newest of its key or not.",
        story: "Kafka, KAFKA-5413 and KAFKA-6264 (2017, 2018): where one segment ended and the next began was computed from offsets \
                that compaction had taken away, so that segments put together could not hold what was in them. What lies next to a \
                border is what an off-by-one loses, and no test with one segment sees it.",
    },
    Mutant {
        name: "compact.swap-not-atomic",
        bug: "One edit of the manifest takes the old segments away, the next one adds the compacted one.",
        story: "Kafka swaps compacted segments by renaming files, old ones away and the new one in, and puts together at the next \
                start what a crash has left between; the repair itself was wrong more than once (KAFKA-12520, 2021: the order of \
                renames and of what was rebuilt). A change of several files that is not one commit has states in between.",
    },
    Mutant {
        name: "retention.above-high-watermark",
        bug: "Retention moves the log start over records that are not committed yet.",
        story: "Kafka let retention delete segments by age alone until replicas could be told of a log start (KIP-107): a leader \
                whose followers lagged could delete what they had not copied. Since then no segment goes that reaches above the \
                high watermark, whatever its age.",
    },
    Mutant {
        name: "retention.future-timestamp",
        bug: "A record is taken for as old as its timestamp is far away, in the past or in the future.",
        story: "Timestamps come from producers, and some lie in the future (microseconds given for milliseconds). Kafka keeps such a \
                segment until its time has come, for ever if need be, to the surprise of its users (KAFKA-20609, and Redpanda's \
                issue 9820): the opposite mistake, an age without a sign, deletes records that are seconds old.",
    },
];
