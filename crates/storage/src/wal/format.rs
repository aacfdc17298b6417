//! How a group lies in a WAL file.
//!
//! ```text
//! group: a multiple of 4 KiB at a multiple of 4 KiB; never spans files; all numbers little-endian
//!
//!   +-------------------+  position
//!   | header, copy 0    |  96 bytes
//!   | directory         |  56 bytes per frame
//!   | payloads          |  one after the other, in the directory's order, no gaps
//!   | zeros             |  to fill the last page
//!   | directory again   |
//!   | header, copy 1    |  the last 96 bytes: its end is the group's end
//!   +-------------------+  position + length
//!
//! header
//!    0  8  magic "QuipuWAL"
//!    8  2  version, 1
//!   10  1  copy: 0 at the start, 1 at the end
//!   11  1  flags: bit 0 set if the previous group's hash is not known; the others 0
//!   12  4  header CRC: CRC-32C over generation, bytes 0..12, bytes 16..96
//!   16  8  generation: random, of the start that wrote the group
//!   24  8  sequence of the group
//!   32  8  synced-up-to: every group up to this one had been synced when this one was formed
//!   40  8  position of the group in its file, bytes
//!   48  4  number of the file
//!   52  4  previous group's hash: the header CRC of its copy 0
//!   56  8  length of the group, bytes
//!   64  4  frame count
//!   68  4  directory CRC: CRC-32C over generation and the directory's bytes
//!   72  8  payload bytes, all frames together
//!   80  8  reach: neither this group nor the next two are longer, bytes
//!   88  8  the first 8 bytes of the data directory's id, as in the superblock; zeros say nothing
//!
//! directory entry
//!    0 16  topic id
//!   16  4  partition
//!   20  1  kind
//!   21  3  zeros
//!   24  4  leader epoch
//!   28  4  payload CRC: CRC-32C over generation and the payload
//!   32  8  base offset
//!   40  4  payload length, bytes
//!   44  4  zeros
//!   48  8  sequence of the group that held this partition's previous frame; 0 if none that is still needed did
//! ```
//!
//! Why it is so:
//! - Header and directory stand at both ends, so that one lost page never hides which partitions a group touched.
//! - `generation` is mixed into every CRC and is in the superblock before its first use, so that neither a group of the file's
//!   earlier life nor bytes crafted by a producer can pass. File number and position do the same for misdirected writes and
//!   for a payload that happens to be a copy of a WAL file.
//! - The header CRC covers the directory CRC, which covers the payload CRCs: chaining the header CRC chains everything.
//! - Magic, version, copy, header CRC and generation stay where they are in every later version, so that a newer group is told
//!   from a broken one.
//!
//! Version history: 1, the first.
//!
//! Not here: which groups belong to the log (`scan`).

use core::ops::Range;

use bytes::Bytes;
use quipu_base::{
    LeaderEpoch, Offset, PartitionIndex, TopicId, TopicIdPartition,
    checksum::{Crc32c, crc32c},
    limits::WAL_ALIGN_BYTES,
};
use quipu_env::AlignedBuf;

use super::types::{Frame, FrameKind, GroupSequence};

/// The version that this code writes, and the newest it reads.
pub(crate) const VERSION: u16 = 1;
/// Bytes of a header.
pub(crate) const HEADER_BYTES: usize = 96;
/// Bytes of a directory entry.
pub(crate) const ENTRY_BYTES: usize = 56;
/// One page, the unit of groups.
pub(crate) const PAGE_BYTES: usize = WAL_ALIGN_BYTES;
/// Frames in one group at most: bounds the directory, and with it the search for its second copy.
pub(crate) const GROUP_FRAMES_MAX: usize = 16 * 1024;

const MAGIC: [u8; 8] = *b"QuipuWAL";
const CRC: Range<usize> = 12..16;
const CRC_TAIL: usize = 16;
const FLAG_UNCHAINED: u8 = 1;

/// Which copy of the header and directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Copy {
    /// At the group's start.
    Front,
    /// At its end.
    End,
}

/// A group's header, without the copy's number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct GroupHeader {
    pub(crate) generation: u64,
    pub(crate) sequence: GroupSequence,
    pub(crate) synced_up_to: GroupSequence,
    pub(crate) file: u32,
    pub(crate) position: u64,
    /// None if the writer did not know it.
    pub(crate) previous_hash: Option<u32>,
    /// Bytes of the group.
    pub(crate) length: u64,
    pub(crate) frame_count: u32,
    pub(crate) directory_crc: u32,
    pub(crate) payload_bytes: u64,
    pub(crate) reach: u64,
    /// Which data directory it was written in, see [`crate::superblock::Superblock::tag`]; 0 if it does not say.
    pub(crate) directory_tag: u64,
}

/// What 96 bytes turned out to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum HeaderReading {
    /// A header that its own generation's CRC confirms.
    Valid(GroupHeader, Copy),
    /// A header that its CRC confirms, of a version that this code does not know.
    Newer { version: u16, generation: u64 },
    /// Anything else.
    Invalid,
}

impl GroupHeader {
    /// The group's hash: what its successor names as the previous one.
    pub(crate) fn hash(&self) -> u32 {
        u32_at(&self.encode(Copy::Front), CRC.start)
    }

    /// Where the next group lies, if it lies in the same file.
    pub(crate) const fn end(&self) -> u64 {
        self.position + self.length
    }

    pub(crate) fn encode(&self, copy: Copy) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..8].copy_from_slice(&MAGIC);
        bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
        bytes[10] = match copy {
            Copy::Front => 0,
            Copy::End => 1,
        };
        bytes[11] = if self.previous_hash.is_none() { FLAG_UNCHAINED } else { 0 };
        bytes[16..24].copy_from_slice(&self.generation.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.sequence.0.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.synced_up_to.0.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.position.to_le_bytes());
        bytes[48..52].copy_from_slice(&self.file.to_le_bytes());
        bytes[52..56].copy_from_slice(&self.previous_hash.unwrap_or(0).to_le_bytes());
        bytes[56..64].copy_from_slice(&self.length.to_le_bytes());
        bytes[64..68].copy_from_slice(&self.frame_count.to_le_bytes());
        bytes[68..72].copy_from_slice(&self.directory_crc.to_le_bytes());
        bytes[72..80].copy_from_slice(&self.payload_bytes.to_le_bytes());
        bytes[80..88].copy_from_slice(&self.reach.to_le_bytes());
        bytes[88..96].copy_from_slice(&self.directory_tag.to_le_bytes());
        let crc = header_crc(&bytes);
        bytes[CRC].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads the first 96 of `bytes`. Says nothing about whether the generation is one in use.
    pub(crate) fn decode(bytes: &[u8]) -> HeaderReading {
        let Some(bytes) = bytes.first_chunk::<HEADER_BYTES>() else { return HeaderReading::Invalid };
        if bytes[0..8] != MAGIC || header_crc(bytes) != u32_at(bytes, CRC.start) {
            return HeaderReading::Invalid;
        }
        let version = u16::from_le_bytes([bytes[8], bytes[9]]);
        let generation = u64_at(bytes, 16);
        if version > VERSION {
            return HeaderReading::Newer { version, generation };
        }
        let (Some(copy), Some(previous_hash)) = (decode_copy(bytes[10]), decode_previous(bytes)) else {
            return HeaderReading::Invalid;
        };
        let header = Self {
            generation,
            sequence: GroupSequence(u64_at(bytes, 24)),
            synced_up_to: GroupSequence(u64_at(bytes, 32)),
            position: u64_at(bytes, 40),
            file: u32_at(bytes, 48),
            previous_hash,
            length: u64_at(bytes, 56),
            frame_count: u32_at(bytes, 64),
            directory_crc: u32_at(bytes, 68),
            payload_bytes: u64_at(bytes, 72),
            reach: u64_at(bytes, 80),
            directory_tag: u64_at(bytes, 88),
        };
        if header.is_consistent() { HeaderReading::Valid(header, copy) } else { HeaderReading::Invalid }
    }

    /// Whether the numbers agree with each other, so that nothing computed from them can overflow or lie outside the group.
    fn is_consistent(&self) -> bool {
        let page = PAGE_BYTES as u64;
        usize::try_from(self.frame_count).is_ok_and(|count| count <= GROUP_FRAMES_MAX)
            && self.synced_up_to < self.sequence
            && self.position.is_multiple_of(page)
            && self.payload_bytes < u64::from(u32::MAX) * 2
            && usize::try_from(self.payload_bytes)
                .is_ok_and(|payload| group_bytes(self.frame_count as usize, payload) as u64 == self.length)
            && self.position.checked_add(self.length).is_some()
    }

    /// Where the copies of the directory lie in the group.
    pub(crate) fn directories(&self) -> [Range<usize>; 2] {
        let directory = self.frame_count as usize * ENTRY_BYTES;
        let length = usize::try_from(self.length).expect("a consistent header's group fits memory");
        [HEADER_BYTES..HEADER_BYTES + directory, length - HEADER_BYTES - directory..length - HEADER_BYTES]
    }
}

const fn decode_copy(byte: u8) -> Option<Copy> {
    match byte {
        0 => Some(Copy::Front),
        1 => Some(Copy::End),
        _ => None,
    }
}

fn decode_previous(bytes: &[u8; HEADER_BYTES]) -> Option<Option<u32>> {
    match bytes[11] {
        0 => Some(Some(u32_at(bytes, 52))),
        FLAG_UNCHAINED => Some(None),
        _ => None,
    }
}

/// One frame, as the directory has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    pub(crate) partition: TopicIdPartition,
    pub(crate) kind: FrameKind,
    pub(crate) leader_epoch: LeaderEpoch,
    pub(crate) base_offset: Offset,
    pub(crate) payload_crc: u32,
    pub(crate) payload_bytes: u32,
    pub(crate) previous: GroupSequence,
}

impl Entry {
    fn encode(&self) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        bytes[0..16].copy_from_slice(&self.partition.topic_id.0);
        bytes[16..20].copy_from_slice(&self.partition.partition.0.to_le_bytes());
        bytes[20] = self.kind as u8;
        bytes[24..28].copy_from_slice(&self.leader_epoch.0.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.payload_crc.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.base_offset.0.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.payload_bytes.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.previous.0.to_le_bytes());
        bytes
    }

    /// None if the kind is unknown.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let topic_id = TopicId(*bytes.first_chunk::<16>()?);
        let partition = PartitionIndex(u32_at(bytes, 16).cast_signed());
        Some(Self {
            partition: TopicIdPartition { topic_id, partition },
            kind: FrameKind::from_number(bytes[20])?,
            leader_epoch: LeaderEpoch(u32_at(bytes, 24).cast_signed()),
            payload_crc: u32_at(bytes, 28),
            base_offset: Offset(u64_at(bytes, 32).cast_signed()),
            payload_bytes: u32_at(bytes, 40),
            previous: GroupSequence(u64_at(bytes, 48)),
        })
    }
}

/// Bytes of a group with this many frames and bytes of payload.
pub(crate) const fn group_bytes(frame_count: usize, payload_bytes: usize) -> usize {
    (2 * (HEADER_BYTES + frame_count * ENTRY_BYTES) + payload_bytes).next_multiple_of(PAGE_BYTES)
}

/// What a group to be formed must know besides its frames.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GroupPlan {
    pub(crate) generation: u64,
    pub(crate) sequence: GroupSequence,
    pub(crate) synced_up_to: GroupSequence,
    pub(crate) file: u32,
    pub(crate) position: u64,
    pub(crate) previous_hash: Option<u32>,
    pub(crate) reach: u64,
    pub(crate) directory_tag: u64,
}

/// A group ready to be written.
#[derive(Debug)]
pub(crate) struct EncodedGroup {
    /// All of it, aligned.
    pub(crate) bytes: Bytes,
    /// Each frame's payload in `bytes`.
    pub(crate) payloads: Vec<Range<usize>>,
    pub(crate) hash: u32,
}

/// Forms a group. `frames` gives each frame with the group that held its partition's previous frame. This is where payloads are
/// copied, once, and checksummed, once.
///
/// # Panics
/// If there are more than [`GROUP_FRAMES_MAX`] frames or a payload is 4 GiB long.
pub(crate) fn encode_group(plan: &GroupPlan, frames: &[(Frame, GroupSequence)]) -> EncodedGroup {
    assert!(frames.len() <= GROUP_FRAMES_MAX, "{} frames in one group", frames.len());
    let payload_bytes: usize = frames.iter().map(|(frame, _)| frame.payload_bytes()).sum();
    let length = group_bytes(frames.len(), payload_bytes);
    let directory = HEADER_BYTES..HEADER_BYTES + frames.len() * ENTRY_BYTES;
    let mut buffer = AlignedBuf::with_capacity(length);
    buffer.extend_with_zeros(directory.end);
    let mut payloads = Vec::with_capacity(frames.len());
    for (entry_at, (frame, previous)) in directory.clone().step_by(ENTRY_BYTES).zip(frames) {
        let (payload, payload_crc) = add_payload(&mut buffer, plan.generation, frame);
        let entry = Entry {
            partition: frame.partition,
            kind: frame.kind,
            leader_epoch: frame.leader_epoch,
            base_offset: frame.base_offset,
            payload_crc,
            payload_bytes: u32::try_from(payload.len()).expect("a payload is shorter than 4 GiB"),
            previous: *previous,
        };
        buffer.as_mut()[entry_at..entry_at + ENTRY_BYTES].copy_from_slice(&entry.encode());
        payloads.push(payload);
    }
    // The second directory and header are in their place from now on, still zeros.
    buffer.extend_with_zeros(length - buffer.len());

    let bytes = buffer.as_mut();
    let header = GroupHeader {
        generation: plan.generation,
        sequence: plan.sequence,
        synced_up_to: plan.synced_up_to,
        file: plan.file,
        position: plan.position,
        previous_hash: plan.previous_hash,
        length: length as u64,
        frame_count: u32::try_from(frames.len()).expect("bounded above"),
        directory_crc: seeded_crc(plan.generation, &bytes[directory.clone()]),
        payload_bytes: payload_bytes as u64,
        reach: plan.reach,
        directory_tag: plan.directory_tag,
    };
    let second = length - HEADER_BYTES - directory.len();
    bytes.copy_within(directory, second);
    bytes[..HEADER_BYTES].copy_from_slice(&header.encode(Copy::Front));
    bytes[length - HEADER_BYTES..].copy_from_slice(&header.encode(Copy::End));
    EncodedGroup { bytes: buffer.freeze(), payloads, hash: header.hash() }
}

fn add_payload(buffer: &mut AlignedBuf, generation: u64, frame: &Frame) -> (Range<usize>, u32) {
    let start = buffer.len();
    buffer.extend_from_slice(&frame.head);
    buffer.extend_from_slice(&frame.body);
    let payload = start..buffer.len();
    let crc = seeded_crc(generation, &buffer.as_ref()[payload.clone()]);
    (payload, crc)
}

/// A frame as read back.
#[derive(Clone, Debug)]
pub(crate) struct ReadFrame {
    pub(crate) entry: Entry,
    /// None if the payload does not match its CRC.
    pub(crate) payload: Option<Bytes>,
}

/// What could be read of a group whose header is known.
#[derive(Clone, Debug)]
pub(crate) enum BodyReading {
    /// A copy of the directory was readable.
    Frames {
        frames: Vec<ReadFrame>,
        /// Whether both copies of header and directory are as they were written.
        both_copies: bool,
    },
    /// Neither was.
    NoDirectory,
    /// The directory is as it was written, but names a kind of frame that this code does not know.
    UnknownKind(u8),
}

impl BodyReading {
    /// Whether every frame is as it was written.
    pub(crate) fn is_intact(&self) -> bool {
        match self {
            Self::Frames { frames, .. } => frames.iter().all(|frame| frame.payload.is_some()),
            Self::NoDirectory | Self::UnknownKind(_) => false,
        }
    }
}

/// Reads the group of `header` from `bytes`, which are exactly the group's.
pub(crate) fn decode_body(header: &GroupHeader, bytes: &Bytes) -> BodyReading {
    assert_eq!(bytes.len() as u64, header.length, "the caller cuts the group out");
    let [front, end] = header.directories().map(|range| {
        let directory = &bytes[range];
        (seeded_crc(header.generation, directory) == header.directory_crc).then_some(directory)
    });
    let Some(directory) = front.or(end) else { return BodyReading::NoDirectory };
    let headers_good = bytes[..HEADER_BYTES] == header.encode(Copy::Front)
        && bytes[bytes.len() - HEADER_BYTES..] == header.encode(Copy::End);
    let both_copies = front.is_some() && end.is_some() && headers_good;

    let mut at = HEADER_BYTES + directory.len();
    let payload_end = at + usize::try_from(header.payload_bytes).expect("a consistent header's group fits memory");
    let mut frames = Vec::with_capacity(directory.len() / ENTRY_BYTES);
    for entry in directory.chunks_exact(ENTRY_BYTES) {
        let Some(entry) = Entry::decode(entry) else { return BodyReading::UnknownKind(entry[20]) };
        let range = at..at + entry.payload_bytes as usize;
        if range.end > payload_end {
            return BodyReading::NoDirectory;
        }
        at = range.end;
        let good = seeded_crc(header.generation, &bytes[range.clone()]) == entry.payload_crc;
        frames.push(ReadFrame { entry, payload: good.then(|| bytes.slice(range)) });
    }
    if at == payload_end { BodyReading::Frames { frames, both_copies } } else { BodyReading::NoDirectory }
}

fn header_crc(bytes: &[u8; HEADER_BYTES]) -> u32 {
    let mut covered = [0; 8 + HEADER_BYTES - 4];
    covered[..8].copy_from_slice(&bytes[16..24]);
    covered[8..8 + CRC.start].copy_from_slice(&bytes[..CRC.start]);
    covered[8 + CRC.start..].copy_from_slice(&bytes[CRC_TAIL..]);
    crc32c(&covered)
}

/// The checksum of directories and payloads.
pub(crate) fn seeded_crc(generation: u64, bytes: &[u8]) -> u32 {
    let mut crc = Crc32c::new();
    crc.update(&generation.to_le_bytes());
    crc.update(bytes);
    crc.finish()
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(*bytes[at..].first_chunk().expect("fixed positions inside fixed structures"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(*bytes[at..].first_chunk().expect("fixed positions inside fixed structures"))
}

#[cfg(test)]
mod tests;
