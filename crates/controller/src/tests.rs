//! The controller's story, told by scripts: each command, what it writes, what it answers.
//!
//! [`check`] runs a script line by line on an image that grows as the records are applied, and compares what comes out with
//! the snapshot of the same name; `INSTA_UPDATE=always cargo test -p quipu-controller` writes the snapshots anew. Along
//! the way it proves of every script that the records survive encoding, that replaying them gives the same image, and
//! that a snapshot of it does.
//!
//! The commands are in `script`; random requests are in `properties`.

mod large;
mod placement;
mod properties;
mod script;

use script::Script;

/// Runs `commands`, one a line; a line that begins with `#` is a remark.
fn check(name: &str, commands: &str) {
    let mut script = Script::new();
    let mut story = String::new();
    for command in commands.lines().map(str::trim).filter(|line| !line.is_empty()) {
        story += command;
        story += "\n";
        if !command.starts_with('#') {
            for line in script.run(command) {
                story += &format!("    {line}\n");
            }
        }
    }
    script.assert_replays();
    insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false, snapshot_path => "tests/snapshots" }, {
        insta::assert_snapshot!(name, story);
    });
}

#[test]
fn a_cluster_is_made_and_started() {
    check(
        "cluster",
        "
        # Nothing works before there is a cluster.
        register 1
        epoch 1 2
        bootstrap 1
        bootstrap 1

        # A broker registers, makes its epoch durable, and is unfenced. Asking twice changes nothing.
        register 1 start=1
        register 1 start=1
        unfence 1 epoch=2
        unfence 1
        unfence 1
        show brokers

        # It starts again: the next controller epoch, another registration, leader epochs raised by it.
        create a partitions=2
        epoch 1 1
        epoch 1 2
        epoch 1 3 dir=9
        epoch 2 3
        register 1 start=2
        show topic a
        show brokers
        unfence 1 epoch=3
        unfence 1

        # Who should not register.
        register -1
        register 1 start=3 dir=9
        register 2 start=1 cluster=7
        register 2 start=1 level=0
        register 2 start=1 listeners=P,P
        unfence 2 epoch=1
        ",
    );
}

#[test]
fn leaders_move_when_brokers_go_and_come() {
    check(
        "fencing",
        "
        ready 1
        ready 2
        ready 3
        create a assign=0:1,2,3;1:2,3,1 + s assign=0:3
        fence 1
        fence 1
        # Nobody else can lead s-0.
        fence 3
        fence 2
        show topic a
        show topic s
        fence 1 epoch=1
        fence 9
        # Back again, in the same life: each gets what nobody leads.
        unfence 3
        unfence 2
        unfence 1

        # A new life, while it still counted as serving: others lead at once, what only it holds has a new epoch.
        register 3 start=2
        show topic s
        unfence 3
        # On another disk, while it serves, and after it was fenced.
        register 3 start=3 dir=9
        fence 3
        register 3 start=3 dir=9
        # Its old disk is in C: it leads nothing.
        unfence 3
        show topic a
        show topic s
        unregister 3
        fence 3
        unregister 3
        unregister 3
        show brokers

        # What nobody else can lead it keeps in each new life, but not on another disk.
        create k assign=0:2
        register 2 start=2
        register 2 start=3
        show topic k
        register 2 start=4 dir=9
        unfence 2
        show topic k
        ",
    );
}

#[test]
fn a_broker_stops_after_its_leaderships_moved() {
    check(
        "controlled_shutdown",
        "
        ready 1
        ready 2
        ready 3
        create a assign=0:1,2,3;1:1,3,2 + s assign=0:1
        stop 1
        stop 1
        show brokers
        # It is elected no more, and gets no replicas, but leads what only it holds.
        preferred a-0
        create b factor=3
        leaderless 9
        show topic s
        fence 1
        unfence 1
        show brokers
        stop 1 epoch=2

        # An older cluster cannot mark it.
        old
        preferred
        stop 1
        show brokers
        ",
    );
}

#[test]
fn leaders_ask_for_other_configurations() {
    check(
        "configurations",
        "
        ready 1
        ready 2
        ready 3
        create a assign=0:1,2,3
        change a-0 by=1 members=1,2 quorum=2
        # The same again, delayed.
        change a-0 by=1 members=1,2 quorum=2 version=0
        change a-0 by=1 members=1,2,3 quorum=2 epoch=7
        change a-0 by=2 members=1,2,3 quorum=2
        change b-0 by=1 members=1,2,3 quorum=2
        # Declined: the version rises, so that it can't be accepted later.
        fence 3
        change a-0 by=1 members=1,2,3 quorum=2
        change a-0 by=1 members=1 quorum=1
        change a-0 by=1 members=1,9 quorum=2
        change a-0 by=1 members=1,2,2 quorum=2
        change a-0 by=1 members=2 quorum=1
        change a-0 by=1 members=1,2 quorum=1
        change a-0 by=1 members=1,2 quorum=3
        change a-0 by=1 members= quorum=0
        # A disk that is not the registered one does not count; a member may stay though it is gone.
        unfence 3
        change a-0 by=1 members=1,2,3 quorum=2 dir3=9
        fence 2
        change a-0 by=1 members=3,2,1 quorum=3
        ",
    );
}

#[test]
fn leaders_give_up() {
    check(
        "giving_up",
        "
        ready 1
        ready 2
        ready 3
        create a assign=0:1,2,3
        giveup a-0 by=1
        giveup a-0 by=2
        giveup a-0 by=3
        giveup a-0 by=2
        giveup a-0 by=1 epoch=0
        # Who cannot lead is not asked again for a while; when nobody can, nobody leads.
        giveup a-0 by=1 reason=CannotLead
        giveup a-0 by=2
        giveup a-0 by=3 reason=WriteFailed
        giveup a-0 by=2 reason=CannotLead
        leaderless 9
        later 6
        # Who could not write may be asked again, who has damage only when it reports a sound log.
        leaderless 9
        giveup a-0 by=3 reason=WriteFailed
        leaderless 9
        sound a-0 1
        sound a-0 2
        leaderless 9
        later 6
        # Somebody has the log already.
        prefer a-0 by=1 for=3
        prefer a-0 by=3 for=2 epoch=1
        prefer a-0 by=3 for=9
        prefer a-0 by=3 for=2 dir2=9
        fence 2
        prefer a-0 by=3 for=2
        giveup a-0 by=3 reason=CannotCommit
        prefer a-0 by=1 for=3
        # With nobody else, or too few, trouble with the others is no reason.
        fence 1
        giveup a-0 by=3 reason=CannotCommit
        giveup a-0 by=3
        giveup a-0 by=3 reason=CannotLead
        register 3 start=2
        unfence 3
        ",
    );
}

#[test]
fn preferred_leaders_are_elected() {
    check(
        "preferred",
        "
        ready 1
        ready 2
        ready 3
        create a assign=0:1,2;1:1,3;2:2,3;3:3,1
        fence 1
        preferred a-0 a-2 a-9 z-0
        unfence 1
        preferred a-0
        preferred a-0
        fence 1
        unfence 1
        balance 1
        balance 1
        balance 1
        # One of whom nothing was heard lately is elected only if there is no other.
        silent 2
        fence 1
        silent 1
        unfence 1
        preferred a-0 a-1
        silent
        preferred
        ",
    );
}

#[test]
fn nobody_is_elected_uncleanly_unless_asked_for() {
    check(
        "unclean",
        "
        ready 1
        ready 2
        ready 3
        create a assign=0:1,2,3 min.insync.replicas=2
        unclean a-0 reports=1:1:10 forced
        electorate a-0
        fence 2
        electorate a-0
        fence 1
        # One of three is there, and cannot seal.
        electorate a-0
        unclean a-0 reports=3:1:10
        unclean a-0 reports=3:1:10 forced epoch=0
        unclean a-0 forced
        unclean a-0 reports=3:1:10:faulty forced
        unclean a-0 reports=3:1:10 dir3=9 forced
        # C keeps the size that the topic wants: a replica that must be rebuilt stands in.
        unclean a-0 reports=3:1:10 forced
        show topic a
        unfence 1
        change a-0 by=3 members=1,3 quorum=2
        unclean a-0 reports=1:2:20,3:3:10 forced

        # The best log is the one with the greatest label, then the longest; the topic may want it by itself.
        create b assign=0:1,2,3 min.insync.replicas=2 unclean.leader.election.enable=true
        create c assign=0:3 unclean.leader.election.enable=true
        fence 1
        unfence 2
        change b-0 by=3 members=1,3 quorum=2
        fence 3
        electorate b-0
        unclean b-0 reports=2:1:10
        unfence 1
        fence 2
        fence 1
        unclean b-0
        unfence 2
        unclean b-0 reports=2:1:10
        show topic b
        electorate c-0
        electorate z-0
        old
        unclean b-0 reports=2:1:10
        ",
    );
}

#[test]
fn the_best_log_that_is_left_leads() {
    check(
        "best_log",
        "
        ready 1
        ready 2
        ready 3
        ready 4
        ready 5
        create a assign=0:1,2,3,4,5;1:1,2,3,4,5;2:1,2,3,4,5;3:1,2,3,4,5 min.insync.replicas=2
        fence 1
        fence 2
        fence 3
        # The greatest label; the longest of these; the preferred one of equals; a faulty one never.
        unclean a-0 reports=4:2:10,5:1:50 forced
        unclean a-1 reports=4:2:10,5:2:50 forced
        unclean a-2 reports=4:2:50,5:2:50,4:2:50 forced
        unclean a-3 reports=4:3:99:faulty,5:2:50 forced
        ",
    );
}

#[test]
fn topics_that_opt_in_are_found() {
    let mut script = Script::new();
    for command in [
        "ready 1",
        "ready 2",
        "create a assign=0:1,2;1:2,1;2:1,2 unclean.leader.election.enable=true",
        "create b assign=0:2",
        "create c assign=0:2 unclean.leader.election.enable=true",
        "change a-0 by=1 members=1 quorum=1",
        "fence 2",
    ] {
        script.run(command);
    }
    assert_eq!(script.find_unclean(9), ["c-0"; 0], "both are members of a, so that one can seal; nobody is left of c");
    script.run("unfence 2");
    script.run("fence 1");
    assert_eq!(script.find_unclean(9), ["a-0: 2"]);
    script.run("change a-2 by=2 members=2 quorum=1");
    script.run("unfence 1");
    script.run("change a-0 by=1 members=1 quorum=1");
    script.run("change a-1 by=2 members=2 quorum=1");
    assert_eq!(script.find_unclean(9), ["a"; 0]);
    script.run("fence 2");
    assert_eq!(script.find_unclean(9), ["a-1: 1", "a-2: 1"]);
    assert_eq!(script.find_unclean(1), ["a-1: 1"]);
}

#[test]
fn replicas_move() {
    check(
        "reassignments",
        "
        ready 1
        ready 2
        ready 3
        ready 4
        create a assign=0:1,2,3
        reassign a-0 to=4,2,3
        show reassignments
        change a-0 by=1 members=1,2,3,4 quorum=3
        # The one to be removed leads; it lets go, and leaves.
        giveup a-0 by=1 reason=Removed
        change a-0 by=2 members=2,3,4 quorum=2
        show reassignments
        preferred a-0
        # Another order is no move; the same is nothing at all.
        reassign a-0 to=2,3,4
        reassign a-0 to=2,3,4
        # Cancelled: one that is not a member yet goes at once, one that is has to leave first.
        reassign a-0 to=1,2,3
        reassign a-0
        reassign a-0
        reassign a-0 to=1,2,3
        change a-0 by=4 members=1,2,3,4 quorum=3
        reassign a-0
        change a-0 by=4 members=2,3,4 quorum=2
        # Fewer and more.
        reassign a-0 to=4
        reassign a-0 to=4 factor
        change a-0 by=4 members=4 quorum=1
        reassign a-0 to=4,1 factor
        change a-0 by=4 members=1,4 quorum=2
        show topic a
        reassign a-0 to=4,9
        reassign a-0 to=4,4
        reassign a-1 to=4,1
        reassign z-0 to=4,1
        old
        reassign a-0 to=4,2
        ",
    );
}

#[test]
fn features_are_raised() {
    check(
        "features",
        "
        ready 1
        feature metadata.version 1
        feature metadata.version 2
        feature metadata.version 3
        feature group.version 1
        feature group.version 0
        feature kraft.version 1
        feature metadata.version 2 metadata.version 2
        old
        register 2 start=1 level=1
        unfence 2
        feature metadata.version 2
        fence 2
        unregister 2
        feature metadata.version 2 validate
        feature metadata.version 2
        register 2 start=1 level=1
        feature group.version 1
        register 3 start=1 level=2
        ",
    );
}

#[test]
fn a_cluster_of_several_voters_changes_its_leader() {
    check(
        "voters",
        "
        bootstrap 2 voters=1,3
        bootstrap 2 voters=1,2,3
        epoch 3 1 dir=3 voters=1,2,3
        epoch 3 4 dir=3 voters=1,2,3
        epoch 1 5 dir=9 voters=1,2,3
        epoch 1 5 voters=1,2,3,4
        ",
    );
}

#[test]
fn topics_are_created() {
    check(
        "create_topics",
        "
        ready 1
        create a
        create b partitions=2 segment.ms=5 compression.type=gzip
        create c validate
        create a
        show topics

        # Names.
        create ''
        create .
        create ..
        create a/b
        create __cluster_metadata
        create long*249
        create long*250
        create x.y_z
        create x_y.z
        create x_y_z
        create x.y
        create p.q + p_q

        # One topic's fault is its own; a topic named twice is not created at all.
        create d + a + e
        create f + g + f

        # Partitions and replicas.
        create h partitions=0
        create h partitions=-2
        create h factor=0
        create h factor=-2
        create h factor=2
        create h partitions=10001
        create h partitions=9999 + i partitions=2

        # Configs.
        create h flush.messages=5
        create h flush.messages=1
        create j remote.storage.enable=true
        create j segment.size=1
        create j segment.ms=soon
        create j segment.ms
        create j segment.ms=5 segment.ms=6
        ",
    );
}

#[test]
fn somebody_chooses_the_replicas() {
    check(
        "assignments",
        "
        ready 1
        ready 2
        ready 3
        register 4 start=1

        create a assign=0:2,1;1:3,2
        create b assign=1:3,2;0:2,1
        create c assign=0:1 partitions=1
        create c assign=0:1 factor=1
        create c assign=0:1;0:2
        create c assign=0:1;2:2
        create c assign=1:1
        create c assign=0:
        create c assign=0:1,1
        create c assign=0:1,9
        create c assign=0:1,2;1:1

        # Broker 4 is fenced: it does not count, and too few may be left.
        create c assign=0:4,1
        create d assign=0:4
        create d assign=0:4,1 min.insync.replicas=2
        create d assign=0:4,1,2 min.insync.replicas=2
        # It leads nothing when it comes, since those that serve were chosen.
        unfence 4
        show topic c
        ",
    );
}

#[test]
fn the_quorum_comes_from_the_topic_and_a_majority() {
    check(
        "quorum",
        "
        ready 1
        ready 2
        ready 3
        create a factor=3
        create b factor=3 min.insync.replicas=3
        create c factor=2 min.insync.replicas=7
        create d factor=1 min.insync.replicas=7
        alter all-brokers set min.insync.replicas 3
        create e factor=3
        create f factor=3 min.insync.replicas=1
        ",
    );
}

#[test]
fn topics_are_deleted() {
    check(
        "delete_topics",
        "
        ready 1
        create a segment.ms=5 + b + c + d
        delete a
        delete a
        delete #ff
        delete #02 + z + c
        delete d + d
        delete d + #04
        show topics

        # The name is free again, and the old configs are gone.
        create a
        show topic a
        ",
    );
}

#[test]
fn topics_get_more_partitions() {
    check(
        "create_partitions",
        "
        ready 1
        ready 2
        create a partitions=1 factor=2
        grow a 3
        grow a 3
        grow a 2
        grow a -1
        grow z 2
        grow a 4 + a 5
        grow a 4 validate
        show topic a
        grow a 4 assign=1,2
        grow a 6 assign=1,2
        grow a 5 assign=1
        grow a 5 assign=1,9
        grow a 10005
        ",
    );
}

#[test]
fn configs_are_altered() {
    check(
        "alter_configs",
        "
        ready 1
        create t
        alter t set segment.ms 5 set compression.type zstd
        alter t set segment.ms 5
        alter t set segment.ms 6 validate
        alter t delete segment.ms
        alter t delete segment.ms
        alter t delete nobody.knows
        show topic t

        # All of a resource, or nothing.
        alter t set segment.ms 5 set flush.ms 5
        alter t set segment.ms 5 set segment.ms 6
        alter t set segment.ms
        alter t append segment.ms 5
        alter t append cleanup.policy compact
        alter t append cleanup.policy delete
        alter t subtract cleanup.policy delete
        alter t subtract cleanup.policy compact
        alter t set nobody.knows 1
        alter z set segment.ms 5
        alter t set segment.ms 8 + t set segment.ms 9
        alter z set segment.ms 5 + t set segment.ms 7

        # Brokers.
        alter all-brokers set log.roll.ms 5
        alter broker-1 set log.roll.ms 6
        alter broker-2 set log.roll.ms 6
        alter broker-1 set num.partitions 6
        alter broker-1 set log.retention.ms -1
        alter broker-1 set segment.ms 6
        alter group-g set consumer.session.timeout.ms 1
        show configs

        # The older way replaces all.
        replace t max.message.bytes=100 segment.ms=8
        replace t segment.ms=8 validate
        replace t segment.ms=8 flush.ms=7
        replace t segment.ms
        replace t segment.ms=8
        replace t
        replace all-brokers
        replace z
        show topic t
        show configs
        ",
    );
}

#[test]
fn producer_ids_are_given_out() {
    check(
        "producer_ids",
        "
        ready 1
        ready 2
        ids 1
        ids 2
        ids 1
        ids 1 epoch=1
        ids 3
        ",
    );
}
