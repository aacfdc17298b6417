//! Checking the WAL: what of it is live, damaged, torn.
//!
//! Not here: the rule for what is torn and what is damaged (`wal::scan`); reading groups (`group`).

use std::collections::{BTreeMap, BTreeSet};

use quipu_base::{Offset, TopicIdPartition};
use quipu_env::{Disk, Env, File, OpenOptions};
use quipu_records::BatchHeader;

use super::{
    directory::Directory,
    group::{Defect, FrameView, GroupView, WalReader},
    report::{Findings, Span, VerifyError},
};
use crate::{
    manifest::Loaded,
    wal::{Affected, Damage, FrameKind, GroupSequence, file_path, format::PAGE_BYTES},
};

/// Groups that lie behind one another.
struct Run {
    file: String,
    from: u64,
    to: u64,
    first: GroupSequence,
    last: GroupSequence,
}

/// Checks the WAL, if superblock and manifest tell what of it counts.
pub(super) async fn check<E: Env>(directory: &Directory<E>, findings: &mut Findings) -> Result<(), VerifyError> {
    let (Some(mut reader), Some(manifest)) = (WalReader::open(directory).await?, &directory.manifest) else {
        return Ok(());
    };
    check_files(directory, manifest, findings).await;
    let mut run: Option<Run> = None;
    let mut ends = LogEnds::new(manifest);
    let mut defects: Vec<(GroupSequence, String, Defect)> = Vec::new();
    while let Some(mut group) = reader.next().await? {
        ends.check(&mut group);
        match &mut run {
            Some(run) if run.file == group.file && run.to == group.position => {
                run.to += group.length;
                run.last = group.sequence;
            }
            _ => {
                tell_live(run.take(), findings);
                let (from, to) = (group.position, group.position + group.length);
                run = Some(Run { file: group.file.clone(), from, to, first: group.sequence, last: group.sequence });
            }
        }
        defects.extend(group.defects.into_iter().map(|defect| (group.sequence, group.file.clone(), defect)));
    }
    tell_live(run, findings);
    let (end, proven) = reader.finish().await?;
    let told: BTreeSet<GroupSequence> = defects.iter().map(|(sequence, ..)| *sequence).collect();
    for (sequence, file, defect) in &defects {
        tell_defect(*sequence <= proven, file, defect, findings);
    }
    for damage in &end.damage {
        // What concerns single frames has been told frame by frame.
        if matches!(damage.affected, Affected::AllBut(_)) || !told.contains(&damage.first) {
            tell_damage(directory, manifest, &ends, damage, findings);
        }
    }
    for cut in &end.cut {
        let file = directory.relative(&cut.file);
        let span = Span { file: &file, position: cut.position, length: cut.length };
        findings.cut(
            span,
            "the end of the WAL was torn; nothing proves that it had been synced, so none of it was acknowledged",
        );
    }
    Ok(())
}

fn tell_live(run: Option<Run>, findings: &mut Findings) {
    if let Some(Run { file, from, to, first, last }) = run {
        findings.live(Span { file: &file, position: from, length: to - from }, format!("WAL groups {first} to {last}"));
    }
}

fn tell_defect(is_proven: bool, file: &str, defect: &Defect, findings: &mut Findings) {
    let span = Span { file, position: defect.position, length: defect.length };
    match defect.of {
        Some((partition, offset)) => findings.damaged_at(span, partition, Some(offset), &*defect.why),
        None if is_proven => findings.damaged(span, &*defect.why),
        None => findings.cut(span, format!("{}, as a torn write leaves it; the payloads are whole", defect.why)),
    }
}

/// Damage in groups of which not even the partitions are known.
fn tell_damage<E: Env>(
    directory: &Directory<E>,
    manifest: &Loaded,
    ends: &LogEnds<'_>,
    damage: &Damage,
    findings: &mut Findings,
) {
    let file = directory.relative(&damage.file);
    let span = Span { file: &file, position: damage.position, length: damage.length };
    if damage.length > 0 {
        findings.live(span, format!("WAL groups {} to {}", damage.first, damage.last));
    }
    let is_safe = |partition: &TopicIdPartition| {
        manifest.partitions.get(partition).is_some_and(|state| state.applied >= damage.last.0)
    };
    let known: BTreeSet<TopicIdPartition> = manifest.partitions.keys().chain(ends.seen.iter()).copied().collect();
    let concerned: Vec<_> =
        known.into_iter().filter(|partition| damage.affected.concerns(partition) && !is_safe(partition)).collect();
    for partition in &concerned {
        let end = manifest.partitions.get(partition).map(|state| state.end);
        findings.damaged_at(span, *partition, end, &*damage.why);
    }
    if concerned.is_empty() {
        findings.damaged(span, &*damage.why);
    }
}

/// Files are made and used in the order of their numbers, the first before the first group, and those that were used are never
/// removed. The last ones may be missing unseen: what was in them without proof may as well have been torn off. A start removes
/// those that were never used, and the power may bring back some of them: no gap before such a file is one.
async fn check_files<E: Env>(directory: &Directory<E>, manifest: &Loaded, findings: &mut Findings) {
    let Some(superblock) = &directory.superblock else { return };
    if superblock.clean && manifest.covered >= superblock.synced_up_to {
        return;
    }
    let names = directory.env.disk().list(&directory.path.join("wal")).await.unwrap_or_default();
    let numbers: BTreeSet<u32> = names.iter().filter_map(|name| name.parse().ok()).collect();
    let was_used = manifest.covered > GroupSequence::NONE || superblock.synced_up_to > GroupSequence::NONE;
    let mut end = u32::from(was_used);
    for number in numbers.iter().rev() {
        if is_used(directory, *number).await {
            end = *number;
            break;
        }
    }
    for missing in (0..end).filter(|number| !numbers.contains(number)) {
        let file = directory.relative(&file_path(&directory.path, missing));
        findings.damaged(Span { file: &file, position: 0, length: 0 }, "this file of the WAL is missing");
    }
}

/// Whether a group was ever written to a file of the WAL, as far as can be told.
async fn is_used<E: Env>(directory: &Directory<E>, number: u32) -> bool {
    let path = file_path(&directory.path, number);
    let Ok(file) = directory.env.disk().open(&path, OpenOptions::READ).await else { return true };
    match file.size().await {
        Ok(size) if size < PAGE_BYTES as u64 => false,
        _ => file.read_at(0, PAGE_BYTES).await.map_or(true, |page| page.iter().any(|byte| *byte != 0)),
    }
}

/// Where the log of each partition ends, as far as the manifest and the frames so far say.
struct LogEnds<'a> {
    manifest: &'a Loaded,
    /// None where damage hides it.
    ends: BTreeMap<TopicIdPartition, Option<Offset>>,
    seen: BTreeSet<TopicIdPartition>,
    /// Damage has hidden the ends of all partitions that are not in `ends`.
    all_hidden: bool,
    last: GroupSequence,
}

impl<'a> LogEnds<'a> {
    fn new(manifest: &'a Loaded) -> Self {
        let last = manifest.covered;
        Self { manifest, ends: BTreeMap::new(), seen: BTreeSet::new(), all_hidden: false, last }
    }

    /// Takes the frames of the next group, and adds to its defects the batches that do not follow what was there before.
    fn check(&mut self, group: &mut GroupView) {
        if group.sequence != self.last.next() || !group.has_directory {
            self.ends.clear();
            self.all_hidden = true;
        }
        self.last = group.sequence;
        for frame in &group.frames {
            let partition = frame.entry.partition;
            self.seen.insert(partition);
            if is_applied(self.manifest, partition, group.sequence) {
                continue;
            }
            let end = self.end_of(partition);
            let next = after(end, frame);
            self.ends.insert(partition, next);
            if let (FrameKind::Append, Some(end), Some(payload)) = (frame.entry.kind, end, &frame.payload)
                && frame.entry.base_offset != end
            {
                group.defects.push(Defect {
                    position: frame.position,
                    length: payload.len() as u64,
                    of: Some((partition, frame.entry.base_offset)),
                    why: format!("the batch at offset {} does not follow offset {end}", frame.entry.base_offset),
                });
            }
        }
    }

    fn end_of(&self, partition: TopicIdPartition) -> Option<Offset> {
        if let Some(end) = self.ends.get(&partition) {
            return *end;
        }
        match self.manifest.partitions.get(&partition) {
            _ if self.all_hidden => None,
            Some(state) => state.fault.is_none().then_some(state.end),
            None => Some(Offset::ZERO),
        }
    }
}

/// Whether the manifest has what the group did to the partition.
pub(super) fn is_applied(manifest: &Loaded, partition: TopicIdPartition, group: GroupSequence) -> bool {
    manifest.partitions.get(&partition).is_some_and(|state| state.applied >= group.0)
        || manifest.tombstones.get(&partition).is_some_and(|deleted| *deleted >= group)
}

/// Where a log ends after a frame.
fn after(end: Option<Offset>, frame: &FrameView) -> Option<Offset> {
    let payload = frame.payload.as_ref()?;
    match frame.entry.kind {
        FrameKind::Append => BatchHeader::parse(payload).ok().map(|header| header.next_offset()),
        FrameKind::Truncate => end.map(|end| end.min(frame.entry.base_offset)),
        FrameKind::BeginAnew | FrameKind::Complete => Some(frame.entry.base_offset),
        FrameKind::PartitionDelete => Some(Offset::ZERO),
        _ => end,
    }
}
