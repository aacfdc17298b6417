//! The real `quipu` binary as a process: start, kill, restart on the same port, stop.
//!
//! Ready means that the binary has printed `quipu: ready on HOST:PORT`. The binary is `QUIPU_BIN` if that is set, else it is
//! built once per process in the development profile.
//!
//! Invariant: a broker that is dropped is killed. Not here: Apache Kafka as a process ([`crate::kafka`]). Read that next.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::OnceLock;
use std::time::Duration;

use crate::process::Process;
use crate::wire::Wire;
use crate::{Failure, Result, paths};

/// A start may take this long, a busy machine included.
const START_LIMIT: Duration = Duration::from_secs(60);

/// A build may take this long.
const BUILD_LIMIT: Duration = Duration::from_secs(3600);

/// How to start a broker.
#[derive(Clone, Debug)]
pub struct Options {
    /// The binary.
    pub binary: PathBuf,
    /// The data directory.
    pub data_dir: PathBuf,
    /// Where to listen; port 0 picks one.
    pub listen: SocketAddr,
    /// More arguments after `quipu broker --data-dir D --listen A`.
    pub arguments: Vec<OsString>,
    /// More environment.
    pub environment: Vec<(OsString, OsString)>,
    /// A program and its arguments before the binary, such as `strace -f ...`.
    pub wrapper: Vec<OsString>,
}

impl Options {
    /// The development build, on any port of the loopback interface.
    pub fn new(data_dir: impl Into<PathBuf>) -> Result<Self> {
        Ok(Self::with_binary(binary()?, data_dir))
    }

    /// The same with another binary.
    pub fn with_binary(binary: impl Into<PathBuf>, data_dir: impl Into<PathBuf>) -> Self {
        Self {
            binary: binary.into(),
            data_dir: data_dir.into(),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            arguments: Vec::new(),
            environment: Vec::new(),
            wrapper: Vec::new(),
        }
    }

    /// Adds arguments.
    pub fn arguments<A: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// The command line.
    pub fn command(&self) -> Command {
        let mut line = self.wrapper.clone();
        line.push(self.binary.clone().into());
        let mut command = Command::new(&line[0]);
        command.args(&line[1..]).arg("broker").arg("--data-dir").arg(&self.data_dir);
        command.arg("--listen").arg(self.listen.to_string()).args(&self.arguments);
        command.envs(self.environment.iter().map(|(key, value)| (key, value)));
        command
    }

    fn log_file(&self) -> PathBuf {
        let mut name = OsString::from(self.data_dir.as_os_str());
        name.push(".log");
        PathBuf::from(name)
    }
}

/// A running broker.
#[derive(Debug)]
pub struct Broker {
    process: Process,
    address: SocketAddr,
    options: Options,
}

impl Broker {
    /// Starts the development build on `data_dir` and waits until it is ready.
    pub fn start(data_dir: impl Into<PathBuf>) -> Result<Self> {
        Self::start_with(Options::new(data_dir)?)
    }

    /// Starts a broker and waits until it is ready. Its stderr goes to `<data-dir>.log`.
    pub fn start_with(options: Options) -> Result<Self> {
        let mut process = Process::spawn("quipu broker", options.command(), &options.log_file())?;
        let address = process.wait_for_line(START_LIMIT, ready_address)?;
        Ok(Self { process, address, options })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same, as clients take it.
    pub fn bootstrap(&self) -> String {
        self.address.to_string()
    }

    /// Its data directory.
    pub fn data_dir(&self) -> &Path {
        &self.options.data_dir
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// A raw connection to it.
    pub fn wire(&self) -> Result<Wire> {
        Wire::connect(self.address)
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// From the next start on it is this binary.
    pub fn use_binary(&mut self, binary: impl Into<PathBuf>) {
        assert!(self.process.ended().is_some(), "a running broker is the binary that it is");
        self.options.binary = binary.into();
    }

    /// Where its stderr goes.
    pub fn log_file(&self) -> PathBuf {
        self.options.log_file()
    }

    /// Starts it again on the same port and directory; it must have ended.
    pub fn restart(&mut self) -> Result<()> {
        assert!(self.process.ended().is_some(), "a broker is restarted after it has ended");
        self.options.listen = self.address;
        self.process = Process::spawn("quipu broker", self.options.command(), &self.options.log_file())?;
        self.address = self.process.wait_for_line(START_LIMIT, ready_address)?;
        Ok(())
    }

    /// SIGTERM, and waits for the end.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        self.process.terminate()?;
        self.process.wait(Duration::from_secs(60))
    }
}

fn ready_address(line: &str) -> Option<SocketAddr> {
    line.trim().strip_prefix("quipu: ready on ")?.parse().ok()
}

/// The binary under test: `QUIPU_BIN`, else built now in the development profile (once per process).
pub fn binary() -> Result<PathBuf> {
    static BUILT: OnceLock<std::result::Result<PathBuf, String>> = OnceLock::new();
    BUILT.get_or_init(|| find_binary().map_err(|error| error.to_string())).clone().map_err(Failure::new)
}

fn find_binary() -> Result<PathBuf> {
    if let Some(binary) = std::env::var_os("QUIPU_BIN") {
        return Ok(PathBuf::from(binary));
    }
    build_binary(false)
}

/// The binary that stands for the next release: `QUIPU_NEXT_BIN`, else built now (once per process).
pub fn next_binary() -> Result<PathBuf> {
    static BUILT: OnceLock<std::result::Result<PathBuf, String>> = OnceLock::new();
    let find = || match std::env::var_os("QUIPU_NEXT_BIN") {
        Some(binary) => Ok(PathBuf::from(binary)),
        None => build_next_binary(),
    };
    BUILT.get_or_init(|| find().map_err(|error| error.to_string())).clone().map_err(Failure::new)
}

/// Builds `quipu` as the next release, and gives its path. Apart from other builds: the versions in it are compiled in.
pub fn build_next_binary() -> Result<PathBuf> {
    let target = paths::target_dir().join("next-release");
    let mut command = build_command();
    command.arg("--target-dir").arg(&target).env("QUIPU_NEXT_RELEASE", "1");
    crate::process::run("cargo build --bin quipu, as the next release", command, &[], BUILD_LIMIT)?;
    Ok(target.join("debug").join("quipu"))
}

/// Builds `quipu`, and gives its path.
pub fn build_binary(release: bool) -> Result<PathBuf> {
    let mut command = build_command();
    if release {
        command.arg("--release");
    }
    crate::process::run("cargo build --bin quipu", command, &[], BUILD_LIMIT)?;
    Ok(paths::target_dir().join(if release { "release" } else { "debug" }).join("quipu"))
}

fn build_command() -> Command {
    let mut command = Command::new(paths::cargo());
    command.current_dir(paths::workspace_root()).args(["build", "--quiet", "--bin", "quipu"]);
    command
}
