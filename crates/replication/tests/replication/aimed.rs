//! Scripts that go where drawn schedules seldom do: each is the story of one way to lose data, told as far as the rules allow. With
//! the rules in place nothing is lost; each bug named beside a script makes it fail.

use quipu_replication::{Append, Message, Reply, RoleKind, Verdict};

use crate::{
    controller::node_id,
    disk::Records,
    probe::TestProbe,
    world::{Packet, World},
};

/// A script's name, the bugs that it must show, and the script.
pub(crate) const SCRIPTS: [(&str, &[&str], Script); 21] = [
    (
        "a log of a later label wins over one of a later record",
        &["replication.compare-by-last-epoch"],
        later_label_wins,
    ),
    (
        "what is copied below the epoch start does not count",
        &["replication.acknowledge-without-label"],
        copied_counts_not,
    ),
    ("a part of the leader's log has no label", &["replication.label-early"], part_has_no_label),
    ("a tail beyond the label is cut", &["replication.tail-kept"], tail_is_cut),
    (
        "a follower shows nothing that is not proven to match",
        &["replication.follower-high-watermark-unbounded"],
        unproven_is_not_shown,
    ),
    ("a source that was lost does not count", &["replication.lost-source-counted"], lost_source),
    ("a source that has moved on gives nothing", &["replication.piece-from-moved-source"], moved_source),
    (
        "a restored disk does not count before it is rebuilt",
        &["replication.restored-trusted", "replication.wiped-counted"],
        restored_does_not_count,
    ),
    (
        "a restored disk answers nothing before it is registered",
        &["replication.answers-before-unfenced"],
        nothing_before_registration,
    ),
    (
        "an append for an earlier life clears nothing",
        &["replication.cleared-without-stamp", "replication.incarnation-from-disk"],
        earlier_life,
    ),
    ("a rebuilt replica remembers deletions", &["replication.cleared-below-log-start"], rebuilt_remembers_deletions),
    ("a lost promise is made again", &["replication.damaged-promise-kept"], lost_promise),
    ("a damaged record is not cut off", &["replication.damage-truncated"], damage_is_not_a_cut),
    ("a change asked for stays pending after a conflict", &["replication.pending-dropped-on-conflict"], |world| {
        change_stays_pending(world, Some(Verdict::Conflict));
    }),
    ("a change asked for stays pending after a refusal", &["replication.pending-dropped-on-refusal"], |world| {
        change_stays_pending(world, Some(Verdict::Unavailable));
    }),
    (
        "a change asked for stays pending however long it takes, and takes both quorums",
        &["replication.pending-dropped-on-time-out", "replication.no-joint-quorum"],
        |world| change_stays_pending(world, None),
    ),
    (
        "who stays has the deletions that were confirmed",
        &["replication.delete-forgotten-by-change"],
        deletions_survive_a_change,
    ),
    ("who stays has what is committed", &["replication.shrink-without-catch-up"], records_survive_a_change),
    ("a leader must have synced what its change relies on", &["replication.leader-not-checked"], leader_is_checked),
    ("a restarted follower acknowledges what was proven to it", &["replication.acknowledge-log-end"], proven_end),
    ("a promise and its report are one step", &["replication.promise-and-report-apart"], promise_and_report),
];

pub(crate) type Script = fn(&mut World);

/// Three nodes, RF 3, Q 2, S 2, node 1 leads in epoch 1.
pub(crate) fn run(script: Script, probe: TestProbe) -> Option<String> {
    let mut world = World::started(3, 3, 2, probe);
    script(&mut world);
    world.heal();
    world.checker.violation
}

/// Crashes a node after all of its steps were synced.
fn stop(world: &mut World, node: usize) {
    world.sync_all(node);
    world.crash(node, 0);
}

fn is_append_to(node: usize) -> impl Fn(&Packet) -> bool {
    move |packet| packet.to == node && matches!(packet.message, Message::Append(_))
}

/// Writes records at a leader that nobody hears of.
fn produce_alone(world: &mut World, node: usize, count: u32) {
    world.produce(node, count);
    world.exchange(&[node]);
}

/// Has `node` sealed and active with the help of one other, which is not told that it is.
fn lead_unheard(world: &mut World, node: usize, helper: usize) {
    world.controller.elect(Some(node_id(node)));
    world.inform(&[node, helper]);
    world.sync_all(node);
    let seals = world.hold(|packet| packet.to == helper && matches!(packet.message, Message::Seal(_)));
    seals.into_iter().for_each(|seal| world.deliver_packet(seal));
    world.sync_all(helper);
    let reports = world.hold(|packet| packet.to == node && matches!(packet.message, Message::Report(_)));
    reports.into_iter().for_each(|report| world.deliver_packet(report));
    world.exchange(&[node]);
}

fn later_label_wins(world: &mut World) {
    world.produce(1, 1);
    world.exchange(&[1, 2, 3]);
    produce_alone(world, 1, 1);
    lead_unheard(world, 2, 3);
    produce_alone(world, 2, 1);
    // Node 1's second record is committed now, under epoch 3: its label is later than that of node 2's record, its epoch is not.
    world.lead_among(1, &[1, 3]);
    assert_eq!(world.checker.committed_end, 2);
    stop(world, 1);
    world.lead_among(2, &[2, 3]);
    world.produce(2, 1);
    world.exchange(&[2, 3]);
}

fn copied_counts_not(world: &mut World) {
    produce_alone(world, 1, 2);
    lead_unheard(world, 2, 3);
    produce_alone(world, 2, 1);
    world.append_records_max = 1;
    // Node 3 gets one of the two records, and no label.
    lead_unheard(world, 1, 3);
    world.pass_time(core::time::Duration::from_millis(250));
    let appends = world.hold(is_append_to(3));
    world.network.clear();
    appends.into_iter().for_each(|append| world.deliver_packet(append));
    let answers = world.hold(|packet| packet.to == 1 && packet.from == 3);
    answers.into_iter().for_each(|answer| world.deliver_packet(answer));
    let first = world.hold(is_append_to(3));
    first.into_iter().for_each(|append| world.deliver_packet(append));
    world.sync_all(3);
    let answers = world.hold(|packet| packet.to == 1 && packet.from == 3);
    answers.into_iter().for_each(|answer| world.deliver_packet(answer));
    world.network.clear();
    stop(world, 1);
    world.lead_among(2, &[2, 3]);
    world.produce(2, 1);
    world.exchange(&[2, 3]);
}

fn part_has_no_label(world: &mut World) {
    world.produce(1, 2);
    world.exchange(&[1, 2]);
    world.append_records_max = 1;
    lead_unheard(world, 1, 2);
    // Node 3 asks for what it lacks, and gets the first record only.
    world.inform(&[3]);
    for _ in 0..2 {
        let heard = world.hold(|packet| packet.to == 1 && packet.from == 3);
        heard.into_iter().for_each(|packet| world.deliver_packet(packet));
        let appends = world.hold(is_append_to(3));
        appends.into_iter().for_each(|append| world.deliver_packet(append));
    }
    world.sync_all(3);
    assert_eq!(world.node(3).disk.durable.log_end, 1);
    world.network.clear();
    stop(world, 1);
    world.lead_among(3, &[2, 3]);
    world.produce(3, 1);
    world.exchange(&[2, 3]);
}

fn tail_is_cut(world: &mut World) {
    world.produce(1, 1);
    world.exchange(&[1, 2, 3]);
    produce_alone(world, 1, 3);
    world.controller.elect(Some(node_id(2)));
    world.inform(&[2, 3]);
    world.sync_all(2);
    let seals = world.hold(|packet| packet.to == 3 && matches!(packet.message, Message::Seal(_)));
    seals.into_iter().for_each(|seal| world.deliver_packet(seal));
    world.sync_all(3);
    let reports = world.hold(|packet| packet.to == 2);
    reports.into_iter().for_each(|report| world.deliver_packet(report));
    world.sync_all(2);
    // Node 1 gets the append that labels it, and nothing more.
    let labels = world.hold(is_append_to(1));
    labels.into_iter().for_each(|append| world.deliver_packet(append));
    world.sync_all(1);
    world.exchange(&[2, 3]);
    world.produce(2, 1);
    world.exchange(&[2, 3]);
    stop(world, 2);
    world.lead_among(1, &[1, 3]);
    world.produce(1, 1);
    world.exchange(&[1, 3]);
}

fn unproven_is_not_shown(world: &mut World) {
    world.produce(1, 1);
    world.exchange(&[1, 2, 3]);
    produce_alone(world, 1, 3);
    world.lead_among(2, &[2, 3]);
    world.produce(2, 2);
    world.exchange(&[2, 3]);
    // Node 1 has another log. A leader may begin as low as it likes: here with an append of nothing at its log start.
    let leader = world.replica(2);
    let append = Append {
        epoch: leader.promised(),
        start: leader.log().log_start,
        end: leader.log().log_start,
        previous_epoch: quipu_base::LeaderEpoch::NONE,
        epochs: quipu_replication::EpochTable::default(),
        epoch_start: quipu_base::Offset(1),
        high_watermark: leader.high_watermark(),
        leader_log_start: leader.log().log_start,
        leader_log_end: leader.log().log_end,
        incarnation: world.replica(1).incarnation(),
    };
    let sender =
        quipu_replication::Sender { member: crate::controller::member(2), incarnation: leader.incarnation().unwrap() };
    world.deliver_packet(Packet { from: 2, to: 1, sender, message: Message::Append(append), bytes: Records::new() });
}

fn lost_source(world: &mut World) {
    world.produce(1, 1);
    world.exchange(&[1, 2]);
    assert_eq!(world.checker.committed_end, 1);
    stop(world, 1);
    world.controller.elect(Some(node_id(3)));
    world.inform(&[2, 3]);
    world.sync_all(3);
    let seals = world.hold(|packet| packet.to == 2);
    seals.into_iter().for_each(|seal| world.deliver_packet(seal));
    world.sync_all(2);
    // It has told of its log; now it is damaged.
    world.damage(2, 0);
    world.exchange(&[2, 3]);
    world.produce(3, 1);
    world.exchange(&[2, 3]);
}

fn moved_source(world: &mut World) {
    produce_alone(world, 1, 2);
    lead_unheard(world, 3, 2);
    produce_alone(world, 3, 2);
    // Node 2 begins to adopt node 1's log: one record of two.
    world.append_records_max = 1;
    world.controller.elect(Some(node_id(2)));
    world.inform(&[1, 2]);
    world.sync_all(2);
    for _ in 0..2 {
        let to_source = world.hold(|packet| packet.from == 2 && packet.to == 1);
        to_source.into_iter().for_each(|packet| world.deliver_packet(packet));
        world.sync_all(1);
        let from_source = world.hold(|packet| packet.from == 1 && packet.to == 2);
        from_source.into_iter().for_each(|packet| world.deliver_packet(packet));
        world.sync_all(2);
    }
    assert_eq!(world.node(2).disk.durable.log_end, 1, "one piece has come");
    let late = world.hold(|packet| packet.from == 2 && packet.to == 1);
    world.network.clear();
    // Node 3 leads, with another log, and node 1 follows it.
    world.append_records_max = i64::MAX;
    world.lead_among(3, &[1, 3]);
    late.into_iter().for_each(|packet| world.deliver_packet(packet));
    let rest = world
        .hold(|packet| packet.to == 2 && matches!(packet.message, Message::Piece(_) | Message::PieceRefused { .. }));
    rest.into_iter().for_each(|packet| world.deliver_packet(packet));
    world.exchange(&[2]);
    // Node 1 leads without having heard of node 2's log.
    world.lead_among(1, &[1, 3]);
}

/// Node 2 comes back as it was before `after`, under an earlier incarnation.
fn restore_after(world: &mut World, after: impl FnOnce(&mut World)) {
    stop(world, 2);
    world.take_snapshot(2);
    world.start_fully(2);
    world.exchange(&[1, 2, 3]);
    after(world);
    stop(world, 2);
    assert!(world.has_old_snapshot(2));
    world.restore(2);
}

fn restored_does_not_count(world: &mut World) {
    restore_after(world, |world| {
        world.produce(1, 1);
        world.exchange(&[1, 2]);
    });
    stop(world, 1);
    world.start_fully(2);
    world.lead_among(3, &[2, 3]);
    world.produce(3, 1);
    world.exchange_for_a_while(&[2, 3]);
}

fn nothing_before_registration(world: &mut World) {
    restore_after(world, |world| {
        world.produce(1, 1);
        world.exchange(&[1, 2]);
    });
    stop(world, 1);
    world.boot(2);
    world.lead_among(3, &[2, 3]);
    world.produce(3, 1);
    world.exchange(&[2, 3]);
}

fn earlier_life(world: &mut World) {
    let mut late = Vec::new();
    restore_after(world, |world| {
        // An append of nothing, to the node as it is now.
        world.pass_time(core::time::Duration::from_millis(250));
        world.crash(2, 0);
        world.start_fully(2);
        let hellos = world.hold(|packet| packet.from == 2 && packet.to == 1);
        hellos.into_iter().for_each(|hello| world.deliver_packet(hello));
        late = world.network.iter().filter(|packet| is_append_to(2)(packet)).cloned().collect();
        world.exchange(&[1, 2]);
        world.produce(1, 1);
        world.exchange(&[1, 2]);
    });
    assert_eq!(world.checker.committed_end, 1);
    world.start_fully(2);
    world.network.clear();
    assert!(!late.is_empty());
    late.into_iter().for_each(|append| world.deliver_packet(append));
    world.sync_all(2);
    world.network.clear();
    stop(world, 1);
    world.lead_among(3, &[2, 3]);
    world.produce(3, 1);
    world.exchange_for_a_while(&[2, 3]);
}

fn rebuilt_remembers_deletions(world: &mut World) {
    world.produce(1, 2);
    world.exchange(&[1, 2, 3]);
    let mut deleted = 0;
    restore_after(world, |world| {
        deleted = world.delete(1, 1);
        world.exchange(&[1, 2]);
    });
    assert!(matches!(world.reply(deleted), Some(Reply::Deleted { .. })));
    world.start_fully(2);
    // Node 2 is rebuilt by one append.
    for _ in 0..4 {
        if !world.replica(2).is_faulty() {
            break;
        }
        let heard = world.hold(|packet| packet.from == 2 && packet.to == 1);
        heard.into_iter().for_each(|packet| world.deliver_packet(packet));
        let appends = world.hold(is_append_to(2));
        appends.into_iter().for_each(|packet| world.deliver_packet(packet));
        world.sync_all(2);
    }
    assert!(!world.replica(2).is_faulty());
    world.network.clear();
    stop(world, 1);
    world.lead_among(3, &[2, 3]);
    world.produce(3, 1);
    world.exchange(&[2, 3]);
}

fn lost_promise(world: &mut World) {
    let mut report = Vec::new();
    restore_after(world, |world| {
        world.controller.elect(Some(node_id(3)));
        world.inform(&[2, 3]);
        world.sync_all(3);
        let seals = world.hold(|packet| packet.to == 2 && matches!(packet.message, Message::Seal(_)));
        seals.into_iter().for_each(|seal| world.deliver_packet(seal));
        world.sync_all(2);
        report = world.hold(|packet| packet.to == 3 && matches!(packet.message, Message::Report(_)));
        world.network.clear();
    });
    assert_eq!(report.len(), 1);
    world.start_fully(2);
    // Node 1 knows of nothing, and leads on in epoch 1.
    assert_eq!(world.replica(1).role(), RoleKind::Leader);
    world.produce(1, 1);
    for _ in 0..4 {
        world.exchange(&[1, 2]);
        world.pass_time(core::time::Duration::from_millis(250));
        // Nobody hears what is committed.
        world.hold(|packet| matches!(packet.message, Message::HighWatermark { .. }));
    }
    report.into_iter().for_each(|report| world.deliver_packet(report));
    world.exchange(&[3]);
    stop(world, 1);
    world.exchange(&[2, 3]);
    world.produce(3, 1);
    world.exchange_for_a_while(&[2, 3]);
}

fn damage_is_not_a_cut(world: &mut World) {
    world.produce(1, 1);
    world.exchange(&[1, 2]);
    stop(world, 1);
    world.damage(2, 0);
    world.lead_among(3, &[2, 3]);
    world.produce(3, 1);
    world.exchange(&[2, 3]);
}

/// The leader has asked to go on without node 3, which is back; the request is still on its way.
fn change_stays_pending(world: &mut World, answer: Option<Verdict>) {
    world.fence(3);
    world.inform(&[1]);
    assert_eq!(world.asks.len(), 1, "the leader asks for a change");
    world.unfence_again(3);
    world.inform(&[1]);
    match answer {
        Some(verdict) => {
            world.answers.push((1, verdict, None));
            world.answer(0);
        }
        None => world.pass_time(core::time::Duration::from_millis(600)),
    }
    world.produce(1, 1);
    world.exchange(&[1, 3]);
    let (node, ask) = world.asks[0].clone();
    world.control_copy(node, &ask, false);
}

fn deletions_survive_a_change(world: &mut World) {
    world.produce(1, 2);
    world.settle();
    world.delete(1, 1);
    world.exchange(&[1, 2]);
    assert_eq!(world.checker.delete_confirmed, 1);
    world.fence(2);
    world.inform(&[1]);
    world.settle_asks();
}

fn records_survive_a_change(world: &mut World) {
    world.produce(1, 1);
    world.exchange(&[1, 2]);
    assert_eq!(world.checker.committed_end, 1);
    world.fence(2);
    world.inform(&[1]);
    world.settle_asks();
}

fn leader_is_checked(world: &mut World) {
    // The record is committed by the two others; the leader's own disk is slow.
    world.produce(1, 1);
    let appends = world.hold(|packet| matches!(packet.message, Message::Append(_)));
    appends.into_iter().for_each(|append| world.deliver_packet(append));
    for node in [2, 3] {
        world.sync_all(node);
    }
    while !world.network.is_empty() {
        world.deliver(0);
    }
    assert_eq!(world.checker.committed_end, 1);
    world.fence(3);
    world.inform(&[1]);
    if !world.asks.is_empty() {
        world.control(0, false);
    }
}

fn proven_end(world: &mut World) {
    world.produce(1, 2);
    world.exchange(&[1, 2, 3]);
    // A late copy of the first append, after a restart.
    let leader = world.replica(1);
    let append = Append {
        epoch: leader.promised(),
        start: leader.log().log_start,
        end: leader.log().log_start,
        previous_epoch: quipu_base::LeaderEpoch::NONE,
        epochs: quipu_replication::EpochTable::default(),
        epoch_start: leader.log().log_start,
        high_watermark: leader.log().log_start,
        leader_log_start: leader.log().log_start,
        leader_log_end: leader.log().log_start,
        incarnation: None,
    };
    let sender =
        quipu_replication::Sender { member: crate::controller::member(1), incarnation: leader.incarnation().unwrap() };
    stop(world, 2);
    world.start_fully(2);
    world.network.clear();
    world.deliver_packet(Packet { from: 1, to: 2, sender, message: Message::Append(append), bytes: Records::new() });
}

fn promise_and_report(world: &mut World) {
    world.produce(1, 1);
    let appends = world.hold(is_append_to(2));
    world.network.clear();
    world.controller.elect(Some(node_id(3)));
    world.inform(&[2, 3]);
    world.sync_all(3);
    let seals = world.hold(|packet| packet.to == 2 && matches!(packet.message, Message::Seal(_)));
    seals.into_iter().for_each(|seal| world.deliver_packet(seal));
    // The record of epoch 1 arrives between the promise and its sync.
    appends.into_iter().for_each(|append| world.deliver_packet(append));
    world.sync_all(2);
    world.sync_all(1);
    let answers = world.hold(|packet| packet.to == 1);
    answers.into_iter().for_each(|answer| world.deliver_packet(answer));
    world.exchange(&[2, 3]);
    world.produce(3, 1);
    world.exchange(&[2, 3]);
}

#[test]
fn with_the_rules_in_place_nothing_is_lost() {
    for (name, _, script) in SCRIPTS {
        assert_eq!(run(script, TestProbe::default()), None, "{name}");
    }
}

/// A disk as it was earlier in the same incarnation, which nothing on it tells.
fn same_incarnation(has_new_id: bool) -> Option<String> {
    let mut world = World::started(3, 3, 2, TestProbe::default());
    world.take_snapshot(2);
    world.produce(1, 1);
    world.exchange(&[1, 2]);
    stop(&mut world, 2);
    assert!(!world.has_old_snapshot(2));
    if has_new_id {
        world.restore_with_new_id(2);
    } else {
        world.restore(2);
    }
    stop(&mut world, 1);
    world.start_fully(2);
    world.lead_among(3, &[2, 3]);
    world.produce(3, 1);
    world.exchange_for_a_while(&[2, 3]);
    world.heal();
    world.checker.violation
}

/// The limit of the rules: why who restores a disk must give it a new directory id.
#[test]
fn a_snapshot_of_the_same_incarnation_needs_a_new_directory_id() {
    assert!(same_incarnation(false).is_some(), "nothing can tell it");
    assert_eq!(same_incarnation(true), None);
}
