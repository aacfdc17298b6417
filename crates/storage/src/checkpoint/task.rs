//! When checkpoints are made: under pressure, on request, and after a while.
//!
//! ```text
//! pressure   half the tail or half the WAL is used, or somebody waits for either      at once, but rounds keep a short distance
//! request    `Store::checkpoint`, `Store::close`                                       at once
//! time       something is dirty                                                        every [`INTERVAL`]
//! failure    the last round failed                                                     after a back-off that doubles, up to 2 s
//! ```
//!
//! Invariant: while rounds fail, those who wait for what only a checkpoint frees are told that the store is full.
//!
//! Not here: what a round does (`round`).

use core::{future::pending, time::Duration};
use std::sync::{Arc, Mutex};

use quipu_env::{Clock, Env, Instant, Probe};
use tokio::sync::{Notify, oneshot};

use super::{
    Checkpointer, Covering,
    orphans::{OrphanSearch, Progress},
    snapshot::is_full,
};
use crate::{
    lock,
    store::{Shared, catalog::Catalog},
    wal::Wal,
};

/// Time between two checkpoints that nobody asks for.
const INTERVAL: Duration = Duration::from_secs(10);
/// Time between the starts of two rounds under pressure: when little becomes dirty, rounds would do little each.
const SPACING: Duration = Duration::from_millis(5);
/// First time to wait after a failure.
const BACKOFF_MIN: Duration = Duration::from_millis(50);
/// Longest time to wait after a failure.
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// How often producers are looked through for expired ones.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(600);
/// Directories looked through for orphans between two other things.
const ORPHAN_DIRS: usize = 64;
/// Longest time until what could not be looked through is tried again.
const ORPHAN_BACKOFF_MAX: Duration = Duration::from_secs(60);

/// What is asked of the checkpoint's task.
#[derive(Default)]
pub(crate) struct Requests {
    waiting: Mutex<Vec<oneshot::Sender<Result<(), String>>>>,
    changed: Notify,
}

impl Requests {
    /// Asks for a checkpoint of everything that is durable now, and waits for it.
    pub(crate) async fn checkpoint(&self) -> Result<(), String> {
        let (done, wait) = oneshot::channel();
        lock(&self.waiting).push(done);
        self.changed.notify_one();
        wait.await.unwrap_or_else(|_| Err("the store is closed".to_owned()))
    }

    fn take(&self) -> Vec<oneshot::Sender<Result<(), String>>> {
        std::mem::take(&mut *lock(&self.waiting))
    }
}

enum Wake {
    Requested,
    Pressure,
    Timer,
}

/// Makes checkpoints until its task is aborted. Looks for files first that a crash has left behind, after a clean stop as well:
/// the power may go after it, and bring back files that it removed.
pub(crate) async fn run<E: Env>(mut checkpointer: Checkpointer<E>) {
    let store = Arc::clone(&checkpointer.store);
    let clock = store.env.clock().clone();
    let looks = !store.env.probe().planted("start.orphans-kept");
    let mut orphans = looks.then(Orphans::default);
    let mut pace = Pace { next: clock.now() + INTERVAL, backoff: None, last: Instant::ZERO };
    let mut next_expiry = clock.now() + EXPIRY_INTERVAL;
    loop {
        if let Some(search) = &mut orphans
            && search.advance(&store).await
        {
            orphans = None;
        }
        let wake = wait(&store, &pace, orphans.as_ref().map(|search| search.due)).await;
        checkpointer.remove_due(false).await;
        if clock.now() >= next_expiry {
            mark_expired(&store);
            next_expiry = clock.now() + EXPIRY_INTERVAL;
        }
        match wake {
            Wake::Requested => {}
            Wake::Timer if clock.now() >= pace.next => {
                if pace.backoff.is_none() && !has_work(&store.catalog) {
                    pace.next = clock.now() + INTERVAL;
                    continue;
                }
            }
            // Between directories that are looked through.
            Wake::Timer if !is_short(&store) => continue,
            Wake::Timer | Wake::Pressure => {
                if pace.backoff.is_some() {
                    continue;
                }
                clock.sleep_until(pace.last + SPACING).await;
                if !has_work(&store.catalog) && lock(&store.catalog.apply).group <= checkpointer.covered {
                    continue;
                }
            }
        }
        let asked = store.requests.take();
        pace.last = clock.now();
        let result = checkpointer.round(Covering::Groups).await;
        if result.is_err() {
            // A manifest that failed may say more than is known here: what it has is left for the next start to look for.
            orphans = None;
        }
        store.set_stuck(result.is_err());
        pace.after(&clock, result.is_err());
        if let Err(error) = &result {
            let full = is_full(error);
            if full {
                checkpointer.remove_due(true).await;
            }
            tracing::warn!(%error, full, retry_ms = pace.next.since(clock.now()).as_millis(), "a checkpoint failed; it is tried again");
        }
        for done in asked {
            // Who asked may have gone.
            drop(done.send(match &result {
                Ok(()) => Ok(()),
                Err(error) => Err(error.to_string()),
            }));
        }
    }
}

/// The search for what a crash has left behind.
struct Orphans {
    search: OrphanSearch,
    due: Instant,
    backoff: Duration,
}

impl Default for Orphans {
    fn default() -> Self {
        Self { search: OrphanSearch::default(), due: Instant::ZERO, backoff: BACKOFF_MIN }
    }
}

impl Orphans {
    /// Goes on, if it is due. Whether all has been looked through.
    async fn advance<E: Env>(&mut self, store: &Shared<E>) -> bool {
        let now = store.env.clock().now();
        if now < self.due {
            return false;
        }
        let progress = self.search.advance(store, ORPHAN_DIRS).await;
        if progress == Progress::Stuck {
            self.due = now + self.backoff;
            self.backoff = (self.backoff * 2).min(ORPHAN_BACKOFF_MAX);
        }
        progress == Progress::Done
    }
}

/// When the next round is due.
struct Pace {
    next: Instant,
    backoff: Option<Duration>,
    last: Instant,
}

impl Pace {
    fn after<C: Clock>(&mut self, clock: &C, failed: bool) {
        self.backoff = match (failed, self.backoff) {
            (false, _) => None,
            (true, None) => Some(BACKOFF_MIN),
            (true, Some(before)) => Some((before * 2).min(BACKOFF_MAX)),
        };
        self.next = clock.now() + self.backoff.unwrap_or(INTERVAL);
    }
}

/// Whether somebody waits for what a checkpoint may free.
fn is_short<E: Env>(store: &Shared<E>) -> bool {
    store.catalog.tail.is_short() || store.wal.get().is_some_and(Wal::is_short)
}

/// Waits until there may be something to do; no longer than until the search goes on.
async fn wait<E: Env>(store: &Shared<E>, pace: &Pace, search_due: Option<Instant>) -> Wake {
    let clock = store.env.clock();
    let deadline = if is_short(store) && pace.backoff.is_none() {
        // What the last round did not free, since its group came just after, the next one may.
        pace.next.min(clock.now() + SPACING)
    } else {
        pace.next
    };
    let deadline = search_due.map_or(deadline, |due| due.min(deadline));
    let sleep = clock.sleep_until(deadline);
    tokio::pin!(sleep);
    let wal_pressure = async {
        match store.wal.get() {
            Some(wal) => wal.pressure().await,
            None => pending().await,
        }
    };
    tokio::select! {
        biased;
        () = store.requests.changed.notified() => Wake::Requested,
        () = store.catalog.tail.pressure.notified() => Wake::Pressure,
        () = wal_pressure => Wake::Pressure,
        () = &mut sleep => Wake::Timer,
    }
}

fn has_work(catalog: &Catalog) -> bool {
    let applied = lock(&catalog.apply);
    !applied.dirty.is_empty() || !applied.deleted.is_empty()
}

/// Puts logs on the list whose producers have expired: the next round forgets them.
fn mark_expired<E: Env>(store: &Shared<E>) {
    let (now, expiration_ms) = (store.env.clock().wall(), store.options.producer_expiration_ms);
    for log in store.catalog.all() {
        let mut state = lock(&log.state);
        if !state.producers.has_expired(now, expiration_ms) {
            continue;
        }
        state.producers.expire(now, expiration_ms);
        drop(state);
        Catalog::mark_dirty(&mut lock(&store.catalog.apply), &log);
    }
}
