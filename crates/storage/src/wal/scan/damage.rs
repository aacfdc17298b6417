//! Whom damaged groups concern.
//!
//! If a copy of the directory was readable, that is known at once. If neither was, every partition is suspect but those whose
//! next frame names, as the group of the frame before it, one that lies before the damage.

use std::collections::BTreeSet;

use quipu_base::TopicIdPartition;

use super::report::{Affected, Damage};
use crate::wal::{GroupSequence, format::ReadFrame};

/// Damage whose directory is lost, while later frames are still to come.
struct Open {
    /// Its index in `found`.
    index: usize,
    first: GroupSequence,
    /// Partitions whose next frame has come.
    seen: BTreeSet<TopicIdPartition>,
    untouched: BTreeSet<TopicIdPartition>,
}

#[derive(Default)]
pub(super) struct DamageList {
    found: Vec<Damage>,
    open: Vec<Open>,
}

impl DamageList {
    /// Adds damage. If whom it concerns is not known yet, `damage.affected` is [`Affected::AllBut`] nobody.
    pub(super) fn add(&mut self, damage: Damage) {
        tracing::error!(
            file = %damage.file.display(),
            position = damage.position,
            length = damage.length,
            first = %damage.first,
            last = %damage.last,
            why = damage.why,
            "damage in the write-ahead log"
        );
        if matches!(damage.affected, Affected::AllBut(_)) {
            self.open.push(Open {
                index: self.found.len(),
                first: damage.first,
                seen: BTreeSet::new(),
                untouched: BTreeSet::new(),
            });
        }
        self.found.push(damage);
    }

    /// Takes what the frames of a later group prove.
    pub(super) fn learn(&mut self, frames: &[ReadFrame]) {
        for open in &mut self.open {
            for frame in frames {
                if open.seen.insert(frame.entry.partition) && frame.entry.previous < open.first {
                    open.untouched.insert(frame.entry.partition);
                }
            }
        }
    }

    pub(super) fn finish(mut self) -> Vec<Damage> {
        for open in self.open {
            self.found[open.index].affected = Affected::AllBut(open.untouched.into_iter().collect());
        }
        self.found
    }
}
