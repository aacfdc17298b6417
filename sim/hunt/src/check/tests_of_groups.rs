//! Hand-made histories of groups: each anomaly is flagged by its checker, and by no other; clean ones by none.

use super::*;
use crate::history::{Found, Op, Outcome, Value};

const CLEAN: &[&str] = &[];
const SECOND: u64 = 1_000_000_000;

#[derive(Default)]
struct Story {
    history: History,
    now: u64,
}

fn found(offsets: core::ops::Range<i64>) -> Vec<Found> {
    let value = |offset: i64| Value { client: 9, number: u32::try_from(offset).unwrap() };
    offsets.map(|offset| Found { offset, value: value(offset) }).collect()
}

impl Story {
    /// Ten records are there.
    fn new() -> Self {
        let mut story = Self::default();
        let log = story.history.log("knots", "id", 0);
        story.history.quiet_from = Some(0);
        let values = found(0..10).iter().map(|found| found.value).collect();
        story.then(9, What::Send { log, values, base_offset: Some(0) });
        story
    }

    fn lasting(&mut self, client: u32, nanos: u64, outcome: Outcome, what: What) -> &mut Self {
        let invoked = self.now + 1;
        self.now = invoked + nanos;
        self.history.ops.push(Op { client, invoked, completed: Some(self.now), outcome, what });
        self
    }

    fn then(&mut self, client: u32, what: What) -> &mut Self {
        self.lasting(client, 1, Outcome::Ok, what)
    }

    fn given(&mut self, client: u32, generation: i32, committed: i64) -> &mut Self {
        self.then(client, What::Given { log: LogIndex(0), group: "g".into(), generation, committed })
    }

    fn taken(&mut self, client: u32, is_lost: bool, idle: u64) -> &mut Self {
        let (log, group) = (LogIndex(0), "g".into());
        self.then(client, What::Taken { log, group, is_lost, idle, patience: SECOND })
    }

    fn take(&mut self, client: u32, generation: i32, offsets: core::ops::Range<i64>) -> &mut Self {
        self.then(client, What::Take { log: LogIndex(0), group: "g".into(), generation, records: found(offsets) })
    }

    fn commit(&mut self, client: u32, generation: i32, offset: i64) -> &mut Self {
        self.then(client, commit(generation, offset))
    }

    fn audit(&mut self) -> &mut Self {
        self.then(99, What::Audit { log: LogIndex(0), start: 0, end: 10, records: found(0..10) })
    }

    fn expect(&self, checkers: &[&str]) {
        let mut names: Vec<String> = check(&self.history, Loss::None).into_iter().map(|found| found.checker).collect();
        names.sort();
        names.dedup();
        assert_eq!(names, checkers, "{:#?}", check(&self.history, Loss::None));
    }
}

fn commit(generation: i32, offset: i64) -> What {
    What::Commit { group: "g".into(), generation, offsets: vec![(LogIndex(0), offset)] }
}

#[test]
fn a_partition_that_goes_from_one_to_another_is_clean() {
    let mut story = Story::new();
    story.given(1, 1, -1).take(1, 1, 0..4).commit(1, 1, 4).take(1, 1, 4..6).taken(1, false, 0);
    story.given(2, 2, 4).take(2, 2, 4..10).commit(2, 2, 10).audit();
    story.expect(CLEAN);
}

#[test]
fn two_owners_in_one_generation() {
    let mut story = Story::new();
    story.given(1, 1, -1).given(2, 1, -1);
    story.expect(&["two-owners"]);
    let mut unsure = Story::new();
    unsure.given(1, -1, -1).given(2, -1, -1);
    unsure.expect(CLEAN);
    let mut kept = Story::new();
    kept.given(1, 1, -1).take(1, 2, 0..1).given(2, 2, -1);
    kept.expect(&["two-owners"]);
}

#[test]
fn generations_that_go_back() {
    let mut story = Story::new();
    story.given(1, 3, -1).taken(1, false, 0).given(1, 2, -1);
    story.expect(&["generation-back"]);
}

#[test]
fn commits_of_who_owns_it_no_more() {
    let mut story = Story::new();
    story.given(1, 1, -1).take(1, 1, 0..4).given(2, 2, -1).commit(1, 1, 4);
    story.expect(&["stale-commit"]);
    let mut refused = Story::new();
    refused.given(1, 1, -1).take(1, 1, 0..4).given(2, 2, -1).lasting(1, 1, Outcome::Info, commit(1, 4));
    refused.expect(CLEAN);
    let mut told_late = Story::new();
    told_late.given(1, 3, -1).given(2, 2, -1).take(1, 3, 0..4).commit(1, 3, 4);
    told_late.expect(CLEAN);
}

#[test]
fn committed_offsets_that_go_back() {
    for committed in [-1, 2] {
        let mut story = Story::new();
        story.given(1, 1, -1).take(1, 1, 0..2).commit(1, 1, 2).take(1, 1, 2..4).commit(1, 1, 4).taken(1, false, 0);
        story.given(2, 2, committed);
        story.expect(&["committed-back"]);
    }
    let mut asked = Story::new();
    asked.given(1, 1, -1).take(1, 1, 0..2).commit(1, 1, 2);
    asked.then(1, What::Committed { group: "g".into(), offsets: vec![(LogIndex(0), 2)] });
    asked.expect(CLEAN);
    asked.then(1, What::Committed { group: "g".into(), offsets: vec![(LogIndex(0), 1)] });
    asked.expect(&["committed-back"]);
    let mut again = Story::new();
    again
        .given(1, 1, -1)
        .take(1, 1, 0..2)
        .lasting(1, SECOND, Outcome::Ok, commit(1, 2))
        .take(1, 1, 2..4)
        .commit(1, 1, 4);
    again.taken(1, false, 0).given(2, 2, 2);
    again.expect(CLEAN);
}

#[test]
fn owners_that_skip_or_go_back() {
    let mut skips = Story::new();
    skips.given(1, 1, -1).take(1, 1, 0..2).take(1, 1, 3..4);
    skips.expect(&["poll-skip"]);
    let mut back = Story::new();
    back.given(1, 1, -1).take(1, 1, 0..2).take(1, 1, 1..4);
    back.expect(&["nonmonotonic-poll"]);
    let mut within = Story::new();
    within.given(1, 1, -1);
    let records = [found(0..1), found(2..3)].concat();
    within.then(1, What::Take { log: LogIndex(0), group: "g".into(), generation: 1, records });
    within.expect(&["int-poll-skip"]);
    let mut elsewhere = Story::new();
    elsewhere.given(1, 1, 2).take(1, 1, 0..2);
    elsewhere.expect(&["nonmonotonic-poll"]);
    let mut strangers = Story::new();
    strangers.given(1, 1, -1).taken(1, false, 0).take(1, 1, 0..2);
    strangers.expect(&["not-owned"]);
}

#[test]
fn what_nobody_was_given() {
    let mut story = Story::new();
    story.given(1, 1, -1).take(1, 1, 0..2).taken(1, false, 0).given(2, 2, 4).take(2, 2, 4..10).audit();
    story.expect(&["unprocessed"]);
    let mut not_yet = Story::new();
    not_yet.given(1, 1, -1).take(1, 1, 0..2).audit();
    not_yet.expect(CLEAN);
}

#[test]
fn members_that_are_thrown_out_and_members_that_wait() {
    let lost = |idle| {
        let mut story = Story::new();
        story.given(1, 1, -1);
        story.now += 5 * SECOND;
        story.taken(1, true, idle);
        story
    };
    lost(0).expect(&["lost-membership"]);
    lost(SECOND).expect(CLEAN);
    let mut wrong = lost(0);
    wrong.history.quiet_from = None;
    wrong.expect(CLEAN);
    let join = |nanos| {
        let mut story = Story::new();
        story.lasting(1, nanos, Outcome::Ok, What::Join { group: "g".into() });
        story
    };
    join(SECOND).expect(CLEAN);
    join(60 * SECOND).expect(&["late-rebalance"]);
}
