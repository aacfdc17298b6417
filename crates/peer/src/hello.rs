//! The handshake: who calls whom, about what, and whether that is right.
//!
//! ```text
//! caller    connects, sends a frame whose header is MAGIC, then a Hello
//! acceptor  answers with a frame whose header is MAGIC, then an Answer: Welcome, or a refusal, after which it closes
//! ```
//!
//! Both are postcard. What follows the known fields is ignored: a later release appends fields. The protocol version of the link
//! is the highest that both know.
//!
//! | refused | because | goes away by itself |
//! |---|---|---|
//! | no common version | the releases are too far apart | no |
//! | other cluster | both know their cluster, and not the same | no |
//! | another node was called | an address is wrong, or its node moved | no |
//! | duplicate node id | the caller has the acceptor's id | no |
//! | node id in use | another directory serves under the caller's id | until its session ends |
//! | other directory | on a data lane, the caller's directory is not the one that the metadata names | when the metadata has arrived |
//! | not registered | on a data lane, either side has no broker epoch | when it has |
//! | not ready | nobody takes that lane yet | when somebody does |
//!
//! A node with a directory that nobody knows must be heard on the lanes of the quorum and of control, or it could never register;
//! Raft's messages name the directories that they concern, and a registration names its own.
//!
//! Not here: connections (`outgoing`, `incoming`).

use core::fmt;

use bytes::Bytes;
use quipu_base::{BrokerEpoch, BrokerId, ClusterId, DirectoryId, NEXT_RELEASE};
use serde::{Deserialize, Serialize};

use crate::{
    limits,
    peers::{Expected, PeerAddress},
};

/// Versions of the protocol that this build speaks, lowest and highest.
pub const VERSIONS: (u16, u16) = (1, if NEXT_RELEASE { 2 } else { 1 });
/// What a handshake's frames begin with.
const MAGIC: &[u8; 8] = b"qpeer\r\n\0";

/// What a link is for. Frames of one lane stay in order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Lane {
    /// Raft's messages.
    Quorum,
    /// Heartbeats, requests to the active controller and their answers.
    Control,
    /// Seal, append and acknowledgements of the partitions of one shard of the sender, by its number.
    Tail(u16),
    /// Copying what a replica lacks, for one shard of the sender.
    CatchUp(u16),
}

impl Lane {
    /// Whether it is about partitions' data: both sides must be registered brokers then.
    #[must_use]
    pub const fn is_data(self) -> bool {
        matches!(self, Self::Tail(_) | Self::CatchUp(_))
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Quorum => f.write_str("quorum"),
            Self::Control => f.write_str("control"),
            Self::Tail(shard) => write!(f, "tail {shard}"),
            Self::CatchUp(shard) => write!(f, "catch-up {shard}"),
        }
    }
}

/// What this node says of itself. When it changes, so do its links: see [`crate::Peers`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Own {
    /// Its cluster, once it is known.
    pub cluster_id: Option<ClusterId>,
    /// Its id.
    pub node_id: BrokerId,
    /// Its data directory.
    pub directory_id: DirectoryId,
    /// This start of its process.
    pub start_id: [u8; 16],
    /// Its registration, once it has one.
    pub broker_epoch: Option<BrokerEpoch>,
    /// Where it listens for others, if it does: told to those that it calls, who may not know it yet.
    pub address: Option<PeerAddress>,
}

impl Own {
    /// The same, as others see it.
    #[must_use]
    pub const fn identity(&self) -> PeerIdentity {
        PeerIdentity {
            node_id: self.node_id,
            directory_id: self.directory_id,
            start_id: self.start_id,
            broker_epoch: self.broker_epoch,
        }
    }
}

/// Who is at the other end of a link.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct PeerIdentity {
    /// Its id.
    pub node_id: BrokerId,
    /// Its data directory.
    pub directory_id: DirectoryId,
    /// That start of its process.
    pub start_id: [u8; 16],
    /// Its registration, if it had one when the link was made.
    pub broker_epoch: Option<BrokerEpoch>,
}

/// What a caller says first.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Hello {
    /// Versions of the protocol, lowest and highest.
    pub versions: (u16, u16),
    /// Its cluster, if it knows that.
    pub cluster_id: Option<ClusterId>,
    /// Who it is.
    pub from: PeerIdentity,
    /// The node that it means to call.
    pub called: BrokerId,
    /// What the link is for.
    pub lane: Lane,
    /// The caller's release, for people.
    pub release: String,
    /// Where the caller listens for others, if it does.
    pub address: Option<PeerAddress>,
}

/// What the acceptor answers, if all is well.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Welcome {
    /// The version of the protocol on this link.
    pub version: u16,
    /// Its cluster, if it knows that.
    pub cluster_id: Option<ClusterId>,
    /// Who it is.
    pub from: PeerIdentity,
    /// Its release, for people.
    pub release: String,
}

/// Why there is no link.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum RefusalCode {
    /// The handshake could not be read.
    Malformed,
    /// There is no version of the protocol that both speak.
    NoCommonVersion,
    /// The two belong to different clusters.
    OtherCluster,
    /// The node at that address is not the one that was called.
    OtherNode,
    /// The caller has the acceptor's node id.
    DuplicateNodeId,
    /// The directory is not the one that the metadata names.
    OtherDirectory,
    /// A data lane needs a broker epoch on both sides.
    NotRegistered,
    /// Nobody takes that lane yet.
    NotReady,
    /// Another directory serves under the caller's node id.
    NodeIdInUse,
    /// A later release knows why.
    Unknown(u8),
}

impl RefusalCode {
    const fn to_wire(self) -> u8 {
        match self {
            Self::Malformed => 0,
            Self::NoCommonVersion => 1,
            Self::OtherCluster => 2,
            Self::OtherNode => 3,
            Self::DuplicateNodeId => 4,
            Self::OtherDirectory => 5,
            Self::NotRegistered => 6,
            Self::NotReady => 7,
            Self::NodeIdInUse => 8,
            Self::Unknown(code) => code,
        }
    }

    const fn from_wire(code: u8) -> Self {
        match code {
            0 => Self::Malformed,
            1 => Self::NoCommonVersion,
            2 => Self::OtherCluster,
            3 => Self::OtherNode,
            4 => Self::DuplicateNodeId,
            5 => Self::OtherDirectory,
            6 => Self::NotRegistered,
            7 => Self::NotReady,
            8 => Self::NodeIdInUse,
            other => Self::Unknown(other),
        }
    }

    /// Whether waiting is enough: nobody has to change anything.
    #[must_use]
    pub const fn is_passing(self) -> bool {
        matches!(self, Self::OtherDirectory | Self::NotRegistered | Self::NotReady | Self::NodeIdInUse)
    }
}

/// A link was refused, by this node or by the other.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// For programs.
    pub code: RefusalCode,
    /// For people: one sentence.
    pub sentence: String,
}

impl Refusal {
    pub(crate) fn new(code: RefusalCode, sentence: impl Into<String>) -> Self {
        Self { code, sentence: short(sentence.into()) }
    }

    pub(crate) fn malformed(what: impl fmt::Display) -> Self {
        Self::new(RefusalCode::Malformed, format!("what came is not the handshake of a Quipu node ({what})"))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl core::error::Error for Refusal {}

fn short(text: String) -> String {
    if text.chars().count() <= limits::TEXT_CHARS_MAX {
        text
    } else {
        text.chars().take(limits::TEXT_CHARS_MAX).collect()
    }
}

/// What an acceptor answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// There is a link.
    Welcome(Welcome),
    /// There is none.
    Refused(Refusal),
}

#[derive(Serialize, Deserialize)]
enum AnswerOnWire {
    Welcome(Welcome),
    Refused { code: u8, sentence: String },
}

/// A handshake's header that is none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HelloError {
    /// It does not begin as it must: nobody of ours has sent it.
    Magic,
    /// It begins as it must, and then makes no sense.
    Malformed(postcard::Error),
}

impl fmt::Display for HelloError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Magic => f.write_str("it begins with other bytes"),
            Self::Malformed(error) => write!(f, "{error}"),
        }
    }
}

impl core::error::Error for HelloError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Magic => None,
            Self::Malformed(error) => Some(error),
        }
    }
}

fn encode<T: Serialize>(value: &T) -> Bytes {
    let bytes = postcard::to_extend(value, MAGIC.to_vec());
    bytes.expect("a handshake is plain data, and a vector takes any of it").into()
}

fn decode<'a, T: Deserialize<'a>>(header: &'a [u8]) -> Result<T, HelloError> {
    let body = header.strip_prefix(MAGIC.as_slice()).ok_or(HelloError::Magic)?;
    postcard::take_from_bytes(body).map(|(value, _later)| value).map_err(HelloError::Malformed)
}

/// The header of a hello's frame.
#[must_use]
pub fn encode_hello(hello: &Hello) -> Bytes {
    encode(hello)
}

/// Errors: [`HelloError`].
pub fn decode_hello(header: &[u8]) -> Result<Hello, HelloError> {
    decode(header).map(|hello: Hello| Hello { release: short(hello.release), ..hello })
}

/// The header of an answer's frame.
#[must_use]
pub fn encode_answer(answer: &Answer) -> Bytes {
    encode(&match answer.clone() {
        Answer::Welcome(welcome) => AnswerOnWire::Welcome(welcome),
        Answer::Refused(Refusal { code, sentence }) => AnswerOnWire::Refused { code: code.to_wire(), sentence },
    })
}

/// Errors: [`HelloError`].
pub fn decode_answer(header: &[u8]) -> Result<Answer, HelloError> {
    Ok(match decode(header)? {
        AnswerOnWire::Welcome(welcome) => Answer::Welcome(Welcome { release: short(welcome.release), ..welcome }),
        AnswerOnWire::Refused { code, sentence } => {
            Answer::Refused(Refusal::new(RefusalCode::from_wire(code), sentence))
        }
    })
}

/// What an acceptor thinks of a hello: the version to speak. `expected` is what the metadata says of the caller.
///
/// Errors: [`Refusal`], as the caller gets to read it.
pub fn check_hello(hello: &Hello, own: &Own, versions: (u16, u16), expected: Option<Expected>) -> Result<u16, Refusal> {
    let me = own.node_id;
    let caller = hello.from.node_id;
    if caller == me {
        let sentence = format!(
            "node id {me} is taken: the node that was called has it, too (directory {}), and ids must be different",
            own.directory_id
        );
        return Err(Refusal::new(RefusalCode::DuplicateNodeId, sentence));
    }
    if hello.called != me {
        let sentence = format!(
            "node {} was called, but node {me} listens at that address: the address is wrong, or it is an old one",
            hello.called
        );
        return Err(Refusal::new(RefusalCode::OtherNode, sentence));
    }
    let version = hello.versions.1.min(versions.1);
    if version < hello.versions.0.max(versions.0) {
        let ((low, high), (own_low, own_high)) = (hello.versions, versions);
        let sentence = format!(
            "node {me} (release {}) speaks the peer protocol in versions {own_low} to {own_high}, the caller (release \
             {}) in {low} to {high}: upgrade the older one step by step",
            release(),
            hello.release
        );
        return Err(Refusal::new(RefusalCode::NoCommonVersion, sentence));
    }
    check_cluster(me, own.cluster_id, hello.cluster_id)?;
    if hello.lane.is_data() {
        check_data(&hello.from, expected.map(|expected| expected.directory))?;
        if own.broker_epoch.is_none() {
            let sentence = format!("node {me} is not registered yet, so it takes no part in replication");
            return Err(Refusal::new(RefusalCode::NotRegistered, sentence));
        }
    } else if let Some(Expected { directory, is_serving: true }) = expected
        && directory != hello.from.directory_id
    {
        let sentence = format!(
            "node id {caller} is in use: the node with directory {directory} serves under it, the caller has directory {}. Give one \
             of them another id, or stop it",
            hello.from.directory_id
        );
        return Err(Refusal::new(RefusalCode::NodeIdInUse, sentence));
    }
    Ok(version)
}

/// What a caller thinks of a welcome.
///
/// Errors: [`Refusal`].
pub fn check_welcome(
    welcome: &Welcome,
    own: &Own,
    hello: &Hello,
    directory: Option<DirectoryId>,
) -> Result<(), Refusal> {
    if welcome.from.node_id != hello.called {
        let sentence = format!("node {} answered where node {} was called", welcome.from.node_id, hello.called);
        return Err(Refusal::new(RefusalCode::OtherNode, sentence));
    }
    if !(hello.versions.0..=hello.versions.1).contains(&welcome.version) {
        let sentence = format!("node {} chose version {}, which was not offered", hello.called, welcome.version);
        return Err(Refusal::new(RefusalCode::NoCommonVersion, sentence));
    }
    check_cluster(welcome.from.node_id, welcome.cluster_id, own.cluster_id)?;
    if hello.lane.is_data() { check_data(&welcome.from, directory) } else { Ok(()) }
}

fn check_cluster(node: BrokerId, its: Option<ClusterId>, callers: Option<ClusterId>) -> Result<(), Refusal> {
    match (its, callers) {
        (Some(its), Some(callers)) if its != callers => {
            let sentence = format!(
                "node {node} belongs to cluster {its}, the caller to cluster {callers}: one of them has an address or a \
                 data directory of another cluster"
            );
            Err(Refusal::new(RefusalCode::OtherCluster, sentence))
        }
        _ => Ok(()),
    }
}

/// Whether somebody may be at the other end of a data lane.
fn check_data(peer: &PeerIdentity, directory: Option<DirectoryId>) -> Result<(), Refusal> {
    let node = peer.node_id;
    if peer.broker_epoch.is_none() {
        let sentence = format!("node {node} is not registered yet, so it takes no part in replication");
        return Err(Refusal::new(RefusalCode::NotRegistered, sentence));
    }
    match directory {
        Some(expected) if expected != peer.directory_id => {
            let sentence = format!(
                "node {node} has data directory {}, but the metadata knows it with {expected}: its disk was replaced, or \
                 two nodes have this id",
                peer.directory_id
            );
            Err(Refusal::new(RefusalCode::OtherDirectory, sentence))
        }
        _ => Ok(()),
    }
}

/// This build's name in handshakes.
pub(crate) const fn release() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> Own {
        Own {
            cluster_id: Some(ClusterId([9; 16])),
            node_id: BrokerId(1),
            directory_id: DirectoryId([1; 16]),
            start_id: [3; 16],
            broker_epoch: Some(BrokerEpoch(7)),
            address: None,
        }
    }

    fn hello() -> Hello {
        Hello {
            versions: (1, 3),
            cluster_id: Some(ClusterId([9; 16])),
            from: PeerIdentity {
                node_id: BrokerId(2),
                directory_id: DirectoryId([2; 16]),
                start_id: [4; 16],
                broker_epoch: Some(BrokerEpoch(8)),
            },
            called: BrokerId(1),
            lane: Lane::Tail(1),
            release: "0.1.0".to_owned(),
            address: Some(PeerAddress { host: "host".to_owned(), port: 9192 }),
        }
    }

    fn code(hello: &Hello, own: &Own, expected: Option<Expected>) -> Result<u16, RefusalCode> {
        check_hello(hello, own, (2, 4), expected).map_err(|refusal| {
            assert!(refusal.sentence.contains("node") && !refusal.sentence.ends_with('.'), "{refusal}");
            refusal.code
        })
    }

    #[test]
    fn each_thing_that_is_wrong_is_told() {
        let directory = Some(Expected { directory: DirectoryId([2; 16]), is_serving: false });
        let serving = Some(Expected { directory: DirectoryId([2; 16]), is_serving: true });
        assert_eq!(code(&hello(), &own(), directory), Ok(3));
        assert_eq!(code(&hello(), &own(), serving), Ok(3));
        assert_eq!(code(&hello(), &own(), None), Ok(3));
        let check = |change: fn(&mut Hello, &mut Own)| {
            let (mut hello, mut own) = (hello(), own());
            change(&mut hello, &mut own);
            code(&hello, &own, directory)
        };
        assert_eq!(check(|hello, _| hello.from.node_id = BrokerId(1)), Err(RefusalCode::DuplicateNodeId));
        assert_eq!(check(|hello, _| hello.called = BrokerId(3)), Err(RefusalCode::OtherNode));
        assert_eq!(check(|hello, _| hello.versions = (1, 1)), Err(RefusalCode::NoCommonVersion));
        assert_eq!(check(|hello, _| hello.versions = (5, 9)), Err(RefusalCode::NoCommonVersion));
        assert_eq!(check(|hello, _| hello.versions = (3, 9)), Ok(4));
        assert_eq!(check(|hello, _| hello.cluster_id = Some(ClusterId([8; 16]))), Err(RefusalCode::OtherCluster));
        assert_eq!(check(|hello, _| hello.cluster_id = None), Ok(3));
        assert_eq!(check(|_, own| own.cluster_id = None), Ok(3));
        assert_eq!(check(|hello, _| hello.from.broker_epoch = None), Err(RefusalCode::NotRegistered));
        assert_eq!(check(|_, own| own.broker_epoch = None), Err(RefusalCode::NotRegistered));
        let other = |hello: &mut Hello| hello.from.directory_id = DirectoryId([6; 16]);
        assert_eq!(check(|hello, _| hello.from.directory_id = DirectoryId([6; 16])), Err(RefusalCode::OtherDirectory));
        for lane in [Lane::Quorum, Lane::Control] {
            let mut hello = Hello { lane, ..hello() };
            other(&mut hello);
            hello.from.broker_epoch = None;
            assert_eq!(code(&hello, &own(), directory), Ok(3), "whoever registers must be heard");
            assert_eq!(
                code(&hello, &own(), serving),
                Err(RefusalCode::NodeIdInUse),
                "but nobody beside one that serves"
            );
        }
    }

    #[test]
    fn a_welcome_is_checked_too() {
        let callee = own();
        let caller = Own { node_id: BrokerId(2), ..own() };
        let welcome =
            Welcome { version: 2, cluster_id: callee.cluster_id, from: callee.identity(), release: String::new() };
        let check = |welcome: &Welcome, directory| {
            check_welcome(welcome, &caller, &hello(), directory).map_err(|refusal| refusal.code)
        };
        assert_eq!(check(&welcome, Some(DirectoryId([1; 16]))), Ok(()));
        assert_eq!(check(&welcome, Some(DirectoryId([7; 16]))), Err(RefusalCode::OtherDirectory));
        assert_eq!(check(&Welcome { version: 4, ..welcome.clone() }, None), Err(RefusalCode::NoCommonVersion));
        let other = Welcome { cluster_id: Some(ClusterId([1; 16])), ..welcome.clone() };
        assert_eq!(check(&other, None), Err(RefusalCode::OtherCluster));
        let other = Welcome { from: PeerIdentity { node_id: BrokerId(3), ..callee.identity() }, ..welcome };
        assert_eq!(check(&other, None), Err(RefusalCode::OtherNode));
    }

    #[test]
    fn handshakes_round_trip_and_a_later_release_may_add_fields() {
        let bytes = encode_hello(&hello());
        assert!(bytes.len() <= limits::HELLO_BYTES_MAX);
        assert_eq!(decode_hello(&bytes), Ok(hello()));
        assert_eq!(decode_hello(&[&bytes[..], b"more"].concat()), Ok(hello()));
        for cut in 0..bytes.len() {
            assert!(decode_hello(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        assert_eq!(decode_hello(b"\0\0\0\x17 Kafka?"), Err(HelloError::Magic));
        let refused = Answer::Refused(Refusal::new(RefusalCode::Unknown(77), "because"));
        let welcome = Welcome { version: 1, cluster_id: None, from: own().identity(), release: "x".to_owned() };
        for answer in [refused, Answer::Welcome(welcome)] {
            assert_eq!(decode_answer(&encode_answer(&answer)), Ok(answer));
        }
        for code in 0..=u8::MAX {
            assert_eq!(RefusalCode::from_wire(code).to_wire(), code);
        }
    }

    #[test]
    fn the_longest_refusal_fits_its_frame() {
        let refusal = Refusal::new(RefusalCode::NotReady, "x".repeat(10_000));
        assert!(encode_answer(&Answer::Refused(refusal)).len() <= limits::HELLO_BYTES_MAX);
    }
}
