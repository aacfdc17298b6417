//! How a process ends, and what it does at its limits: each case in a child process of its own, which is this test binary
//! again with [`CASE`] in its environment.

use std::{
    env, fs,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::{fd::AsRawFd, unix::process::ExitStatusExt},
    path::{Path, PathBuf},
    process::{Command, Output, exit, id},
    sync::Arc,
    thread,
    time::Duration,
};

use bytes::Bytes;
use quipu_env::{Clock, Disk, Env, Fatal, File, Listener, Net, OpenOptions, ShardId, Task};
use quipu_env_tokio::{Options, Runtime, Signal, Signals, TokioEnv};
use rustix::process::{Pid, Resource, Rlimit};

/// Tells a child what it is for.
const CASE: &str = "QUIPU_TEST_CASE";
/// Where it may write.
const DIRECTORY: &str = "QUIPU_TEST_DIRECTORY";

/// Runs the test of this name in a child.
fn child(test: &str) -> Output {
    let directory = directory(test);
    let output = Command::new(env::current_exe().expect("this binary"))
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(CASE, test)
        .env(DIRECTORY, &directory)
        .output()
        .expect("a child process");
    let left_behind = directory.join("destructor ran").exists();
    fs::remove_dir_all(&directory).expect("the test's own directory");
    assert!(!left_behind, "a destructor ran after the end was decided");
    output
}

fn directory(test: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("process-{}-{test}", id()));
    fs::create_dir_all(&directory).expect("a directory for the test");
    directory
}

fn is_child(test: &str) -> bool {
    env::var(CASE).is_ok_and(|case| case == test)
}

fn start(shards: u16) -> Runtime {
    TokioEnv::start(Options { shards }).expect("threads")
}

/// Leaves a file behind when it is dropped.
struct Witness;

impl Drop for Witness {
    fn drop(&mut self) {
        let directory = env::var(DIRECTORY).expect("set by the parent");
        fs::write(Path::new(&directory).join("destructor ran"), "").expect("written");
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn halt_ends_with_its_status_and_nothing_else() {
    let name = "halt_ends_with_its_status_and_nothing_else";
    if is_child(name) {
        let runtime = start(2);
        let env = runtime.env();
        runtime.block_on(async move {
            let _witness = Witness;
            let inner = env.clone();
            env.spawn(ShardId(1), "halting", async move {
                let _witness = Witness;
                inner.halt(Fatal::WalSync, "sync of wal/0001 failed; stopping")
            })
            .join()
            .await;
        });
        exit(0);
    }
    let output = child(name);
    assert_eq!(output.status.code(), Some(74), "{}", stderr(&output));
    assert!(stderr(&output).contains("sync of wal/0001 failed; stopping"), "{}", stderr(&output));
}

/// A child whose work panicked somewhere must be gone, with a message that names the work.
fn assert_aborted(output: &Output, work: &str) {
    const SIGABRT: i32 = 6;
    assert_eq!(output.status.signal(), Some(SIGABRT), "{}", stderr(output));
    assert!(stderr(output).contains(work), "{}", stderr(output));
    assert!(stderr(output).contains("planned by the test"), "{}", stderr(output));
}

#[test]
fn a_panic_in_a_task_ends_the_process() {
    let name = "a_panic_in_a_task_ends_the_process";
    if is_child(name) {
        let runtime = start(2);
        let env = runtime.env();
        runtime.block_on(async move {
            let task = env.spawn(ShardId(1), "unlucky", async { panic!("planned by the test") });
            task.join().await;
        });
        exit(0);
    }
    assert_aborted(&child(name), "unlucky");
}

#[test]
fn a_panic_in_offloaded_work_ends_the_process() {
    let name = "a_panic_in_offloaded_work_ends_the_process";
    if is_child(name) {
        let runtime = start(1);
        let env = runtime.env();
        runtime.block_on(async move { env.offload(Duration::ZERO, || -> () { panic!("planned by the test") }).await });
        exit(0);
    }
    assert_aborted(&child(name), "compute");
}

#[test]
fn too_many_open_files_are_told_and_passing() {
    let name = "too_many_open_files_are_told_and_passing";
    if !is_child(name) {
        let output = child(name);
        assert!(output.status.success(), "{}", stderr(&output));
        return;
    }
    let runtime = start(1);
    let env = runtime.env();
    runtime.block_on(async move {
        let mut listener = env.net().bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.expect("bind");
        let _client = TcpStream::connect(listener.local_addr()).expect("connect");
        // The limit is on the numbers, of which the kernel always gives the lowest.
        let next = fs::File::open("/dev/null").expect("a free number").as_raw_fd();
        let before = rustix::process::getrlimit(Resource::Nofile);
        let none_left = Rlimit { current: Some(u64::try_from(next).expect("positive")), ..before };
        rustix::process::setrlimit(Resource::Nofile, none_left).expect("a lower limit");
        for _ in 0..2 {
            let error = listener.accept().await.expect_err("no file is left for a connection");
            assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::MFILE.raw_os_error()), "{error}");
        }
        rustix::process::setrlimit(Resource::Nofile, before).expect("the old limit");
        listener.accept().await.expect("the connection is still there");
    });
}

#[test]
fn signals_that_ask_to_stop_are_received() {
    let name = "signals_that_ask_to_stop_are_received";
    if !is_child(name) {
        let output = child(name);
        assert!(output.status.success(), "{}", stderr(&output));
        return;
    }
    let runtime = start(1);
    runtime.block_on(async {
        let mut signals = Signals::new().expect("handlers");
        let own = Pid::from_raw(i32::try_from(id()).expect("a process id")).expect("not 0");
        for (sent, received) in [
            (rustix::process::Signal::TERM, Signal::Terminate),
            (rustix::process::Signal::INT, Signal::Interrupt),
            (rustix::process::Signal::TERM, Signal::Terminate),
        ] {
            rustix::process::kill_process(own, sent).expect("a signal to this process");
            assert_eq!(signals.next().await, received);
        }
    });
    runtime.shutdown();
}

#[test]
fn a_panic_of_the_main_future_reaches_the_caller() {
    let runtime = start(1);
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        runtime.block_on(async { panic!("planned by the test") });
    }));
    let message = caught.expect_err("a panic").downcast::<&str>().expect("a literal");
    assert_eq!(*message, "planned by the test");
    assert_eq!(runtime.block_on(async { 5 }), 5, "the shard is gone");
}

#[test]
fn shutdown_drops_tasks_and_finishes_what_the_disk_was_told() {
    let directory = directory("shutdown");
    let runtime = start(2);
    let env = runtime.env();
    let alive = Arc::new(());
    let held = Arc::clone(&alive);
    let path = directory.join("file");
    runtime.block_on(async move {
        for shard in 0..env.shard_count() {
            let (held, sleeping) = (Arc::clone(&held), env.clone());
            drop(env.spawn(ShardId(shard), "sleeper", async move {
                sleeping.clock().sleep(Duration::from_secs(3600)).await;
                drop(held);
            }));
        }
        let file = env.disk().open(&path, OpenOptions::CREATE_NEW).await.expect("open");
        let writer = env.clone();
        drop(env.spawn(ShardId(0), "writer", async move {
            let mut writes = Vec::new();
            for number in 0..50_u64 {
                let mut write = Box::pin(file.write_at(number, vec![Bytes::from_static(b"x")]));
                // Begun, and never waited for.
                std::future::poll_fn(|context| {
                    drop(write.as_mut().poll(context));
                    std::task::Poll::Ready(())
                })
                .await;
                writes.push(write);
            }
            writer.clock().sleep(Duration::from_secs(3600)).await;
        }));
        // Tasks of one shard run in the order they were spawned.
        env.spawn(ShardId(0), "after the writer", async {}).join().await;
    });
    runtime.shutdown();
    assert_eq!(Arc::strong_count(&alive), 1, "a task outlived the shutdown");
    assert_eq!(fs::read(directory.join("file")).expect("read"), [b'x'; 50]);
    fs::remove_dir_all(&directory).expect("the test's own directory");
}

#[test]
fn offloaded_work_holds_up_no_shard() {
    let runtime = start(1);
    let env = runtime.env();
    runtime.block_on(async move {
        let (sender, receiver) = std::sync::mpsc::channel();
        let shard = thread::current().id();
        let other = env.spawn(ShardId(0), "beside it", async move { sender.send(7).expect("the work waits for this") });
        // Ends only if the shard runs the other task meanwhile.
        let (value, worker) = env.offload(Duration::ZERO, move || (receiver.recv(), thread::current().id())).await;
        assert_eq!(value, Ok(7));
        assert_ne!(worker, shard);
        other.join().await;
    });
}
