//! When the power goes: counted in operations, so that a test can cut it at every one in turn.

use serde::{Deserialize, Serialize};

/// What is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Count {
    /// Everything that changes the disk or makes a change durable: writes, changes of length, creations, renames, removals,
    /// syncs of files and directories.
    Changes,
    /// Syncs of files and directories only.
    Syncs,
}

/// On which side of the operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Moment {
    /// The operation has done nothing.
    Before,
    /// The operation is done, but its caller never learns.
    After,
}

/// The power goes at the operation with number `at`, counted from 0 since the plan was set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CrashPlan {
    /// What is counted.
    pub count: Count,
    /// Which operation.
    pub at: u64,
    /// Before or after it.
    pub moment: Moment,
}

/// A kind of operation, as far as a plan tells them apart.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum OpKind {
    Change,
    Sync,
}

/// What a plan says about one operation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Go,
    CutBefore,
    CutAfter,
}

/// Operations done so far, and the plan.
#[derive(Clone, Copy, Default)]
pub(super) struct Counter {
    pub(super) changes: u64,
    pub(super) syncs: u64,
    plan: Option<CrashPlan>,
}

impl Counter {
    pub(super) fn set_plan(&mut self, plan: Option<CrashPlan>) {
        *self = Self { changes: 0, syncs: 0, plan };
    }

    pub(super) fn judge(&mut self, kind: OpKind) -> Verdict {
        let (change, sync) = (self.changes, self.syncs);
        self.changes += 1;
        self.syncs += u64::from(kind == OpKind::Sync);
        let Some(plan) = self.plan else { return Verdict::Go };
        let hit = match plan.count {
            Count::Changes => plan.at == change,
            Count::Syncs => kind == OpKind::Sync && plan.at == sync,
        };
        match (hit, plan.moment) {
            (false, _) => Verdict::Go,
            (true, Moment::Before) => Verdict::CutBefore,
            (true, Moment::After) => Verdict::CutAfter,
        }
    }
}
