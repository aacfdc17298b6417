//! Which fetch sessions (KIP-227) there are, and which have to make room.
//!
//! ```text
//! none -> kept by its connection -> taken by a request -> kept ..
//!         kept or taken -> gone: evicted, replaced, closed by its client, or its connection ended
//! ```
//!
//! Invariants
//! - There are never more sessions than `max.incremental.fetch.session.cache.slots`, nor more partitions in all of them together
//!   than [`limits::FETCH_SESSION_PARTITIONS_MAX`].
//! - A session belongs to one connection, and a connection has at most one (see decision 0006).
//! - What drops a session gives back its place; one that is gone costs its client one full fetch, and nothing else.
//!
//! Who makes room is Kafka's rule, without its privilege for followers, who do not fetch by sessions here: a session unused for
//! two minutes; else, of those that had two minutes, the one with the fewest partitions, if it has no more than the new one.
//!
//! Not here: what a session knows ([`session`]), how it is used ([`crate::handlers`]'s fetch).

pub(crate) mod session;

use core::time::Duration;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use quipu_base::limits;
use quipu_env::{Instant, Rng};
use rand::Rng as _;

/// A session keeps its place for so long, and so long after it was last used it may lose it to any other.
const EVICTION_TIME: Duration = Duration::from_secs(120);

/// The sessions of one broker.
pub(crate) struct FetchSessions<T>(Arc<Mutex<Inner<T>>>);

impl<T> Clone for FetchSessions<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

struct Inner<T> {
    slots: usize,
    partitions: usize,
    rng: Rng,
    entries: BTreeMap<i32, Entry<T>>,
    by_use: BTreeSet<(Instant, i32)>,
    /// Those that had their time.
    by_size: BTreeSet<(usize, i32)>,
}

struct Entry<T> {
    created: Instant,
    used: Instant,
    size: usize,
    place: Weak<Place<T>>,
}

type Place<T> = Mutex<Option<Held<T>>>;

/// Where a connection keeps its session.
pub(crate) struct Keeper<T>(Arc<Place<T>>);

impl<T> Clone for Keeper<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for Keeper<T> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(None)))
    }
}

/// A session, which gives its place back when dropped.
pub(crate) struct Held<T> {
    pub(crate) id: i32,
    pub(crate) session: T,
    sessions: FetchSessions<T>,
}

impl<T> Keeper<T> {
    /// The connection's session, for as long as a request is at it, if it has this id. (A connection's requests come one after
    /// the other.)
    pub(crate) fn take(&self, id: i32) -> Option<Held<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take_if(|held| held.id == id)
    }

    fn take_any(&self) -> Option<Held<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl<T> FetchSessions<T> {
    /// None yet, and never more than `slots`.
    pub(crate) fn new(slots: usize, rng: Rng) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            slots,
            partitions: 0,
            rng,
            entries: BTreeMap::new(),
            by_use: BTreeSet::new(),
            by_size: BTreeSet::new(),
        })))
    }

    /// Makes a session of up to `size` partitions and has `keeper` keep it, in place of any other: its id; none if there is no room,
    /// or none was made.
    pub(crate) fn create(
        &self,
        now: Instant,
        size: usize,
        keeper: &Keeper<T>,
        make: impl FnOnce() -> Option<T>,
    ) -> Option<i32> {
        drop(keeper.take_any());
        let mut evicted = Vec::new();
        let id = self.lock().enter(now, size, keeper, &mut evicted);
        drop(evicted);
        let id = id?;
        let Some(session) = make() else {
            self.lock().remove(id);
            return None;
        };
        self.keep(now, size, keeper, Held { id, session, sessions: self.clone() }).then_some(id)
    }

    /// A session is used, and now has `size` partitions. False if it is gone: it was evicted meanwhile, or there is no room for so
    /// many.
    pub(crate) fn touch(&self, now: Instant, size: usize, held: &Held<T>) -> bool {
        self.lock().touch(now, held.id, size)
    }

    /// Keeps a session that was used, and now has `size` partitions. False if it is gone: it was evicted meanwhile, or there is
    /// no room for so many.
    pub(crate) fn keep(&self, now: Instant, size: usize, keeper: &Keeper<T>, held: Held<T>) -> bool {
        let mut inner = self.lock();
        let is_kept = inner.touch(now, held.id, size);
        if is_kept {
            let before = keeper.0.lock().unwrap_or_else(PoisonError::into_inner).replace(held);
            drop(inner);
            drop(before);
        } else {
            drop(inner);
            drop(held);
        }
        is_kept
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Drop for Held<T> {
    fn drop(&mut self) {
        self.sessions.lock().remove(self.id);
    }
}

impl<T> Inner<T> {
    fn enter(&mut self, now: Instant, size: usize, keeper: &Keeper<T>, evicted: &mut Vec<Held<T>>) -> Option<i32> {
        if size > limits::FETCH_SESSION_PARTITIONS_MAX || self.slots == 0 {
            return None;
        }
        while self.entries.len() >= self.slots || self.partitions + size > limits::FETCH_SESSION_PARTITIONS_MAX {
            let out = self.weakest(now, size)?;
            let entry = self.remove(out).expect("it is among the entries");
            let place = entry.place.upgrade();
            // The caller drops it: that takes the lock that is held now. One that a request is at is dropped when it comes back.
            evicted.extend(place.and_then(|place| place.lock().unwrap_or_else(PoisonError::into_inner).take()));
        }
        let id = self.new_id();
        let entry = Entry { created: now, used: now, size, place: Arc::downgrade(&keeper.0) };
        self.by_use.insert((now, id));
        self.partitions += size;
        self.entries.insert(id, entry);
        Some(id)
    }

    fn new_id(&mut self) -> i32 {
        loop {
            let id = self.rng.next_u32().cast_signed() & i32::MAX;
            if id != 0 && !self.entries.contains_key(&id) {
                return id;
            }
        }
    }

    /// The session that makes room for a new one of that size, if one has to.
    fn weakest(&self, now: Instant, size: usize) -> Option<i32> {
        let (used, oldest) = *self.by_use.first()?;
        if now.since(used) > EVICTION_TIME {
            return Some(oldest);
        }
        self.by_size.first().filter(|(smallest, _)| *smallest <= size).map(|(_, id)| *id)
    }

    fn touch(&mut self, now: Instant, id: i32, size: usize) -> bool {
        let Some(entry) = self.entries.get_mut(&id) else { return false };
        if self.partitions - entry.size + size > limits::FETCH_SESSION_PARTITIONS_MAX {
            return false;
        }
        self.partitions = self.partitions - entry.size + size;
        self.by_use.remove(&(entry.used, id));
        self.by_size.remove(&(entry.size, id));
        (entry.used, entry.size) = (now, size);
        self.by_use.insert((now, id));
        if now.since(entry.created) > EVICTION_TIME {
            self.by_size.insert((size, id));
        }
        true
    }

    fn remove(&mut self, id: i32) -> Option<Entry<T>> {
        let entry = self.entries.remove(&id)?;
        self.by_use.remove(&(entry.used, id));
        self.by_size.remove(&(entry.size, id));
        self.partitions -= entry.size;
        Some(entry)
    }
}

#[cfg(test)]
mod tests;
