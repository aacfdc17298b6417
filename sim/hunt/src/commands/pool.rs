//! Worker processes, each with a thread that feeds it, within a limit of processor time for each world: on a machine that others
//! use, real time says nothing of a world. Real time bounds only worlds that wait for what never comes.

use core::time::Duration;
use std::{
    io::{BufRead, BufReader, Write as _},
    path::PathBuf,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc,
    thread,
    time::Instant,
};

use super::{
    Failed,
    source::Bugs,
    worker::{Answer, Request, cpu_ms},
};

/// Worlds that one process runs: each leaves a little memory behind.
const WORLDS_MAX: u64 = 1000;
/// Between two looks at what a world has used.
const LOOK: Duration = Duration::from_millis(500);
/// Real time of a world is bounded by so many times its processor time.
const REAL_TIMES: u32 = 30;

/// A process that runs worlds one after the other.
struct Worker {
    /// Worlds that it has run.
    worlds: u64,
    child: Child,
    requests: ChildStdin,
    answers: mpsc::Receiver<String>,
}

impl Worker {
    fn start(bugs: &Bugs) -> Result<Self, Failed> {
        let program = std::env::current_exe().map_err(Failed::io("this program"))?;
        let mut command = Command::new(program);
        command.arg("worker").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        for name in &bugs.planted {
            command.args(["--planted", name]);
        }
        let mut child = command.spawn().map_err(Failed::io("a worker"))?;
        let (Some(requests), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Failed::Other("a worker has no pipes".to_owned()));
        };
        let (sender, answers) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                let Ok(line) = line else { break };
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self { worlds: 0, child, requests, answers })
    }

    /// Runs one world. Errors: what became of the process.
    fn run(&mut self, request: &Request, limit: Duration) -> Result<Answer, &'static str> {
        let json = serde_json::to_string(request).map_err(|_| "the request has no text")?;
        self.worlds += 1;
        let (begin, before) = (Instant::now(), self.used());
        writeln!(self.requests, "{json}").map_err(|_| "crash")?;
        loop {
            match self.answers.recv_timeout(LOOK) {
                Ok(line) => return serde_json::from_str(&line).map_err(|_| "its answer can't be read"),
                Err(mpsc::RecvTimeoutError::Disconnected) => return Err("crash"),
                Err(mpsc::RecvTimeoutError::Timeout) if self.used().saturating_sub(before) > limit => {
                    return Err("processor-time");
                }
                Err(mpsc::RecvTimeoutError::Timeout) if begin.elapsed() > limit * REAL_TIMES => return Err("hangs"),
                Err(mpsc::RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// What the process has used of a processor.
    fn used(&self) -> Duration {
        Duration::from_millis(cpu_ms(&self.child.id().to_string()))
    }

    fn end(mut self) {
        // It may have ended already.
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

/// How to run worlds.
pub(super) struct Pool<'a> {
    pub(super) jobs: usize,
    /// Processor time that one world may take.
    pub(super) limit: Duration,
    pub(super) bugs: &'a Bugs,
    /// A fresh process for each world.
    pub(super) is_fresh: bool,
}

/// What is done with an answer; whether to go on.
pub(super) type Take<'a> = dyn FnMut(Answer) -> bool + 'a;

impl Pool<'_> {
    /// Runs what `next` gives until it gives nothing more or `take` has had enough.
    pub(super) fn run(
        &self,
        next: impl FnMut() -> Option<(u64, Option<PathBuf>)> + Send,
        take: &mut Take<'_>,
    ) -> Result<(), Failed> {
        let next = std::sync::Mutex::new(next);
        let draw = || next.lock().unwrap_or_else(std::sync::PoisonError::into_inner)();
        let (sender, answers) = mpsc::sync_channel::<Result<Answer, Failed>>(self.jobs);
        thread::scope(|scope| {
            for _ in 0..self.jobs.max(1) {
                let sender = sender.clone();
                scope.spawn(|| {
                    let sender = sender;
                    self.feed(&draw, &sender);
                });
            }
            drop(sender);
            for answer in &answers {
                if !take(answer?) {
                    break;
                }
            }
            drop(answers);
            Ok(())
        })
    }

    /// Feeds one worker at a time.
    fn feed(
        &self,
        draw: &impl Fn() -> Option<(u64, Option<PathBuf>)>,
        sender: &mpsc::SyncSender<Result<Answer, Failed>>,
    ) {
        let mut worker: Option<Worker> = None;
        while let Some((seed, trace)) = draw() {
            let mut current = match worker.take().map_or_else(|| Worker::start(self.bugs), Ok) {
                Ok(current) => current,
                Err(error) => {
                    let _nobody = sender.send(Err(error));
                    return;
                }
            };
            let answer = match current.run(&Request { seed, plan: None, trace }, self.limit) {
                Ok(answer) => {
                    if self.is_fresh || current.worlds >= WORLDS_MAX {
                        current.end()
                    } else {
                        worker = Some(current)
                    }
                    answer
                }
                Err(why) => {
                    current.end();
                    let failure = format!("{why}: the world's process was given {:?} of a processor\n", self.limit);
                    Answer { seed, checker: Some(why.to_owned()), failure, ..Answer::default() }
                }
            };
            if sender.send(Ok(answer)).is_err() {
                break;
            }
        }
        if let Some(worker) = worker {
            worker.end();
        }
    }
}
