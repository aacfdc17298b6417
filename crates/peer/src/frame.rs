//! Frames: what goes over a link, and how it is cut out of the stream of bytes.
//!
//! ```text
//! 0    length          u32, little-endian as all of it: bytes after this field
//! 4    checksum        CRC-32C of `length`, `header length` and the header
//! 8    header length   u32
//! 12   header
//! ...  body            to the end: batches as they are stored, which have checksums of their own
//! ```
//!
//! Version history: 1, the first. What a header says is the business of whoever sends it.
//!
//! Invariants
//! - A body is never copied for sending, and read into one buffer.
//! - No memory is taken for a mere promise of more than [`limits::FRAME_FIRST_BYTES`].

use core::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use quipu_base::checksum::Crc32c;
use quipu_env::{Segment, WriteQueue};

use crate::limits;

/// Bytes before the header.
pub const PREFIX_BYTES: usize = 12;
/// The length does not count itself.
const LENGTH_BYTES: usize = 4;

/// Something to send: a header, and segments of memory or of files after it.
#[derive(Clone, Debug)]
pub struct Frame<F> {
    /// At most [`limits::HEADER_BYTES_MAX`] bytes.
    pub header: Bytes,
    /// At most [`limits::BODY_BYTES_MAX`] bytes.
    pub body: Vec<Segment<F>>,
}

impl<F> Frame<F> {
    /// A frame without a body.
    #[must_use]
    pub const fn new(header: Bytes) -> Self {
        Self { header, body: Vec::new() }
    }

    /// Bytes of the body.
    #[must_use]
    pub fn body_bytes(&self) -> usize {
        self.body.iter().map(Segment::len).sum()
    }

    /// Bytes on the wire.
    #[must_use]
    pub fn wire_bytes(&self) -> usize {
        PREFIX_BYTES + self.header.len() + self.body_bytes()
    }

    /// Whether header and body are within their bounds.
    #[must_use]
    pub fn is_within_limits(&self) -> bool {
        self.header.len() <= limits::HEADER_BYTES_MAX && self.body_bytes() <= limits::BODY_BYTES_MAX
    }

    /// Everything before the body, in one piece.
    ///
    /// # Panics
    /// If the frame is not within its bounds.
    #[must_use]
    pub fn head(&self) -> Bytes {
        let mut head = self.prefix(self.header.len());
        head.extend_from_slice(&self.header);
        head.freeze()
    }

    /// Puts all of it at the end of a queue.
    ///
    /// # Panics
    /// If the frame is not within its bounds.
    pub fn write_to(self, queue: &mut WriteQueue<F>) {
        if self.header.len() <= limits::HEADER_COPIED_BYTES_MAX {
            queue.push(Segment::Bytes(self.head()));
        } else {
            queue.push(Segment::Bytes(self.prefix(0).freeze()));
            queue.push(Segment::Bytes(self.header));
        }
        self.body.into_iter().for_each(|segment| queue.push(segment));
    }

    /// What stands before the header, with room for `more` bytes.
    fn prefix(&self, more: usize) -> BytesMut {
        assert!(self.is_within_limits(), "a frame is checked before it is queued");
        let number = |count: usize| u32::try_from(count).expect("a frame within its bounds");
        let header_length = number(self.header.len());
        let length = number(self.wire_bytes() - LENGTH_BYTES);
        let mut prefix = BytesMut::with_capacity(PREFIX_BYTES + more);
        prefix.put_u32_le(length);
        prefix.put_u32_le(checksum(length, header_length, &self.header));
        prefix.put_u32_le(header_length);
        prefix
    }
}

fn checksum(length: u32, header_length: u32, header: &[u8]) -> u32 {
    let mut crc = Crc32c::new();
    crc.update(&length.to_le_bytes());
    crc.update(&header_length.to_le_bytes());
    crc.update(header);
    crc.finish()
}

/// The bytes are no frame. The connection is of no further use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrameError {
    /// The length is less than that of an empty frame.
    TooShort {
        /// What was read.
        length: u32,
    },
    /// Header or body are longer than allowed, or the header is longer than the frame.
    TooLong {
        /// Bytes of the header.
        header_bytes: usize,
        /// Bytes of header and body.
        bytes: usize,
    },
    /// The header is not what was sent.
    Checksum,
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort { length } => write!(f, "a frame claims to have {length} bytes, which is too few"),
            Self::TooLong { header_bytes, bytes } => write!(
                f,
                "a frame claims to have {bytes} bytes, {header_bytes} of them its header, which is more than is allowed"
            ),
            Self::Checksum => f.write_str("a frame's header does not match its checksum"),
        }
    }
}

impl core::error::Error for FrameError {}

/// The beginning of a frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Head {
    /// Its header.
    pub header: Bytes,
    /// Bytes of the body that follows.
    pub body_bytes: usize,
}

/// Bounds for [`take_head`].
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes of a header.
    pub header_bytes: usize,
    /// Bytes of a body.
    pub body_bytes: usize,
}

impl Bounds {
    /// A link that is up.
    pub const FRAME: Self = Self { header_bytes: limits::HEADER_BYTES_MAX, body_bytes: limits::BODY_BYTES_MAX };
    /// The handshake.
    pub const HELLO: Self = Self { header_bytes: limits::HELLO_BYTES_MAX, body_bytes: 0 };
}

/// Takes a frame's beginning off the front of `buffer`; none if not all of it is there yet.
///
/// Errors: [`FrameError`], as soon as it can be told.
pub fn take_head(buffer: &mut BytesMut, bounds: Bounds) -> Result<Option<Head>, FrameError> {
    let Some(prefix) = buffer.first_chunk::<PREFIX_BYTES>() else { return Ok(None) };
    let mut prefix = &prefix[..];
    let (length, expected, header_length) = (prefix.get_u32_le(), prefix.get_u32_le(), prefix.get_u32_le());
    let size = |number: u32| usize::try_from(number).expect("a machine of 32 bits or more");
    let Some(bytes) = size(length).checked_sub(PREFIX_BYTES - LENGTH_BYTES) else {
        return Err(FrameError::TooShort { length });
    };
    let header_bytes = size(header_length);
    let body_bytes = bytes.checked_sub(header_bytes).filter(|body_bytes| *body_bytes <= bounds.body_bytes);
    let Some(body_bytes) = body_bytes.filter(|_| header_bytes <= bounds.header_bytes) else {
        return Err(FrameError::TooLong { header_bytes, bytes });
    };
    if buffer.len() < PREFIX_BYTES + header_bytes {
        return Ok(None);
    }
    buffer.advance(PREFIX_BYTES);
    let header = buffer.split_to(header_bytes).freeze();
    if checksum(length, header_length, &header) != expected {
        return Err(FrameError::Checksum);
    }
    Ok(Some(Head { header, body_bytes }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(header: &[u8], body: &[u8]) -> Frame<()> {
        let body = vec![Segment::Bytes(Bytes::copy_from_slice(body))];
        Frame { header: Bytes::copy_from_slice(header), body }
    }

    #[test]
    fn the_bytes_are_as_the_module_says() {
        let frame = frame(b"ab", b"xyz");
        let head = frame.head();
        assert_eq!(head[..4], 13_u32.to_le_bytes());
        assert_eq!(head[4..8], quipu_base::checksum::crc32c(b"\x0d\0\0\0\x02\0\0\0ab").to_le_bytes());
        assert_eq!(head[8..], *b"\x02\0\0\0ab");
        assert_eq!(frame.wire_bytes(), head.len() + 3);
    }

    #[test]
    fn a_long_header_is_not_copied() {
        for length in [0, 5, limits::HEADER_COPIED_BYTES_MAX, limits::HEADER_COPIED_BYTES_MAX + 1] {
            let frame = frame(&vec![7; length], b"body");
            let expected = [&frame.head()[..], b"body"].concat();
            let header = frame.header.as_ptr();
            let mut queue = WriteQueue::new();
            frame.write_to(&mut queue);
            let pieces = queue.segments().map(|segment| match segment {
                Segment::Bytes(bytes) => bytes.clone(),
                Segment::File { .. } => panic!("there are no files"),
            });
            let pieces: Vec<_> = pieces.collect();
            assert_eq!(pieces.concat(), expected);
            let is_copied = pieces.iter().all(|piece| piece.as_ptr() != header);
            assert_eq!(is_copied, length <= limits::HEADER_COPIED_BYTES_MAX, "{length} bytes");
        }
    }

    #[test]
    fn a_head_is_taken_when_all_of_it_is_there() {
        let head = frame(b"header", b"body").head();
        for cut in 0..head.len() {
            let mut buffer = BytesMut::from(&head[..cut]);
            assert_eq!(take_head(&mut buffer, Bounds::FRAME), Ok(None), "{cut} bytes");
            assert_eq!(buffer[..], head[..cut], "nothing was taken");
        }
        let mut buffer = BytesMut::from(&[&head[..], b"body"].concat()[..]);
        let taken = take_head(&mut buffer, Bounds::FRAME).unwrap();
        assert_eq!(taken, Some(Head { header: Bytes::from_static(b"header"), body_bytes: 4 }));
        assert_eq!(buffer[..], *b"body");
    }

    #[test]
    fn bounds_are_kept() {
        let head = frame(b"header", b"body").head();
        let bounded = |header_bytes, body_bytes| {
            take_head(&mut BytesMut::from(&head[..]), Bounds { header_bytes, body_bytes }).map(|head| head.is_some())
        };
        assert_eq!(bounded(6, 4), Ok(true));
        assert_eq!(bounded(5, 4), Err(FrameError::TooLong { header_bytes: 6, bytes: 10 }));
        assert_eq!(bounded(6, 3), Err(FrameError::TooLong { header_bytes: 6, bytes: 10 }));
        let mut short = BytesMut::from(&b"\x07\0\0\0\0\0\0\0\0\0\0\0"[..]);
        assert_eq!(take_head(&mut short, Bounds::FRAME), Err(FrameError::TooShort { length: 7 }));
    }

    proptest! {
        #[test]
        fn a_changed_byte_of_the_head_is_noticed(
            header in prop::collection::vec(any::<u8>(), 0..50),
            at in any::<prop::sample::Index>(),
            flip in 1_u8..,
        ) {
            let mut head = frame(&header, b"body").head().to_vec();
            let at = at.index(head.len());
            head[at] ^= flip;
            let mut buffer = BytesMut::from(&head[..]);
            // A longer length may make it wait for more.
            prop_assert!(matches!(take_head(&mut buffer, Bounds::FRAME), Err(_) | Ok(None)));
        }
    }
}
