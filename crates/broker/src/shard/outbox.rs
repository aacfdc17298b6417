//! What a shard has to send to other brokers' shards: gathered while events are handled, sent as one frame to each.
//!
//! Invariants
//! - Messages to one broker leave in the order in which they were put in, but for those whose records had to be read from a
//!   segment: these go over a link of their own, so that they never hold up the rest.
//! - Nothing waits: what a link has no room for is lost, and said again.
//!
//! Not here: links (`quipu-peer`), what is said again and when (`quipu-replication`).

use std::collections::BTreeMap;

use quipu_base::{BrokerId, Offset, TopicIdPartition};
use quipu_env::{Disk, Env, Segment, ShardId};
use quipu_peer::{Frame, Lane, Peers};
use quipu_replication::Message;
use quipu_storage::{Log, ReadResult, TailRead};

use super::frames::{self, Entry, FRAME_BYTES_MAX, MESSAGES_MAX};

type FileOf<E> = <<E as Env>::Disk as Disk>::File;

/// One message with its records.
pub(super) struct Item<E: Env> {
    partition: TopicIdPartition,
    message: Message,
    body: Vec<Segment<FileOf<E>>>,
    bytes: usize,
}

impl<E: Env> Item<E> {
    /// Bytes of records.
    pub(super) fn size(&self) -> usize {
        self.bytes
    }
}

/// What became of a message whose records were looked for in memory.
pub(super) enum Loaded<E: Env> {
    Ready(Item<E>),
    /// They have to be read from a segment.
    Cold(Message),
    /// There are none any more.
    Nothing,
}

/// See the module.
pub(super) struct Outbox<E: Env> {
    number: ShardId,
    peers: Option<Peers<E>>,
    waiting: BTreeMap<BrokerId, Vec<Item<E>>>,
}

impl<E: Env> Outbox<E> {
    pub(super) fn new(number: ShardId) -> Self {
        Self { number, peers: None, waiting: BTreeMap::new() }
    }

    /// A node alone has no peers.
    pub(super) fn connect(&mut self, peers: Option<Peers<E>>) {
        self.peers = peers;
    }

    pub(super) fn push(&mut self, to: BrokerId, item: Item<E>) {
        self.waiting.entry(to).or_default().push(item);
    }

    /// A message whose records come from a segment.
    pub(super) fn push_cold(&self, to: BrokerId, item: Item<E>) {
        self.send(to, Lane::CatchUp(self.number.0), vec![item]);
    }

    /// Sends what was gathered.
    pub(super) fn flush(&mut self) {
        while let Some((to, items)) = self.waiting.pop_first() {
            let mut frame = Vec::new();
            let mut bytes = 0;
            for item in items {
                if !frame.is_empty() && (bytes + item.bytes > FRAME_BYTES_MAX || frame.len() >= MESSAGES_MAX) {
                    self.send(to, Lane::Tail(self.number.0), core::mem::take(&mut frame));
                    bytes = 0;
                }
                bytes += item.bytes;
                frame.push(item);
            }
            self.send(to, Lane::Tail(self.number.0), frame);
        }
    }

    fn send(&self, to: BrokerId, lane: Lane, items: Vec<Item<E>>) {
        let Some(peers) = &self.peers else { return };
        let mut body = Vec::with_capacity(items.len());
        let mut entries = Vec::with_capacity(items.len());
        for Item { partition, message, body: segments, bytes } in items {
            let bytes = u32::try_from(bytes).expect("a read is bounded");
            entries.push(Entry { partition, message, bytes });
            body.extend(segments);
        }
        let frame = Frame { header: frames::encode(&entries), body };
        if let Err(dropped) = peers.send(to, lane, frame) {
            tracing::debug!(%to, ?dropped, "a frame was dropped; what it said is said again");
        }
    }
}

/// Puts the records that a message names beside it, as far as memory has them and a frame takes them.
pub(super) fn load<E: Env>(log: &Log<E>, partition: TopicIdPartition, mut message: Message) -> Loaded<E> {
    estimate(log, &mut message);
    let Some((start, end, _)) = frames::named(&message).filter(|(start, end, _)| start < end) else {
        return Loaded::Ready(Item { partition, message, body: Vec::new(), bytes: 0 });
    };
    match log.read_tail_unsynced(start, end, records_max(log), true) {
        TailRead::Hit(read) => attach(partition, message, read).map_or(Loaded::Nothing, Loaded::Ready),
        TailRead::Cold => Loaded::Cold(message),
        TailRead::OutOfRange { .. } | TailRead::Faulty(_) | TailRead::Deleted => Loaded::Nothing,
    }
}

/// The same from the segments. None if the records are gone or can't be read; the damage has been reported by the log then.
pub(super) async fn load_cold<E: Env>(log: &Log<E>, partition: TopicIdPartition, message: Message) -> Option<Item<E>> {
    let (start, end, _) = frames::named(&message)?;
    match log.read(start, end, records_max(log), true).await {
        Ok(read) => attach(partition, message, read),
        Err(error) => {
            tracing::warn!(%partition, %error, "records for a peer can't be read");
            None
        }
    }
}

/// Bytes of records that one message may have, if not one batch has more: a frame takes them, and so does the peer's log in one step.
fn records_max<E: Env>(log: &Log<E>) -> usize {
    FRAME_BYTES_MAX.min(log.step_bytes_max())
}

fn attach<E: Env>(partition: TopicIdPartition, mut message: Message, read: ReadResult<E>) -> Option<Item<E>> {
    let ReadResult { segments, bytes, next_offset } = read;
    if bytes == 0 {
        return None;
    }
    match &mut message {
        Message::Append(append) => append.shorten(next_offset),
        Message::Piece(piece) => piece.shorten(next_offset),
        _ => {}
    }
    let named_end = frames::named(&message).map(|(_, end, _)| end);
    // Batches are whole, so what was read may begin before the first record named: then it is not this message's.
    (named_end == Some(next_offset)).then_some(Item { partition, message, body: segments, bytes })
}

/// How much a candidate would have to copy in all, by the share of the log that it lacks.
fn estimate<E: Env>(log: &Log<E>, message: &mut Message) {
    let Message::Piece(piece) = message else { return };
    let offsets = log.offsets();
    let records = |from: Offset, to: Offset| u128::try_from(to.0.saturating_sub(from.0)).unwrap_or(0);
    let all = records(offsets.log_start, offsets.log_end).max(1);
    let share = u128::from(log.size_bytes()) * records(piece.start, piece.end) / all;
    piece.wanted_bytes = u64::try_from(share).unwrap_or(u64::MAX);
}
