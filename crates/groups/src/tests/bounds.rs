//! Hostile requests: memory stays bounded, and other groups work on.

use core::time::Duration;
use std::sync::Arc;

use bytes::Bytes;
use quipu_base::Timestamp;
use quipu_coordinator::{Context, Machine as _, Token};
use quipu_env::Instant;

use super::script::modern::topics;
use crate::{
    GroupError, Groups, Settings,
    consumer::{
        ConsumerError, ConsumerReply, ConsumerRequest,
        request::{ConsumerHeartbeat, Partitions},
    },
    limits,
    request::*,
};

fn context(number: u64) -> Context {
    let mut fresh = [0; 16];
    fresh[8..].copy_from_slice(&number.to_be_bytes());
    Context { now: Instant::ZERO, wall: Timestamp(0), fresh }
}

fn join(group: &str, bytes: usize) -> Join {
    Join {
        group: group.into(),
        member_id: "".into(),
        instance_id: None,
        client_id: "c".to_owned(),
        client_host: "h".to_owned(),
        session_timeout: Duration::from_secs(10),
        rebalance_timeout: Duration::from_secs(10),
        protocol_type: "consumer".to_owned(),
        protocols: vec![Protocol { name: "range".to_owned(), metadata: vec![0; bytes].into() }],
        reason: None,
        takes_member_id: true,
        skips_assignment: true,
    }
}

fn error_of(turn: quipu_coordinator::Turn<Reply>) -> Option<GroupError> {
    match turn.replies.into_iter().next() {
        Some((_, Reply::Join(joined))) => joined.error,
        None => None,
        other => panic!("{other:?}"),
    }
}

#[test]
fn ids_that_never_come_back_are_bounded_and_go_by_themselves() {
    let mut groups = Groups::new(Settings::default());
    let mut last = None;
    for number in 0..u64::try_from(limits::MEMBERS_MAX).unwrap() + 1 {
        let turn = groups.handle(&context(number), Token(number), Request::Join(join("g", 10)));
        last = error_of(turn);
    }
    assert_eq!(last, Some(GroupError::Full));
    let now = Instant::ZERO + Duration::from_secs(11);
    groups.on_deadline(&Context { now, ..context(0) });
    assert!(groups.is_empty());
    let turn = groups.handle(&Context { now, ..context(1) }, Token(1), Request::Join(join("g", 10)));
    assert_eq!(error_of(turn), Some(GroupError::MemberIdRequired));
}

#[test]
fn subscriptions_and_assignments_of_megabytes_are_refused() {
    let mut groups = Groups::new(Settings { initial_rebalance_delay: Duration::ZERO, ..Settings::default() });
    let big = Join { takes_member_id: false, ..join("big", limits::GROUP_BYTES_MAX + 1) };
    assert_eq!(error_of(groups.handle(&context(0), Token(0), Request::Join(big))), Some(GroupError::TooLarge));
    assert!(groups.is_empty(), "nothing is left of it");
    let many = Join { takes_member_id: false, ..join("many", 1) };
    let protocols = vec![many.protocols[0].clone(); limits::PROTOCOLS_MAX + 1];
    let many = Join { protocols, ..many };
    assert_eq!(error_of(groups.handle(&context(0), Token(0), Request::Join(many))), Some(GroupError::TooLarge));

    let turn = groups.handle(&context(1), Token(1), Request::Join(Join { takes_member_id: false, ..join("g", 1) }));
    let Some((_, Reply::Join(joined))) = turn.replies.into_iter().next() else { panic!() };
    let member = MemberOf { group: "g".into(), member_id: joined.member_id, instance_id: None, generation: 1 };
    let assignments = vec![(Arc::clone(&member.member_id), Bytes::from(vec![0; limits::GROUP_BYTES_MAX]))];
    let sync = Sync { member, protocol_type: None, protocol: None, assignments };
    let turn = groups.handle(&context(2), Token(2), Request::Sync(sync));
    let [(Token(2), Reply::Sync(Err(GroupError::TooLarge)))] = turn.replies[..] else { panic!("{:?}", turn.replies) };
}

#[test]
fn the_members_of_a_shard_share_their_memory() {
    let mut groups = Groups::new(Settings::default());
    let bytes = limits::GROUP_BYTES_MAX / 2;
    let mut refused = None;
    for number in 0..1000_u64 {
        let one = Join { takes_member_id: false, ..join(&format!("g{number}"), bytes) };
        refused = error_of(groups.handle(&context(number), Token(number), Request::Join(one)));
        if refused.is_some() {
            assert!(number > 50, "{number}");
            break;
        }
    }
    assert_eq!(refused, Some(GroupError::Full));
    let small = Join { takes_member_id: false, ..join("small", 10) };
    assert_eq!(error_of(groups.handle(&context(2000), Token(2000), Request::Join(small))), None);
}

fn come(number: u64, names: Vec<Arc<str>>) -> ConsumerHeartbeat {
    ConsumerHeartbeat {
        group: "g".into(),
        member_id: format!("m{number}").into(),
        member_epoch: 0,
        instance_id: None,
        rack_id: None,
        rebalance_timeout: Some(Duration::from_secs(10)),
        subscribed_names: Some(names),
        subscribed_regex: None,
        assignor: None,
        owned: Some(Partitions::new()),
        client_id: "c".to_owned(),
        client_host: "h".to_owned(),
        makes_id: true,
    }
}

fn come_to(groups: &mut Groups, number: u64, beat: ConsumerHeartbeat) -> Result<usize, ConsumerError> {
    let turn = groups.handle(&context(number), Token(number), Request::Consumer(ConsumerRequest::Heartbeat(beat)));
    assert!(turn.records.iter().all(|record| record.bytes() <= limits::GROUP_BYTES_MAX + 1024), "each can be written");
    match turn.replies.into_iter().next() {
        Some((_, Reply::Consumer(ConsumerReply::Heartbeat(beat)))) => {
            beat.map(|beat| beat.assignment.iter().flatten().map(|(_, partitions)| partitions.len()).sum())
        }
        other => panic!("{other:?}"),
    }
}

fn with_topics(pairs: &[(&str, &str)]) -> Groups {
    let mut groups = Groups::new(Settings::default());
    groups.handle(&context(0), Token(0), Request::Consumer(topics(1, pairs)));
    groups
}

#[test]
fn subscriptions_of_megabytes_are_refused_and_leave_nothing() {
    let mut groups = with_topics(&[("t", "1")]);
    let names: Vec<Arc<str>> = (0..40_000).map(|number| format!("topic-{number}").into()).collect();
    let refused = come_to(&mut groups, 1, come(1, names.clone()));
    assert_eq!(refused, Err(ConsumerError::Group(GroupError::TooLarge)));
    assert!(groups.is_empty());
    let regex = "a".repeat(limits::REGEX_BYTES_MAX + 1);
    let beat = ConsumerHeartbeat { subscribed_regex: Some(regex.into()), ..come(1, Vec::new()) };
    assert!(matches!(come_to(&mut groups, 1, beat), Err(ConsumerError::InvalidRegularExpression(_))));
    // What fits is taken until all members of the group have what they may have.
    let last = (1..1000).map(|number| come_to(&mut groups, number, come(number, names[..20_000].to_vec())));
    let refused = last.into_iter().position(|result| result == Err(ConsumerError::Group(GroupError::TooLarge)));
    assert!(refused.is_some_and(|count| count > 5), "{refused:?}");
    let mut other = come(2000, vec!["t".into()]);
    other.group = "other".into();
    assert_eq!(come_to(&mut groups, 2000, other), Ok(1), "others work on");
}

#[test]
fn more_partitions_than_a_record_holds_are_not_assigned() {
    let mut groups = with_topics(&[("t", "50000"), ("u", "1000000")]);
    assert_eq!(come_to(&mut groups, 1, come(1, vec!["t".into()])), Ok(50_000));
    assert_eq!(come_to(&mut groups, 2, come(2, vec!["u".into()])), Ok(0));
}
