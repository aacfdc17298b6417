//! Makes the checksums of a file right, as far as its structure can be made out, so that what lies behind them is reached: what
//! a disk never does, but a bug of ours may.
//!
//! Written from the documentation of the formats, not with the code that is tested.

use core::ops::Range;

use quipu_base::checksum::{Crc32c, crc32c};

const PAGE_BYTES: usize = 4096;

fn put(bytes: &mut [u8], at: usize, crc: u32) {
    if let Some(field) = bytes.get_mut(at..at + 4) {
        field.copy_from_slice(&crc.to_le_bytes());
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<usize> {
    let field = bytes.get(at..)?.first_chunk()?;
    usize::try_from(u32::from_le_bytes(*field)).ok()
}

/// The checksum of a block whose field at `hole` holds it.
fn crc_around(prefix: &[u8], block: &[u8], hole: Range<usize>) -> u32 {
    let mut crc = Crc32c::new();
    crc.update(prefix);
    crc.update(&block[..hole.start]);
    crc.update(&block[hole.end..]);
    crc.finish()
}

/// Four copies of 4 KiB.
pub(super) fn superblock(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(PAGE_BYTES), 0);
    for copy in bytes.chunks_exact_mut(PAGE_BYTES) {
        let crc = crc_around(b"", copy, 12..16);
        put(copy, 12, crc);
    }
}

/// Two heads, then records, each after the other.
pub(super) fn manifest(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().max(1024), 0);
    for head in bytes[..1024].chunks_exact_mut(512) {
        let crc = crc_around(b"", head, 12..16);
        put(head, 12, crc);
    }
    let file_id: [u8; 8] = bytes[16..24].try_into().expect("eight bytes");
    let mut at = 1024;
    while bytes.get(at..at + 4) == Some(b"QMrc") {
        let Some(length) = u32_at(bytes, at + 16) else { return };
        let Some(record) = bytes.get_mut(at..at.saturating_add(24).saturating_add(length)) else { return };
        let crc = crc_around(&file_id, record, 20..24);
        put(record, 20, crc);
        at += 24 + length;
    }
}

/// Batches, then a footer.
pub(super) fn segment(bytes: &mut Vec<u8>) {
    let bytes = bytes.as_mut_slice();
    let mut at = 0;
    while let Some(length) = bytes.get(at + 8..).and_then(<[u8]>::first_chunk) {
        let length = usize::try_from(u32::from_be_bytes(*length)).expect("32 bits");
        let end = at.saturating_add(12).saturating_add(length);
        if bytes.get(at + 16) != Some(&2) || length < 49 || end > bytes.len() {
            break;
        }
        let crc = crc32c(&bytes[at + 21..end]).to_be_bytes();
        bytes[at + 17..at + 21].copy_from_slice(&crc);
        at = end;
    }
    if let Some(crc_at) = bytes.len().checked_sub(4) {
        let crc = crc32c(&bytes[..crc_at][at.min(crc_at)..]);
        put(bytes, crc_at, crc);
    }
}

/// Groups, page by page.
pub(super) fn wal(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(PAGE_BYTES), 0);
    let mut at = 0;
    while at < bytes.len() {
        at += seal_group(&mut bytes[at..]).unwrap_or(PAGE_BYTES);
    }
}

/// Seals the group at the start of `bytes`, if one is there; answers its length.
fn seal_group(bytes: &mut [u8]) -> Option<usize> {
    if !bytes.starts_with(b"QuipuWAL") {
        return None;
    }
    let generation: [u8; 8] = *bytes[16..].first_chunk()?;
    let length = u32_at(bytes, 56).filter(|length| *length > 0 && length.is_multiple_of(PAGE_BYTES))?;
    let directory = 56 * u32_at(bytes, 64).filter(|frames| *frames <= 1024)?;
    let group = bytes.get_mut(..length)?;
    let end = length.checked_sub(96 + directory).filter(|end| *end >= 96 + directory)?;
    let mut payload_at = 96 + directory;
    for entry in (96..96 + directory).step_by(56) {
        let payload = payload_at..payload_at.saturating_add(u32_at(group, entry + 40)?);
        let Some(bytes) = group.get(payload.clone()) else { break };
        let crc = crc_around(&generation, bytes, 0..0);
        put(group, entry + 28, crc);
        payload_at = payload.end;
    }
    let crc = crc_around(&generation, &group[96..96 + directory], 0..0);
    put(group, 68, crc);
    group.copy_within(96..96 + directory, end);
    group.copy_within(..96, length - 96);
    group[length - 96 + 10] = 1;
    for header in [0, length - 96] {
        let crc = crc_around(&generation, &group[header..header + 96], 12..16);
        put(group, header + 12, crc);
    }
    Some(length)
}
