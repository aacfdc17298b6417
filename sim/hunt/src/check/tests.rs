//! Hand-made histories: each anomaly is flagged by its checker, and by no other; clean ones by none.

use super::*;
use crate::history::{Found, Op, Outcome, Value};

const CLEAN: &[&str] = &[];

/// A history in the making, in which each operation takes one unit of time after the other unless told otherwise.
#[derive(Default)]
struct Story {
    history: History,
    now: u64,
}

fn value(client: u32, number: u32) -> Value {
    Value { client, number }
}

fn found(offset: i64, value: Value) -> Found {
    Found { offset, value }
}

impl Story {
    fn new() -> Self {
        let mut story = Self::default();
        story.history.log("knots", "id", 0);
        story
    }

    fn at(&mut self, client: u32, invoked: u64, completed: Option<u64>, outcome: Outcome, what: What) -> &mut Self {
        self.now = self.now.max(completed.unwrap_or(invoked));
        self.history.ops.push(Op { client, invoked, completed, outcome, what });
        self
    }

    fn then(&mut self, client: u32, outcome: Outcome, what: What) -> &mut Self {
        let now = self.now;
        self.at(client, now + 1, Some(now + 2), outcome, what)
    }

    /// An acknowledged batch of the client's records from `first` on.
    fn send(&mut self, client: u32, first: u32, count: u32, base: i64) -> &mut Self {
        let what = send(client, first, count, Some(base));
        self.then(client, Outcome::Ok, what)
    }

    fn poll(&mut self, client: u32, from: i64, records: &[Found], high_watermark: i64) -> &mut Self {
        let what = poll(from, records, high_watermark);
        self.then(client, Outcome::Ok, what)
    }

    fn audit(&mut self, start: i64, records: &[Found]) -> &mut Self {
        let end = records.last().map_or(start, |last| last.offset + 1);
        let what = What::Audit { log: LogIndex(0), start, end, records: records.to_vec() };
        self.then(99, Outcome::Ok, what)
    }

    fn flagged(&self, loss: Loss) -> Vec<String> {
        let mut names: Vec<String> =
            check(&self.history, loss).into_iter().map(|violation| violation.checker).collect();
        names.sort();
        names.dedup();
        names
    }

    fn expect(&self, checkers: &[&str]) {
        assert_eq!(self.flagged(Loss::None), checkers, "{:#?}", check(&self.history, Loss::None));
    }
}

fn send(client: u32, first: u32, count: u32, base_offset: Option<i64>) -> What {
    let values = (first..first + count).map(|number| value(client, number)).collect();
    What::Send { log: LogIndex(0), values, base_offset }
}

fn poll(from: i64, records: &[Found], high_watermark: i64) -> What {
    What::Poll {
        log: LogIndex(0),
        from,
        records: records.to_vec(),
        stands: records.last().map_or(from, |last| last.offset + 1),
        high_watermark,
        last_stable: high_watermark,
        log_start: 0,
    }
}

/// The client's records 0.. at offsets 0..
fn whole(client: u32, count: u32) -> Vec<Found> {
    (0..count).map(|number| found(i64::from(number), value(client, number))).collect()
}

#[test]
fn a_clean_history_is_clean() {
    let mut story = Story::new();
    story.send(1, 0, 2, 0).send(1, 2, 1, 2).poll(2, 0, &whole(1, 3)[..2], 3).poll(2, 2, &whole(1, 3)[2..], 3);
    story.audit(0, &whole(1, 3)).audit(0, &whole(1, 3));
    story.expect(CLEAN);
    Story::new().expect(CLEAN);
}

#[test]
fn what_nobody_knows_may_be_there_or_not() {
    let mut story = Story::new();
    story.at(1, 1, None, Outcome::Info, send(1, 0, 1, None));
    story.at(1, 2, Some(3), Outcome::Info, send(1, 1, 1, None));
    story.audit(0, &[found(0, value(1, 1))]);
    story.expect(CLEAN);
}

#[test]
fn sends_under_way_together_may_come_in_any_order() {
    let mut story = Story::new();
    story.at(1, 1, Some(10), Outcome::Ok, send(1, 0, 1, Some(1)));
    story.at(2, 2, Some(9), Outcome::Ok, send(2, 0, 1, Some(0)));
    story.audit(0, &[found(0, value(2, 0)), found(1, value(1, 0))]);
    story.expect(CLEAN);
}

#[test]
fn lost_writes() {
    let mut acknowledged = Story::new();
    acknowledged.send(1, 0, 1, 0).send(1, 1, 1, 1).audit(1, &whole(1, 2)[1..]);
    acknowledged.expect(&["lost-write"]);
    let mut only_read = Story::new();
    only_read.at(1, 1, None, Outcome::Info, send(1, 0, 2, None));
    only_read.poll(2, 0, &whole(1, 2), 2).audit(1, &whole(1, 2)[1..]);
    only_read.expect(&["lost-write"]);
    for (why, flagged) in [("KAFKA_STORAGE_ERROR", CLEAN), ("NOT_LEADER_OR_FOLLOWER", &["lost-write"])] {
        let mut unreadable = Story::new();
        unreadable.send(1, 0, 1, 0);
        unreadable.then(99, Outcome::Ok, What::Unreadable { log: LogIndex(0), from: 0, why: why.into() });
        unreadable.expect(&["lost-write"]);
        assert_eq!(unreadable.flagged(Loss::Reported), flagged, "{why}");
    }
    let mut topic = Story::new();
    topic.send(1, 0, 1, 0).then(99, Outcome::Ok, What::Topics { ids: Vec::new() });
    topic.expect(&["lost-write"]);
}

#[test]
fn unseen() {
    let mut story = Story::new();
    story.send(1, 0, 1, 0).send(1, 1, 1, 1).audit(0, &whole(1, 1));
    story.expect(&["unseen"]);
    assert_eq!(story.flagged(Loss::Reported), ["unseen"], "nobody said so");
    assert_eq!(story.flagged(Loss::Silent), CLEAN);
}

#[test]
fn deleted_records_are_not_lost() {
    let mut story = Story::new();
    story.send(1, 0, 2, 0);
    story.then(3, Outcome::Ok, What::DeleteRecords { log: LogIndex(0), to: 1, low_watermark: Some(1) });
    story.audit(1, &whole(1, 2)[1..]);
    story.expect(CLEAN);
    story.audit(2, &[]);
    story.expect(&["unseen"]);
}

#[test]
fn deleted_topics_are_not_lost() {
    let mut story = Story::new();
    story.send(1, 0, 2, 0);
    story.then(3, Outcome::Ok, What::DeleteTopic { topic: "knots".into(), id: "id".into() });
    story.then(99, Outcome::Ok, What::Topics { ids: Vec::new() });
    story.expect(CLEAN);
    story.poll(2, 0, &whole(1, 2), 2);
    story.expect(&["deleted-read"]);
}

#[test]
fn brokers_of_a_cluster_hear_of_a_deletion_later() {
    let mut story = Story::new();
    story.history.is_cluster = true;
    story.history.quiet_from = Some(0);
    story.send(1, 0, 2, 0);
    story.at(3, 100, Some(200), Outcome::Ok, What::DeleteTopic { topic: "knots".into(), id: "id".into() });
    story.at(2, 300, Some(400), Outcome::Ok, poll(0, &whole(1, 2), 2));
    story.expect(CLEAN);
    story.at(4, 1_000_000_300, Some(1_000_000_400), Outcome::Ok, poll(0, &whole(1, 2), 2));
    story.expect(&["deleted-read"]);
}

#[test]
fn deleted_records_are_not_read() {
    let mut story = Story::new();
    story.send(1, 0, 2, 0);
    story.then(3, Outcome::Ok, What::DeleteRecords { log: LogIndex(0), to: 1, low_watermark: Some(1) });
    story.poll(2, 0, &whole(1, 2), 2);
    story.expect(&["deleted-read"]);
    let mut start = Story::new();
    start.send(1, 0, 2, 0);
    start.then(3, Outcome::Ok, What::DeleteRecords { log: LogIndex(0), to: 1, low_watermark: Some(1) });
    start.audit(0, &whole(1, 2));
    start.expect(&["deleted-read"]);
}

#[test]
fn duplicates() {
    let mut story = Story::new();
    story.send(1, 0, 1, 0).audit(0, &[found(0, value(1, 0)), found(1, value(1, 0))]);
    story.expect(&["duplicate"]);
}

#[test]
fn inconsistent_offsets() {
    let mut acknowledged = Story::new();
    acknowledged.at(1, 1, Some(4), Outcome::Ok, send(1, 0, 1, Some(0)));
    acknowledged.at(2, 2, Some(5), Outcome::Ok, send(2, 0, 1, Some(0)));
    acknowledged.expect(&["inconsistent-offsets"]);
    let mut read = Story::new();
    read.at(1, 1, None, Outcome::Info, send(1, 0, 1, None));
    read.at(2, 1, None, Outcome::Info, send(2, 0, 1, None));
    read.poll(3, 0, &[found(0, value(1, 0))], 1).poll(4, 0, &[found(0, value(2, 0))], 1);
    read.expect(&["inconsistent-offsets"]);
}

#[test]
fn reads_of_what_failed() {
    let mut story = Story::new();
    story.then(1, Outcome::Fail, send(1, 0, 1, None)).poll(2, 0, &whole(1, 1), 1);
    story.expect(&["G1a"]);
}

#[test]
fn reads_of_what_is_not_committed() {
    let mut story = Story::new();
    story.at(1, 1, None, Outcome::Info, send(1, 0, 2, None));
    story.poll(2, 0, &whole(1, 2), 1);
    story.expect(&["precommitted-read"]);
}

#[test]
fn bounds_that_contradict_each_other() {
    let mut story = Story::new();
    let mut what = poll(0, &[], 1);
    if let What::Poll { log_start, .. } = &mut what {
        *log_start = 2;
    }
    story.then(2, Outcome::Ok, what);
    story.expect(&["bounds"]);
}

#[test]
fn polls_that_skip() {
    let mut story = Story::new();
    story.send(1, 0, 3, 0).poll(2, 0, &whole(1, 3)[..1], 3).poll(2, 1, &whole(1, 3)[2..], 3);
    story.expect(&["poll-skip"]);
    let mut within = Story::new();
    within.send(1, 0, 3, 0).poll(2, 0, &[whole(1, 3)[0], whole(1, 3)[2]], 3);
    within.expect(&["int-poll-skip"]);
    let mut sought = Story::new();
    sought.send(1, 0, 3, 0).poll(2, 0, &whole(1, 3)[..1], 3);
    sought.then(2, Outcome::Ok, What::Seek { log: LogIndex(0), to: 2 }).poll(2, 2, &whole(1, 3)[2..], 3);
    sought.expect(CLEAN);
}

#[test]
fn polls_that_go_back() {
    let mut story = Story::new();
    story.send(1, 0, 3, 0).poll(2, 0, &whole(1, 3)[..2], 3).poll(2, 2, &whole(1, 3)[1..], 3);
    story.expect(&["nonmonotonic-poll"]);
    let mut within = Story::new();
    within.send(1, 0, 3, 0).poll(2, 0, &[whole(1, 3)[0], whole(1, 3)[1], whole(1, 3)[1]], 3);
    within.expect(&["int-nonmonotonic-poll"]);
}

/// A consumer polls one record of three, and says that it stands at `to`.
fn jump(to: i64, deleted_below: Option<i64>) -> Vec<String> {
    let mut story = Story::new();
    story.send(1, 0, 3, 0);
    if let Some(low) = deleted_below {
        story.then(3, Outcome::Ok, What::DeleteRecords { log: LogIndex(0), to: low, low_watermark: Some(low) });
    }
    let mut what = poll(0, &whole(1, 1), 3);
    if let What::Poll { stands, high_watermark, .. } = &mut what {
        // Fetched before the deletion.
        (*stands, *high_watermark) = (to, -1);
    }
    story.then(2, Outcome::Ok, what);
    story.flagged(Loss::None)
}

#[test]
fn consumers_that_stand_elsewhere_than_behind_what_they_polled() {
    assert_eq!(jump(1, None), CLEAN);
    assert_eq!(jump(2, None), ["poll-skip"], "nothing was deleted");
    assert_eq!(jump(0, None), ["nonmonotonic-poll"]);
    assert_eq!(jump(0, Some(2)), ["nonmonotonic-poll"]);
}

#[test]
fn consumers_may_jump_over_what_was_deleted() {
    assert_eq!(jump(2, Some(2)), CLEAN);
    assert_eq!(jump(3, Some(2)), ["poll-skip"], "over more than was deleted");
    assert_eq!(jump(2, Some(1)), ["poll-skip"], "what is due is still there");
}

#[test]
fn a_poll_of_several_answers_may_have_a_gap_where_records_were_deleted() {
    let gap = |high_watermark| {
        let mut story = Story::new();
        story.send(1, 0, 3, 0);
        story.then(3, Outcome::Ok, What::DeleteRecords { log: LogIndex(0), to: 2, low_watermark: None });
        story.poll(2, 0, &[whole(1, 3)[0], whole(1, 3)[2]], high_watermark);
        story.flagged(Loss::None)
    };
    assert_eq!(gap(-1), CLEAN);
    assert_eq!(gap(3), ["int-poll-skip"], "one answer has no gap");
}

#[test]
fn what_was_fetched_before_a_jump_comes_before_it() {
    let mut story = Story::new();
    story.send(1, 0, 3, 0).poll(2, 0, &whole(1, 1), -1);
    story.then(3, Outcome::Ok, What::DeleteRecords { log: LogIndex(0), to: 2, low_watermark: Some(2) });
    story.poll(2, 1, &whole(1, 3)[1..2], -1).poll(2, 2, &whole(1, 3)[2..], -1);
    story.expect(CLEAN);
    let mut story = Story::new();
    story.send(1, 0, 3, 0).poll(2, 0, &whole(1, 1), -1);
    story.then(3, Outcome::Ok, What::DeleteRecords { log: LogIndex(0), to: 2, low_watermark: Some(2) });
    story.poll(2, 2, &[], -1).poll(2, 2, &whole(1, 3)[1..2], -1);
    story.expect(&["nonmonotonic-poll"]);
}

#[test]
fn sends_out_of_order() {
    let mut story = Story::new();
    story.at(1, 1, Some(5), Outcome::Ok, send(1, 0, 1, Some(1)));
    story.at(1, 2, Some(6), Outcome::Ok, send(1, 1, 1, Some(0)));
    story.expect(&["nonmonotonic-send"]);
}

#[test]
fn batches_in_pieces() {
    let mut story = Story::new();
    story.at(1, 1, None, Outcome::Info, send(1, 0, 2, None));
    story.at(2, 1, None, Outcome::Info, send(2, 0, 1, None));
    story.audit(0, &[found(0, value(1, 0)), found(1, value(2, 0)), found(2, value(1, 1))]);
    story.expect(&["int-send-skip"]);
}

#[test]
fn real_time_order() {
    let mut story = Story::new();
    story.send(1, 0, 1, 1).send(2, 0, 1, 0);
    story.expect(&["real-time"]);
}

#[test]
fn watermarks_that_are_behind() {
    let mut story = Story::new();
    story.send(1, 0, 2, 0).poll(2, 0, &whole(1, 1), 1);
    story.expect(&["stale-watermark"]);
    let mut together = Story::new();
    together.at(2, 1, Some(9), Outcome::Ok, poll(0, &[], 0));
    together.at(1, 2, Some(3), Outcome::Ok, send(1, 0, 1, Some(0)));
    together.expect(CLEAN);
}

#[test]
fn what_clients_note_is_told_under_its_name_whatever_may_be_lost() {
    let mut story = Story::new();
    story.then(1, Outcome::Ok, What::Strange { checker: "corrupt-read".into(), detail: "a flipped bit".into() });
    story.expect(&["corrupt-read"]);
    assert_eq!(story.flagged(Loss::Silent), ["corrupt-read"]);
}

#[test]
fn histories_are_told_apart_and_exported() {
    let mut story = Story::new();
    story.send(1, 0, 2, 0).audit(0, &whole(1, 2));
    let json = serde_json::to_string(&story.history).unwrap();
    assert_eq!(serde_json::from_str::<History>(&json).unwrap(), story.history);
    assert!(story.history.tell(0).contains("client 1 send knots-0 1#0..1#1 (2 records) at 0"));
}

#[test]
fn polls_that_wait_for_what_is_there() {
    let late = |quiet_from| {
        let mut story = Story::new();
        story.history.quiet_from = quiet_from;
        story.at(2, 1, Some(9_000_000_000), Outcome::Ok, poll(0, &whole(1, 1), 1));
        story.at(1, 2, Some(3), Outcome::Ok, send(1, 0, 1, Some(0)));
        story.flagged(Loss::None)
    };
    assert_eq!(late(Some(0)), ["late-poll"]);
    assert_eq!(late(Some(2)), CLEAN, "something was wrong when it began");
    assert_eq!(late(None), CLEAN);
}
