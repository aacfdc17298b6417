//! Child processes that never outlive their owner, and what they cost.
//!
//! Invariants
//! - A [`Process`] is killed, by its own pid, when it is dropped; nothing is ever killed by name.
//! - Its stderr (and what its stdout says after [`Process::wait_for_line`]) is in a file, so that no full pipe can stop it.
//!
//! Read [`crate::broker`] next.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal};

use crate::{Failure, Result};

/// A running child.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    log: PathBuf,
    lines: Receiver<String>,
}

impl Process {
    /// Starts `command`. Stderr goes to the file `log`; stdout is read line by line and goes there too.
    pub fn spawn(name: &str, mut command: Command, log: &Path) -> Result<Self> {
        let open = || File::options().create(true).append(true).open(log);
        let stderr = open().map_err(Failure::context(format!("cannot write {}", log.display())))?;
        let copy = open().map_err(Failure::context(format!("cannot write {}", log.display())))?;
        let program = PathBuf::from(command.get_program());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr);
        let mut child =
            command.spawn().map_err(Failure::context(format!("cannot start {name} ({})", program.display())))?;
        let lines = read_lines(child.stdout.take().expect("stdout was asked to be piped"), copy);
        Ok(Self { child, name: name.to_owned(), log: log.to_path_buf(), lines })
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line of stdout for which `wanted` gives an answer.
    pub fn wait_for_line<T>(&mut self, limit: Duration, wanted: impl Fn(&str) -> Option<T>) -> Result<T> {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    if let Some(found) = wanted(&line) {
                        return Ok(found);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    return Err(self.failure(&format!("said nothing we wait for within {limit:?}")));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let status = self.wait(Duration::from_secs(5))?;
                    return Err(self.failure(&format!("ended before it was ready ({status})")));
                }
            }
        }
    }

    /// `kill -9`, and waits until it is gone. Nothing to do when it has ended.
    pub fn kill(&mut self) -> ExitStatus {
        // An error here means that it has ended already; `wait` then has its status.
        drop(self.child.kill());
        self.child.wait().expect("a child can be waited for")
    }

    /// Sends SIGTERM; does not wait.
    pub fn terminate(&self) -> Result<()> {
        self.signal(Signal::TERM)
    }

    /// Sends `signal`; does not wait.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        rustix::process::kill_process(pid_of(&self.child), signal).map_err(Failure::context(format!(
            "cannot signal {} (pid {})",
            self.name,
            self.pid()
        )))
    }

    /// Waits until it ends, at most `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        if let Some(status) = self.ended() {
            return Ok(status);
        }
        let waiting = Failure::context::<std::io::Error>(format!("cannot wait for {}", self.name));
        if wait_for_exit(pid_of(&self.child), limit).map_err(waiting)? {
            return Ok(self.child.wait().expect("a child can be waited for"));
        }
        Err(self.failure(&format!("did not end within {limit:?}")))
    }

    /// The exit status, if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// What it has written to stderr (and stdout) so far.
    pub fn log(&self) -> String {
        std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// CPU time used so far, user and system, in seconds. Resolution: one clock tick, mostly 10 ms.
    pub fn cpu_seconds(&self) -> Result<f64> {
        cpu_seconds(self.pid())
    }

    /// Memory now and at its highest.
    pub fn memory(&self) -> Result<Memory> {
        memory(self.pid())
    }

    fn failure(&self, what: &str) -> Failure {
        let log = self.log();
        let tail: Vec<&str> = log.lines().rev().take(20).collect();
        let tail: Vec<&str> = tail.into_iter().rev().collect();
        Failure::new(format!("{} {what}; its last words ({}):\n{}", self.name, self.log.display(), tail.join("\n")))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Resident memory of a process, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Now.
    pub resident_bytes: u64,
    /// The most it has been.
    pub peak_bytes: u64,
}

/// CPU seconds of the process `pid`, user and system, all threads.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let stat = std::fs::read_to_string(&path).map_err(Failure::context(&path))?;
    // The name in parentheses may hold anything, spaces and parentheses included: count fields from behind it.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<u32>().ok());
    let (Some(user), Some(system)) = (ticks(11), ticks(12)) else {
        return Err(Failure::new(format!("{path} has no CPU times: {stat}")));
    };
    let per_second = u32::try_from(rustix::param::clock_ticks_per_second()).unwrap_or(100);
    Ok((f64::from(user) + f64::from(system)) / f64::from(per_second))
}

/// Resident memory of the process `pid`.
pub fn memory(pid: u32) -> Result<Memory> {
    let path = format!("/proc/{pid}/status");
    let status = std::fs::read_to_string(&path).map_err(Failure::context(&path))?;
    let field = |name: &str| -> Option<u64> {
        let value = status.lines().find_map(|line| line.strip_prefix(name))?;
        value.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
    };
    match (field("VmRSS:"), field("VmHWM:")) {
        (Some(resident_bytes), Some(peak_bytes)) => Ok(Memory { resident_bytes, peak_bytes }),
        _ => Err(Failure::new(format!("{path} has no memory figures"))),
    }
}

/// Runs `command` to its end with `input` on stdin, at most `limit`; gives stdout. A failure shows stderr.
pub fn run(name: &str, mut command: Command, input: &[u8], limit: Duration) -> Result<Vec<u8>> {
    let output = output(name, &mut command, input, limit)?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let stdout = String::from_utf8_lossy(&output.stdout);
    Err(Failure::new(format!("{name} failed ({}):\n{}\n{}", output.status, last(&stdout, 2000), last(&stderr, 4000))))
}

/// Runs `command` to its end with `input` on stdin, whatever its exit status. It is killed after `limit`, which is a failure.
pub fn output(name: &str, command: &mut Command, input: &[u8], limit: Duration) -> Result<Output> {
    let (output, is_late) = output_so_far(name, command, input, limit)?;
    if is_late {
        let said = last(&String::from_utf8_lossy(&output.stderr), 4000).to_owned();
        return Err(Failure::new(format!("{name} did not end within {limit:?}:\n{said}")));
    }
    Ok(output)
}

/// The same; if it is killed after `limit`, what it has printed until then, and true.
pub fn output_so_far(name: &str, command: &mut Command, input: &[u8], limit: Duration) -> Result<(Output, bool)> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let program = PathBuf::from(command.get_program());
    let mut child =
        command.spawn().map_err(Failure::context(format!("cannot start {name} ({})", program.display())))?;
    let pid = pid_of(&child);
    let mut stdin = child.stdin.take().expect("stdin was asked to be piped");
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // A child that ends without reading all of its input is judged by its status, not by our broken pipe.
            drop(stdin.write_all(input));
        });
        let (ended, watch) = mpsc::channel::<()>();
        let watchdog = scope.spawn(move || {
            let late = watch.recv_timeout(limit) == Err(RecvTimeoutError::Timeout);
            // The child is not reaped before this thread is told so: the pid is still its own.
            late && rustix::process::kill_process(pid, Signal::KILL).is_ok()
        });
        let stdout = child.stdout.take().expect("stdout was asked to be piped");
        let stderr = child.stderr.take().expect("stderr was asked to be piped");
        let errors = scope.spawn(move || read_all(stderr));
        let stdout = read_all(stdout);
        let stderr = errors.join().expect("reading does not panic");
        let exited = wait_for_exit(pid, limit);
        drop(ended);
        let late = watchdog.join().expect("the watchdog does not panic");
        let status = child.wait().map_err(Failure::context(format!("cannot wait for {name}")))?;
        exited.map_err(Failure::context(format!("cannot wait for {name}")))?;
        Ok((Output { status, stdout, stderr }, late && status.signal() == Some(9)))
    })
}

fn read_all(mut from: impl std::io::Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    // What was read until an error is still worth showing.
    drop(from.read_to_end(&mut bytes));
    bytes
}

/// The last `bytes_max` bytes of `text`, at a character boundary.
fn last(text: &str, bytes_max: usize) -> &str {
    let mut start = text.len().saturating_sub(bytes_max);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    &text[start..]
}

fn pid_of(child: &Child) -> Pid {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a child has a positive pid")
}

/// Waits for the end of `pid`, a child not yet reaped. False: it still runs after `limit`.
fn wait_for_exit(pid: Pid, limit: Duration) -> std::io::Result<bool> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
    let mut descriptors = [PollFd::new(&pidfd, PollFlags::IN)];
    let limit = Timespec::try_from(limit).map_err(std::io::Error::other)?;
    Ok(poll(&mut descriptors, Some(&limit))? > 0)
}

/// Reads lines until the pipe closes: into the channel while someone listens, and into the log.
fn read_lines(stdout: ChildStdout, mut log: File) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(|line| line.ok()) {
            drop(writeln!(log, "{line}"));
            drop(sender.send(line));
        }
    });
    receiver
}
