//! Frames between shards: many replicas' messages in one, with the bytes of their records behind them.
//!
//! ```text
//! header   byte 0: version, 1; then postcard: the messages, each with its partition and the number of bytes that are its
//! body     those bytes, in the same order: whole record batches, as they are stored
//! ```
//!
//! Version history: 1, the first.
//!
//! Invariant: what is decoded has been checked: every batch is whole, its CRC is right, and together they are exactly the
//! records that the message names, in the epochs that it names. (The first batch may begin before them: a log start may lie inside it.)
//!
//! Not here: connections and their limits (`quipu-peer`); what messages mean (`quipu-replication`).

use core::fmt;

use bytes::{Bytes, BytesMut};
use quipu_base::{BrokerEpoch, Offset, TopicIdPartition, limits};
use quipu_peer::{PeerIdentity, Received};
use quipu_records::{Batch, BatchError, Batches};
use quipu_replication::{EpochTable, Member, Message, Sender};
use serde::{Deserialize, Serialize};

const VERSION: u8 = 1;
/// Messages in one frame.
pub(super) const MESSAGES_MAX: usize = 16 * 1024;
/// Bytes of records in one frame, but for a single larger batch.
pub(super) const FRAME_BYTES_MAX: usize = 1024 * 1024;

/// Batches of one message that are taken: what they lead to is one step, together with a few other changes.
const BATCHES_PER_MESSAGE_MAX: usize = limits::WAL_STEP_FRAMES_MAX - 16;

/// One message in a header.
#[derive(Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) partition: TopicIdPartition,
    pub(super) message: Message,
    pub(super) bytes: u32,
}

/// One message as received, with its records.
pub(super) struct InItem {
    pub(super) partition: TopicIdPartition,
    pub(super) message: Message,
    pub(super) batches: Vec<Batch>,
}

/// Bytes that are no frame, or messages whose records are others than they say.
#[derive(Debug)]
pub(super) enum FrameError {
    /// Another version.
    Version,
    /// Not the messages of this version.
    Header,
    /// More messages than a frame may have.
    TooMany,
    /// More or fewer bytes than the messages say.
    Length,
    /// Bytes that are no batches.
    Batch(BatchError),
    /// Other records than the message names.
    Records,
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version => f.write_str("it has a version that this release does not know"),
            Self::Header => f.write_str("its header is no list of messages"),
            Self::TooMany => write!(f, "it has more than {MESSAGES_MAX} messages"),
            Self::Length => f.write_str("it has more or fewer bytes than its messages say"),
            Self::Batch(error) => error.fmt(f),
            Self::Records => f.write_str("it has other records than its messages name"),
        }
    }
}

impl core::error::Error for FrameError {}

/// Who sent it, for the replicas; none without a registration, which data lanes don't have.
pub(super) fn sender(from: &PeerIdentity) -> Option<Sender> {
    let incarnation: BrokerEpoch = from.broker_epoch?;
    Some(Sender { member: Member { node: from.node_id, directory_id: from.directory_id }, incarnation })
}

pub(super) fn encode(entries: &[Entry]) -> Bytes {
    let bytes = postcard::to_extend(entries, vec![VERSION]);
    bytes.expect("messages are encoded into memory").into()
}

/// A frame of some of a frame's messages.
pub(super) fn again(received: &Received, items: Vec<InItem>) -> Received {
    let mut entries = Vec::with_capacity(items.len());
    let mut body = BytesMut::new();
    for InItem { partition, message, batches } in items {
        let before = body.len();
        batches.iter().for_each(|batch| body.extend_from_slice(batch.bytes()));
        let bytes = u32::try_from(body.len() - before).expect("it was as long when it was received");
        entries.push(Entry { partition, message, bytes });
    }
    Received::new(received.from, received.lane, encode(&entries), body.freeze())
}

/// Errors: see [`FrameError`]; the frame is dropped then, and what it said is said again.
pub(super) fn decode(received: &Received) -> Result<Vec<InItem>, FrameError> {
    let (&version, header) = received.header.split_first().ok_or(FrameError::Version)?;
    if version != VERSION {
        return Err(FrameError::Version);
    }
    let entries: Vec<Entry> = postcard::from_bytes(header).map_err(|_| FrameError::Header)?;
    if entries.len() > MESSAGES_MAX {
        return Err(FrameError::TooMany);
    }
    let mut body = received.body.clone();
    let mut items = Vec::with_capacity(entries.len());
    for Entry { partition, mut message, bytes } in entries {
        let bytes = usize::try_from(bytes).map_err(|_| FrameError::Length)?;
        if bytes > body.len() {
            return Err(FrameError::Length);
        }
        let mut batches = batches(body.split_to(bytes))?;
        check_records(&message, &batches)?;
        shorten(&mut message, &mut batches);
        items.push(InItem { partition, message, batches });
    }
    if body.is_empty() { Ok(items) } else { Err(FrameError::Length) }
}

/// A step takes so many batches; the rest is sent again.
fn shorten(message: &mut Message, batches: &mut Vec<Batch>) {
    if let Some(first_left) = batches.get(BATCHES_PER_MESSAGE_MAX) {
        let end = first_left.header().base_offset;
        match message {
            Message::Append(append) => append.shorten(end),
            Message::Piece(piece) => piece.shorten(end),
            _ => {}
        }
        batches.truncate(BATCHES_PER_MESSAGE_MAX);
    }
}

fn batches(bytes: Bytes) -> Result<Vec<Batch>, FrameError> {
    Batches::new(bytes)
        .map(|batch| {
            let batch = batch.map_err(FrameError::Batch)?;
            batch.check_crc().map_err(FrameError::Batch)?;
            Ok(batch)
        })
        .collect()
}

/// The records that a message brings with it, if its kind does.
pub(super) fn named(message: &Message) -> Option<(Offset, Offset, &EpochTable)> {
    match message {
        Message::Append(append) => Some((append.start, append.end, &append.epochs)),
        Message::Piece(piece) => Some((piece.start, piece.end, &piece.epochs)),
        _ => None,
    }
}

fn check_records(message: &Message, batches: &[Batch]) -> Result<(), FrameError> {
    let Some((start, end, epochs)) = named(message) else {
        return if batches.is_empty() { Ok(()) } else { Err(FrameError::Records) };
    };
    let mut at = start;
    for batch in batches {
        let header = batch.header();
        // A batch has one epoch: none begins inside it. A log may begin inside a batch: then the first one begins before what is named.
        let is_next =
            header.base_offset == at || (at == start && (header.base_offset..=header.last_offset()).contains(&at));
        let is_its =
            epochs.epoch_at(at) == header.leader_epoch && epochs.epoch_at(header.last_offset()) == header.leader_epoch;
        if !is_next || !is_its {
            return Err(FrameError::Records);
        }
        at = header.next_offset();
    }
    if at == end { Ok(()) } else { Err(FrameError::Records) }
}
