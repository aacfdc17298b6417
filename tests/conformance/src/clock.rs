//! Time goes forward, and timers end when they should.

use std::{pin::pin, time::Duration};

use quipu_env::{Clock, Env, Instant, Sleep};
use tokio::sync::mpsc;

use crate::{
    World,
    support::{A_WHILE, join_all, poll_once, soon, spawn, within},
};

pub(crate) async fn now_never_goes_back<W: World>(world: W) {
    let clock = world.env().clock();
    let mut last = clock.now();
    for _ in 0..1000 {
        let now = clock.now();
        assert!(now >= last, "{last:?} was followed by {now:?}");
        last = now;
    }
    clock.sleep(Duration::from_millis(5)).await;
    assert!(clock.now() > last, "5 ms passed and the clock did not move from {last:?}");
}

pub(crate) async fn wall_time_is_after_the_epoch<W: World>(world: W) {
    assert!(world.env().clock().wall().get() > 0, "the wall clock stands at {}", world.env().clock().wall());
}

pub(crate) async fn a_sleep_never_ends_early<W: World>(world: W) {
    let clock = world.env().clock();
    for micros in [0, 1, 100, 999, 1000, 1001, 7300] {
        let duration = Duration::from_micros(micros);
        let begun = clock.now();
        clock.sleep(duration).await;
        assert!(clock.now() - begun >= duration, "a sleep of {duration:?} took {:?}", clock.now() - begun);
        let deadline = clock.now() + duration;
        clock.sleep_until(deadline).await;
        assert!(clock.now() >= deadline, "a sleep until {deadline:?} ended at {:?}", clock.now());
    }
}

pub(crate) async fn sleeps_end_in_order_of_their_deadlines<W: World>(world: W) {
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let start = world.env().clock().now();
    let mut tasks = Vec::new();
    for millis in [50, 10, 40, 20, 30] {
        let (sender, clock) = (sender.clone(), world.env().clock().clone());
        tasks.push(spawn(&world, async move {
            clock.sleep_until(start + Duration::from_millis(millis)).await;
            sender.send(millis).unwrap_or_else(|_| panic!("the receiver waits"));
        }));
    }
    drop(sender);
    let mut ended = Vec::new();
    while let Some(millis) = soon(&world, "a sleep's end", receiver.recv()).await {
        ended.push(millis);
    }
    assert_eq!(ended, [10, 20, 30, 40, 50]);
    join_all(&world, tasks).await;
}

pub(crate) async fn a_deadline_in_the_past_ends_at_once<W: World>(world: W) {
    let clock = world.env().clock();
    clock.sleep(Duration::from_millis(3)).await;
    soon(&world, "a sleep until the clock's zero", clock.sleep_until(Instant::ZERO)).await;
    soon(&world, "a sleep until now", clock.sleep_until(clock.now())).await;
    soon(&world, "no sleep", clock.sleep(Duration::ZERO)).await;
}

pub(crate) async fn a_sleep_can_be_set_earlier<W: World>(world: W) {
    let clock = world.env().clock();
    let mut sleep = pin!(clock.sleep(Duration::from_secs(3600)));
    assert!(poll_once(sleep.as_mut()).await.is_pending(), "an hour passed in no time");
    let deadline = clock.now() + Duration::from_millis(10);
    sleep.as_mut().reset(deadline);
    soon(&world, "a sleep of an hour that was set to 10 ms", sleep).await;
    assert!(clock.now() >= deadline, "the sleep ended before its new deadline");
}

pub(crate) async fn a_sleep_can_be_set_later<W: World>(world: W) {
    let clock = world.env().clock();
    let begun = clock.now();
    let mut sleep = pin!(clock.sleep(Duration::from_millis(5)));
    // Ended already only if this task was held up for so long; a reset undoes that as well.
    let is_pending = poll_once(sleep.as_mut()).await.is_pending();
    assert!(is_pending || clock.now() >= begun + Duration::from_millis(5), "the sleep ended early");
    let deadline = clock.now() + Duration::from_millis(60);
    sleep.as_mut().reset(deadline);
    soon(&world, "a sleep that was set later", sleep).await;
    assert!(clock.now() >= deadline, "the sleep ended at its old deadline");
}

pub(crate) async fn a_sleep_can_be_set_after_its_end<W: World>(world: W) {
    let clock = world.env().clock();
    let mut sleep = pin!(clock.sleep(Duration::from_millis(2)));
    for _ in 0..3 {
        soon(&world, "a sleep that was set anew", sleep.as_mut()).await;
        let deadline = clock.now() + Duration::from_millis(15);
        sleep.as_mut().reset(deadline);
        soon(&world, "a sleep that was set anew", sleep.as_mut()).await;
        assert!(clock.now() >= deadline, "a sleep set after its end had no effect");
        sleep.as_mut().reset(Instant::ZERO);
    }
    soon(&world, "a sleep that was set to the past", sleep).await;
}

pub(crate) async fn a_sleep_can_be_set_before_it_is_polled<W: World>(world: W) {
    let clock = world.env().clock();
    let mut sleep = pin!(clock.sleep(Duration::from_secs(3600)));
    let deadline = clock.now() + Duration::from_millis(5);
    sleep.as_mut().reset(deadline);
    soon(&world, "a sleep that was set before its first poll", sleep).await;
    assert!(clock.now() >= deadline, "the sleep ended early");
}

pub(crate) async fn a_sleep_without_end_can_be_set<W: World>(world: W) {
    let clock = world.env().clock();
    let mut sleep = pin!(clock.sleep_until(Instant::from_nanos(u64::MAX)));
    assert!(within(&world, A_WHILE, sleep.as_mut()).await.is_none(), "584 years passed");
    sleep.as_mut().reset(clock.now() + Duration::from_millis(1));
    soon(&world, "a sleep without end that was set to 1 ms", sleep).await;
}
