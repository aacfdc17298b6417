//! `quipu dev cluster`: a whole cluster on this machine, for trying things out.
//!
//! Each node is a process of its own, `quipu broker` with a file of settings that lies beside its data: what is tried here is what
//! runs elsewhere, and one node can be killed without the others. All of them end when this command does.

use std::{
    fmt::Write as _,
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command as Process, ExitCode, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use clap::{Arg, ArgMatches, Command, value_parser};
use quipu_env_tokio::{Options, Signals, TokioEnv};
use rustix::process::{Pid, Signal, kill_process};

use crate::FAILED;

/// Nodes that a cluster on one machine may have.
const NODES_MAX: i64 = 7;
/// A node that is not ready after this time never will be.
const READY_TIME: Duration = Duration::from_secs(30);
/// A node that has not stopped after this time is killed.
const STOP_TIME: Duration = Duration::from_secs(15);
/// Between two looks at the nodes.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

pub(crate) fn command() -> Command {
    let port = |name: &'static str, default: &'static str, help: &'static str| {
        Arg::new(name)
            .long(name)
            .value_name("PORT")
            .default_value(default)
            .value_parser(value_parser!(u16).range(1..))
            .help(help)
    };
    let cluster = Command::new("cluster")
        .about("Run a cluster on this machine until Ctrl-C; prints `quipu: cluster ready on HOST:PORT,...`")
        .arg(
            Arg::new("nodes")
                .long("nodes")
                .value_name("N")
                .default_value("3")
                .value_parser(value_parser!(i64).range(1..=NODES_MAX))
                .help("How many nodes"),
        )
        .arg(
            Arg::new("data-dir")
                .long("data-dir")
                .value_name("DIR")
                .default_value("./quipu-cluster")
                .value_parser(value_parser!(PathBuf))
                .help("Where the nodes' files and data are kept"),
        )
        .arg(port("port", "9092", "The first node's port for clients; the others have the next ones"))
        .arg(port("peer-port", "9192", "The first node's port for other nodes; the others have the next ones"));
    Command::new("dev")
        .about("Tools for trying things out")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(cluster)
}

pub(crate) fn run(matches: &ArgMatches) -> ExitCode {
    let Some(("cluster", matches)) = matches.subcommand() else { unreachable!("clap requires the subcommand") };
    match cluster(matches) {
        Ok(status) => status,
        Err(error) => {
            eprintln!("quipu: {error}");
            ExitCode::from(FAILED)
        }
    }
}

/// A node's process. It is killed when this is dropped.
struct Node {
    id: u16,
    child: Child,
}

impl Drop for Node {
    fn drop(&mut self) {
        // A node that has ended can't be killed, and need not be.
        let _ended = self.child.kill().is_err() || self.child.wait().is_err();
    }
}

/// Where a node listens.
struct Place {
    id: u16,
    port: u16,
    peer_port: u16,
}

fn cluster(matches: &ArgMatches) -> Result<ExitCode, String> {
    let nodes =
        u16::try_from(*matches.get_one::<i64>("nodes").expect("it has a default")).expect("clap has checked it");
    let directory = matches.get_one::<PathBuf>("data-dir").expect("it has a default");
    let port = |name: &str| *matches.get_one::<u16>(name).expect("it has a default");
    let (first, first_peer) = (port("port"), port("peer-port"));
    let place = |number: u16| {
        let place = |from: u16| from.checked_add(number).ok_or("there are not so many ports");
        Ok::<_, String>(Place { id: number + 1, port: place(first)?, peer_port: place(first_peer)? })
    };
    let places = (0..nodes).map(place).collect::<Result<Vec<_>, _>>()?;
    let runtime = TokioEnv::start(Options { shards: 1 })
        .map_err(|error| format!("the system gives no more threads or files: {error}"))?;
    let (told, signals) = mpsc::channel();
    let listening = runtime.block_on(async move { Signals::new() });
    let mut listening = listening.map_err(|error| format!("signals can't be received: {error}"))?;
    let (ready, is_ready) = mpsc::channel();
    let mut running = Vec::new();
    for place in &places {
        let file = write_settings(directory, place, &places)?;
        running.push(start(place.id, &file, ready.clone())?);
    }
    drop(ready);
    let waiting = thread::spawn(move || {
        runtime.block_on(async move { listening.next().await });
        // The command may have ended by itself.
        let _gone = told.send(());
    });
    drop(waiting);
    wait_until_ready(&mut running, &is_ready)?;
    let addresses: Vec<String> = places.iter().map(|place| format!("127.0.0.1:{}", place.port)).collect();
    println!("quipu: cluster ready on {}", addresses.join(","));
    let was_asked = watch(&mut running, &signals);
    stop(running)?;
    if was_asked { Ok(ExitCode::SUCCESS) } else { Err("all nodes have ended by themselves".to_owned()) }
}

/// A node's settings, in a file beside its data that can be used without this command as well.
fn write_settings(directory: &Path, place: &Place, all: &[Place]) -> Result<PathBuf, String> {
    let own = directory.join(format!("n{}", place.id));
    let failed = |what: &Path, error: io::Error| format!("cannot write {}: {error}", what.display());
    std::fs::create_dir_all(directory).map_err(|error| failed(directory, error))?;
    let voters: Vec<String> = all.iter().map(|one| format!("\"{}@127.0.0.1:{}\"", one.id, one.peer_port)).collect();
    let replicas = all.len().min(3);
    let mut text = String::new();
    let data_dir = toml_text(&own)?;
    let written = write!(
        text,
        "node_id = {}\ndata_dir = {data_dir}\nroles = [\"broker\", \"controller\"]\nlisten = \"127.0.0.1:{}\"\n\
         peer_listen = \"127.0.0.1:{}\"\nvoters = [{}]\n[defaults]\n\"default.replication.factor\" = {replicas}\n\
         \"min.insync.replicas\" = {}\n",
        place.id,
        place.port,
        place.peer_port,
        voters.join(", "),
        replicas.div_ceil(2).max(1),
    );
    written.expect("text is written into memory");
    let file = directory.join(format!("n{}.toml", place.id));
    std::fs::write(&file, text).map_err(|error| failed(&file, error))?;
    Ok(file)
}

fn toml_text(path: &Path) -> Result<String, String> {
    let text = path.to_str().ok_or_else(|| format!("{} is not UTF-8: name another directory", path.display()))?;
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            control if control.is_control() => {
                return Err(format!("{text:?} has control characters: name another directory"));
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    Ok(quoted)
}

/// Starts a node, whose log goes to stderr with its name before each line. `ready` hears of it when it serves.
fn start(id: u16, file: &Path, ready: mpsc::Sender<u16>) -> Result<Node, String> {
    let own = std::env::current_exe().map_err(|error| format!("the program's own file can't be found: {error}"))?;
    let mut process = Process::new(own);
    process.arg("broker").arg("--config").arg(file).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = process.spawn().map_err(|error| format!("node {id} can't be started: {error}"))?;
    let stdout = child.stdout.take().expect("it is piped");
    let stderr = child.stderr.take().expect("it is piped");
    let _follows = thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if line.starts_with("quipu: ready on ") {
                // The command may have given up.
                let _gone = ready.send(id);
            }
        }
    });
    let _follows = thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            eprintln!("node {id}: {line}");
        }
    });
    Ok(Node { id, child })
}

fn wait_until_ready(running: &mut [Node], is_ready: &mpsc::Receiver<u16>) -> Result<(), String> {
    let deadline = Instant::now() + READY_TIME;
    let mut missing = running.len();
    while missing > 0 {
        match is_ready.recv_timeout(LOOK_INTERVAL) {
            Ok(_) => missing -= 1,
            Err(_) if Instant::now() >= deadline => {
                return Err(format!("the cluster was not ready within {READY_TIME:?}"));
            }
            Err(_) => {}
        }
        if let Some(id) = ended(running) {
            return Err(format!("node {id} ended before it was ready; its last words are above"));
        }
    }
    Ok(())
}

/// A node that has ended, if one has.
fn ended(running: &mut [Node]) -> Option<u16> {
    let has_ended = |node: &mut Node| (!matches!(node.child.try_wait(), Ok(None))).then_some(node.id);
    running.iter_mut().find_map(has_ended)
}

/// Comes back at a signal (true), or when no node is left. A node that ends alone is told of: somebody may have killed it to see what
/// the others make of it.
fn watch(running: &mut Vec<Node>, signals: &mpsc::Receiver<()>) -> bool {
    while !running.is_empty() {
        if signals.recv_timeout(LOOK_INTERVAL) != Err(mpsc::RecvTimeoutError::Timeout) {
            return true;
        }
        if let Some(id) = ended(running) {
            eprintln!("quipu: node {id} has ended; the others go on");
            running.retain(|node| node.id != id);
        }
    }
    false
}

/// Stops all nodes at the same time, and waits for them.
fn stop(mut running: Vec<Node>) -> Result<(), String> {
    for node in &running {
        if let Some(pid) = i32::try_from(node.child.id()).ok().and_then(Pid::from_raw) {
            // One that has ended needs no signal.
            let _ended = kill_process(pid, Signal::TERM).is_err();
        }
    }
    let deadline = Instant::now() + STOP_TIME;
    while running.iter_mut().any(|node| matches!(node.child.try_wait(), Ok(None))) {
        if Instant::now() >= deadline {
            return Err(format!(
                "some nodes had not stopped after {STOP_TIME:?} and were killed; nothing acknowledged is lost"
            ));
        }
        thread::sleep(LOOK_INTERVAL);
    }
    Ok(())
}
