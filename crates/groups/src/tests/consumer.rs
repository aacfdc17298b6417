//! Stories of the consumer protocol.

use super::check;

#[test]
fn a_member_joins_and_nobody_else_stops() {
    check(
        "consumer-life",
        "
        # Nobody is let in before the topics are known.
        come g a topics=t
        topics t=4
        come g a topics=t
        go g a owned=told
        about g
        # b waits for what a has to give up; a goes on reading the rest.
        come g b topics=t
        go g b
        go g a
        about g
        go g a
        # a has stopped reading them.
        go g a owned=told
        go g b
        go g b owned=told
        about g
        list
        # Offsets are committed by epochs.
        commit-as g a t-0=5
        commit-as g a epoch=1 t-0=6
        commit-as g b epoch=1 t-2=6
        commit-as g b epoch=9 t-2=6
        commit-as g nobody epoch=2 t-0=1
        commit g a t-0=7
        fetch-as g a t-0
        fetch-as g a epoch=1 t-0
        fetch-as g - t-0 t-2
        drop-offsets g t-0
        delete g
        # b leaves: a gets everything with its next heartbeat.
        quit g b
        go g a owned=told
        go g a owned=told
        quit g a
        about g
        list
        fetch g all
        delete g
        list
        ",
    );
}

#[test]
fn members_that_fall_behind_are_fenced() {
    check(
        "consumer-fencing",
        "
        topics t=2
        come g a topics=t
        # Its answer was lost: the same again.
        come g a topics=t
        come g b topics=t
        go g a
        go g a owned=told
        # The answer with the new epoch was lost: the epoch before is good if it reads no more than it has.
        go g a epoch=1 owned=t:0
        go g a epoch=1 owned=t:0,t:1
        go g a epoch=1
        go g a epoch=9
        go g stranger epoch=1
        go h a epoch=1
        # No sign of life.
        tick 45s
        about g
        go g b epoch=2
        come g b topics=t
        # b does not give up in time; a is let in after that.
        come g a topics=t
        go g b rebalance=20s
        tick 19s
        go g a
        go g b
        tick 1s
        go g a
        about g
        tick 45s
        about g
        ",
    );
}

#[test]
fn static_members_go_and_come_back() {
    check(
        "consumer-static",
        "
        topics t=4
        come g a topics=t instance=i1
        come g b topics=t instance=i2
        go g a instance=i1
        go g a owned=told instance=i1
        go g b instance=i2
        # Somebody else is not let in while i2 is there.
        come g c topics=t instance=i2
        # b goes for a while; what it has stays its own.
        quit g b away instance=i2
        about g
        go g b epoch=2 instance=i2
        come g c topics=t instance=i2
        about g
        go g b epoch=2 instance=i2
        quit g b instance=i2
        quit g b away instance=i9
        # It does not come back in time.
        quit g c away instance=i2
        tick 30s
        go g a instance=i1
        tick 20s
        about g
        go g a owned=told instance=i1
        # An administrator takes it out by its name; nobody else can be named.
        leave g @i1 @i9 a
        about g
        ",
    );
}

#[test]
fn topics_come_and_go() {
    check(
        "consumer-topics",
        "
        topics t=2
        come g a topics=t,u
        go g a owned=told
        # Partitions are added, and a topic is created.
        topics t=3 u=1 v=9
        go g a
        go g a owned=told
        # Nothing that matters.
        topics t=3 u=1
        go g a
        # A topic is deleted: given up, though nobody else can have it.
        topics u=1
        go g a
        go g a owned=told
        # It wants something else.
        go g a topics=t
        go g a owned=none
        ",
    );
}

#[test]
fn topics_are_wanted_by_expressions() {
    check(
        "consumer-regex",
        "
        topics orders-1=1 orders-2=1 other=1
        come g a regex=orders-.*
        go g a owned=told
        come g b topics=other regex=orders-.*
        # One more: within ten seconds of the last change it has to wait.
        topics orders-1=1 orders-2=1 orders-3=1 other=1
        go g a owned=told
        topics orders-1=1 orders-2=1 orders-3=1 orders-4=1 other=1
        go g a owned=told
        tick 10s
        go g a owned=told
        # Another expression; the old one is still b's.
        go g a regex=other
        go g a owned=none
        quit g b
        go g a
        go g a regex=''
        go g a owned=none
        go g a regex=(
        come g c regex=(a*)*(
        ",
    );
}

#[test]
fn requests_that_make_no_sense_are_refused() {
    check(
        "consumer-invalid",
        "
        topics t=1
        set size=1
        topics t=1
        come g '' topics=t
        come '' a topics=t
        come g a topics=t instance=
        come g a topics=t rack=
        come g a topics=t hasty
        come g a topics=t owned=t:0
        come g a
        come g a topics=t epoch=-3
        quit g a away
        come g a topics=t assignor=sticky
        quit g a
        go g a epoch=1
        # None of them has left a trace.
        list
        come g a topics=*
        come g b topics=t
        # Version 0 gets its id from the coordinator.
        come h '' v0 topics=t
        list types=consumer
        ",
    );
}

#[test]
fn an_empty_group_changes_its_protocol() {
    check(
        "consumer-change",
        "
        set delay=0s
        topics t=1
        join g a v3
        sync g a a=0
        commit g a t-0=5
        # Members of the classic protocol are in the way.
        come g b topics=t
        about g
        leave g a
        come g b topics=t
        fetch-as g b t-0
        describe g
        beat g a
        # And the other way round.
        join g a v3
        quit g b
        join g z v3
        sync g z z=0
        list
        fetch g all
        reload
        list
        describe g
        ",
    );
}

#[test]
fn a_new_leader_knows_the_group() {
    check(
        "consumer-reload",
        "
        topics t=4 u=1
        come g a topics=t regex=u assignor=range
        go g a owned=told
        come g b topics=t instance=i rack=r
        go g a
        about g
        reload
        go g a
        topics t=4 u=1
        about g
        # The time to give up begins anew, and the session.
        go g a
        go g a owned=told
        go g b instance=i
        about g
        tick 45s
        about g
        reload
        topics t=4
        about g
        delete g
        reload
        list
        ",
    );
}

#[test]
fn assignors_and_racks() {
    check(
        "consumer-assignors",
        "
        topics t=4/r1,r2,r1,r2 u=3
        come range a topics=t,u assignor=range
        come range b topics=t,u assignor=range
        go range a
        go range a owned=told
        go range b
        come near a topics=t rack=r1
        come near b topics=t rack=r2
        go near a
        go near a owned=told
        go near b
        # Most votes decide.
        come near c topics=t assignor=range
        about near
        ",
    );
}

#[test]
fn offsets_of_topics_that_are_read_do_not_expire() {
    check(
        "consumer-expiry",
        "
        set retention=1h
        topics t=1
        come g a topics=t
        commit-as g a t-0=1
        commit-as other - u-0=1
        quit g a
        tick 50m
        come g a topics=t
        tick 40s
        go g a
        tick 40s
        go g a
        fetch g all
        quit g a
        tick 1h
        tick 10m
        fetch g all
        list
        ",
    );
}

#[test]
fn a_group_changes_its_protocol_with_its_members_and_back() {
    check(
        "consumer-migration",
        "
        set delay=0s
        topics t=4
        # Two members of the classic protocol share the topic.
        join g a topics=t
        join g a topics=t
        sync g a a=t:0,t:1,t:2,t:3
        join g b topics=t
        join g b topics=t
        join g a topics=t
        sync g b
        sync g a a=t:0,t:1 b=t:2,t:3
        # c speaks the consumer protocol. The others go on reading, and hear of it.
        come g c topics=t
        about g
        list
        describe g
        commit g a t-0=5
        commit g b gen=1 t-2=5
        beat g b
        beat g a
        # a gives up everything when it joins, as its assignor does; it is given its part at once.
        join g a topics=t
        sync g a
        go g c
        # b keeps what it may: it is told what that is, and comes again without the rest.
        join g b topics=t owned=t:2,t:3
        sync g b
        beat g b
        join g b topics=t owned=t:2
        sync g b
        go g c
        go g c owned=told
        beat g a
        beat g b
        about g
        # The next coordinator knows them all.
        reload
        topics t=4
        about g
        beat g a
        sync g b gen=9
        sync g c
        leave g c
        # One more of the old kind comes into the new group.
        join g d topics=t
        join g d topics=t
        sync g d
        join g e topics=t protocols=other
        join g e topics=t type=connect
        leave g d
        # c leaves: the others are a group of the classic protocol again, and choose who assigns.
        quit g c
        list
        about g
        beat g a
        beat g b
        join g a topics=t
        join g b topics=t
        sync g b
        sync g a a=t:0,t:1 b=t:2,t:3
        fetch g t-0
        reload
        describe g
        ",
    );
}

#[test]
fn a_group_changes_its_protocol_only_where_it_may() {
    check(
        "consumer-migration-refused",
        "
        set delay=0s migration=down
        topics t=2
        join g a topics=t
        join g a topics=t
        sync g a a=t:0,t:1
        come g b topics=t
        # Members that are no consumers can't be in such a group.
        set migration=up,down
        topics t=2
        join w a type=connect
        join w a type=connect
        come w b topics=t
        set migration=none
        topics t=2
        come n a topics=t
        join n b topics=t
        # Where groups may not change back, the last member of the consumer protocol leaves the others among themselves.
        set migration=up
        topics t=2
        come g b topics=t
        beat g a
        join g a topics=t
        sync g a
        quit g b
        list
        beat g a
        # Who does not join again in time is out.
        tick 30s beat=g/a
        tick 31s beat=g/a
        about g
        ",
    );
}

#[test]
fn a_static_member_takes_its_place_along() {
    check(
        "consumer-migration-static",
        "
        set delay=0s
        topics t=2
        join g a topics=t instance=i
        sync g a instance=i a=t:0,t:1
        # It starts anew with the other protocol, under its name.
        come g b topics=t instance=i
        list
        beat g a instance=i
        go g b owned=told
        # And back: there is nobody else, so the group is of the classic protocol.
        join g c topics=t instance=i
        list
        sync g c instance=i
        join g c topics=t instance=i
        sync g c instance=i c=t:0,t:1
        ",
    );
}
