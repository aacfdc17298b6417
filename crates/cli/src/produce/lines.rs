//! Reading lines, in blocks: a thread of its own reads ahead, since a read of a terminal or a pipe waits for as long as it likes.
//!
//! Invariants
//! - Lines come as soon as they can be read; nothing waits for a block to be full.
//! - At most [`BLOCKS_AHEAD`] blocks and one line are held; a longer line is an error before it is read to its end.
//!
//! Not here: what a line means (`job`).

use std::{fmt, io, io::Read, thread};

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;

/// What is read from.
pub(super) type Source = Box<dyn Read + Send>;

const READ_BYTES: usize = 128 * 1024;
const BLOCKS_AHEAD: usize = 4;

/// Some whole lines.
#[derive(Debug)]
pub(super) struct Block {
    /// With their newlines; only the last line of the source may lack it.
    bytes: Bytes,
    /// Number of the first one, from 1.
    first_line: u64,
}

impl Block {
    /// Bytes, newlines included.
    pub(super) const fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The lines with their numbers, without newlines.
    pub(super) fn lines(mut self) -> impl Iterator<Item = (u64, Bytes)> {
        let mut number = self.first_line;
        std::iter::from_fn(move || {
            if self.bytes.is_empty() {
                return None;
            }
            let line = match self.bytes.iter().position(|byte| *byte == b'\n') {
                Some(end) => {
                    let mut line = self.bytes.split_to(end + 1);
                    line.truncate(end);
                    line
                }
                None => self.bytes.split_off(0),
            };
            number += 1;
            Some((number - 1, line))
        })
    }
}

/// Why reading ended early.
#[derive(Debug)]
pub(super) enum ReadError {
    /// A line is longer than a record may be.
    TooLong {
        /// Its number, from 1.
        line: u64,
    },
    /// The system's reason.
    Io(io::Error),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { line } => write!(f, "line {line} is longer than a record may be"),
            Self::Io(error) => error.fmt(f),
        }
    }
}

/// Starts to read. The channel ends with the source, or after an error.
pub(super) fn read(source: Source, line_bytes_max: usize) -> mpsc::Receiver<Result<Block, ReadError>> {
    let (sender, receiver) = mpsc::channel(BLOCKS_AHEAD);
    // It ends with the process at the latest: a read can't be called off.
    thread::spawn(move || split(source, line_bytes_max, |block| sender.blocking_send(block).is_ok()));
    receiver
}

/// Gives the source's lines in blocks, until `give` wants no more.
fn split(mut source: impl Read, line_bytes_max: usize, mut give: impl FnMut(Result<Block, ReadError>) -> bool) {
    let mut buffer = BytesMut::new();
    let mut first_line = 1;
    loop {
        let known = buffer.len();
        buffer.resize(known + READ_BYTES, 0);
        let outcome = source.read(&mut buffer[known..]);
        buffer.truncate(known + outcome.as_ref().map_or(0, |count| *count));
        match outcome {
            Ok(0) => {
                if !buffer.is_empty() {
                    give(Ok(Block { bytes: buffer.freeze(), first_line }));
                }
                return;
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                give(Err(ReadError::Io(error)));
                return;
            }
        }
        if let Some(last) = buffer[known..].iter().rposition(|byte| *byte == b'\n') {
            let bytes = buffer.split_to(known + last + 1).freeze();
            let lines: usize = bytes.iter().map(|byte| usize::from(*byte == b'\n')).sum();
            if !give(Ok(Block { bytes, first_line })) {
                return;
            }
            first_line += lines as u64;
        }
        if buffer.len() > line_bytes_max {
            give(Err(ReadError::TooLong { line: first_line }));
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A source that gives these pieces, one for each read.
    struct Pieces(Vec<&'static [u8]>);

    impl Read for Pieces {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty() {
                return Ok(0);
            }
            let piece = self.0.remove(0);
            into[..piece.len()].copy_from_slice(piece);
            Ok(piece.len())
        }
    }

    fn lines(pieces: &[&'static [u8]], line_bytes_max: usize) -> Vec<Result<(u64, Vec<u8>), u64>> {
        let mut out = Vec::new();
        split(Pieces(pieces.to_vec()), line_bytes_max, |block| {
            match block {
                Ok(block) => out.extend(block.lines().map(|(number, line)| Ok((number, line.to_vec())))),
                Err(ReadError::TooLong { line }) => out.push(Err(line)),
                Err(ReadError::Io(error)) => panic!("{error}"),
            }
            true
        });
        out
    }

    fn numbered(lines: &[&str]) -> Vec<Result<(u64, Vec<u8>), u64>> {
        (1..).zip(lines).map(|(number, line)| Ok((number, line.as_bytes().to_vec()))).collect()
    }

    #[test]
    fn lines_are_whole_wherever_reads_end() {
        assert_eq!(lines(&[], 9), []);
        assert_eq!(lines(&[b"one\ntwo\n"], 9), numbered(&["one", "two"]));
        assert_eq!(
            lines(&[b"o", b"ne", b"\n", b"tw", b"o\nthree", b"\n\nfive"], 9),
            numbered(&["one", "two", "three", "", "five"])
        );
        assert_eq!(lines(&[b"\n"], 9), numbered(&[""]));
        assert_eq!(lines(&[b"\xff\r\n\xfe"], 9), [Ok((1, b"\xff\r".to_vec())), Ok((2, b"\xfe".to_vec()))]);
    }

    #[test]
    fn a_line_that_is_too_long_is_named_before_it_ends() {
        assert_eq!(lines(&[b"one\nfour", b"five", b"six\n"], 7), [Ok((1, b"one".to_vec())), Err(2)]);
        assert_eq!(lines(&[b"1234567"], 7), numbered(&["1234567"]));
    }
}
