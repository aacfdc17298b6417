//! A broker on a fresh directory, and the commands that talk to it.

use std::{
    io::{BufRead, BufReader, Read, Write},
    process::{Child, ChildStdout, Command, Output, Stdio},
    time::Duration,
};

use quipu_testkit::{
    broker::{Broker, Options},
    process::output,
    scratch::Scratch,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// No command of these tests takes longer, a busy machine included.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

pub(crate) struct World {
    pub(crate) broker: Broker,
    pub(crate) scratch: Scratch,
}

impl World {
    pub(crate) fn new(test: &str) -> Self {
        let scratch = Scratch::new(test).unwrap();
        let options = Options::with_binary(env!("CARGO_BIN_EXE_quipu"), scratch.join("data"));
        Self { broker: Broker::start_with(options).unwrap(), scratch }
    }

    /// A world with a topic.
    pub(crate) fn with_topic(test: &str, topic: &str, partitions: u32) -> Self {
        let world = Self::new(test);
        world.good(&["topic", "create", topic, "--partitions", &partitions.to_string()], b"");
        world
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = quipu(arguments);
        command.env("QUIPU_BOOTSTRAP", self.broker.bootstrap());
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, arguments: &[&str], input: &[u8]) -> Output {
        output("quipu", &mut self.command(arguments), input, LIMIT).unwrap()
    }

    /// Runs a command that must succeed and say nothing on stderr; gives stdout.
    pub(crate) fn good(&self, arguments: &[&str], input: &[u8]) -> Vec<u8> {
        let output = self.run(arguments, input);
        assert!(output.status.success() && output.stderr.is_empty(), "{arguments:?}: {output:?}");
        output.stdout
    }

    /// The same, one JSON value a line.
    pub(crate) fn json(&self, arguments: &[&str]) -> Vec<Value> {
        values(&self.good(arguments, b""))
    }

    /// Runs a command that must fail with this status; gives what it says on stderr.
    pub(crate) fn bad(&self, arguments: &[&str], input: &[u8], status: i32) -> String {
        said(&self.run(arguments, input), status)
    }

    /// Starts a command whose stdin and stdout are pipes.
    pub(crate) fn start(&self, arguments: &[&str]) -> Running {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdout = child.stdout.take().map(BufReader::new);
        Running { child, stdout }
    }
}

/// The binary, away from whatever the environment names.
pub(crate) fn quipu(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quipu"));
    command.args(arguments).env_remove("QUIPU_BOOTSTRAP");
    command
}

/// What a command that ended with this status says on stderr.
pub(crate) fn said(output: &Output, status: i32) -> String {
    assert_eq!(output.status.code(), Some(status), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// One JSON value a line.
pub(crate) fn values(lines: &[u8]) -> Vec<Value> {
    str::from_utf8(lines).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A command that runs; killed when it is dropped.
pub(crate) struct Running {
    child: Child,
    stdout: Option<BufReader<ChildStdout>>,
}

impl Running {
    /// Writes to its stdin.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.child.stdin.as_mut().unwrap().write_all(bytes).unwrap();
    }

    /// The next line of its stdout.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.as_mut().unwrap().read_line(&mut line).unwrap();
        line
    }

    /// Ctrl-C.
    pub(crate) fn interrupt(&self) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, Signal::INT).unwrap();
    }

    /// The next line of its stderr. Once only: what follows the line may be lost.
    pub(crate) fn error_line(&mut self) -> String {
        let mut line = String::new();
        BufReader::new(self.child.stderr.as_mut().unwrap()).read_line(&mut line).unwrap();
        line
    }

    /// Nobody reads its stdout any more.
    pub(crate) fn close_stdout(&mut self) {
        self.stdout = None;
    }

    /// Waits for its end without reading anything. Its exit status.
    pub(crate) fn status(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    /// Waits for its end; stdin stays open until then. Status, the rest of stdout, stderr.
    pub(crate) fn end(mut self) -> (Option<i32>, Vec<u8>, String) {
        let (mut rest, mut stderr) = (Vec::new(), String::new());
        self.stdout.take().map(|mut stdout| stdout.read_to_end(&mut rest).unwrap());
        self.child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        (self.child.wait().unwrap().code(), rest, stderr)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // An error means that it has ended.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
