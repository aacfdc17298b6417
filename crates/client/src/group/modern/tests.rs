//! A member's stories, told by what the coordinator answers.

use quipu_protocol::{Request, messages::consumer_group_heartbeat::Assignment};
use rand::SeedableRng;

use super::{super::ledger::Change, *};

const KNOTS: TopicId = TopicId([7; 16]);

struct Story {
    member: Modern,
    now: Instant,
}

impl Story {
    fn new() -> Self {
        let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        let mut member = Modern::new(GroupConfig::new("workers"), backoff, Rng::seed_from_u64(1));
        member.handle_wanted(Instant::ZERO, Wanted::Topics(["knots".into()].into()));
        Self { member, now: Instant::ZERO }
    }

    fn ask(&mut self) -> ConsumerGroupHeartbeatRequest {
        self.now = self.now.max(self.member.deadline().expect("something is due"));
        let Some(Ask { request: Request::ConsumerGroupHeartbeat(asked), .. }) = self.member.ask(self.now) else {
            panic!("it is due now")
        };
        asked
    }

    fn reply(&mut self, member_epoch: i32, partitions: Option<&[i32]>) -> Verdict {
        let given = |partitions: &[i32]| {
            let topic = TopicPartitions { topic_id: KNOTS, partitions: partitions.to_vec() };
            Assignment { topic_partitions: vec![topic] }
        };
        let heartbeat_interval_ms = 5000;
        let assignment = partitions.map(given);
        let response =
            ConsumerGroupHeartbeatResponse { member_epoch, heartbeat_interval_ms, assignment, ..Default::default() };
        self.member.handle_reply(self.now, response.into())
    }

    fn refuse(&mut self, code: ErrorCode) -> Verdict {
        let response = ConsumerGroupHeartbeatResponse { error_code: code.code(), ..Default::default() };
        self.member.handle_reply(self.now, response.into())
    }

    fn change(&mut self) -> (Vec<i32>, Vec<i32>, bool) {
        let Change { revoked, assigned, is_lost } = self.member.ledger.take().expect("something changes");
        let numbers = |all: &Partitions| all.iter().map(|one| one.partition.0).collect();
        (numbers(&revoked), numbers(&assigned), is_lost)
    }

    fn named(mut self) -> Self {
        self.member.handle_names([(KNOTS, "knots".into())]);
        self
    }
}

fn held(asked: &ConsumerGroupHeartbeatRequest) -> Option<Vec<i32>> {
    let topics = asked.topic_partitions.as_ref()?;
    Some(topics.iter().flat_map(|topic| topic.partitions.clone()).collect())
}

#[test]
fn it_says_all_at_first_and_then_only_what_is_new() {
    let mut story = Story::new();
    let asked = story.ask();
    assert_eq!((asked.member_epoch, asked.member_id.len(), asked.rebalance_timeout_ms), (0, 36, 300_000));
    assert_eq!((asked.subscribed_topic_names.as_ref().unwrap().len(), held(&asked)), (1, Some(vec![])));
    assert_eq!(story.reply(1, Some(&[0, 1])), Verdict::Fine);
    // Names come later.
    assert_eq!(story.member.unnamed(), [KNOTS].into());
    assert!(story.member.ledger.is_settled());
    let mut story = story.named();
    assert_eq!(story.change(), (vec![], vec![0, 1], false));
    let before = story.now;
    let asked = story.ask();
    assert_eq!(story.now.since(before), Duration::from_secs(5), "the coordinator says how often");
    assert_eq!((asked.member_epoch, asked.subscribed_topic_names, asked.topic_partitions), (1, None, None));
    story.reply(1, None);
    story.member.handle_done(story.now);
    assert_eq!(held(&story.ask()), Some(vec![0, 1]), "at once, since it is done");
}

#[test]
fn it_gives_up_before_it_tells_so() {
    let mut story = Story::new().named();
    story.ask();
    story.reply(1, Some(&[0, 1]));
    story.change();
    story.member.handle_done(story.now);
    story.ask();
    story.reply(1, Some(&[1]));
    assert_eq!(story.change(), (vec![0], vec![], false));
    // Another word of the coordinator waits until that is done.
    assert_eq!(held(&story.ask()), None);
    story.reply(2, Some(&[1, 2]));
    assert!(story.member.ledger.take().is_none());
    story.member.handle_done(story.now);
    assert_eq!(held(&story.ask()), Some(vec![1]));
    assert_eq!(story.change(), (vec![], vec![2], false));
}

#[test]
fn whoever_is_fenced_loses_all_and_joins_again() {
    for code in [ErrorCode::FencedMemberEpoch, ErrorCode::UnknownMemberId] {
        let mut story = Story::new().named();
        story.ask();
        story.reply(4, Some(&[0]));
        story.change();
        story.member.handle_done(story.now);
        story.ask();
        assert_eq!(story.refuse(code), Verdict::Fine);
        assert_eq!((story.change(), story.member.membership().generation), ((vec![0], vec![], true), None));
        assert!(story.member.deadline().is_none(), "the application has to know first");
        story.member.handle_done(story.now);
        let asked = story.ask();
        assert_eq!((asked.member_epoch, held(&asked)), (0, Some(vec![])));
    }
}

#[test]
fn a_join_that_is_refused_is_not_repeated_at_once() {
    let mut story = Story::new();
    for _ in 0..3 {
        let (asked, before) = (story.ask(), story.now);
        assert_eq!(asked.member_epoch, 0);
        assert_eq!(story.refuse(ErrorCode::FencedMemberEpoch), Verdict::Fine);
        assert!(story.member.deadline().unwrap() > before, "it rests first");
    }
    story.ask();
    story.reply(3, None);
    story.ask();
    let before = story.now;
    story.refuse(ErrorCode::FencedMemberEpoch);
    assert_eq!(story.member.deadline(), Some(before), "who is fenced joins at once");
}

#[test]
fn after_trouble_it_says_all() {
    let mut story = Story::new().named();
    story.ask();
    story.reply(1, Some(&[0]));
    story.change();
    story.member.handle_done(story.now);
    story.ask();
    let trouble = ClientError::TimedOut { what: "reply".into(), after: Duration::from_secs(1), last: None };
    assert_eq!(story.member.handle_trouble(story.now, &trouble), Verdict::Elsewhere);
    let asked = story.ask();
    assert_eq!((held(&asked), asked.subscribed_topic_names.is_some()), (Some(vec![0]), true));
}

#[test]
fn patterns_are_said_and_taken_back() {
    let mut story = Story::new();
    story.member.handle_wanted(story.now, Wanted::Pattern("kn.*".into()));
    let asked = story.ask();
    assert_eq!(asked.subscribed_topic_regex.as_deref(), Some("kn.*"));
    story.reply(1, None);
    story.member.handle_wanted(story.now, Wanted::Topics(["knots".into()].into()));
    let asked = story.ask();
    assert_eq!((asked.subscribed_topic_regex.as_deref(), asked.subscribed_topic_names.unwrap().len()), (Some(""), 1));
}

#[test]
fn leaving_is_for_good_or_for_now() {
    for (instance_id, epoch) in [(None, LEAVE), (Some("one".to_owned()), LEAVE_FOR_NOW)] {
        let mut story = Story::new();
        story.member.config.instance_id = instance_id;
        assert!(story.member.deadline().is_some());
        story.ask();
        story.reply(3, None);
        let Some(Ask { request: Request::ConsumerGroupHeartbeat(asked), .. }) = story.member.leave() else {
            panic!("it leaves")
        };
        assert_eq!(asked.member_epoch, epoch);
        assert!(story.member.leave().is_none() && story.member.deadline().is_none());
    }
    let mut story = Story::new();
    story.ask();
    let verdict = story.refuse(ErrorCode::UnreleasedInstanceId);
    assert!(matches!(verdict, Verdict::Failed(GroupError::Fenced { .. })), "{verdict:?}");
}
