//! Tasks run where they are told to, end, and are joined; streams of numbers; offloaded work.

use std::{
    collections::BTreeSet,
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use quipu_env::{Env, ShardId, Task};
use rand::Rng as _;
use tokio::sync::{mpsc, oneshot};

use crate::{
    World,
    support::{join_all, soon, spawn, yield_now},
};

pub(crate) async fn a_task_runs_and_is_joined<W: World>(world: W) {
    let ran = Arc::new(AtomicU32::new(0));
    let seen = Arc::clone(&ran);
    let task = spawn(&world, async move {
        yield_now().await;
        seen.fetch_add(1, Ordering::SeqCst);
    });
    soon(&world, "the task's end", task.join()).await;
    assert_eq!(ran.load(Ordering::SeqCst), 1, "the task was joined before its end, or ran twice");
}

/// Says when it is dropped.
struct Dropped(Option<oneshot::Sender<()>>);

impl Drop for Dropped {
    fn drop(&mut self) {
        if let Some(sender) = self.0.take() {
            sender.send(()).unwrap_or_else(|()| panic!("the test waits for this"));
        }
    }
}

pub(crate) async fn an_aborted_task_is_dropped_and_joined<W: World>(world: W) {
    let (sender, dropped) = oneshot::channel();
    let (started, has_started) = oneshot::channel();
    let task = spawn(&world, async move {
        let _dropped = Dropped(Some(sender));
        started.send(()).unwrap_or_else(|()| panic!("the test waits for this"));
        pending::<()>().await;
    });
    soon(&world, "the task's start", has_started).await.expect("the task sends");
    task.abort();
    soon(&world, "the aborted task's join", task.join()).await;
    soon(&world, "the drop of an aborted task", dropped).await.expect("sent by the drop");
}

pub(crate) async fn aborting_an_ended_task_does_nothing<W: World>(world: W) {
    let (sender, ended) = oneshot::channel();
    let task = spawn(&world, async move { sender.send(7).unwrap_or_else(|_| panic!("the test waits for this")) });
    assert_eq!(soon(&world, "the task's value", ended).await, Ok(7));
    task.abort();
    task.abort();
    soon(&world, "the join of an ended task", task.join()).await;
}

pub(crate) async fn a_task_outlives_its_handle<W: World>(world: W) {
    let (go, gone) = oneshot::channel::<()>();
    let (sender, ended) = oneshot::channel();
    drop(spawn(&world, async move {
        gone.await.expect("the test sends");
        sender.send(()).unwrap_or_else(|()| panic!("the test waits for this"));
    }));
    yield_now().await;
    go.send(()).unwrap_or_else(|()| panic!("dropping a handle ended its task"));
    soon(&world, "a task without a handle", ended).await.expect("the task went on");
}

pub(crate) async fn tasks_run_on_their_shard<W: World>(world: W) {
    assert!(world.env().shard_count() >= 1, "a world without shards");
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let mut tasks = Vec::new();
    for number in 0..world.env().shard_count() {
        let (env, sender) = (world.env().clone(), sender.clone());
        tasks.push(world.env().spawn(ShardId(number), "which shard", async move {
            let before = env.current_shard();
            yield_now().await;
            sender.send((number, before, env.current_shard())).unwrap_or_else(|_| panic!("the test waits for this"));
        }));
    }
    drop(sender);
    while let Some((number, before, after)) = soon(&world, "a shard's answer", receiver.recv()).await {
        assert_eq!(
            (before, after),
            (ShardId(number), ShardId(number)),
            "a task runs on another shard than it was told"
        );
    }
    join_all(&world, tasks).await;
}

pub(crate) async fn a_task_spawns_tasks_on_other_shards<W: World>(world: W) {
    let last = ShardId(world.env().shard_count() - 1);
    let (sender, answer) = oneshot::channel();
    let env = world.env().clone();
    let task = world.env().spawn(last, "outer", async move {
        let inner_env = env.clone();
        let inner = env.spawn(ShardId(0), "inner", async move {
            sender.send(inner_env.current_shard()).unwrap_or_else(|_| panic!("the test waits for this"));
        });
        inner.join().await;
    });
    assert_eq!(soon(&world, "the inner task", answer).await, Ok(ShardId(0)));
    soon(&world, "the outer task", task.join()).await;
}

pub(crate) async fn a_task_that_yields_lets_others_run<W: World>(world: W) {
    let turns = Arc::new(AtomicU32::new(0));
    let seen = Arc::clone(&turns);
    let busy = spawn(&world, async move {
        loop {
            seen.fetch_add(1, Ordering::SeqCst);
            yield_now().await;
        }
    });
    let (sender, ran) = oneshot::channel();
    let other = spawn(&world, async move { sender.send(()).unwrap_or_else(|()| panic!("the test waits for this")) });
    soon(&world, "a task beside a busy one", ran).await.expect("the task sends");
    while turns.load(Ordering::SeqCst) < 10 {
        yield_now().await;
    }
    busy.abort();
    join_all(&world, vec![busy, other]).await;
}

pub(crate) async fn streams_of_numbers_differ<W: World>(world: W) {
    let mut first_draws = BTreeSet::new();
    for stream in ["one", "two", "three", "one", "two", "three", "one"] {
        let mut rng = world.env().rng(stream);
        first_draws.insert((rng.next_u64(), rng.next_u64()));
    }
    assert_eq!(first_draws.len(), 7, "two streams began alike");
}

pub(crate) async fn numbers_are_drawn_evenly<W: World>(world: W) {
    let mut rng = world.env().rng("even");
    let ones: u32 = (0..1000).map(|_| rng.next_u64().count_ones()).sum();
    // 64,000 coins: 20 standard deviations from the middle.
    assert!((29_470..=34_530).contains(&ones), "{ones} of 64000 bits are ones");
}

pub(crate) async fn offloaded_work_gives_its_value<W: World>(world: W) {
    let words = ["one".to_owned(), "two".to_owned()];
    let work = world.env().offload(Duration::from_millis(1), move || words.concat());
    assert_eq!(soon(&world, "offloaded work", work).await, "onetwo");
}

pub(crate) async fn offloaded_work_runs_once_each<W: World>(world: W) {
    let count = Arc::new(AtomicU32::new(0));
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let mut tasks = Vec::new();
    for number in 0..40_u64 {
        let (env, count, sender) = (world.env().clone(), Arc::clone(&count), sender.clone());
        tasks.push(spawn(&world, async move {
            let value = env.offload(Duration::from_micros(50), move || {
                count.fetch_add(1, Ordering::SeqCst);
                number * number
            });
            sender.send((number, value.await)).unwrap_or_else(|_| panic!("the test waits for this"));
        }));
    }
    drop(sender);
    while let Some((number, square)) = soon(&world, "offloaded work", receiver.recv()).await {
        assert_eq!(square, number * number, "somebody got another's value");
    }
    assert_eq!(count.load(Ordering::SeqCst), 40);
    join_all(&world, tasks).await;
}
