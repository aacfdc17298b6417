//! Where the processes of a machine are to end: at crash points and at operations of the disk, one after the other.

use std::collections::VecDeque;

use crate::{
    disk::{Count, CrashPlan},
    fault::Place,
    node::Down,
};

/// One end that waits for its place, and those that follow it.
#[derive(Clone)]
pub(crate) struct Armed {
    /// The crash point's name; with `*` at its end, the beginning of names.
    point: String,
    skip: u64,
    chain: Chain,
}

/// How it ends, and where it ends in the starts that follow.
#[derive(Clone)]
pub(crate) struct Chain {
    pub(crate) down: Down,
    /// The kind of fault that this is counted as, if one began it.
    pub(crate) kind: Option<&'static str>,
    pub(crate) again: VecDeque<Place>,
}

/// Everything that waits. See the module.
#[derive(Default)]
pub(crate) struct Crashes {
    points: Vec<Armed>,
    /// What belongs to the disk's crash plan.
    at_disk: Option<Chain>,
    /// The process is ending at its place: what comes next.
    ending: Option<Chain>,
}

impl Crashes {
    /// At a crash point. One of the same name takes its place.
    pub(crate) fn arm_point(&mut self, point: String, skip: u64, chain: Chain) {
        self.points.retain(|armed| armed.point != point);
        self.points.push(Armed { point, skip, chain });
    }

    pub(crate) fn arm_disk(&mut self, chain: Chain) {
        self.at_disk = Some(chain);
    }

    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }

    /// Whether the process must end at this crash point now, how, and what kind of fault that is.
    pub(crate) fn pass(&mut self, name: &str) -> Option<(Down, Option<&'static str>)> {
        let matching = self.points.iter_mut().filter(|armed| armed.matches(name));
        let mut due = None;
        for armed in matching {
            if armed.skip > 0 {
                armed.skip -= 1;
            } else {
                due.get_or_insert_with(|| armed.point.clone());
            }
        }
        let index = self.points.iter().position(|armed| due.as_ref() == Some(&armed.point))?;
        let chain = self.points.remove(index).chain;
        let (down, kind) = (chain.down.clone(), chain.kind);
        self.ending = Some(chain);
        Some((down, kind))
    }

    /// The power has gone at an operation of the disk: what kind of fault that is.
    pub(crate) fn struck_at_disk(&mut self) -> Option<&'static str> {
        self.ending = self.at_disk.take();
        self.ending.as_ref()?.kind
    }

    /// After an end: arms the next place of the chain. A plan for the disk, if the place is there.
    pub(crate) fn arm_next(&mut self) -> Option<CrashPlan> {
        let mut chain = self.ending.take()?;
        match chain.again.pop_front()? {
            Place::Point { name, skip } => {
                self.arm_point(name, skip, chain);
                None
            }
            Place::Disk { at, moment } => {
                self.arm_disk(chain);
                Some(CrashPlan { count: Count::Changes, at, moment })
            }
        }
    }
}

impl Armed {
    fn matches(&self, name: &str) -> bool {
        match self.point.strip_suffix('*') {
            Some(beginning) => name.starts_with(beginning),
            None => self.point == name,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Moment;

    fn chain(again: &[Place]) -> Chain {
        Chain { down: Down::Killed, kind: Some("crash-at"), again: again.iter().cloned().collect() }
    }

    #[test]
    fn points_are_passed_as_often_as_told_and_stand_for_all_with_their_beginning() {
        let mut crashes = Crashes::default();
        crashes.arm_point("wal.*".to_owned(), 1, chain(&[]));
        crashes.arm_point("open".to_owned(), 0, chain(&[]));
        assert!(crashes.pass("manifest").is_none());
        assert!(crashes.pass("wal.a").is_none());
        assert_eq!(crashes.pass("wal.b"), Some((Down::Killed, Some("crash-at"))));
        assert!(crashes.pass("wal.b").is_none(), "it strikes once");
        assert!(crashes.pass("open").is_some());
    }

    #[test]
    fn a_chain_goes_on_from_place_to_place() {
        let mut crashes = Crashes::default();
        let again = [Place::Disk { at: 3, moment: Moment::After }, Place::Point { name: "open".to_owned(), skip: 0 }];
        crashes.arm_point("a".to_owned(), 0, chain(&again));
        assert_eq!(crashes.arm_next(), None);
        assert!(crashes.pass("a").is_some() && crashes.pass("open").is_none());
        let plan = CrashPlan { count: Count::Changes, at: 3, moment: Moment::After };
        assert_eq!(crashes.arm_next(), Some(plan));
        assert_eq!(crashes.struck_at_disk(), Some("crash-at"));
        assert_eq!(crashes.arm_next(), None);
        assert!(crashes.pass("open").is_some());
        assert_eq!((crashes.arm_next(), crashes.struck_at_disk()), (None, None));
    }
}
