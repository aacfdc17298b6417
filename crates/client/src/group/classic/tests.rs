//! A member's stories, told by what the coordinator answers.

use core::time::Duration;

use quipu_base::PartitionIndex;
use quipu_protocol::{
    ErrorCode, Request, Response,
    messages::{
        heartbeat::HeartbeatResponse,
        join_group::{JoinGroupResponse, JoinGroupResponseMember},
        sync_group::SyncGroupResponse,
    },
};
use rand::SeedableRng;

use super::{
    super::{
        GroupError,
        ledger::{Change, Partitions, Verdict},
        wire::Subscription,
    },
    *,
};
use crate::TopicPartition;

struct Story {
    member: Classic,
    now: Instant,
}

impl Story {
    fn new(assignors: &[Assignor]) -> Self {
        let config = GroupConfig { assignors: assignors.to_vec(), ..GroupConfig::new("workers") };
        let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        let mut member = Classic::new(config, backoff, Rng::seed_from_u64(1));
        member.handle_topics(Instant::ZERO, ["knots".into()].into());
        Self { member, now: Instant::ZERO }
    }

    /// What is asked next, once its time has come.
    fn ask(&mut self) -> Request {
        self.now = self.now.max(self.member.deadline().expect("something is due"));
        self.member.ask(self.now).expect("it is due now").request
    }

    fn reply(&mut self, response: impl Into<Response>) -> Verdict {
        self.member.handle_reply(self.now, response.into())
    }

    /// Joins as one that follows, and is given these.
    fn join(&mut self, generation: i32, partitions: &[i32]) {
        let Request::JoinGroup(_) = self.ask() else { panic!("it joins") };
        let joined = JoinGroupResponse {
            generation_id: generation,
            protocol_name: Some("range".into()),
            leader: "other".into(),
            member_id: "m".into(),
            ..Default::default()
        };
        assert_eq!(self.reply(joined), Verdict::Fine);
        self.sync(generation, partitions);
    }

    fn sync(&mut self, generation: i32, partitions: &[i32]) {
        let Request::SyncGroup(asked) = self.ask() else { panic!("it syncs") };
        assert_eq!(asked.generation_id, generation);
        let assignment = wire::encode_assignment(&own(partitions));
        assert_eq!(self.reply(SyncGroupResponse { assignment, ..Default::default() }), Verdict::Fine);
    }

    fn heartbeat(&mut self, code: ErrorCode) -> Verdict {
        let Request::Heartbeat(_) = self.ask() else { panic!("a sign of life") };
        self.reply(HeartbeatResponse { error_code: code.code(), ..Default::default() })
    }

    fn change(&mut self) -> (Vec<i32>, Vec<i32>, bool) {
        let Change { revoked, assigned, is_lost } = self.member.ledger.take().expect("something changes");
        let numbers = |all: &Partitions| all.iter().map(|one| one.partition.0).collect();
        (numbers(&revoked), numbers(&assigned), is_lost)
    }

    fn done(&mut self) {
        self.member.handle_done(self.now);
    }
}

fn own(numbers: &[i32]) -> Partitions {
    numbers.iter().map(|number| TopicPartition::new("knots", PartitionIndex(*number))).collect()
}

#[test]
fn an_id_is_given_first_and_the_leader_shares_out() {
    let mut story = Story::new(&[Assignor::Range]);
    let Request::JoinGroup(asked) = story.ask() else { panic!("it joins") };
    assert_eq!((&*asked.member_id, &*asked.protocols[0].name), ("", "range"));
    let error_code = ErrorCode::MemberIdRequired.code();
    story.reply(JoinGroupResponse { error_code, member_id: "m".into(), ..Default::default() });
    let Request::JoinGroup(asked) = story.ask() else { panic!("it joins again") };
    assert_eq!(&*asked.member_id, "m");
    let member = |id: &str| JoinGroupResponseMember {
        member_id: id.into(),
        metadata: asked.protocols[0].metadata.clone(),
        ..Default::default()
    };
    let joined = JoinGroupResponse {
        generation_id: 1,
        protocol_name: Some("range".into()),
        leader: "m".into(),
        member_id: "m".into(),
        members: vec![member("m"), member("n")],
        ..Default::default()
    };
    story.reply(joined);
    assert!(story.member.wants_counts() && story.member.ask(story.now).is_none());
    let counts: Counts = [("knots".into(), 3)].into();
    story.member.handle_counts(story.now, &counts);
    let Request::SyncGroup(asked) = story.ask() else { panic!("it shares out") };
    let shares: Vec<_> = asked
        .assignments
        .iter()
        .map(|one| (&*one.member_id, wire::decode_assignment(&one.assignment).unwrap()))
        .collect();
    assert_eq!(shares, [("m", own(&[0, 1])), ("n", own(&[2]))]);
    let assignment = wire::encode_assignment(&own(&[0, 1]));
    story.reply(SyncGroupResponse { assignment, ..Default::default() });
    assert_eq!(story.change(), (vec![], vec![0, 1], false));
    story.done();
    // The same topics are nothing new, more partitions are: it joins again, once all is given up.
    story.member.handle_counts(story.now, &counts);
    assert_eq!(story.heartbeat(ErrorCode::None), Verdict::Fine);
    story.member.handle_counts(story.now, &[("knots".into(), 4)].into());
    let Request::Heartbeat(_) = story.ask() else { panic!("life goes on") };
    assert_eq!(story.change(), (vec![0, 1], vec![], false));
    story.reply(HeartbeatResponse::default());
    story.done();
    let Request::JoinGroup(_) = story.ask() else { panic!("it joins") };
}

#[test]
fn eager_members_hold_nothing_while_they_join() {
    let mut story = Story::new(&[Assignor::Range, Assignor::CooperativeSticky]);
    story.join(1, &[0, 1]);
    assert_eq!(story.change(), (vec![], vec![0, 1], false));
    story.done();
    assert_eq!(story.heartbeat(ErrorCode::RebalanceInProgress), Verdict::Fine);
    assert_eq!(story.change(), (vec![0, 1], vec![], false));
    // As long as the application has not done it, signs of life go on.
    assert_eq!(story.heartbeat(ErrorCode::RebalanceInProgress), Verdict::Fine);
    story.done();
    story.join(2, &[0]);
    assert_eq!(story.change(), (vec![], vec![0], false));
}

#[test]
fn cooperative_members_keep_what_they_have_and_join_again_after_giving_up() {
    let mut story = Story::new(&[Assignor::CooperativeSticky]);
    story.join(1, &[0, 1]);
    assert_eq!(story.change(), (vec![], vec![0, 1], false));
    story.done();
    story.heartbeat(ErrorCode::RebalanceInProgress);
    let Request::JoinGroup(asked) = story.ask() else { panic!("it joins at once") };
    let said = Subscription::decode(&asked.protocols[0].metadata).unwrap();
    assert_eq!((said.owned, said.generation), (own(&[0, 1]), 1));
    let joined =
        JoinGroupResponse { generation_id: 2, leader: "other".into(), member_id: "m".into(), ..Default::default() };
    story.reply(joined);
    story.sync(2, &[0]);
    assert_eq!(story.change(), (vec![1], vec![], false));
    assert_eq!(story.heartbeat(ErrorCode::None), Verdict::Fine);
    story.done();
    let Request::JoinGroup(asked) = story.ask() else { panic!("it joins again") };
    assert_eq!(Subscription::decode(&asked.protocols[0].metadata).unwrap().owned, own(&[0]));
}

#[test]
fn whoever_is_not_known_any_more_loses_all_and_joins_as_new() {
    for code in [ErrorCode::UnknownMemberId, ErrorCode::IllegalGeneration] {
        let mut story = Story::new(&[Assignor::CooperativeSticky]);
        story.join(1, &[0]);
        story.change();
        story.done();
        let before = story.member.membership();
        assert_eq!(before.generation, Some(1));
        story.heartbeat(code);
        let after = story.member.membership();
        assert_eq!((after.generation, after.incarnation), (None, before.incarnation + 1));
        assert_eq!(story.change(), (vec![0], vec![], true));
        assert!(story.member.deadline().is_none(), "the application has to know first");
        story.done();
        let Request::JoinGroup(asked) = story.ask() else { panic!("it joins") };
        assert_eq!(asked.member_id.is_empty(), code == ErrorCode::UnknownMemberId);
        assert_eq!(Subscription::decode(&asked.protocols[0].metadata).unwrap().owned, own(&[]));
    }
}

#[test]
fn a_sync_that_comes_too_late_joins_again() {
    let mut story = Story::new(&[Assignor::RoundRobin]);
    let Request::JoinGroup(_) = story.ask() else { panic!("it joins") };
    story.reply(JoinGroupResponse {
        generation_id: 1,
        leader: "o".into(),
        member_id: "m".into(),
        ..Default::default()
    });
    let Request::SyncGroup(_) = story.ask() else { panic!("it syncs") };
    story.reply(SyncGroupResponse { error_code: ErrorCode::RebalanceInProgress.code(), ..Default::default() });
    story.join(2, &[1]);
    assert_eq!(story.change(), (vec![], vec![1], false));
}

#[test]
fn trouble_waits_and_refusals_end_it() {
    let mut story = Story::new(&[Assignor::Range]);
    let Request::JoinGroup(_) = story.ask() else { panic!("it joins") };
    let error_code = ErrorCode::NotCoordinator.code();
    assert_eq!(story.reply(JoinGroupResponse { error_code, ..Default::default() }), Verdict::Elsewhere);
    let before = story.now;
    let Request::JoinGroup(_) = story.ask() else { panic!("it tries again") };
    assert!(story.now.since(before) >= Duration::from_millis(80));
    let error_code = ErrorCode::InconsistentGroupProtocol.code();
    let verdict = story.reply(JoinGroupResponse { error_code, ..Default::default() });
    assert!(matches!(&verdict, Verdict::Failed(GroupError::Client(_))), "{verdict:?}");
    assert!(story.member.deadline().is_none());
}

#[test]
fn static_members_are_fenced_and_do_not_leave() {
    let mut story = Story::new(&[Assignor::Range]);
    story.member.config.instance_id = Some("one".to_owned());
    story.join(1, &[0]);
    story.change();
    story.done();
    let verdict = story.heartbeat(ErrorCode::FencedInstanceId);
    assert!(matches!(&verdict, Verdict::Failed(GroupError::Fenced { instance_id, .. }) if instance_id == "one"));
    assert_eq!(story.change(), (vec![0], vec![], true));
    let mut story = Story::new(&[Assignor::Range]);
    story.join(1, &[0]);
    story.change();
    let Some(Ask { request: Request::LeaveGroup(asked), .. }) = story.member.leave("closed") else {
        panic!("it leaves")
    };
    assert_eq!(&*asked.members[0].member_id, "m");
    story.member.config.instance_id = Some("one".to_owned());
    story.member.member_id = "m".into();
    assert!(story.member.leave("closed").is_none());
}
