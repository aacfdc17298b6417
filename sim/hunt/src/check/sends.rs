//! Each producer's batches are in its order, and each batch in one piece.

use std::collections::BTreeMap;

use super::{Violation, facts::Facts};
use crate::history::{LogIndex, What};

/// A later batch of one producer with the lower offset.
pub(super) fn nonmonotonic(facts: &Facts<'_>) -> Vec<Violation> {
    let mut last: BTreeMap<(u32, LogIndex), (i64, usize)> = BTreeMap::new();
    let mut violations = Vec::new();
    for (index, op) in facts.history.ops.iter().enumerate().filter(|(_, op)| op.is_ok()) {
        if facts.history.loose.contains(&op.client) {
            continue;
        }
        let What::Send { log, base_offset: Some(base), .. } = &op.what else { continue };
        if let Some((before, earlier)) = last.insert((op.client, *log), (*base, index))
            && *base <= before
        {
            let message =
                format!("{}: a batch is at {base}, the one sent before it at {before}", facts.history.name(*log));
            violations.push(Violation::of("nonmonotonic-send", *log, &[earlier, index], message));
        }
    }
    violations
}

/// Records of one batch that are not neighbours.
pub(super) fn skips(facts: &Facts<'_>) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (index, op) in facts.history.ops.iter().enumerate() {
        let What::Send { log, values, .. } = &op.what else { continue };
        let seen: Vec<_> = values.iter().map(|value| facts.places.get(value)).collect();
        for pair in seen.windows(2) {
            let [Some(left), Some(right)] = pair else { continue };
            if (right.log, right.offset) != (left.log, left.offset + 1) {
                let message =
                    format!("{} is at {}, {} at {}", left.value, facts.show(left), right.value, facts.show(right));
                violations.push(Violation::of("int-send-skip", *log, &[index, left.op, right.op], message));
                break;
            }
        }
    }
    violations
}
