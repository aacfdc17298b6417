//! Where a run's processor time goes: parts of the world that enclose each other, each with the time that is its own.
//!
//! Invariants
//! - Switched off, which is the rule, a part costs one look at a thread's flag.
//! - Nothing in a run depends on what is measured here: neither its events nor their hash.
//!
//! Not here: who prints it (`quipu-hunt`'s `bench`).

use core::{cell::RefCell, time::Duration};
use std::collections::BTreeMap;

use rustix::time::{ClockId, clock_gettime};

/// What everything is a part of: the executor, and what nobody has named.
const REST: &str = "executor";

/// A part: what it is, and on which machine; none of the world itself.
type Part = (&'static str, Option<usize>);

/// What a part took, and how often it was begun.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Share {
    /// Its own time, without what it encloses.
    pub time: Duration,
    /// How often it was begun.
    pub count: u64,
}

struct Profile {
    now: Part,
    since: Duration,
    shares: BTreeMap<Part, Share>,
}

thread_local! {
    static PROFILE: RefCell<Option<Profile>> = const { RefCell::new(None) };
}

impl Profile {
    /// Books what has passed, and goes on in another part.
    fn turn(&mut self, part: Part) -> Part {
        let now = real_time();
        self.shares.entry(self.now).or_default().time += now.saturating_sub(self.since);
        self.since = now;
        core::mem::replace(&mut self.now, part)
    }
}

/// The system's monotonic clock, asked without the C library, whose clocks madsim replaces by the world's.
fn real_time() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    let (seconds, nanos) = (u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0));
    Duration::new(seconds, nanos)
}

/// Begins to measure on this thread.
pub(crate) fn begin() {
    let profile = Profile { now: (REST, None), since: real_time(), shares: BTreeMap::new() };
    PROFILE.set(Some(profile));
}

/// Ends it: shares by part and number of the machine.
pub(crate) fn end() -> BTreeMap<Part, Share> {
    let Some(mut profile) = PROFILE.take() else { return BTreeMap::new() };
    profile.turn((REST, None));
    profile.shares
}

/// In a part until it is dropped.
pub(crate) struct Within(Option<Part>);

/// Enters a part.
pub(crate) fn within(what: &'static str, machine: Option<usize>) -> Within {
    Within(PROFILE.with_borrow_mut(|profile| {
        let profile = profile.as_mut()?;
        let part = (what, machine);
        profile.shares.entry(part).or_default().count += 1;
        Some(profile.turn(part))
    }))
}

impl Drop for Within {
    fn drop(&mut self) {
        let Some(before) = self.0 else { return };
        PROFILE.with_borrow_mut(|profile| profile.as_mut().map(|profile| profile.turn(before)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_belongs_to_the_innermost_part() {
        drop(within("before", None));
        begin();
        {
            let _outer = within("outer", Some(1));
            let _inner = within("inner", None);
        }
        drop(within("inner", None));
        let shares = end();
        let counts: Vec<(&str, u64)> = shares.iter().map(|((what, _), share)| (*what, share.count)).collect();
        assert_eq!(counts, [(REST, 0), ("inner", 2), ("outer", 1)]);
        assert!(end().is_empty(), "it has ended");
    }
}
