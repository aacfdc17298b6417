//! The broker's settings: one table, three sources. Flags win over the environment, the environment over the file.
//!
//! A setting `a_b` of the file is the flag `--a-b` and the variable `QUIPU_A_B`. The file may also have a table `[defaults]`
//! with Kafka's own broker property names. Every error names its place: file with line and column, variable or flag.
//!
//! Not here: what Kafka's properties mean (`quipu_metadata::config`), reading the file or the command line (`cli`).

use core::{fmt, net::IpAddr};
use std::{collections::BTreeMap, path::PathBuf};

use quipu_base::{BrokerId, limits};
use quipu_metadata::{
    Image,
    config::{ConfigLayers, StaticConfig},
};
use quipu_raft::limits::VOTERS_MAX;
use toml::Spanned;

/// How log lines look on stderr.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogFormat {
    /// For people.
    Plain,
    /// One JSON object a line.
    Json,
}

/// A checked configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// This node's id in its cluster (`node_id`).
    pub node_id: BrokerId,
    /// Where everything is kept (`data_dir`).
    pub data_dir: PathBuf,
    /// Where Kafka clients connect, as HOST:PORT; port 0 picks one (`listen`).
    pub listen: HostPort,
    /// What clients are told to connect to, if not the bound address (`advertise`).
    pub advertise: Option<HostPort>,
    /// Where other nodes connect, as HOST:PORT; port 0 picks one (`peer_listen`). None: this node is alone.
    pub peer_listen: Option<HostPort>,
    /// What other nodes are told to connect to, if not the bound address (`peer_advertise`).
    pub peer_advertise: Option<HostPort>,
    /// What this node does in its cluster (`roles`).
    pub roles: Roles,
    /// The nodes that vote in the metadata quorum, with the addresses where they listen for other nodes (`voters`). Empty: this
    /// node alone.
    pub voters: BTreeMap<BrokerId, HostPort>,
    /// Where this node stands (`rack`).
    pub rack: Option<String>,
    /// Bytes of metadata log between two snapshots (`metadata_snapshot_bytes`).
    pub metadata_snapshot_bytes: u64,
    /// Allows a listener without TLS and authentication that others than this machine can reach (`insecure_listen`).
    pub insecure_listen: bool,
    /// How log lines look (`log_format`).
    pub log_format: LogFormat,
    /// Bytes of one write-ahead-log file (`wal_file_bytes`).
    pub wal_file_bytes: u64,
    /// Bytes of requests in flight (`memory_requests_bytes`).
    pub memory_requests_bytes: usize,
    /// Bytes of batches not yet in a segment (`memory_tail_bytes`).
    pub memory_tail_bytes: usize,
    /// Bytes of replies not yet taken (`memory_replies_bytes`).
    pub memory_replies_bytes: usize,
    /// Single-threaded runtimes (`shards`); 0 is one for every two cores.
    pub shards: u16,
    /// Kafka's broker properties that were set (`[defaults]`).
    pub defaults: StaticConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            node_id: BrokerId(1),
            data_dir: PathBuf::from("quipu-data"),
            listen: HostPort { host: "127.0.0.1".into(), port: 9092 },
            advertise: None,
            peer_listen: None,
            peer_advertise: None,
            roles: Roles::Unset,
            voters: BTreeMap::new(),
            rack: None,
            metadata_snapshot_bytes: limits::METADATA_SNAPSHOT_BYTES,
            insecure_listen: false,
            log_format: LogFormat::Plain,
            wal_file_bytes: limits::WAL_FILE_BYTES,
            memory_requests_bytes: limits::MEMORY_REQUESTS_BYTES,
            memory_tail_bytes: limits::MEMORY_TAIL_BYTES,
            memory_replies_bytes: limits::MEMORY_REPLIES_BYTES,
            shards: 0,
            defaults: StaticConfig::new(),
        }
    }
}

/// What a node does in its cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Roles {
    /// Nothing was said: it is a broker, and votes if it is among the voters.
    Unset,
    /// It serves clients.
    Broker,
    /// It votes in the metadata quorum.
    Controller,
    /// Both.
    Both,
}

impl core::str::FromStr for Roles {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names: Vec<&str> = text.split(',').map(str::trim).collect();
        match names[..] {
            ["broker"] => Ok(Self::Broker),
            ["controller"] => Ok(Self::Controller),
            ["broker", "controller"] | ["controller", "broker"] => Ok(Self::Both),
            _ => Err(format!("{text:?} is neither \"broker\" nor \"controller\" nor both, with a comma between them")),
        }
    }
}

/// ID@HOST:PORT, with commas between them.
fn voters(text: &str) -> Result<BTreeMap<BrokerId, HostPort>, String> {
    let mut voters = BTreeMap::new();
    for voter in text.split(',').map(str::trim).filter(|voter| !voter.is_empty()) {
        let (id, address) = voter.split_once('@').ok_or_else(|| format!("{voter:?} is not ID@HOST:PORT"))?;
        let id = BrokerId(number(id, 0, i32::MAX)?);
        let address: HostPort = address.parse()?;
        if let Some((other, _)) = voters.iter().find(|(_, known)| **known == address) {
            return Err(format!("nodes {other} and {id} have the same address, {address}"));
        }
        if voters.insert(id, address).is_some() {
            return Err(format!("node {id} is named twice"));
        }
    }
    if voters.len() > VOTERS_MAX {
        return Err(format!("{} voters are too many: name at most {VOTERS_MAX}", voters.len()));
    }
    Ok(voters)
}

/// A host name or address and a port. An IPv6 address stands in brackets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostPort {
    /// The host, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl core::str::FromStr for HostPort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("{text:?} is not HOST:PORT (an IPv6 address stands in brackets: [::1]:9092)");
        let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
        let host = match host.strip_prefix('[') {
            Some(inside) => inside.strip_suffix(']').ok_or_else(bad)?,
            None if host.contains(':') => return Err(bad()),
            None => host,
        };
        if host.is_empty() || host.chars().any(char::is_whitespace) {
            return Err(bad());
        }
        Ok(Self { host: host.to_owned(), port: port.parse().map_err(|_| bad())? })
    }
}

/// One setting: its name in the file, what it takes, and what it is for.
pub struct Setting {
    /// Its name in the file.
    pub name: &'static str,
    /// What its value looks like, for help texts.
    pub value: &'static str,
    /// One sentence for help texts.
    pub about: &'static str,
    apply: fn(&mut Config, &str) -> Result<(), String>,
}

impl Setting {
    /// The flag without its dashes: `a_b` is `a-b`.
    #[must_use]
    pub fn flag(&self) -> String {
        self.name.replace('_', "-")
    }

    /// The environment variable: `a_b` is `QUIPU_A_B`.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("QUIPU_{}", self.name.to_uppercase())
    }
}

macro_rules! setting {
    ($name:ident, $value:literal, $about:literal, |$text:ident| $parse:expr) => {
        Setting {
            name: stringify!($name),
            value: $value,
            about: $about,
            apply: |config, $text| {
                config.$name = $parse?;
                Ok(())
            },
        }
    };
}

/// Every setting but the table `[defaults]`.
pub const SETTINGS: &[Setting] = &[
    setting!(node_id, "N", "This node's id in its cluster, 0 or more [default: 1]", |text| number(text, 0, i32::MAX)
        .map(BrokerId)),
    setting!(data_dir, "DIR", "Where everything is kept [default: ./quipu-data]", |text| not_empty(text)
        .map(PathBuf::from)),
    setting!(listen, "HOST:PORT", "Where Kafka clients connect; port 0 picks one [default: 127.0.0.1:9092]", |text| {
        text.parse()
    }),
    setting!(advertise, "HOST:PORT", "What clients are told to connect to [default: the bound address]", |text| {
        text.parse().map(Some)
    }),
    setting!(
        peer_listen,
        "HOST:PORT",
        "Where other nodes connect; port 0 picks one [default: nowhere, a node alone]",
        |text| text.parse().map(Some)
    ),
    setting!(
        peer_advertise,
        "HOST:PORT",
        "What other nodes are told to connect to [default: the bound address]",
        |text| text.parse().map(Some)
    ),
    setting!(
        roles,
        "ROLES",
        "broker, controller, or both with a comma between them [default: broker, and controller if among the voters]",
        |text| text.parse()
    ),
    setting!(
        voters,
        "ID@HOST:PORT,...",
        "The voters of the metadata quorum and where they listen for other nodes [default: this node alone]",
        |text| voters(text)
    ),
    setting!(rack, "NAME", "Where this node stands: replicas are spread over racks [default: not said]", |text| {
        not_empty(text).map(|text| Some(text.to_owned()))
    }),
    setting!(
        metadata_snapshot_bytes,
        "BYTES",
        "Bytes of metadata log between two snapshots [default: 8388608]",
        |text| number(text, METADATA_SNAPSHOT_BYTES_MIN, limits::WAL_TOTAL_BYTES)
    ),
    setting!(
        insecure_listen,
        "BOOL",
        "Allow a listener without TLS and authentication that other machines can reach [default: false]",
        |text| boolean(text)
    ),
    setting!(log_format, "plain|json", "How log lines look on stderr [default: plain]", |text| match text {
        "plain" => Ok(LogFormat::Plain),
        "json" => Ok(LogFormat::Json),
        _ => Err(format!("{text:?} is neither \"plain\" nor \"json\"")),
    }),
    setting!(wal_file_bytes, "BYTES", "Size of one write-ahead-log file [default: 268435456]", |text| {
        number(text, WAL_FILE_BYTES_MIN, limits::WAL_TOTAL_BYTES).and_then(whole_pages)
    }),
    setting!(memory_requests_bytes, "BYTES", "Memory for requests in flight [default: 134217728]", |text| number(
        text,
        limits::MIB,
        MEMORY_BYTES_MAX
    )),
    setting!(
        memory_tail_bytes,
        "BYTES",
        "Memory for batches that are not yet in a segment [default: 134217728]",
        |text| number(text, MEMORY_TAIL_BYTES_MIN, MEMORY_BYTES_MAX)
    ),
    setting!(memory_replies_bytes, "BYTES", "Memory for replies not yet taken [default: 67108864]", |text| number(
        text,
        limits::MIB,
        MEMORY_BYTES_MAX
    )),
    setting!(shards, "N", "Single-threaded runtimes; 0 is one for every two cores [default: 0]", |text| number(
        text, 0, 256
    )),
];

/// Two files are needed at least, each with room for the reserve.
const WAL_FILE_BYTES_MIN: u64 = limits::WAL_START_BYTES;
/// Two groups in flight, one being formed, and the reserve.
const MEMORY_TAIL_BYTES_MIN: usize = limits::MEMORY_TAIL_RESERVE_BYTES + 3 * limits::WAL_GROUP_BYTES_MAX;
/// Less would mean a snapshot for every other request.
const METADATA_SNAPSHOT_BYTES_MIN: u64 = 16 * limits::KIB as u64;
/// So many heartbeats must fit a session.
const HEARTBEATS_PER_SESSION_MIN: u64 = 2;
/// A budget's permits are counted in 32 bits.
const MEMORY_BYTES_MAX: usize = u32::MAX as usize;

fn not_empty(text: &str) -> Result<&str, String> {
    if text.is_empty() { Err("it is empty".into()) } else { Ok(text) }
}

fn boolean(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| format!("{text:?} is neither true nor false"))
}

fn number<N>(text: &str, min: N, max: N) -> Result<N, String>
where
    N: core::str::FromStr + PartialOrd + fmt::Display + Copy,
{
    match text.parse::<N>() {
        Ok(value) if value >= min && value <= max => Ok(value),
        _ => Err(format!("{text:?} is not a whole number from {min} to {max}")),
    }
}

fn whole_pages(bytes: u64) -> Result<u64, String> {
    if bytes.is_multiple_of(limits::WAL_ALIGN_BYTES as u64) {
        Ok(bytes)
    } else {
        Err(format!("{bytes} is not a multiple of {}", limits::WAL_ALIGN_BYTES))
    }
}

/// Where a value came from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Origin {
    /// A file.
    File {
        /// As the user gave it.
        name: String,
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
    },
    /// An environment variable of this name.
    Variable(String),
    /// A flag of this name, with its dashes.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { name, line, column } => write!(f, "{name}:{line}:{column}"),
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// A setting that can't be accepted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigError {
    /// Where it stands; none if it is the combination of settings that is wrong.
    pub origin: Option<Origin>,
    /// What is wrong and what is allowed.
    pub message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Some(origin) => write!(f, "{origin}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl core::error::Error for ConfigError {}

impl Config {
    /// Sets `name` (as in the file) to what `text` says.
    pub fn apply(&mut self, name: &str, text: &str, origin: Origin) -> Result<(), ConfigError> {
        let applied = match SETTINGS.iter().find(|setting| setting.name == name) {
            Some(setting) => (setting.apply)(self, text).map_err(|why| format!("{name}: {why}")),
            None => Err(unknown(name)),
        };
        applied.map_err(|message| ConfigError { origin: Some(origin), message })
    }

    /// Sets a property of Kafka's.
    pub fn apply_default(&mut self, name: &str, text: &str, origin: Origin) -> Result<(), ConfigError> {
        self.defaults
            .set(name, text)
            .map_err(|why| ConfigError { origin: Some(origin), message: format!("[defaults] {name}: {why}") })
    }

    /// Applies a file's text. `file` is its name for messages.
    pub fn apply_file(&mut self, file: &str, text: &str) -> Result<(), ConfigError> {
        let at = |position: usize| place(file, text, position);
        let parsed: BTreeMap<Spanned<String>, Spanned<toml::Value>> =
            toml::from_str(text).map_err(|error| ConfigError {
                origin: Some(at(error.span().map_or(0, |span| span.start))),
                message: error.message().to_owned(),
            })?;
        let mut entries: Vec<_> = parsed.into_iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        for (key, value) in entries {
            let here = at(value.span().start);
            match (key.get_ref().as_str(), value.get_ref()) {
                ("defaults", toml::Value::Table(_)) => self.apply_defaults_table(file, text)?,
                ("defaults", _) => {
                    return Err(ConfigError { origin: Some(here), message: "defaults is a table: [defaults]".into() });
                }
                (name, value) => match scalar(value).or_else(|| list(name, value)) {
                    Some(value_text) if SETTINGS.iter().any(|setting| setting.name == name) => {
                        self.apply(name, &value_text, here)?;
                    }
                    Some(_) => {
                        return Err(ConfigError { origin: Some(at(key.span().start)), message: unknown(name) });
                    }
                    None => {
                        let message = format!("{name}: a {} is not allowed here", value.type_str());
                        return Err(ConfigError { origin: Some(at(key.span().start)), message });
                    }
                },
            }
        }
        Ok(())
    }

    fn apply_defaults_table(&mut self, file: &str, text: &str) -> Result<(), ConfigError> {
        #[derive(serde::Deserialize)]
        struct Defaults {
            defaults: BTreeMap<Spanned<String>, Spanned<toml::Value>>,
        }
        let at = |position: usize| Some(place(file, text, position));
        let Defaults { defaults } = toml::from_str(text).map_err(|error| ConfigError {
            origin: at(error.span().map_or(0, |span| span.start)),
            message: error.message().to_owned(),
        })?;
        let mut entries: Vec<_> = defaults.into_iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        for (key, value) in entries {
            let Some(value_text) = scalar(value.get_ref()) else {
                let message = format!(
                    "[defaults] {}: a {} is not allowed here (a name with dots stands in quotes: \"num.partitions\" = 3)",
                    key.get_ref(),
                    value.get_ref().type_str()
                );
                return Err(ConfigError { origin: at(key.span().start), message });
            };
            self.apply_default(key.get_ref(), &value_text, place(file, text, key.span().start))?;
        }
        Ok(())
    }

    /// Checks what only all settings together tell.
    pub fn check(&self) -> Result<(), ConfigError> {
        let image = Image::new();
        let request_bytes_max = ConfigLayers::new(&image, &self.defaults, self.node_id).broker().request_bytes_max;
        if self.memory_requests_bytes < request_bytes_max {
            let message = format!(
                "memory_requests_bytes is {}, which is less than socket.request.max.bytes, {request_bytes_max}: \
                 the largest request would never fit",
                self.memory_requests_bytes
            );
            return Err(ConfigError { origin: None, message });
        }
        self.check_heartbeats()
            .and_then(|()| self.check_groups())
            .and_then(|()| self.check_advertised())
            .and_then(|()| self.check_cluster())
            .map_err(|message| ConfigError { origin: None, message })
    }

    /// A session has to outlast a heartbeat that is late.
    fn check_heartbeats(&self) -> Result<(), String> {
        let image = Image::new();
        let broker = ConfigLayers::new(&image, &self.defaults, self.node_id).broker();
        let (interval, timeout) = (broker.heartbeat_interval_ms, broker.session_timeout_ms);
        if timeout / HEARTBEATS_PER_SESSION_MIN >= interval {
            return Ok(());
        }
        Err(format!(
            "broker.session.timeout.ms is {timeout}, and broker.heartbeat.interval.ms {interval}: a session must be at least \
             {HEARTBEATS_PER_SESSION_MIN} heartbeats long, or a healthy broker is fenced when one is late"
        ))
    }

    fn check_groups(&self) -> Result<(), String> {
        let image = Image::new();
        ConfigLayers::new(&image, &self.defaults, self.node_id).broker().group_consumer.check()
    }

    /// Nobody can connect to an address that stands for all of a machine's.
    fn check_advertised(&self) -> Result<(), String> {
        for (name, advertised) in [("advertise", &self.advertise), ("peer_advertise", &self.peer_advertise)] {
            let address = advertised.as_ref().and_then(|advertised| advertised.host.parse::<IpAddr>().ok());
            if let (Some(advertised), true) = (advertised, address.is_some_and(|address| address.is_unspecified())) {
                return Err(format!(
                    "{name} is {advertised}, to which nobody can connect: name an address of this machine that others reach"
                ));
            }
        }
        Ok(())
    }

    /// Whether this node votes in the metadata quorum.
    #[must_use]
    pub fn is_voter(&self) -> bool {
        self.voters.is_empty() || self.voters.contains_key(&self.node_id)
    }

    fn check_cluster(&self) -> Result<(), String> {
        let id = self.node_id;
        let names = || {
            let names: Vec<String> = self.voters.keys().map(ToString::to_string).collect();
            names.join(", ")
        };
        if matches!(self.roles, Roles::Controller | Roles::Both) && !self.is_voter() {
            return Err(format!("node {id} has the role controller, but voters names only {}: add it there", names()));
        }
        if self.roles == Roles::Broker && self.is_voter() {
            return Err(format!(
                "node {id} has only the role broker, but it is among the voters{}: give it the role controller, or name other \
                 voters",
                if self.voters.is_empty() { " (nobody else is named)" } else { "" }
            ));
        }
        let others = self.voters.keys().any(|voter| *voter != id);
        let Some(peer_listen) = &self.peer_listen else {
            return if others {
                Err("voters names other nodes, but peer_listen is missing: they must reach this one".to_owned())
            } else {
                Ok(())
            };
        };
        if let Some((voter, _)) = self.voters.iter().find(|(voter, address)| **voter != id && *address == peer_listen) {
            return Err(format!(
                "peer_listen is {peer_listen}, which voters says is node {voter}, but node_id is {id}"
            ));
        }
        if peer_listen == &self.listen && peer_listen.port != 0 {
            return Err(format!(
                "listen and peer_listen are both {peer_listen}: clients and nodes need different ones"
            ));
        }
        Ok(())
    }
}

fn unknown(name: &str) -> String {
    let names: Vec<&str> = SETTINGS.iter().map(|setting| setting.name).collect();
    format!("{name}: no such setting; there are {} and the table [defaults]", names.join(", "))
}

/// Of the settings that are lists, one may be written as a list.
fn list(name: &str, value: &toml::Value) -> Option<String> {
    let items = value.as_array().filter(|_| matches!(name, "roles" | "voters"))?;
    let items: Option<Vec<&str>> = items.iter().map(toml::Value::as_str).collect();
    items.map(|items| items.join(","))
}

fn scalar(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Float(number) => Some(number.to_string()),
        toml::Value::Boolean(flag) => Some(flag.to_string()),
        toml::Value::Datetime(_) | toml::Value::Array(_) | toml::Value::Table(_) => None,
    }
}

fn place(file: &str, text: &str, position: usize) -> Origin {
    let before = &text[..text.floor_char_boundary(position)];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    Origin::File {
        name: file.to_owned(),
        line: before.matches('\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        Config::default().apply_file("q.toml", text).expect_err("it is wrong").to_string()
    }

    #[test]
    fn a_file_sets_what_it_names() {
        let mut config = Config::default();
        let text = "node_id = 7\nlisten = \"[::1]:0\"\nshards = 2\n[defaults]\n\"num.partitions\" = 3\n";
        config.apply_file("q.toml", text).expect("it is right");
        assert_eq!((config.node_id, config.shards), (BrokerId(7), 2));
        assert_eq!(config.listen, HostPort { host: "::1".into(), port: 0 });
        assert_eq!(config.defaults.get("num.partitions"), Some("3"));
        assert_eq!(config.check(), Ok(()));
    }

    #[test]
    fn errors_name_line_and_column() {
        assert!(refused("node_id = 7\n  nodeid = 3\n").starts_with("q.toml:2:3: nodeid: no such setting"));
        assert!(refused("\nnode_id = -1\n").starts_with("q.toml:2:11: node_id: \"-1\" is not a whole number"));
        assert!(refused("node_id = \n").starts_with("q.toml:1:"));
        assert!(refused("listen = \"localhost\"").contains("is not HOST:PORT"));
        assert!(refused("data_dir = [1]").contains("array is not allowed"));
        assert!(refused("[defaults]\n\"no.such.thing\" = 1").starts_with("q.toml:2:1: [defaults] no.such.thing"));
        assert!(refused("wal_file_bytes = 16777217").contains("not a multiple of 4096"));
    }

    #[test]
    fn a_clusters_node_is_described_and_what_does_not_fit_is_told() {
        let text = "node_id = 1\nroles = [\"broker\", \"controller\"]\npeer_listen = \"127.0.0.1:9192\"\nrack = \"a\"\n\
                    voters = [\"1@127.0.0.1:9192\", \"2@[::1]:9193\"]\n";
        let read = |text: &str| {
            let mut config = Config::default();
            config.apply_file("q.toml", text).map(|()| config)
        };
        let config = read(text).expect("it is right");
        assert_eq!((config.check(), config.voters.len(), config.rack.as_deref()), (Ok(()), 2, Some("a")));
        assert_eq!(config.voters[&BrokerId(2)], HostPort { host: "::1".into(), port: 9193 });
        let with = |change: &str, instead: &str| {
            let refused = read(&text.replace(change, instead)).and_then(|config| config.check());
            refused.expect_err(instead).to_string()
        };
        assert!(with("2@[::1]:9193", "1@[::1]:9193").contains("node 1 is named twice"));
        assert!(with("2@[::1]:9193", "2@127.0.0.1:9192").contains("same address"));
        assert!(with("2@[", "2:[").starts_with("q.toml:5:10: voters: \"2:[::1]:9193\" is not ID@HOST:PORT"));
        assert!(with("node_id = 1", "node_id = 3").contains("voters names only 1, 2"));
        assert!(with("\"broker\", \"controller\"", "\"broker\"").contains("among the voters"));
        assert!(with("\"controller\"", "\"king\"").contains("neither"));
        assert!(with("peer_listen", "peer_advertise").contains("peer_listen is missing"));
        assert!(with("rack = \"a\"", "advertise = \"0.0.0.0:9092\"").contains("nobody can connect"));
        assert!(with("rack = \"a\"", "peer_advertise = \"[::]:9192\"").contains("nobody can connect"));
        let late = "\n[defaults]\n\"broker.session.timeout.ms\" = 250\n";
        let refused = read(&format!("{text}{late}")).and_then(|config| config.check()).expect_err("150 ms twice");
        assert!(refused.to_string().contains("at least 2 heartbeats"), "{refused}");
        assert!(with("node_id = 1\n", "node_id = 2\n").contains("which voters says is node 1, but node_id is 2"));
    }

    #[test]
    fn the_largest_request_must_fit_its_budget() {
        let mut config = Config { memory_requests_bytes: limits::MIB, ..Config::default() };
        assert!(config.check().expect_err("too small").to_string().contains("socket.request.max.bytes"));
        config
            .apply_default("socket.request.max.bytes", "1048576", Origin::Flag("--x".into()))
            .expect("it is a property");
        assert_eq!(config.check(), Ok(()));
    }
}
