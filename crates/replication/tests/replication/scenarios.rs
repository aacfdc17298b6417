//! The rules one by one, as stories of three nodes. Node 1 leads in epoch 1, RF 3, Q 2, S 2, unless a story says otherwise.

use core::time::Duration;

use quipu_base::{BrokerEpoch, BrokerId, LeaderEpoch, Offset};
use quipu_env::Instant;
use quipu_replication::{
    Acks, Append, Ask, BatchShape, EpochStart, EpochTable, Event, GiveUp, LogShape, Malformed, Message, Piece,
    Progress, Refusal, Reply, Report, RequestError, RequestId, RoleKind, Sender,
};
use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng};

use crate::{
    controller::{directory, member, node_id},
    disk::Records,
    probe::TestProbe,
    world::{Packet, World},
};

const LEADER: usize = 1;

fn started() -> World {
    World::started(3, 3, 2, TestProbe::default())
}

fn finish(mut world: World) {
    world.heal();
    assert_eq!(world.checker.violation, None);
}

fn is_produced(world: &World, id: u64) -> bool {
    matches!(world.reply(id), Some(Reply::Produced { .. }))
}

fn members(world: &World) -> Vec<i32> {
    world.controller.now().record.configuration.members.iter().map(|member| member.node.0).collect()
}

fn reasons(world: &World) -> Vec<GiveUp> {
    let reason = |(_, ask): &(usize, Ask)| match ask {
        Ask::GiveUp { reason, .. } => Some(*reason),
        _ => None,
    };
    world.asks.iter().filter_map(reason).collect()
}

#[test]
fn a_record_is_committed_when_any_q_have_synced_it() {
    let mut world = started();
    let id = world.produce(LEADER, 1);
    while !world.network.is_empty() {
        world.deliver(0);
    }
    world.sync_all(2);
    world.settle_network();
    assert!(!is_produced(&world, id), "one of three has synced it");
    world.sync_all(3);
    world.settle_network();
    assert!(is_produced(&world, id), "two have, and the leader's own disk is not needed");
    finish(world);
}

#[test]
fn acks_1_is_answered_after_the_leaders_sync_and_invisible_until_committed() {
    let mut world = started();
    let id = world.produce_with(LEADER, 1, Acks::Leader);
    assert_eq!(world.reply(id), None);
    world.sync_all(LEADER);
    assert!(is_produced(&world, id));
    assert_eq!(world.replica(LEADER).high_watermark(), Offset(0));
    world.settle();
    assert_eq!(world.replica(LEADER).latest_offset(), Ok(Offset(1)));
    finish(world);
}

#[test]
fn acks_0_is_not_answered() {
    let mut world = started();
    let id = world.produce_with(LEADER, 1, Acks::None);
    let refused = world.produce_with(2, 1, Acks::None);
    world.settle();
    assert_eq!((world.reply(id), world.reply(refused)), (None, None));
    finish(world);
}

#[test]
fn a_request_that_waits_too_long_times_out() {
    let mut world = started();
    world.produce(LEADER, 1);
    let batches = vec![BatchShape { record_count: 1, bytes: 100 }];
    let deadline = world.now + Duration::from_millis(30);
    let replica = world.node_replica(LEADER);
    let effects = replica
        .handle(Instant::ZERO, Event::DeleteRecords { id: Some(RequestId(900)), before: Some(Offset(0)), deadline });
    assert!(
        effects
            .iter()
            .any(|effect| matches!(effect, quipu_replication::Effect::Reply { reply: Reply::Deleted { .. }, .. }))
    );
    let effects =
        replica.handle(Instant::ZERO, Event::Produce { id: RequestId(901), batches, acks: Acks::All, deadline });
    assert!(!effects.is_empty());
    assert_eq!(replica.next_deadline(), Some(deadline));
    let effects = replica.handle(deadline, Event::Time);
    let timed_out =
        quipu_replication::Effect::Reply { id: RequestId(901), reply: Reply::Failed(RequestError::TimedOut) };
    assert!(effects.contains(&timed_out));
}

#[test]
fn fewer_than_q_live_members_are_not_enough() {
    let mut world = started();
    world.fence(2);
    world.fence(3);
    world.settle();
    let id = world.produce(LEADER, 1);
    assert!(world.was_refused(id, RequestError::NotEnoughReplicas));
    assert_eq!(members(&world), [1, 3], "who is gone stays a member when too few would be left");
    let id = world.produce_with(LEADER, 1, Acks::Leader);
    world.settle();
    assert!(is_produced(&world, id));
    finish(world);
}

#[test]
fn a_fenced_member_leaves_at_once_and_returns_when_it_has_all() {
    let mut world = started();
    world.fence(3);
    world.settle();
    assert_eq!(members(&world), [1, 2]);
    world.unfence_again(3);
    world.settle();
    assert_eq!(members(&world), [1, 2, 3]);
    finish(world);
}

#[test]
fn a_member_that_lags_too_long_leaves_the_isr_and_then_c() {
    let mut world = started();
    world.pass_time(Duration::from_secs(60));
    world.exchange(&[1, 2, 3]);
    assert_eq!(world.replica(LEADER).isr(world.now).unwrap().len(), 3, "nobody lags behind a log that does not grow");
    for _ in 0..4 {
        world.produce(LEADER, 1);
        world.exchange(&[1, 2]);
        world.pass_time(Duration::from_millis(300));
    }
    assert_eq!(world.replica(LEADER).isr(world.now).unwrap(), [BrokerId(1), BrokerId(2)]);
    world.settle_asks();
    assert_eq!(members(&world), [1, 2]);
    world.pass_time(Duration::from_millis(300));
    world.settle();
    assert_eq!(members(&world), [1, 2, 3]);
    finish(world);
}

#[test]
fn min_insync_replicas_changes_q_by_the_leader_only() {
    let mut world = started();
    world.controller.change(|image| image.insync_replicas_min = 3);
    assert_eq!(world.controller.now().record.configuration.quorum, 2);
    world.settle();
    assert_eq!(world.controller.now().record.configuration.quorum, 3);
    let id = world.produce(LEADER, 1);
    world.exchange(&[1, 2]);
    assert!(!is_produced(&world, id));
    world.pass_time(Duration::from_millis(300));
    world.settle();
    assert!(is_produced(&world, id));
    finish(world);
}

#[test]
fn a_new_leader_knows_the_latest_offset_when_its_epoch_start_is_committed() {
    let mut world = started();
    world.produce(LEADER, 2);
    world.exchange(&[1, 2]);
    world.crash(1, 0);
    world.controller.elect(Some(node_id(2)));
    world.inform(&[2, 3]);
    while world.replica(2).role() != RoleKind::Leader {
        world.sync_all(2);
        world.sync_all(3);
        world.deliver(0);
    }
    assert_eq!(world.replica(2).latest_offset(), Err(RequestError::OffsetNotAvailable));
    world.exchange(&[2, 3]);
    assert_eq!(world.replica(2).latest_offset(), Ok(Offset(2)));
    finish(world);
}

#[test]
fn a_start_raises_the_epoch_and_nobody_resumes() {
    let mut world = started();
    world.crash(1, 0);
    world.start_fully(1);
    world.settle();
    assert_eq!(world.replica(1).promised(), LeaderEpoch(2));
    assert_eq!(world.replica(1).role(), RoleKind::Leader);
    // Told of that epoch again, by metadata that is old, it declines.
    world.crash(1, 0);
    world.start(1);
    assert_eq!(world.controller.now().record.leader_epoch, LeaderEpoch(3));
    world.store_epoch(1);
    world.unfence(1);
    assert_eq!(reasons(&world), [GiveUp::CannotLead]);
    assert_eq!(world.replica(1).role(), RoleKind::Follower);
    finish(world);
}

#[test]
fn deletions_are_confirmed_by_q_and_bounded_by_the_high_watermark() {
    let mut world = started();
    world.produce(LEADER, 2);
    world.settle();
    let above = world.delete(LEADER, 3);
    assert!(world.was_refused(above, RequestError::OffsetOutOfRange));
    let elsewhere = world.delete(2, 1);
    assert!(world.was_refused(elsewhere, RequestError::NotLeader));
    let id = world.delete(LEADER, 1);
    world.sync_all(LEADER);
    assert_eq!(world.reply(id), None);
    world.settle();
    assert_eq!(world.reply(id), Some(Reply::Deleted { log_start: Offset(1) }));
    assert_eq!(world.replica(3).log().log_start, Offset(1));
    finish(world);
}

#[test]
fn a_follower_below_the_leaders_log_start_begins_anew() {
    let mut world = started();
    world.crash(3, 0);
    world.produce(LEADER, 3);
    world.exchange(&[1, 2]);
    world.delete(LEADER, 2);
    world.exchange(&[1, 2]);
    world.start_fully(3);
    world.settle();
    assert_eq!(world.replica(3).log().log_start, Offset(2));
    assert_eq!(world.replica(3).log().log_end, Offset(3));
    finish(world);
}

#[test]
fn a_damaged_record_is_fetched_again() {
    let mut world = started();
    world.produce(LEADER, 3);
    world.settle();
    world.damage(2, 1);
    assert!(world.replica(2).is_faulty());
    for _ in 0..4 {
        world.settle();
        world.pass_time(Duration::from_millis(200));
    }
    assert!(!world.replica(2).is_faulty());
    assert_eq!(world.node(2).disk.durable.records, world.node(1).disk.durable.records);
    finish(world);
}

#[test]
fn a_wiped_node_is_rebuilt_and_counted_under_its_new_directory() {
    let mut world = started();
    world.produce(LEADER, 3);
    world.settle();
    world.crash(2, 0);
    world.wipe(2);
    world.start(2);
    assert!(world.replica(2).is_faulty());
    world.store_epoch(2);
    assert_eq!(world.node(2).disk.broker_epoch, None, "the mark is on the disk before the broker epoch is");
    world.start_fully(2);
    for _ in 0..4 {
        world.settle();
        world.pass_time(Duration::from_millis(200));
    }
    let counted = world.controller.now().record.configuration.member_on(node_id(2));
    assert_eq!(counted.map(|member| member.directory_id), Some(directory(4)));
    finish(world);
}

#[test]
fn a_leader_that_is_damaged_gives_up() {
    let mut world = started();
    world.produce(LEADER, 1);
    world.settle();
    let waiting = world.produce(LEADER, 1);
    world.damage(LEADER, 0);
    assert!(world.was_refused(waiting, RequestError::Storage));
    assert_eq!(reasons(&world), [GiveUp::CannotLead]);
    world.settle();
    assert_ne!(world.leader(), Some(LEADER));
    finish(world);
}

#[test]
fn a_leader_whose_disk_refuses_a_write_gives_up() {
    let mut world = started();
    let waiting = world.produce(LEADER, 1);
    world.fail_writes(LEADER);
    assert!(world.was_refused(waiting, RequestError::Storage));
    assert_eq!(reasons(&world), [GiveUp::WriteFailed]);
    assert_eq!(world.replica(LEADER).role(), RoleKind::Follower);
    world.settle();
    finish(world);
}

#[test]
fn a_follower_whose_disk_refuses_a_write_lags_and_catches_up() {
    let mut world = started();
    let id = world.produce(LEADER, 1);
    while !world.network.is_empty() {
        world.deliver(0);
    }
    world.fail_writes(3);
    world.settle();
    assert!(is_produced(&world, id));
    finish(world);
}

#[test]
fn a_candidate_that_hears_nobody_gives_up_after_two_seconds() {
    let mut world = started();
    world.controller.elect(Some(node_id(3)));
    world.inform(&[3]);
    for _ in 0..7 {
        world.exchange(&[3]);
        world.pass_time(Duration::from_millis(250));
    }
    assert_eq!(reasons(&world), []);
    world.pass_time(Duration::from_millis(250));
    assert_eq!(reasons(&world), [GiveUp::NotActive]);
    finish(world);
}

#[test]
fn a_leader_that_cannot_commit_gives_up_after_three_seconds_if_others_live() {
    let mut world = started();
    world.produce(LEADER, 1);
    for _ in 0..11 {
        world.exchange(&[1]);
        world.pass_time(Duration::from_millis(250));
    }
    assert_eq!(reasons(&world), []);
    world.pass_time(Duration::from_millis(250));
    assert_eq!(reasons(&world), [GiveUp::CannotCommit]);
    finish(world);
}

#[test]
fn a_long_adoption_is_offered_to_the_one_that_has_the_log() {
    let mut world = started();
    world.record_bytes = 10_000_000;
    world.produce(LEADER, 2);
    world.exchange(&[1, 2]);
    world.crash(1, 0);
    world.controller.elect(Some(node_id(3)));
    world.inform(&[2, 3]);
    world.exchange(&[2, 3]);
    assert!(matches!(world.asks.as_slice(), [(3, Ask::Prefer { reporter, .. })] if *reporter == member(2)));
    let mut declined = world.clone();
    world.settle();
    assert_eq!(world.leader(), Some(2));
    finish(world);
    // The controller wants it all the same: then it copies.
    declined.control(0, true);
    declined.settle();
    assert_eq!(declined.leader(), Some(3));
    assert_eq!(declined.replica(3).log().log_end, Offset(2));
    finish(declined);
}

#[test]
fn a_leader_that_is_to_be_removed_moves_first() {
    let mut world = World::started(4, 3, 2, TestProbe::default());
    world.controller.change(|image| {
        image.record.adding = vec![node_id(4)];
        image.record.removing = vec![node_id(1)];
    });
    for _ in 0..4 {
        world.settle();
        world.pass_time(Duration::from_millis(300));
    }
    assert_eq!(members(&world), [2, 3, 4]);
    assert_ne!(world.leader(), Some(1));
    assert_eq!(world.checker.violation, None);
}

#[test]
fn who_was_left_out_of_an_unclean_election_is_rebuilt() {
    let mut world = started();
    world.produce(LEADER, 1);
    world.settle();
    world.controller.change(|image| {
        image.record.configuration.members.retain(|member| member.node != node_id(3));
        image.record.version.0 += 1;
        image.record.leader_epoch = image.record.leader_epoch.next();
        image.record.unclean_epoch = image.record.leader_epoch;
    });
    world.inform(&[3]);
    assert!(world.replica(3).is_faulty());
    for _ in 0..4 {
        world.settle();
        world.pass_time(Duration::from_millis(300));
    }
    assert!(!world.replica(3).is_faulty());
    assert_eq!(members(&world), [1, 2, 3]);
    finish(world);
}

#[test]
fn a_changed_high_watermark_is_told_within_five_milliseconds() {
    let mut world = started();
    world.produce(LEADER, 1);
    world.settle();
    assert_eq!(world.replica(3).high_watermark(), Offset(0));
    world.pass_time(Duration::from_millis(5));
    world.settle();
    assert_eq!(world.replica(3).high_watermark(), Offset(1));
    finish(world);
}

#[test]
fn a_high_watermark_whose_push_was_lost_is_told_again() {
    let mut world = started();
    world.produce(LEADER, 1);
    world.settle();
    world.pass_time(Duration::from_millis(5));
    let pushes = world.hold(|packet| packet.to == 3 && matches!(packet.message, Message::HighWatermark { .. }));
    assert_eq!(pushes.len(), 1);
    world.settle();
    assert_eq!(world.replica(3).high_watermark(), Offset(0), "it was lost");
    world.pass_time(Duration::from_millis(250));
    world.settle();
    assert_eq!(world.replica(3).high_watermark(), Offset(1));
    world.pass_time(Duration::from_millis(250));
    world.settle();
    let rests_until = world.now + Duration::from_secs(1000);
    assert!(
        world.replica(LEADER).next_deadline().is_none_or(|at| at > rests_until),
        "who knows everything costs nothing"
    );
    finish(world);
}

#[test]
fn a_follower_knows_no_more_to_be_committed_than_it_has_synced() {
    let mut world = started();
    world.produce(LEADER, 1);
    let to_3 = world.hold(|packet| packet.to == 3);
    world.exchange(&[1, 2]);
    world.produce(LEADER, 1);
    let late = world.hold(|packet| packet.to == 3);
    to_3.into_iter().chain(late).for_each(|packet| world.deliver_packet(packet));
    assert_eq!(world.replica(3).log().log_end, Offset(2));
    assert_eq!(world.replica(3).high_watermark(), Offset(0), "the first record is committed, and not yet synced here");
    world.fail_writes(3);
    assert_eq!(world.replica(3).log().log_end, Offset(0));
    world.settle();
    world.pass_time(Duration::from_millis(250));
    world.settle();
    assert_eq!(world.replica(3).high_watermark(), Offset(2));
    finish(world);
}

fn sender(node: usize, world: &World) -> Sender {
    Sender { member: member(node), incarnation: world.replica(node).incarnation().unwrap() }
}

fn good_append(world: &World) -> Append {
    Append {
        epoch: LeaderEpoch(1),
        start: Offset(0),
        end: Offset(0),
        previous_epoch: LeaderEpoch::NONE,
        epochs: EpochTable::default(),
        epoch_start: Offset(0),
        high_watermark: Offset(0),
        leader_log_start: Offset(0),
        leader_log_end: Offset(0),
        incarnation: world.replica(2).incarnation(),
    }
}

#[test]
fn what_is_impossible_is_refused_by_name() {
    let world = started();
    let good = good_append(&world);
    let at = |epoch: i32, start: i64| EpochStart { epoch: LeaderEpoch(epoch), start: Offset(start) };
    let appends = [
        (Append { start: Offset(-1), ..good.clone() }, Malformed::Offsets),
        (Append { end: Offset(5), ..good.clone() }, Malformed::Offsets),
        (Append { high_watermark: Offset(5), ..good.clone() }, Malformed::Offsets),
        (Append { epoch_start: Offset(5), ..good.clone() }, Malformed::Offsets),
        (Append { end: Offset(5), leader_log_end: Offset(5), ..good.clone() }, Malformed::Epochs),
        (Append { previous_epoch: LeaderEpoch(2), ..good.clone() }, Malformed::Epochs),
        (
            Append {
                end: Offset(5),
                leader_log_end: Offset(5),
                epochs: EpochTable::new(vec![at(1, 0), at(2, 3)]).unwrap(),
                ..good.clone()
            },
            Malformed::Epochs,
        ),
    ];
    for (append, malformed) in appends {
        let mut replica = world.replica(2).clone();
        let before = replica.clone();
        let message = Message::Append(append);
        let effects = replica.handle(world.now, Event::Peer { sender: sender(1, &world), message });
        assert_eq!(effects, [quipu_replication::Effect::Refused(Refusal::Malformed(malformed))]);
        assert!(replica == before, "what is refused changes nothing");
    }
    let refusal = |to: usize, sender: Sender, message: Message| {
        let effects = world.replica(to).clone().handle(world.now, Event::Peer { sender, message });
        match effects.as_slice() {
            [quipu_replication::Effect::Refused(refusal)] => *refusal,
            _ => panic!("{effects:?}"),
        }
    };
    let stranger = Sender { member: member(9), incarnation: BrokerEpoch(1) };
    assert_eq!(refusal(2, stranger, Message::Append(good.clone())), Refusal::UnknownMember(BrokerId(9)));
    let usurper = Refusal::NotTheLeader { node: BrokerId(3), epoch: LeaderEpoch(1) };
    assert_eq!(refusal(2, sender(3, &world), Message::Append(good)), usurper);
    let progress = Progress { epoch: LeaderEpoch(1), end: Offset(7), log_start: Offset(0), high_watermark: Offset(0) };
    let beyond = Refusal::BeyondTheLog { node: BrokerId(2), end: Offset(7) };
    assert_eq!(refusal(1, sender(2, &world), Message::Acknowledged(progress)), beyond);
    let log = LogShape { log_start: Offset(5), log_end: Offset(1), epochs: EpochTable::default() };
    let report = Report {
        epoch: LeaderEpoch(1),
        label: LeaderEpoch(1),
        log: log.clone(),
        high_watermark: Offset(0),
        is_faulty: false,
    };
    assert_eq!(refusal(1, sender(2, &world), Message::Report(report)), Refusal::Malformed(Malformed::Epochs));
    let mismatch = Message::Mismatch { epoch: LeaderEpoch(1), start: Offset(0), log };
    assert_eq!(refusal(1, sender(2, &world), mismatch), Refusal::Malformed(Malformed::Offsets));
}

/// Numbers that are likely to be wrong in an interesting way.
fn number(rng: &mut ChaCha8Rng) -> i64 {
    match rng.random_range(0..12) {
        0 => i64::MAX,
        1 => i64::MIN,
        2 => -1,
        3 => i64::MAX - 1,
        _ => rng.random_range(0..6),
    }
}

fn noise(rng: &mut ChaCha8Rng) -> Message {
    let epoch = LeaderEpoch(rng.random_range(-1..4));
    let mut offset = || Offset(number(rng));
    let (a, b, c, d, e, f) = (offset(), offset(), offset(), offset(), offset(), offset());
    let count = rng.random_range(0..3);
    let entries = (0..count)
        .map(|_| EpochStart { epoch: LeaderEpoch(rng.random_range(-1..4)), start: Offset(number(rng)) })
        .collect();
    let epochs = EpochTable::new(entries).unwrap_or_default();
    let log = LogShape { log_start: a, log_end: b, epochs: epochs.clone() };
    match rng.random_range(0..11) {
        0 => Message::Seal(epoch),
        1 => Message::Report(Report { epoch, label: LeaderEpoch(1), log, high_watermark: c, is_faulty: false }),
        2 => Message::Superseded { epoch, promised: LeaderEpoch(2) },
        3 => Message::PieceRequest { epoch, start: a, end: b },
        4 => Message::PieceRefused { epoch },
        5 => Message::Acknowledged(Progress { epoch, end: a, log_start: b, high_watermark: a }),
        6 => Message::Copied(Progress { epoch, end: a, log_start: b, high_watermark: a }),
        7 => Message::Mismatch { epoch, start: c, log },
        8 => Message::HighWatermark { epoch, high_watermark: a },
        9 => Message::Hello { epoch },
        _ => Message::Append(Append {
            epoch,
            start: a,
            end: a,
            previous_epoch: LeaderEpoch(rng.random_range(-1..4)),
            epochs: EpochTable::default(),
            epoch_start: c,
            high_watermark: d,
            leader_log_start: e,
            leader_log_end: f,
            incarnation: None,
        }),
    }
}

#[test]
fn noise_from_a_peer_never_panics() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let mut quiet = started();
    quiet.produce(LEADER, 3);
    quiet.settle();
    quiet.damage(3, 1);
    quiet.network.clear();
    let mut electing = quiet.clone();
    electing.controller.elect(Some(node_id(2)));
    electing.inform(&[2]);
    for _ in 0..4_000 {
        let world = if rng.random_bool(0.5) { &quiet } else { &electing };
        let to = rng.random_range(1..=3);
        let mut replica = world.replica(to).clone();
        let mut steps = 0;
        for _ in 0..4 {
            let from = rng.random_range(1..=4);
            let incarnation = BrokerEpoch(number(&mut rng));
            let event = Event::Peer { sender: Sender { member: member(from), incarnation }, message: noise(&mut rng) };
            let effects = replica.handle(world.now, event);
            steps += effects.len();
            if let Some(at) = replica.next_deadline() {
                replica.handle(at, Event::Time);
            }
        }
        assert!(steps < 1_000);
    }
}

#[test]
fn an_append_that_ends_below_the_log_start_neither_cuts_nor_labels() {
    let mut world = started();
    world.produce(LEADER, 3);
    world.settle();
    world.delete(LEADER, 2);
    world.settle();
    let before = world.node(2).disk.clone();
    let append = Append {
        epoch: LeaderEpoch(5),
        start: Offset(0),
        end: Offset(1),
        epochs: EpochTable::new(vec![EpochStart { epoch: LeaderEpoch(1), start: Offset(0) }]).unwrap(),
        leader_log_end: Offset(1),
        ..good_append(&world)
    };
    let bytes: Records = [(0, crate::disk::Rec { id: 1, epoch: 1 })].into();
    let sender = sender(3, &world);
    world.deliver_packet(Packet { from: 3, to: 2, sender, message: Message::Append(append), bytes });
    assert!(world.node(2).disk == before);
    assert!(matches!(world.network.last().unwrap().message, Message::Mismatch { .. }));
}

#[test]
fn pieces_of_a_shell_that_sends_less_are_consistent() {
    let epochs = EpochTable::new(vec![
        EpochStart { epoch: LeaderEpoch(1), start: Offset(0) },
        EpochStart { epoch: LeaderEpoch(2), start: Offset(3) },
    ]);
    let mut piece =
        Piece { epoch: LeaderEpoch(2), start: Offset(0), end: Offset(5), epochs: epochs.unwrap(), wanted_bytes: 0 };
    piece.shorten(Offset(9));
    assert_eq!(piece.end, Offset(5));
    piece.shorten(Offset(3));
    assert_eq!((piece.end, piece.epochs.latest()), (Offset(3), LeaderEpoch(1)));
}
