//! The controller's story, told by scripts: each command, what it writes, what it answers.
//!
//! [`check`] runs a script line by line on an image that grows as the records are applied, and compares what comes out with
//! the snapshot of the same name; `INSTA_UPDATE=always cargo test -p quipu-controller` writes the snapshots anew. Along
//! the way it proves of every script that the records survive encoding, that replaying them gives the same image, and
//! that a snapshot of it does.
//!
//! The commands are in `script`; random requests are in `properties`.

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
        create h retention.ms=5
        create h retention.ms=-1
        create j delete.retention.ms=1
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
        alter t set segment.ms 5 set retention.ms 5
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
        replace t segment.ms=8 retention.ms=7
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
