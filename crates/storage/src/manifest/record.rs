//! Bytes of the manifest's head and records. See the module above for the layout.

use bytes::{Buf, BufMut, BytesMut};
use quipu_base::{DirectoryId, checksum::Crc32c};

use super::{Edit, EditOf};
use crate::partition::{PartitionUpdate, UpdateV1, UpdateV2};

pub(super) const VERSION: u16 = 1;
pub(super) const HEAD_BYTES: usize = 512;
/// Where records begin.
pub(super) const RECORDS_AT: usize = 2 * HEAD_BYTES;
/// Bytes of a record before its payload.
pub(super) const RECORD_HEAD_BYTES: usize = 24;
pub(super) const RECORD_MAGIC: [u8; 4] = *b"QMrc";
const HEAD_MAGIC: [u8; 8] = *b"QuipuMan";
const PAYLOAD_VERSION: u8 = 3;
const PAYLOAD_VERSION_2: u8 = 2;
const PAYLOAD_VERSION_1: u8 = 1;

/// What a record is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Kind {
    SnapshotPart = 1,
    SnapshotEnd = 2,
    Edit = 3,
}

impl Kind {
    const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::SnapshotPart),
            2 => Some(Self::SnapshotEnd),
            3 => Some(Self::Edit),
            _ => None,
        }
    }
}

/// A head copy, read.
pub(super) enum HeadReading {
    Valid { file_id: u64, directory_id: DirectoryId },
    Newer(u16),
    Invalid,
}

pub(super) fn encode_head(file_id: u64, directory_id: DirectoryId) -> BytesMut {
    let mut bytes = BytesMut::zeroed(RECORDS_AT);
    for copy in [0_u8, 1] {
        let at = usize::from(copy) * HEAD_BYTES;
        let head = &mut bytes[at..at + HEAD_BYTES];
        head[..8].copy_from_slice(&HEAD_MAGIC);
        head[8..10].copy_from_slice(&VERSION.to_le_bytes());
        head[10] = copy;
        head[16..24].copy_from_slice(&file_id.to_le_bytes());
        head[24..40].copy_from_slice(&directory_id.0);
        let crc = head_crc(head);
        head[12..16].copy_from_slice(&crc.to_le_bytes());
    }
    bytes
}

pub(super) fn decode_head(head: &[u8], copy: u8) -> HeadReading {
    if head.len() != HEAD_BYTES || head[..8] != HEAD_MAGIC || (&head[12..16]).get_u32_le() != head_crc(head) {
        return HeadReading::Invalid;
    }
    let version = (&head[8..10]).get_u16_le();
    if version != VERSION {
        return HeadReading::Newer(version);
    }
    if head[10] != copy {
        return HeadReading::Invalid;
    }
    let directory_id = DirectoryId(*head[24..].first_chunk().expect("a head is longer"));
    HeadReading::Valid { file_id: (&head[16..24]).get_u64_le(), directory_id }
}

fn head_crc(head: &[u8]) -> u32 {
    let mut crc = Crc32c::new();
    crc.update(&head[..12]);
    crc.update(&head[16..]);
    crc.finish()
}

/// Adds both copies of a record.
pub(super) fn encode_record(into: &mut BytesMut, file_id: u64, kind: Kind, sequence: u64, edit: &Edit) {
    let encoded = postcard::to_allocvec(edit).expect("plain data encodes");
    let length = u32::try_from(encoded.len() + 1).expect("an edit is smaller than 4 GiB");
    for copy in [0, 1] {
        let at = into.len();
        into.put_slice(&RECORD_MAGIC);
        into.put_u8(kind as u8);
        into.put_u8(copy);
        into.put_u16_le(0);
        into.put_u64_le(sequence);
        into.put_u32_le(length);
        let mut crc = Crc32c::new();
        crc.update(&file_id.to_le_bytes());
        crc.update(&into[at..]);
        crc.update(&[PAYLOAD_VERSION]);
        crc.update(&encoded);
        into.put_u32_le(crc.finish());
        into.put_u8(PAYLOAD_VERSION);
        into.put_slice(&encoded);
    }
}

/// A record copy whose CRC is right.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecordView<'a> {
    pub(super) kind: Kind,
    pub(super) copy: u8,
    pub(super) sequence: u64,
    payload: &'a [u8],
}

impl<'a> RecordView<'a> {
    /// The record copy at the start of `bytes`, if one is there, whole.
    pub(super) fn decode(bytes: &'a [u8], file_id: u64) -> Option<Self> {
        let (head, rest) = bytes.split_at_checked(RECORD_HEAD_BYTES)?;
        if head[..4] != RECORD_MAGIC {
            return None;
        }
        let kind = Kind::from_number(head[4])?;
        let sequence = (&head[8..16]).get_u64_le();
        let length = usize::try_from((&head[16..20]).get_u32_le()).ok()?;
        let payload = rest.get(..length)?;
        let mut crc = Crc32c::new();
        crc.update(&file_id.to_le_bytes());
        crc.update(&head[..20]);
        crc.update(payload);
        if crc.finish() != (&head[20..24]).get_u32_le() {
            return None;
        }
        Some(Self { kind, copy: head[5], sequence, payload })
    }

    /// Bytes of this copy.
    pub(super) const fn total_bytes(&self) -> usize {
        RECORD_HEAD_BYTES + self.payload.len()
    }

    /// The payload's version, if it is later than those known here.
    pub(super) fn newer_version(&self) -> Option<u16> {
        self.payload.first().filter(|version| **version > PAYLOAD_VERSION).map(|version| (*version).into())
    }

    /// The edit; none if the payload is none.
    pub(super) fn edit(&self) -> Option<Edit> {
        let (version, encoded) = self.payload.split_first()?;
        match *version {
            PAYLOAD_VERSION => postcard::from_bytes(encoded).ok(),
            PAYLOAD_VERSION_2 => postcard::from_bytes::<EditOf<UpdateV2>>(encoded).ok().map(brought_up),
            PAYLOAD_VERSION_1 => postcard::from_bytes::<EditOf<UpdateV1>>(encoded).ok().map(brought_up),
            _ => None,
        }
    }
}

/// An edit of an earlier version, as it would be written now.
fn brought_up<U: Into<PartitionUpdate>>(edit: EditOf<U>) -> Edit {
    let EditOf { covered, updates, deleted } = edit;
    let updates = updates.into_iter().map(|(partition, update)| (partition, update.into())).collect();
    Edit { covered, updates, deleted }
}
