//! The bytes of a snapshot, written and read in pieces of any size: neither side holds all of them.
//!
//! ```text
//! byte 0        format version, 1
//! byte 1..9     next offset of the image, i64 little-endian
//! then          each record: its length, u32 little-endian, and its bytes as in the log (see `codec`)
//! at the end    u32 0, and the CRC32C of all bytes before it, u32 little-endian
//! ```
//!
//! Version history: 1, the first. Records have versions of their own, so that a new kind of record changes nothing here.
//!
//! Invariants
//! - What is read is an image that was written, or refused: the checksum covers all bytes, and nothing may follow it.
//! - The reader holds one record, of which it has seen that many bytes: a length that lies costs nothing.

use core::fmt;

use bytes::{Bytes, BytesMut};
use quipu_base::{Offset, checksum::Crc32c};

use crate::{
    apply::ApplyError,
    codec::{self, DecodeError},
    delta::Delta,
    image::Image,
    record::MetadataRecord,
};

/// The version of the format that this build writes and reads.
const FORMAT_VERSION: u8 = 1;
const HEADER_BYTES: usize = 9;
const LENGTH_BYTES: usize = 4;

impl Image {
    /// The image's bytes, in pieces of `piece_bytes`; the last is shorter.
    ///
    /// # Panics
    /// If `piece_bytes` is 0.
    pub fn to_pieces(&self, piece_bytes: usize) -> impl Iterator<Item = Bytes> {
        assert!(piece_bytes > 0, "pieces of nothing never end");
        let mut writer =
            Writer { records: self.records(), buffer: BytesMut::new(), crc: Crc32c::new(), is_ended: false };
        writer.put(&[FORMAT_VERSION]);
        writer.put(&self.next_offset.get().to_le_bytes());
        std::iter::from_fn(move || writer.next_piece(piece_bytes))
    }
}

struct Writer<I> {
    records: I,
    buffer: BytesMut,
    crc: Crc32c,
    is_ended: bool,
}

impl<I: Iterator<Item = MetadataRecord>> Writer<I> {
    fn next_piece(&mut self, piece_bytes: usize) -> Option<Bytes> {
        while self.buffer.len() < piece_bytes && !self.is_ended {
            match self.records.next() {
                Some(record) => {
                    let encoded = codec::encode(&record);
                    let length = u32::try_from(encoded.len()).expect("a record came in a request, far below 4 GiB");
                    self.put(&length.to_le_bytes());
                    self.put(&encoded);
                }
                None => {
                    self.put(&[0; LENGTH_BYTES]);
                    let crc = self.crc.finish();
                    self.put(&crc.to_le_bytes());
                    self.is_ended = true;
                }
            }
        }
        let length = piece_bytes.min(self.buffer.len());
        (length > 0).then(|| self.buffer.split_to(length).freeze())
    }

    fn put(&mut self, bytes: &[u8]) {
        self.crc.update(bytes);
        self.buffer.extend_from_slice(bytes);
    }
}

/// The bytes are not a snapshot that this build can read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SnapshotError {
    /// Written by another release in another format.
    Version {
        /// The version found.
        found: u8,
    },
    /// A record can't be read.
    Record(DecodeError),
    /// A record can't follow those before it.
    Apply(ApplyError),
    /// The checksum does not match.
    Checksum,
    /// It ends too early.
    Truncated,
    /// Something follows its end.
    TrailingBytes,
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the metadata snapshot can't be used: ")?;
        match self {
            Self::Version { found } => write!(
                f,
                "it has format version {found}, and this build knows version {FORMAT_VERSION}: the release that wrote it, or a \
                 later one, must read it"
            ),
            Self::Record(error) => error.fmt(f),
            Self::Apply(error) => error.fmt(f),
            Self::Checksum => f.write_str("its checksum does not match: it is damaged, fetch it again"),
            Self::Truncated => f.write_str("it ends too early: it is damaged, fetch it again"),
            Self::TrailingBytes => f.write_str("something follows its end: it is damaged, fetch it again"),
        }
    }
}

impl core::error::Error for SnapshotError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Record(error) => Some(error),
            Self::Apply(error) => Some(error),
            _ => None,
        }
    }
}

/// Header -> Records -> Checksum -> Ended.
enum State {
    Header,
    Records,
    Checksum,
    Ended,
}

/// Makes an image of the bytes of a snapshot, piece by piece.
pub struct SnapshotReader {
    state: State,
    /// Bytes that are not read yet.
    buffer: BytesMut,
    crc: Crc32c,
    next_offset: Offset,
    image: Image,
}

impl Default for SnapshotReader {
    fn default() -> Self {
        Self::new()
    }
}

impl SnapshotReader {
    /// Nothing read yet.
    #[must_use]
    pub fn new() -> Self {
        let (state, next_offset) = (State::Header, Offset::ZERO);
        Self { state, buffer: BytesMut::new(), crc: Crc32c::new(), next_offset, image: Image::new() }
    }

    /// Reads the next piece, of any length.
    ///
    /// Errors: [`SnapshotError`]; the reader is then of no use.
    pub fn push(&mut self, piece: &[u8]) -> Result<(), SnapshotError> {
        self.buffer.extend_from_slice(piece);
        while self.read_some()? {}
        Ok(())
    }

    /// The image, after the last piece.
    ///
    /// Errors: [`SnapshotError::Truncated`].
    pub fn finish(mut self) -> Result<Image, SnapshotError> {
        if !matches!(self.state, State::Ended) {
            return Err(SnapshotError::Truncated);
        }
        self.image.next_offset = self.next_offset;
        Ok(self.image)
    }

    /// Whether there was enough to read something.
    fn read_some(&mut self) -> Result<bool, SnapshotError> {
        match self.state {
            State::Header => {
                if let Some(found) = self.buffer.first().filter(|found| **found != FORMAT_VERSION) {
                    return Err(SnapshotError::Version { found: *found });
                }
                let Some(header) = self.take(HEADER_BYTES) else { return Ok(false) };
                let [_, offset @ ..]: [u8; HEADER_BYTES] = header.as_ref().try_into().expect("as long as was taken");
                self.next_offset = Offset(i64::from_le_bytes(offset));
                self.state = State::Records;
            }
            State::Records => {
                let Some(length) = self.peek_length() else { return Ok(false) };
                let Some(bytes) = self.take(LENGTH_BYTES + length) else { return Ok(false) };
                if length == 0 {
                    self.state = State::Checksum;
                    return Ok(true);
                }
                let record = codec::decode(&bytes[LENGTH_BYTES..]).map_err(SnapshotError::Record)?;
                self.image.apply_state(&record, &mut Delta::default()).map_err(SnapshotError::Apply)?;
            }
            State::Checksum => {
                let computed = self.crc.finish();
                let Some(bytes) = self.take(LENGTH_BYTES) else { return Ok(false) };
                if bytes.as_ref() != computed.to_le_bytes() {
                    return Err(SnapshotError::Checksum);
                }
                self.state = State::Ended;
            }
            State::Ended if self.buffer.is_empty() => return Ok(false),
            State::Ended => return Err(SnapshotError::TrailingBytes),
        }
        Ok(true)
    }

    fn peek_length(&self) -> Option<usize> {
        let length = self.buffer.first_chunk::<LENGTH_BYTES>()?;
        Some(usize::try_from(u32::from_le_bytes(*length)).expect("a usize has 32 bits at least"))
    }

    fn take(&mut self, length: usize) -> Option<Bytes> {
        let taken = (self.buffer.len() >= length).then(|| self.buffer.split_to(length).freeze())?;
        self.crc.update(&taken);
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::samples;

    fn image_of(records: &[MetadataRecord]) -> Image {
        let mut image = Image::new();
        for record in records {
            // Those that don't fit leave it as it was.
            drop(image.apply(image.next_offset(), record, &mut Delta::default()));
        }
        image
    }

    fn bytes_of(image: &Image) -> Vec<u8> {
        image.to_pieces(1000).collect::<Vec<_>>().concat()
    }

    fn read(bytes: &[u8], piece_bytes: usize) -> Result<Image, SnapshotError> {
        let mut reader = SnapshotReader::new();
        for piece in bytes.chunks(piece_bytes) {
            reader.push(piece)?;
        }
        reader.finish()
    }

    fn small() -> Image {
        image_of(&[
            MetadataRecord::Topic { name: "t".into(), topic_id: samples::topic_id(1) },
            MetadataRecord::Feature { name: "f".into(), level: 2 },
        ])
    }

    #[test]
    fn the_bytes_stay_what_they_are() {
        let hex: String = bytes_of(&small()).iter().map(|byte| format!("{byte:02x}")).collect();
        let expected = [
            "010200000000000000",
            "05000000",
            "0102016604",
            "14000000",
            "0107017401010101010101010101010101010101",
            "0000000054f08ea9",
        ];
        assert_eq!(hex, expected.concat());
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_found() {
        let bytes = bytes_of(&small());
        for length in 0..bytes.len() {
            assert!(read(&bytes[..length], 7).is_err(), "cut to {length} bytes");
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[length] ^= 1 << bit;
                assert!(read(&flipped, 7).is_err(), "bit {bit} of byte {length}");
            }
        }
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(read(&longer, 7), Err(SnapshotError::TrailingBytes));
        assert_eq!(read(&[2], 7), Err(SnapshotError::Version { found: 2 }));
    }

    #[test]
    fn a_length_that_lies_costs_nothing() {
        let lie = [&[1][..], &[0; 8], &[0xff; 4], &[7; 100]].concat();
        assert_eq!(read(&lie, 200), Err(SnapshotError::Truncated));
    }

    proptest! {
        #[test]
        fn any_image_comes_back_from_pieces_of_any_size(
            records in vec(samples::record(), 0..60),
            written in 1_usize..300,
            read_in in 1_usize..300,
        ) {
            let image = image_of(&records);
            let pieces: Vec<Bytes> = image.to_pieces(written).collect();
            let (last, whole) = pieces.split_last().unwrap();
            prop_assert!(whole.iter().all(|piece| piece.len() == written) && last.len() <= written);
            prop_assert_eq!(read(&pieces.concat(), read_in), Ok(image));
        }
    }
}
