//! Hand-made events: what may be passes, and each check tells what may not.

use super::*;

type Fields = Vec<(&'static str, i64)>;

struct Script {
    inside: Inside,
    at: u64,
    is_durable: bool,
}

impl Script {
    fn new() -> Self {
        let mut script = Self { inside: Inside::default(), at: 0, is_durable: true };
        script.tell("store.opened", vec![]);
        script.of_log("log.opened", vec![("start", 0), ("end", 0)]);
        script
    }

    fn tell(&mut self, name: &'static str, fields: Fields) -> &mut Self {
        self.at += 1;
        let is_durable = self.is_durable;
        self.inside.see(&ProbeEvent { at: self.at, node: 0, name, fields }, &|_, _| is_durable);
        self
    }

    fn of_log(&mut self, name: &'static str, mut fields: Fields) -> &mut Self {
        fields.extend([("topic", 1), ("partition", 0)]);
        self.tell(name, fields)
    }

    fn append(&mut self, base: i64, end: i64, ticket: i64) -> &mut Self {
        self.of_log("log.appended", vec![("base", base), ("end", end), ("ticket", ticket)])
    }

    fn durable(&mut self, ticket: i64) -> &mut Self {
        self.tell("wal.durable", vec![("ticket", ticket), ("file", 0), ("position", 0), ("length", 4096)])
    }

    fn commit(&mut self, high_watermark: i64, told: i64) -> &mut Self {
        self.of_log("broker.committed", vec![("high-watermark", high_watermark), ("told", told)])
    }

    fn release(&mut self, ticket: i64) -> &mut Self {
        self.tell("broker.released", vec![("ticket", ticket)])
    }

    /// Two records that were acknowledged.
    fn acknowledged() -> Self {
        let mut script = Self::new();
        script.append(0, 2, 1).durable(1).commit(2, 2).release(1);
        script
    }

    #[track_caller]
    fn expect(&self, checkers: &[&str]) {
        let found: Vec<&str> = self.inside.violations.iter().map(|violation| violation.checker.as_str()).collect();
        assert_eq!(found, checkers, "{:#?}", self.inside.violations);
    }
}

#[test]
fn what_is_right_passes() {
    let mut script = Script::acknowledged();
    script.append(2, 3, 2).durable(2).commit(3, 3).release(2);
    script.of_log("log.start", vec![("start", 3), ("end", 3)]);
    script.tell("store.opened", vec![]).of_log("log.opened", vec![("start", 3), ("end", 3)]);
    script.append(3, 4, 1).expect(&[]);
    assert_eq!(script.inside.logs[&(1, 0)].released_end, 3);
}

#[test]
fn what_was_never_released_may_be_lost() {
    let mut script = Script::acknowledged();
    script.append(2, 5, 2);
    script.tell("store.opened", vec![]).of_log("log.opened", vec![("start", 0), ("end", 2)]);
    script.append(2, 3, 1).expect(&[]);
}

#[test]
fn offsets_are_dense_and_tickets_never_fall() {
    Script::new().append(1, 2, 1).expect(&["dense-offsets"]);
    Script::new().append(0, 0, 1).expect(&["dense-offsets"]);
    Script::acknowledged().append(2, 3, 1).expect(&[]);
    Script::acknowledged().append(2, 3, 0).expect(&["dense-offsets"]);
}

#[test]
fn no_offset_is_given_twice() {
    let mut script = Script::acknowledged();
    // The log comes back empty: it is told of twice, by its end and when the offset is given again.
    script.tell("store.opened", vec![]).append(0, 1, 1).expect(&["dense-offsets"]);
}

#[test]
fn a_log_holds_what_was_released() {
    let mut script = Script::acknowledged();
    script.tell("store.opened", vec![]).of_log("log.opened", vec![("start", 0), ("end", 1)]).expect(&["log-end"]);
    let mut bounds = Script::acknowledged();
    bounds.of_log("log.opened", vec![("start", 3), ("end", 2)]).expect(&["bounds"]);
}

#[test]
fn a_log_starts_within_what_is_committed() {
    let mut script = Script::acknowledged();
    script.append(2, 3, 2).of_log("log.start", vec![("start", 3), ("end", 3)]).expect(&["bounds"]);
}

#[test]
fn what_is_called_durable_is_on_the_disk() {
    let mut script = Script::new();
    script.is_durable = false;
    script.append(0, 1, 1).durable(1).expect(&["durable"]);
}

#[test]
fn replies_wait_for_the_disk() {
    Script::new().append(0, 1, 1).release(1).expect(&["durable-acknowledgement"]);
    Script::acknowledged().append(2, 3, 2).commit(2, 3).expect(&["durable-acknowledgement"]);
}

#[test]
fn the_high_watermark_is_durable_and_never_goes_back() {
    Script::acknowledged().append(2, 3, 2).commit(3, 2).expect(&["high-watermark"]);
    Script::acknowledged().commit(1, 1).expect(&["high-watermark"]);
}

#[test]
fn memory_has_a_limit() {
    let of = |tail| {
        let mut script = Script::new();
        script.tell("checkpoint.begun", vec![("tail", tail), ("tail-limit", 100_000)]);
        script
    };
    of(100_000).expect(&[]);
    of(200_000).expect(&["memory"]);
    let stopped = |replies| {
        let mut script = Script::new();
        script.tell("broker.stopped", vec![("requests", 0), ("replies", replies), ("workspace", 0)]);
        script
    };
    stopped(0).expect(&[]);
    stopped(1).expect(&["memory"]);
}

#[test]
fn copies_are_due_after_starts_checkpoints_and_many_events() {
    let mut script = Script::new();
    assert!(core::mem::take(&mut script.inside.is_copy_due), "a start");
    for ticket in 1..=3 {
        script.append(ticket - 1, ticket, ticket);
        assert!(!script.inside.is_copy_due);
        script.durable(ticket);
        let is_first = ticket <= 2;
        assert_eq!(core::mem::take(&mut script.inside.is_copy_due), is_first, "the first groups");
    }
    script.tell("checkpoint.done", vec![("tail", 0), ("tail-limit", 1)]);
    assert!(core::mem::take(&mut script.inside.is_copy_due), "a checkpoint");
    for _ in 0..COPY_EVERY {
        script.release(0);
    }
    assert!(script.inside.is_copy_due, "many events");
}
