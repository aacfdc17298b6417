//! What groups do, told by scripts: each command, what is written, who is answered what.
//!
//! [`check`] runs a script line by line and compares what comes out with the snapshot of the same name;
//! `INSTA_UPDATE=always cargo test -p quipu-groups` writes the snapshots anew. Along the way every record is read back.
//!
//! The commands are in `script`; stories of the consumer protocol are in `consumer`; records against Kafka's own bytes are in `golden`;
//! hostile requests are in `bounds`; properties are in `assignors`, `schedules` and `classic_schedules`, which find the bugs of `planted`.

mod assignors;
mod bounds;
mod classic_schedules;
mod consumer;
mod golden;
mod planted;
mod schedules;
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
    insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false, snapshot_path => "tests/snapshots" }, {
        insta::assert_snapshot!(name, story);
    });
}

#[test]
fn a_group_is_formed_works_and_ends() {
    check(
        "life",
        "
        # The first member gets an id, comes again with it, and the group waits for more.
        join g a
        join g a
        tick 1s
        join g b
        join g b
        tick 2s
        tick 3s
        # The leader assigns; b has asked before.
        sync g b
        sync g a a=0,1 b=2,3
        beat g a
        beat g b
        commit g a t-0=5 t-1=7
        fetch g t-0 t-9
        list
        describe g
        # A third one makes the others join again.
        join g c
        join g c
        beat g a
        join g a
        join g b
        sync g a a=0 b=1 c=2
        sync g b
        sync g c
        # One leaves, the others follow.
        leave g c
        beat g a
        leave g a b
        describe g
        # What it committed stays until it is deleted.
        fetch g all
        delete g
        list
        ",
    );
}

#[test]
fn who_waits_for_an_assignment_outlives_its_leader() {
    check(
        "outlives",
        "
        set delay=0s
        join g a session=10s rebalance=20s
        join g a session=10s rebalance=20s
        sync g a a=0
        join g b session=10s rebalance=20s
        join g b session=10s rebalance=20s
        join g a session=10s rebalance=20s
        sync g b
        # The leader of the generation gives no sign of life: b's session has ended as well while it waited, but b is there.
        tick 10s
        describe g
        beat g b
        join g b session=10s rebalance=20s
        # Not for ever.
        sync g b b=0
        tick 10s
        beat g b
        ",
    );
}

#[test]
fn time_runs_out() {
    check(
        "time",
        "
        set delay=0s
        join g a session=10s rebalance=20s
        join g a session=10s rebalance=20s
        # The leader never assigns.
        tick 20s
        describe g
        join g b session=10s rebalance=20s
        join g b session=10s rebalance=20s
        sync g b b=0
        tick 9s
        beat g b
        tick 9s
        beat g b
        # No sign of life.
        tick 10s
        beat g b
        describe g
        # An id that never comes back holds the others up for its session's time only.
        join g c session=10s rebalance=30s
        join g c session=10s rebalance=30s
        sync g c c=0
        join g d session=6s
        join g c session=10s rebalance=30s
        tick 6s
        # Who waits for a rebalance needs no heartbeats; who does not join again is out when the time is up.
        join g e session=10s rebalance=30s
        join g e session=10s rebalance=30s
        sync g c c=0 e=1
        sync g e
        join g e session=10s rebalance=30s
        tick 9s
        beat g c
        tick 9s
        beat g c
        tick 9s
        beat g c
        tick 3s
        beat g c
        ",
    );
}

#[test]
fn the_initial_delay_grows_with_newcomers() {
    check(
        "delay",
        "
        join g a v3 rebalance=8s
        tick 2s
        join g b v3 rebalance=8s
        tick 1s
        join g c v3 rebalance=8s
        tick 3s
        tick 2s
        ",
    );
}

#[test]
fn static_members_come_back() {
    check(
        "static",
        "
        set delay=0s
        join g a instance=i1
        join g b instance=i2
        join g a instance=i1
        sync g a a=0 b=1
        sync g b
        # b starts anew: same assignment, no rebalance. Its old id is fenced.
        old b
        join g b instance=i2
        sync g b
        beat g b
        beat g old instance=i2
        commit g old instance=i2 t-0=1
        # The leader starts anew: it is told not to assign.
        join g a instance=i1
        sync g a
        # By an old version: it is told of a leader that is not it.
        join g a instance=i1 v8
        # With other protocols: a rebalance.
        join g b instance=i2 protocols=sticky,range
        join g a instance=i1 protocols=sticky,range
        sync g a a=0 b=1
        sync g b
        # It leaves by its name, and comes back within a generation.
        leave g @i2
        join g a instance=i1 protocols=sticky,range
        # Everybody else is unknown.
        leave g @i9
        beat g a instance=i9
        reload
        describe g
        beat g a instance=i1
        ",
    );
}

#[test]
fn protocols_are_selected() {
    check(
        "protocols",
        "
        set delay=0s
        join g a v3 protocols=range,sticky,both
        sync g a a=0
        join g b v3 protocols=sticky,both
        join g a protocols=range,sticky,both
        join g c v3 protocols=other
        join g c v3 protocols=range
        join g c v3 type=connect protocols=range
        join g c v3 protocols=
        join h c v3 protocols=
        join h c v3 type= protocols=range
        list
        sync g a protocol=both a=0
        sync g a type=connect a=0
        sync g a gen=1 a=0
        sync g a protocol=sticky type=consumer a=0 b=1
        ",
    );
}

#[test]
fn members_that_come_again() {
    check(
        "again",
        "
        set delay=0s
        join g a v3
        # The answer was lost: the leader asks again and gets the members.
        join g a
        join g b v3
        join g a
        # In the rebalance's second half: the same again.
        join g b
        sync g a a=0 b=1
        # A follower of a stable group gets the same generation; the leader wants a new one.
        join g b
        sync g b
        join g a
        beat g b
        join g b
        sync g a a=1 b=0
        # A sync that is asked for twice displaces the first one.
        sync g b
        join g a
        join g b
        sync g b
        sync g b
        sync g a a=1 b=0
        ",
    );
}

#[test]
fn commits_are_checked() {
    check(
        "commits",
        "
        set delay=0s
        # Without members anybody may.
        commit g - t-0=1
        fetch g all
        commit g - gen=3 t-0=2
        commit h - gen=3 t-0=2
        join g a v3
        # The generation has no assignment yet.
        commit g a t-0=3
        sync g a a=0
        commit g a t-0=3
        commit g a gen=9 t-0=4
        commit g - t-0=4
        commit g x t-0=4
        commit g a t-0=5/meta t-1=6/@5000
        fetch g all
        drop-offsets g t-0
        drop-offsets g u-0
        drop-offsets nobody t-0
        delete g
        delete nobody
        leave g a
        drop-offsets g t-0
        fetch g all
        topics-deleted t
        fetch g all
        # A retention of its own.
        commit k - retain=1s t-0=1
        reload
        fetch k all
        tick 10m
        fetch k all
        ",
    );
}

#[test]
fn offsets_expire() {
    check(
        "expiry",
        "
        set delay=0s retention=1h
        commit simple - t-0=1
        join g a v3 topics=t
        sync g a a=0
        commit g a t-0=1 u-0=1
        tick 59m beat=g/a
        fetch simple all
        fetch g all
        # Nobody commits to the simple group any more; g does not read u any more, and t as long as it lives.
        tick 11m beat=g/a
        fetch simple all
        fetch g all
        list
        leave g a
        tick 59m
        fetch g all
        tick 11m
        fetch g all
        list
        ",
    );
}

#[test]
fn a_new_leader_knows_what_was_written() {
    check(
        "reload",
        "
        set delay=0s
        join g a v3
        sync g a a=0
        commit g a t-0=5
        commit other - t-0=9
        join pending x
        reload
        list
        describe g
        beat g a
        fetch g all
        fetch other all
        # Its session ran on: from the moment of the reload.
        tick 10s
        beat g a
        describe g
        reload
        describe g
        delete g
        delete other
        reload
        list
        ",
    );
}

#[test]
fn nothing_is_told_before_it_is_kept() {
    check(
        "parked",
        "
        set delay=0s
        hold
        commit g - t-0=1
        fetch g all
        keep
        # A write that fails takes with it whatever was told nobody.
        hold
        commit g - t-0=2
        fetch g all
        lose
        commit g - t-0=3
        reload
        fetch g all
        ",
    );
}

#[test]
fn groups_are_bounded_and_listed() {
    check(
        "listed",
        "
        set delay=0s size=2
        join g a v3
        join g b v3
        join g a
        sync g a a=0 b=1
        join g c v3
        join g c
        join h a v3
        sync h a a=0
        list
        list states=stable
        list states=Stable,empty types=classic
        list types=consumer
        describe nobody
        join g a session=1s
        join g a session=31m
        join '' a
        beat nobody a
        sync nobody a
        leave nobody a
        join g a id=stranger
        join nobody a id=stranger
        ",
    );
}
