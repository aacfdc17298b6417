//! Looks for headers of live groups where the log does not go on as expected: copies of the expected group, and later groups
//! that prove it synced.

use quipu_env::Env;

use super::{
    files::{CHUNK_BYTES, Place, WalFile},
    report::ScanError,
};
use crate::wal::{
    WalGeneration,
    format::{Copy, GroupHeader, HEADER_BYTES, HeaderReading, PAGE_BYTES},
};

const PAGE: u64 = PAGE_BYTES as u64;

/// The header copy in 96 bytes that end or start at `position`, if it is one of a live group in its right place.
fn header_at(
    generations: &[WalGeneration],
    place: Place,
    bytes: &[u8],
    copy: Copy,
) -> Result<Option<GroupHeader>, u16> {
    match GroupHeader::decode(bytes) {
        HeaderReading::Valid(header, found) => {
            let position = if copy == Copy::Front { header.position } else { header.end() };
            let fits = found == copy && header.file == place.file && position == place.position;
            Ok((fits && is_live(generations, &header)).then_some(header))
        }
        HeaderReading::Newer { version, generation } => {
            if generations.iter().any(|known| known.generation == generation) { Err(version) } else { Ok(None) }
        }
        HeaderReading::Invalid => Ok(None),
    }
}

/// Whether the header's sequence lies in its generation's range.
fn is_live(generations: &[WalGeneration], header: &GroupHeader) -> bool {
    let Some(index) = generations.iter().position(|known| known.generation == header.generation) else { return false };
    let end = generations.get(index + 1).map(|next| next.first);
    header.sequence >= generations[index].first && end.is_none_or(|end| header.sequence < end)
}

/// Whether the file's first group, live or not, was written in this data directory, as far as it says.
pub(super) async fn check_directory<E: Env>(file: &mut WalFile<E>, directory_tag: u64) -> Result<(), ScanError> {
    let Some(page) = file.bytes(0, PAGE_BYTES).await? else { return Ok(()) };
    match GroupHeader::decode(&page) {
        HeaderReading::Valid(header, Copy::Front) if ![0, directory_tag].contains(&header.directory_tag) => {
            Err(ScanError::OtherDirectory { path: file.path().to_owned() })
        }
        _ => Ok(()),
    }
}

/// The live group that starts at `position`, by the first copy of its header.
pub(super) async fn front<E: Env>(
    file: &mut WalFile<E>,
    generations: &[WalGeneration],
    position: u64,
) -> Result<Option<GroupHeader>, ScanError> {
    let Some(page) = file.bytes(position, PAGE_BYTES).await? else { return Ok(None) };
    let place = Place { file: file.number, position };
    header_at(generations, place, &page, Copy::Front).map_err(|version| newer(file, position, version))
}

/// All live groups of which a header copy stands in the whole pages of `[from, to)`, in the order of the pages; a group with
/// both copies in there comes twice. With `first_only`, the search ends at the first.
pub(super) async fn headers<E: Env>(
    file: &mut WalFile<E>,
    generations: &[WalGeneration],
    from: u64,
    to: u64,
    first_only: bool,
) -> Result<Vec<GroupHeader>, ScanError> {
    let mut found = Vec::new();
    let mut position = from;
    let to = to.min(file.size);
    while position < to {
        let length = usize::try_from(to - position).map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES));
        let Some(chunk) = file.bytes(position, length).await? else { break };
        for page in chunk.chunks_exact(PAGE_BYTES) {
            for (copy, at, bytes) in [
                (Copy::Front, position, &page[..HEADER_BYTES]),
                (Copy::End, position + PAGE, &page[PAGE_BYTES - HEADER_BYTES..]),
            ] {
                let place = Place { file: file.number, position: at };
                let header = header_at(generations, place, bytes, copy);
                found.extend(header.map_err(|version| newer(file, position, version))?);
            }
            if first_only && !found.is_empty() {
                return Ok(found);
            }
            position += PAGE;
        }
    }
    Ok(found)
}

fn newer<E: Env>(file: &WalFile<E>, position: u64, version: u16) -> ScanError {
    ScanError::Newer { path: file.path().to_owned(), position, what: format!("a group of format version {version}") }
}
