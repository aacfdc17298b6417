//! Whether what another node says of the log fits where entries begin and end here.
//!
//! Raft counts offsets and does not know how many of them an entry has, once it is on the disk. A leader that keeps the rules never
//! names a place inside an entry that is here; one that does not could have the log cut there, which a log of whole batches can't be.
//!
//! Invariant: a message that names a place inside an entry between what is committed and the log's end never reaches Raft.
//!
//! Not here: whether entries are sound (`entries`), Raft's own checks.

use quipu_base::Offset;
use quipu_env::Env;
use quipu_raft::Body;

use super::{Quorum, load::read_entries};

impl<E: Env> Quorum<E> {
    /// A place that the message names, and that lies inside an entry of this log; none if there is no such place.
    pub(super) async fn misplaced(&self, body: &Body) -> Option<Offset> {
        let mut places = Vec::new();
        match body {
            Body::Append { start, entries, high_watermark, .. } => {
                let mut at = start.offset;
                places.extend([at, *high_watermark]);
                for entry in entries {
                    // A message that is decoded ends at an offset that exists.
                    at = entry.end(at)?;
                    places.push(at);
                }
            }
            // An honest leader tells only what it knows to be here.
            Body::Heartbeat { high_watermark, .. } => places.push(*high_watermark),
            _ => {}
        }
        let (committed, end) = (self.committed, self.log_end().offset);
        for place in places.into_iter().filter(|place| (committed..end).contains(place)) {
            if !self.is_boundary(place).await {
                return Some(place);
            }
        }
        None
    }

    /// Whether an entry begins at a place before the log's end.
    async fn is_boundary(&self, place: Offset) -> bool {
        if place == self.committed {
            return true;
        }
        match self.tail.front() {
            // What is not here is of an earlier start, and in the log alone.
            Some((first, _)) if *first <= place => self.tail.binary_search_by_key(&place, |(base, _)| *base).is_ok(),
            Some((first, _)) => read_entries(&self.log, place, *first, 1).await.is_ok(),
            None => read_entries(&self.log, place, self.log_end().offset, 1).await.is_ok(),
        }
    }
}
