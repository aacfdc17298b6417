//! Apache Kafka from its Maven artifacts: fetched once below the target directory, run as one KRaft node or several; its Java client
//! and console tools.
//!
//! The server and the Java client are of version [`SERVER_VERSION`]. The console tools of that version are not published,
//! so those of [`TOOLS_VERSION`] are used, with the libraries of their own version.
//!
//! Invariant: a directory below `target/kafka` is complete or absent: artifacts are copied next to it and renamed.
//! Read [`crate::clients`] next.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::cluster::{free_addresses, together};
use crate::process::{Process, run};
use crate::wire::Wire;
use crate::{Failure, Result, paths};

/// Version of the server and of the Java client library.
pub const SERVER_VERSION: &str = "4.4.0";
/// Version of the console tools.
pub const TOOLS_VERSION: &str = "4.3.1";

/// Memory and garbage collection as Kafka's own start script sets them.
const SERVER_JAVA: [&str; 7] = [
    "-Xms1G",
    "-Xmx1G",
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
];
/// Short-lived tools start faster without the optimising compiler.
const TOOL_JAVA: [&str; 3] = ["-Xmx256m", "-XX:TieredStopAtLevel=1", "-Djava.awt.headless=true"];
/// Kafka is ready when it answers; nothing else tells.
const READY_LIMIT: Duration = Duration::from_secs(120);

/// The jars of the server and client (`server`) and of the console tools (`tools`).
#[derive(Clone, Debug)]
pub struct Jars {
    server: PathBuf,
    tools: PathBuf,
}

impl Jars {
    /// Fetches what is not there yet. Errors: no `java`, no `mvn`, or Maven's own complaint.
    pub fn fetch() -> Result<Self> {
        for program in ["java", "mvn"] {
            if paths::program(program).is_none() {
                return Err(Failure::new(format!(
                    "`{program}` is not on the PATH; Apache Kafka needs a JDK 17 or newer and Maven \
                     (Debian: apt-get install openjdk-17-jdk-headless maven)"
                )));
            }
        }
        let root = paths::target_dir().join("kafka");
        std::fs::create_dir_all(&root).map_err(Failure::context(root.display()))?;
        let lock = File::create(root.join("lock")).map_err(Failure::context(root.display()))?;
        lock.lock().map_err(Failure::context(format!("cannot lock {}", root.display())))?;
        let server = [("org.apache.kafka:kafka_2.13", SERVER_VERSION), ("org.slf4j:slf4j-simple", "1.7.36")];
        let tools = [
            ("org.apache.kafka:kafka-tools", TOOLS_VERSION),
            ("org.apache.kafka:kafka_2.13", TOOLS_VERSION),
            ("org.slf4j:slf4j-nop", "1.7.36"),
        ];
        Ok(Self {
            server: fetch(&root, &format!("server-{SERVER_VERSION}"), &server)?,
            tools: fetch(&root, &format!("tools-{TOOLS_VERSION}"), &tools)?,
        })
    }

    /// The class path of server and client library.
    pub fn server_class_path(&self) -> String {
        format!("{}/*", self.server.display())
    }

    /// A command that runs one of the console tools, such as `org.apache.kafka.tools.TopicCommand`.
    pub fn tool(&self, class: &str) -> Command {
        let mut command = Command::new("java");
        command.args(TOOL_JAVA).arg("-cp").arg(format!("{}/*", self.tools.display())).arg(class);
        command
    }

    /// A command that runs one Java source file with the client library.
    pub fn source(&self, file: &Path) -> Command {
        let mut command = Command::new("java");
        command.args(TOOL_JAVA).arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn");
        command.arg("-cp").arg(self.server_class_path()).arg(file);
        command
    }
}

fn fetch(root: &Path, name: &str, artifacts: &[(&str, &str)]) -> Result<PathBuf> {
    let directory = root.join(name);
    if directory.is_dir() {
        return Ok(directory);
    }
    let work = root.join(format!("{name}.incomplete"));
    if work.is_dir() {
        std::fs::remove_dir_all(&work).map_err(Failure::context(work.display()))?;
    }
    std::fs::create_dir_all(&work).map_err(Failure::context(work.display()))?;
    let pom_file = root.join(format!("{name}.xml"));
    std::fs::write(&pom_file, pom(artifacts)).map_err(Failure::context(pom_file.display()))?;
    let mut maven = Command::new("mvn");
    maven.args(["--batch-mode", "--quiet", "-f"]).arg(&pom_file).arg("dependency:copy-dependencies");
    maven.arg("-DincludeScope=runtime").arg(format!("-DoutputDirectory={}", work.display()));
    run("mvn dependency:copy-dependencies", maven, &[], Duration::from_secs(900))?;
    std::fs::rename(&work, &directory).map_err(Failure::context(directory.display()))?;
    Ok(directory)
}

/// A project that has nothing but dependencies. Kafka Connect, which the tools name but don't need here, is left out.
fn pom(artifacts: &[(&str, &str)]) -> String {
    let mut dependencies = String::new();
    for (artifact, version) in artifacts {
        let (group, id) = artifact.split_once(':').expect("an artifact is written group:id");
        dependencies.push_str(&format!(
            "<dependency><groupId>{group}</groupId><artifactId>{id}</artifactId><version>{version}</version><exclusions>"
        ));
        for excluded in ["connect-runtime", "connect-api", "connect-json"] {
            dependencies.push_str(&format!(
                "<exclusion><groupId>org.apache.kafka</groupId><artifactId>{excluded}</artifactId></exclusion>"
            ));
        }
        dependencies.push_str("</exclusions></dependency>\n");
    }
    format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\"><modelVersion>4.0.0</modelVersion>\n\
         <groupId>quipu</groupId><artifactId>kafka-jars</artifactId><version>1</version><packaging>pom</packaging>\n\
         <dependencies>\n{dependencies}</dependencies></project>\n"
    )
}

/// A running Apache Kafka node, broker and controller in one.
#[derive(Debug)]
pub struct Kafka {
    process: Process,
    address: SocketAddr,
    jars: Jars,
    directory: PathBuf,
    started_in: Duration,
}

impl Kafka {
    /// Formats `directory` (which must not exist) and starts a node on it. `settings` are lines of server.properties beside
    /// those that a single node needs.
    pub fn start(jars: &Jars, directory: &Path, settings: &[&str]) -> Result<Self> {
        let mut nodes = Self::start_cluster(jars, &[directory.to_path_buf()], settings)?;
        Ok(nodes.remove(0))
    }

    /// Formats `directories` and starts a node on each, at once: one cluster, whose nodes are brokers and controllers with the
    /// ids 1, 2, ... Topics of three nodes or more have three replicas, of which two must be in sync.
    pub fn start_cluster(jars: &Jars, directories: &[PathBuf], settings: &[&str]) -> Result<Vec<Self>> {
        let controllers = free_addresses(directories.len())?;
        let addresses = free_addresses(directories.len())?;
        let voters: Vec<String> = controllers.iter().zip(1..).map(|(address, id)| format!("{id}@{address}")).collect();
        let replicas = directories.len().min(3);
        let mut nodes = Vec::new();
        for (id, directory) in (1..).zip(directories) {
            let (address, controller) = (addresses[id - 1], controllers[id - 1]);
            let data = directory.join("data");
            std::fs::create_dir_all(&data).map_err(Failure::context(data.display()))?;
            let properties = directory.join("server.properties");
            let mut lines = server_properties(id, address, controller, &voters.join(","), &data, replicas);
            lines.extend(settings.iter().map(|&line| line.to_owned()));
            std::fs::write(&properties, lines.join("\n") + "\n").map_err(Failure::context(properties.display()))?;
            let mut format = Command::new("java");
            format.args(TOOL_JAVA).arg("-cp").arg(jars.server_class_path()).arg("kafka.tools.StorageTool");
            format.args(["format", "-t", "MkU3OEVBNTcwNTJENDM2Qg", "-c"]).arg(&properties);
            run("kafka.tools.StorageTool format", format, &[], Duration::from_secs(60))?;
            nodes.push((directory.clone(), address));
        }
        let begin = Instant::now();
        together(nodes, |(directory, address)| {
            let process = spawn(jars, &directory)?;
            let mut kafka = Self { process, address, jars: jars.clone(), directory, started_in: Duration::ZERO };
            kafka.wait_until_ready()?;
            kafka.started_in = begin.elapsed();
            Ok(kafka)
        })
    }

    /// From the start of the process until it answered, without the time that formatting took.
    pub fn started_in(&self) -> Duration {
        self.started_in
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where its data lies.
    pub fn data_dir(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// SIGTERM, and waits for the end.
    pub fn stop(&mut self) -> Result<()> {
        self.process.terminate()?;
        self.process.wait(Duration::from_secs(60)).map(drop)
    }

    /// Starts it again on the same directory and ports; it must have ended.
    pub fn restart(&mut self) -> Result<()> {
        assert!(self.process.ended().is_some(), "a node is restarted after it has ended");
        self.process = spawn(&self.jars, &self.directory)?;
        self.wait_until_ready()
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + READY_LIMIT;
        loop {
            let answer = Wire::connect(self.address).and_then(|mut wire| wire.api_versions());
            let Err(error) = answer else { return Ok(()) };
            if let Some(status) = self.process.ended() {
                return Err(Failure::new(format!("Apache Kafka ended ({status}):\n{}", self.process.log())));
            }
            if Instant::now() > deadline {
                return Err(Failure::new(format!("Apache Kafka did not answer within {READY_LIMIT:?}: {error}")));
            }
            // Kafka prints nothing that we could wait for: ask again.
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn spawn(jars: &Jars, directory: &Path) -> Result<Process> {
    let mut command = Command::new("java");
    command.args(SERVER_JAVA).arg("-Djava.awt.headless=true").arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn");
    command.arg("-cp").arg(jars.server_class_path()).arg("kafka.Kafka").arg(directory.join("server.properties"));
    Process::spawn("Apache Kafka", command, &directory.join("kafka.log"))
}

/// The settings that a node needs; all else is Kafka's default.
fn server_properties(
    id: usize,
    address: SocketAddr,
    controller: SocketAddr,
    voters: &str,
    data: &Path,
    replicas: usize,
) -> Vec<String> {
    vec![
        "process.roles=broker,controller".to_owned(),
        format!("node.id={id}"),
        format!("controller.quorum.voters={voters}"),
        format!("listeners=PLAINTEXT://{address},CONTROLLER://{controller}"),
        format!("advertised.listeners=PLAINTEXT://{address}"),
        "controller.listener.names=CONTROLLER".to_owned(),
        "listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT".to_owned(),
        format!("log.dirs={}", data.display()),
        format!("default.replication.factor={replicas}"),
        format!("min.insync.replicas={}", replicas.div_ceil(2)),
        format!("offsets.topic.replication.factor={replicas}"),
        format!("transaction.state.log.replication.factor={replicas}"),
        format!("transaction.state.log.min.isr={}", replicas.div_ceil(2)),
    ]
}
