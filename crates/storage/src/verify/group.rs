//! Reading the WAL group by group, as a scan finds it, with everything in a group that is not as it was written.
//!
//! A scan is content with one readable copy of a group's directory, and does not look at the padding. Here every byte counts.

use core::ops::Range;
use std::path::PathBuf;

use bytes::Bytes;
use quipu_base::{Offset, TopicIdPartition};
use quipu_env::{Disk, Env, File, OpenOptions};

use super::{directory::Directory, report::VerifyError};
use crate::{
    segment::FileOf,
    wal::{
        GroupSequence, ScanEnd, ScanMode, ScanOptions, ScannedGroup, Scanner,
        format::{BodyReading, Copy, Entry, GroupHeader, HEADER_BYTES, HeaderReading, decode_body, seeded_crc},
    },
};

/// A group that counts and that no checkpoint covers.
pub(super) struct GroupView {
    pub(super) sequence: GroupSequence,
    pub(super) generation: u64,
    pub(super) synced_up_to: GroupSequence,
    /// Relative to the data directory.
    pub(super) file: String,
    pub(super) position: u64,
    pub(super) length: u64,
    /// Empty if no copy of the directory can be read.
    pub(super) frames: Vec<FrameView>,
    pub(super) has_directory: bool,
    pub(super) defects: Vec<Defect>,
}

/// A frame of a group.
pub(super) struct FrameView {
    pub(super) entry: Entry,
    /// Where its payload lies in the file.
    pub(super) position: u64,
    /// None if it does not match its checksum.
    pub(super) payload: Option<Bytes>,
}

/// A part of a group that is not as it was written.
pub(super) struct Defect {
    /// Where in the file.
    pub(super) position: u64,
    pub(super) length: u64,
    /// Whose payload it is, and at which offset.
    pub(super) of: Option<(TopicIdPartition, Offset)>,
    pub(super) why: String,
}

/// Goes through the WAL of a directory. Nothing is written.
pub(super) struct WalReader<'a, E: Env> {
    directory: &'a Directory<E>,
    scanner: Scanner<E>,
    open: Option<(PathBuf, FileOf<E>)>,
}

impl<'a, E: Env> WalReader<'a, E> {
    /// None if superblock or manifest is not whole.
    pub(super) async fn open(directory: &'a Directory<E>) -> Result<Option<Self>, VerifyError> {
        let (Some(superblock), Some(manifest)) = (&directory.superblock, &directory.manifest) else { return Ok(None) };
        let options = ScanOptions { dir: directory.path.clone(), direct: false, mode: ScanMode::Inspect };
        let scanner = Scanner::open(directory.env.clone(), options, superblock, manifest.covered).await?;
        Ok(Some(Self { directory, scanner, open: None }))
    }

    pub(super) async fn next(&mut self) -> Result<Option<GroupView>, VerifyError> {
        let Some(group) = self.scanner.next_group().await? else { return Ok(None) };
        let file = self.directory.relative(&group.file);
        let (frames, has_directory, defects) = match self.bytes(&group).await {
            Ok(bytes) => inspect(&group, &bytes),
            Err(error) => {
                let why = format!("the group cannot be read: {error}");
                let whole = Defect { position: group.position, length: group.length, of: None, why };
                (Vec::new(), false, vec![whole])
            }
        };
        Ok(Some(GroupView {
            sequence: group.sequence,
            generation: group.generation,
            synced_up_to: group.synced_up_to,
            file,
            position: group.position,
            length: group.length,
            frames,
            has_directory,
            defects,
        }))
    }

    async fn bytes(&mut self, group: &ScannedGroup) -> std::io::Result<Bytes> {
        if self.open.as_ref().is_none_or(|(path, _)| *path != group.file) {
            let file = self.directory.env.disk().open(&group.file, OpenOptions::READ).await?;
            self.open = Some((group.file.clone(), file));
        }
        let (_, file) = self.open.as_ref().expect("it was just opened");
        file.read_at(group.position, usize::try_from(group.length).expect("it was read before")).await
    }

    /// What the scan says of damage and of the log's end, and the last group that is known to have been synced. Only after
    /// [`Self::next`] has answered none.
    pub(super) async fn finish(self) -> Result<(ScanEnd, GroupSequence), VerifyError> {
        let proven = self.scanner.proven();
        Ok((self.scanner.finish().await?, proven))
    }
}

fn inspect(group: &ScannedGroup, bytes: &Bytes) -> (Vec<FrameView>, bool, Vec<Defect>) {
    let defect = |range: Range<usize>, why: &str| Defect {
        position: group.position + range.start as u64,
        length: range.len() as u64,
        of: None,
        why: why.to_owned(),
    };
    let length = bytes.len();
    let Some(header) = find_header(group, bytes) else {
        return (Vec::new(), false, vec![defect(0..length, "neither copy of the group's header can be read")]);
    };
    let mut defects = Vec::new();
    let headers = [(0..HEADER_BYTES, Copy::Front), (length - HEADER_BYTES..length, Copy::End)];
    for ((range, copy), directory) in headers.into_iter().zip(header.directories()) {
        if bytes[range.clone()] != header.encode(copy) {
            defects.push(defect(range, "this copy of the group's header is not as it was written"));
        }
        if seeded_crc(header.generation, &bytes[directory.clone()]) != header.directory_crc {
            defects.push(defect(directory, "this copy of the group's directory does not match its checksum"));
        }
    }
    let [front, end] = header.directories();
    let payload_bytes = usize::try_from(header.payload_bytes).expect("a consistent header's group fits memory");
    let padding = front.end + payload_bytes..end.start;
    if bytes[padding.clone()].iter().any(|byte| *byte != 0) {
        defects.push(defect(padding, "the padding behind the group's payloads is not zero"));
    }
    let BodyReading::Frames { frames: read, .. } = decode_body(&header, bytes) else {
        return (Vec::new(), false, defects);
    };
    let mut at = front.end;
    let mut frames = Vec::with_capacity(read.len());
    for frame in read {
        let entry = frame.entry;
        let range = at..at + entry.payload_bytes as usize;
        at = range.end;
        let position = group.position + range.start as u64;
        if frame.payload.is_none() {
            let of = Some((entry.partition, entry.base_offset));
            defects.push(Defect { of, ..defect(range, "the frame's payload does not match its checksum") });
        }
        frames.push(FrameView { entry, position, payload: frame.payload });
    }
    (frames, true, defects)
}

/// The header of the group, from the copy that can be read.
fn find_header(group: &ScannedGroup, bytes: &Bytes) -> Option<GroupHeader> {
    let end = bytes.len().checked_sub(HEADER_BYTES)?;
    let copies = [&bytes[..HEADER_BYTES], &bytes[end..]];
    copies.into_iter().find_map(|copy| match GroupHeader::decode(copy) {
        HeaderReading::Valid(header, _)
            if header.sequence == group.sequence
                && header.generation == group.generation
                && header.position == group.position
                && header.length == bytes.len() as u64 =>
        {
            Some(header)
        }
        _ => None,
    })
}
