//! Scripts: what happens to a partition's batches, and what is told and sent.

use core::time::Duration;
use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// Writes `word argument` lines as one story; `due` answers with what would be sent.
struct Script {
    pipeline: Pipeline<&'static str>,
    now: Instant,
    numbers: BTreeMap<&'static str, BatchNumber>,
    log: Vec<String>,
}

const IDENTITY: Identity = Identity { id: ProducerId(9), epoch: ProducerEpoch(0) };
const LATER: Duration = Duration::from_secs(1);

impl Script {
    fn new(identity: Option<Identity>) -> Self {
        let pipeline = Pipeline::new(identity, 5);
        Self { pipeline, now: Instant::from_nanos(1), numbers: BTreeMap::new(), log: Vec::new() }
    }

    /// Takes a batch of two records that is late after 100 s.
    fn push(&mut self, name: &'static str) -> &mut Self {
        assert!(self.pipeline.has_room(), "{name}: no room");
        self.pipeline.push(name, 2, self.now + 100 * LATER);
        self
    }

    /// Sends what is due, once.
    fn send(&mut self) -> &mut Self {
        let Some(due) = self.pipeline.due(self.now) else {
            self.log.push("nothing due".into());
            return self;
        };
        let name = *self.pipeline.batch_mut(due.number).unwrap();
        self.numbers.insert(name, due.number);
        self.pipeline.mark_sent(due.number);
        let epoch = due.identity.map_or(-1, |identity| identity.epoch.0);
        self.log.push(format!("send {name} e{epoch} s{}", due.base_sequence));
        self
    }

    fn ok(&mut self, name: &'static str) -> &mut Self {
        let settled = self.pipeline.handle_success(self.numbers[name]);
        self.log.push(format!("ok {}", settled.unwrap_or("nobody")));
        self
    }

    fn fail(&mut self, name: &'static str, failure: Failure) -> &mut Self {
        let verdict = self.pipeline.handle_failure(self.numbers[name], failure, self.now + LATER);
        self.log.push(format!("{name} {failure:?}: {verdict:?}"));
        self
    }

    fn wait(&mut self) -> &mut Self {
        self.now = self.now + LATER;
        self
    }

    fn expire(&mut self) -> &mut Self {
        self.now = self.now + 200 * LATER;
        while let Some(expired) = self.pipeline.expire(self.now) {
            self.log.push(match expired {
                Expired::UnderWay(name) => format!("late under way {name}"),
                Expired::Gone(name, written) => format!("late {name} {written:?}"),
            });
        }
        self
    }

    fn epoch(&mut self) -> &mut Self {
        assert!(self.pipeline.is_epoch_due(), "no epoch is due");
        let doubtful = self.pipeline.begin_next_epoch();
        self.log.push(format!("epoch, given up {doubtful:?}"));
        self
    }

    #[track_caller]
    fn expect(&mut self, expected: &[&str]) {
        assert_eq!(core::mem::take(&mut self.log), expected);
    }
}

/// One batch acknowledged, so that others may follow each other.
fn warm() -> Script {
    let mut script = Script::new(Some(IDENTITY));
    script.push("first").send().ok("first").expect(&["send first e0 s0", "ok first"]);
    script
}

#[test]
fn the_first_batch_goes_alone_then_several_follow_each_other() {
    let mut script = Script::new(Some(IDENTITY));
    script.push("a").send();
    assert!(!script.pipeline.has_room());
    script.ok("a").push("b").send().push("c").send().push("d").send();
    script.expect(&["send a e0 s0", "ok a", "send b e0 s2", "send c e0 s4", "send d e0 s6"]);
    script.push("e").send().push("f").send();
    assert!(!script.pipeline.has_room(), "five are under way");
}

#[test]
fn to_a_new_log_the_first_batch_goes_alone_again() {
    let mut script = warm();
    script.pipeline.handle_new_log();
    script.push("a").send();
    assert!(!script.pipeline.has_room());
    script.ok("a").push("b").send();
    assert!(script.pipeline.has_room());
    script.expect(&["send a e0 s2", "ok a", "send b e0 s4"]);
}

#[test]
fn what_is_lost_is_sent_again_one_by_one_with_the_same_sequences() {
    let mut script = warm();
    script.push("a").send().push("b").send();
    script.fail("a", Failure::Lost).fail("b", Failure::Lost).send();
    script.expect(&["send a e0 s2", "send b e0 s4", "a Lost: Some(Again)", "b Lost: Some(Again)", "nothing due"]);
    assert!(!script.pipeline.has_room(), "nothing overtakes what waits");
    script.wait().send().send().ok("a").send().ok("b");
    script.expect(&["send a e0 s2", "nothing due", "ok a", "send b e0 s4", "ok b"]);
}

#[test]
fn out_of_order_behind_a_failure_means_only_that_the_one_before_was_missing() {
    let mut script = warm();
    script.push("a").send().push("b").send();
    script.fail("a", Failure::Refused).fail("b", Failure::OutOfOrder).wait().send().ok("a").send().ok("b");
    script.expect(&[
        "send a e0 s2",
        "send b e0 s4",
        "a Refused: Some(Again)",
        "b OutOfOrder: Some(Again)",
        "send a e0 s2",
        "ok a",
        "send b e0 s4",
        "ok b",
    ]);
}

#[test]
fn out_of_order_as_the_first_begins_an_epoch() {
    let mut script = warm();
    script.push("a").send().push("b").send().fail("a", Failure::OutOfOrder).wait().send();
    assert!(!script.pipeline.is_epoch_due(), "b is under way");
    script.fail("b", Failure::OutOfOrder).epoch().wait().send().ok("a").send().ok("b");
    script.expect(&[
        "send a e0 s2",
        "send b e0 s4",
        "a OutOfOrder: Some(Again)",
        "nothing due",
        "b OutOfOrder: Some(Again)",
        "epoch, given up Ok([])",
        "send a e1 s0",
        "ok a",
        "send b e1 s2",
        "ok b",
    ]);
}

#[test]
fn what_may_be_in_the_log_is_never_given_another_epoch() {
    let mut script = warm();
    script.push("a").send().push("b").send().fail("a", Failure::Lost).fail("b", Failure::NotSent).wait().send();
    script.fail("a", Failure::OutOfOrder).epoch().wait().send();
    script.expect(&[
        "send a e0 s2",
        "send b e0 s4",
        "a Lost: Some(Again)",
        "b NotSent: Some(Again)",
        "send a e0 s2",
        "a OutOfOrder: Some(Again)",
        "epoch, given up Ok([\"a\"])",
        "send b e1 s0",
    ]);
}

#[test]
fn a_rejected_batch_leaves_no_gap() {
    let mut script = warm();
    script.push("a").send().fail("a", Failure::Rejected).push("b").send();
    script.expect(&["send a e0 s2", "a Rejected: Some(Failed(\"a\", No))", "send b e0 s2"]);
    let mut script = warm();
    script.push("a").send().push("b").send().fail("a", Failure::Rejected).fail("b", Failure::OutOfOrder);
    script.epoch().wait().send();
    script.expect(&[
        "send a e0 s2",
        "send b e0 s4",
        "a Rejected: Some(Failed(\"a\", No))",
        "b OutOfOrder: Some(Again)",
        "epoch, given up Ok([])",
        "send b e1 s0",
    ]);
}

#[test]
fn what_is_late_and_was_never_sent_is_not_written() {
    let mut script = warm();
    script.push("a").expire().push("b").send();
    script.expect(&["late a No", "send b e0 s2"]);
}

#[test]
fn what_is_late_under_way_is_told_once_and_the_next_finds_out() {
    let mut script = warm();
    script.push("a").send().expire().expire();
    assert!(!script.pipeline.has_room(), "nothing is sent behind what may be missing");
    // It was there after all.
    script.ok("a").push("b").send().ok("b");
    script.expect(&["send a e0 s2", "late under way a", "ok a", "send b e0 s4", "ok b"]);
    // Nobody knows: what follows is sent under another epoch, and sent again as that.
    let mut script = warm();
    script.push("a").send().expire().fail("a", Failure::Lost).epoch();
    script.push("b").send().fail("b", Failure::Lost).wait().send().ok("b");
    script.expect(&[
        "send a e0 s2",
        "late under way a",
        "a Lost: Some(Gone(\"a\"))",
        "epoch, given up Ok([])",
        "send b e1 s0",
        "b Lost: Some(Again)",
        "send b e1 s0",
        "ok b",
    ]);
    // It was not taken: its sequences are free.
    let mut script = warm();
    script.push("a").send().expire().fail("a", Failure::Refused).push("b").send();
    script.expect(&["send a e0 s2", "late under way a", "a Refused: Some(Gone(\"a\"))", "send b e0 s2"]);
}

#[test]
fn those_behind_a_late_one_show_whether_it_is_there() {
    let sent_both = || {
        let mut script = warm();
        script.push("a").send().wait().push("b").send();
        script.now = script.now + 99 * LATER;
        assert!(matches!(script.pipeline.expire(script.now), Some(Expired::UnderWay(name)) if *name == "a"));
        assert!(script.pipeline.expire(script.now).is_none());
        script.expect(&["send a e0 s2", "send b e0 s4"]);
        script
    };
    let mut script = sent_both();
    script.fail("a", Failure::Lost).ok("b").push("c").send();
    script.expect(&["a Lost: Some(Gone(\"a\"))", "ok b", "send c e0 s6"]);
    let mut script = sent_both();
    script.fail("a", Failure::Lost).fail("b", Failure::OutOfOrder).epoch().wait().send();
    script.expect(&[
        "a Lost: Some(Gone(\"a\"))",
        "b OutOfOrder: Some(Again)",
        "epoch, given up Ok([])",
        "send b e1 s0",
    ]);
    // Nobody knows of the other either: it is sent again as it was, and nothing new before that is answered.
    let mut script = sent_both();
    script.fail("a", Failure::Lost).fail("b", Failure::Lost);
    assert!(!script.pipeline.is_epoch_due() && !script.pipeline.has_room());
    script.wait().send().fail("b", Failure::OutOfOrder).epoch();
    script.push("c").send();
    script.expect(&[
        "a Lost: Some(Gone(\"a\"))",
        "b Lost: Some(Again)",
        "send b e0 s4",
        "b OutOfOrder: Some(Again)",
        "epoch, given up Ok([\"b\"])",
        "send c e1 s0",
    ]);
}

#[test]
fn the_first_of_all_that_is_late_begins_an_epoch() {
    let mut script = Script::new(Some(IDENTITY));
    script.push("a").send().fail("a", Failure::Lost).expire().epoch().push("b").send();
    script.expect(&["send a e0 s0", "a Lost: Some(Again)", "late a Unknown", "epoch, given up Ok([])", "send b e1 s0"]);
}

#[test]
fn a_hole_behind_what_nobody_knows_waits_for_it() {
    let mut script = warm();
    script.push("a").send().push("b").send().push("c").send();
    script.fail("a", Failure::Lost).fail("b", Failure::Rejected).fail("c", Failure::OutOfOrder);
    assert!(!script.pipeline.is_epoch_due());
    script.wait().send().ok("a").epoch().wait().send();
    script.expect(&[
        "send a e0 s2",
        "send b e0 s4",
        "send c e0 s6",
        "a Lost: Some(Again)",
        "b Rejected: Some(Failed(\"b\", No))",
        "c OutOfOrder: Some(Again)",
        "send a e0 s2",
        "ok a",
        "epoch, given up Ok([])",
        "send c e1 s0",
    ]);
}

#[test]
fn sequences_are_compared_across_their_end() {
    assert!(is_ahead(Sequence(2), Sequence(i32::MAX)) && !is_ahead(Sequence(i32::MAX), Sequence(2)));
    assert!(is_ahead(Sequence(5), Sequence(4)) && !is_ahead(Sequence(4), Sequence(4)));
}

#[test]
fn what_is_late_and_doubtful_is_of_unknown_fate() {
    let mut script = warm();
    script.push("a").send().fail("a", Failure::Lost).expire().epoch().push("b").send();
    script.expect(&["send a e0 s2", "a Lost: Some(Again)", "late a Unknown", "epoch, given up Ok([])", "send b e1 s0"]);
}

#[test]
fn a_split_keeps_sequences_and_place() {
    let mut script = warm();
    script.push("ab").send().push("c").send().fail("ab", Failure::TooLarge);
    let number = script.numbers["ab"];
    assert_eq!(script.pipeline.replace(number, vec![("a", 1), ("b", 1)]), Some("ab"));
    script.fail("c", Failure::OutOfOrder).wait().send().ok("a").send().ok("b").send().ok("c");
    script.expect(&[
        "send ab e0 s2",
        "send c e0 s4",
        "ab TooLarge: Some(Split)",
        "c OutOfOrder: Some(Again)",
        "send a e0 s2",
        "ok a",
        "send b e0 s3",
        "ok b",
        "send c e0 s4",
        "ok c",
    ]);
}

#[test]
fn one_record_that_is_too_large_fails() {
    let mut script = warm();
    script.pipeline.push("a", 1, script.now + LATER);
    script.send().fail("a", Failure::TooLarge);
    script.expect(&["send a e0 s2", "a TooLarge: Some(Failed(\"a\", No))"]);
}

#[test]
fn an_id_has_an_end_and_another_goes_on() {
    let last = Identity { epoch: ProducerEpoch(i16::MAX), ..IDENTITY };
    let mut script = Script::new(Some(last));
    script.push("a").send().fail("a", Failure::InvalidEpoch);
    assert_eq!(script.pipeline.begin_next_epoch(), Err(UsedUp));
    assert!(script.pipeline.has_used(IDENTITY.id) && !script.pipeline.has_used(ProducerId(10)));
    assert_eq!(script.pipeline.begin(Identity { id: ProducerId(10), ..IDENTITY }), Vec::<&str>::new());
    script.wait().send();
    script.expect(&["send a e32767 s0", "a InvalidEpoch: Some(Again)", "send a e0 s0"]);
}

#[test]
fn without_idempotence_nothing_is_numbered_and_retries_may_be_overtaken() {
    let mut script = Script::new(None);
    script.push("a").send().push("b").send().fail("a", Failure::Lost).ok("b").wait().send();
    script.fail("a", Failure::OutOfOrder);
    script.expect(&[
        "send a e-1 s-1",
        "send b e-1 s-1",
        "a Lost: Some(Again)",
        "ok b",
        "send a e-1 s-1",
        "a OutOfOrder: Some(Failed(\"a\", Unknown))",
    ]);
}

#[test]
fn deadlines_are_the_nearest_of_retries_and_lateness() {
    let mut script = warm();
    script.push("a").send();
    let late = script.now + 100 * LATER;
    assert_eq!(script.pipeline.next_deadline(script.now), Some(late));
    script.fail("a", Failure::Lost);
    assert_eq!(script.pipeline.next_deadline(script.now), Some(script.now + LATER));
    assert_eq!(script.pipeline.next_deadline(script.now + LATER), Some(late));
}

/// A broker as brokers are: it remembers the last five batches of the newest epoch, and takes any first sequence.
#[derive(Default)]
struct Broker {
    last: Option<(i16, i32)>,
    recent: Vec<(i16, i32)>,
    log: Vec<u32>,
}

impl Broker {
    fn append(&mut self, batch: u32, epoch: i16, sequence: i32) -> Result<(), Failure> {
        if self.recent.contains(&(epoch, sequence)) {
            return Ok(());
        }
        let expected = match self.last {
            None => sequence,
            Some((known, _)) if epoch < known => return Err(Failure::InvalidEpoch),
            Some((known, last)) if epoch == known => last + 1,
            Some(_) => 0,
        };
        if sequence != expected {
            return Err(Failure::OutOfOrder);
        }
        if self.last.is_some_and(|(known, _)| known != epoch) {
            self.recent.clear();
        }
        self.last = Some((epoch, sequence));
        self.recent.push((epoch, sequence));
        if self.recent.len() > 5 {
            self.recent.remove(0);
        }
        self.log.push(batch);
        Ok(())
    }
}

/// What a network and a broker may do with one request.
#[derive(Clone, Copy, Debug)]
enum Luck {
    Fine,
    LostBefore,
    LostAfter,
    Refused,
    Rejected,
    /// It arrives when the producer has long given up waiting: at this later step.
    Delayed(usize),
}

fn luck() -> impl Strategy<Value = Luck> {
    prop_oneof![
        6 => Just(Luck::Fine),
        2 => Just(Luck::LostBefore),
        2 => Just(Luck::LostAfter),
        2 => Just(Luck::Refused),
        1 => Just(Luck::Rejected),
        2 => (1_usize..12).prop_map(Luck::Delayed),
    ]
}

proptest! {
    /// Whatever happens: no batch is in the log twice, acknowledged ones are there, in order; those that failed as not written
    /// are not.
    #[test]
    fn nothing_is_written_twice_or_out_of_order(lucks in proptest::collection::vec((luck(), 0_usize..3, any::<bool>()), 1..80)) {
        let mut broker = Broker::default();
        let mut pipeline: Pipeline<u32> = Pipeline::new(Some(IDENTITY), 5);
        let mut now = Instant::from_nanos(1);
        let (mut next, mut acknowledged, mut not_written) = (0_u32, Vec::new(), Vec::new());
        let mut delayed: Vec<(usize, u32, i16, i32)> = Vec::new();
        let mut under_way: VecDeque<(BatchNumber, Result<(), Failure>)> = VecDeque::new();
        for (step, (luck, answers, late)) in lucks.into_iter().enumerate() {
            now = now + LATER;
            delayed.retain(|(at, batch, epoch, sequence)| {
                if *at <= step { let _late = broker.append(*batch, *epoch, *sequence); }
                *at > step
            });
            if pipeline.has_room() {
                pipeline.push(next, 1, now + 20 * LATER);
                next += 1;
            }
            if let Some(due) = pipeline.due(now) {
                let (epoch, sequence) = (due.identity.unwrap().epoch.0, due.base_sequence.0);
                let batch = *pipeline.batch_mut(due.number).unwrap();
                pipeline.mark_sent(due.number);
                let outcome = match luck {
                    Luck::Fine => broker.append(batch, epoch, sequence),
                    Luck::LostBefore => Err(Failure::Lost),
                    Luck::LostAfter => broker.append(batch, epoch, sequence).and(Err(Failure::Lost)).or(Err(Failure::Lost)),
                    Luck::Refused => Err(Failure::Refused),
                    Luck::Rejected => Err(Failure::Rejected),
                    Luck::Delayed(steps) => {
                        delayed.push((step + steps, batch, epoch, sequence));
                        Err(Failure::Lost)
                    }
                };
                under_way.push_back((due.number, outcome));
            }
            // Answers come in the order of the requests.
            for _ in 0..answers {
                let Some((number, outcome)) = under_way.pop_front() else { break };
                match outcome {
                    Ok(()) => acknowledged.extend(pipeline.handle_success(number)),
                    Err(failure) => {
                        if let Some(Verdict::Failed(batch, Written::No)) = pipeline.handle_failure(number, failure, now) {
                            not_written.push(batch);
                        }
                    }
                }
            }
            if late {
                while let Some(expired) = pipeline.expire(now) {
                    if let Expired::Gone(batch, Written::No) = expired { not_written.push(batch) }
                }
            }
            if pipeline.is_epoch_due() {
                pipeline.begin_next_epoch().unwrap();
            }
        }
        for (_, batch, epoch, sequence) in delayed {
            let _late = broker.append(batch, epoch, sequence);
        }
        // Then all is well, but for one answer that is lost: nothing new fails, whatever was given up before.
        let mut lost = Some(Err(Failure::Lost));
        let last = next;
        for _ in 0..50 {
            now = now + LATER;
            if pipeline.has_room() && next < last + 3 {
                pipeline.push(next, 1, now + 1000 * LATER);
                next += 1;
            }
            while let Some((number, outcome)) = under_way.pop_front() {
                match outcome {
                    Ok(()) => acknowledged.extend(pipeline.handle_success(number)),
                    Err(failure) => {
                        let verdict = pipeline.handle_failure(number, failure, now);
                        prop_assert!(!matches!(verdict, Some(Verdict::Failed(batch, _)) if batch >= last), "{verdict:?}");
                    }
                }
            }
            if pipeline.is_epoch_due() {
                let given_up = pipeline.begin_next_epoch().unwrap();
                prop_assert!(given_up.iter().all(|batch| *batch < last), "{given_up:?}");
            }
            if let Some(due) = pipeline.due(now) {
                let batch = *pipeline.batch_mut(due.number).unwrap();
                pipeline.mark_sent(due.number);
                let outcome = match lost.take_if(|_| batch >= last) {
                    Some(lost) => lost,
                    None => broker.append(batch, due.identity.unwrap().epoch.0, due.base_sequence.0),
                };
                under_way.push_back((due.number, outcome));
            }
        }
        prop_assert_eq!(next, last + 3);
        prop_assert!((last..next).all(|batch| acknowledged.contains(&batch)), "{:?}", acknowledged);
        prop_assert!(broker.log.windows(2).all(|pair| pair[0] < pair[1]), "{:?}", broker.log);
        prop_assert!(acknowledged.iter().all(|batch| broker.log.contains(batch)), "{acknowledged:?} {:?}", broker.log);
        prop_assert!(!not_written.iter().any(|batch| broker.log.contains(batch)), "{not_written:?} {:?}", broker.log);
    }
}
