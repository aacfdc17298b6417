//! What a coordinator has to do to be run by a [`Shard`](crate::Shard).

use bytes::Bytes;
use quipu_base::Timestamp;
use quipu_env::Instant;

/// Who waits for a reply; the shell knows where it goes. 0 is [`Token::NOBODY`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Token(pub u64);

impl Token {
    /// Nobody waits: see [`Shard::tell`](crate::Shard::tell).
    pub const NOBODY: Self = Self(0);
}

/// What a machine may not find out by itself.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// For deadlines.
    pub now: Instant,
    /// For what is written down and told to people.
    pub wall: Timestamp,
    /// Random, and different at every call: for ids.
    pub fresh: [u8; 16],
}

/// One record of the internal topic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// What it is about.
    pub key: Bytes,
    /// What is to be known; none is a tombstone.
    pub value: Option<Bytes>,
}

impl Record {
    /// What it takes in a batch, roughly.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.key.len() + self.value.as_ref().map_or(0, Bytes::len) + RECORD_OVERHEAD_BYTES
    }
}

/// Lengths and deltas of a record.
const RECORD_OVERHEAD_BYTES: usize = 32;

/// What came of one call: records to be written, together, and replies, of this request or of earlier ones.
#[derive(Debug)]
pub struct Turn<R> {
    /// In order. Their effect is in the machine's state already.
    pub records: Vec<Record>,
    /// Each token is answered once.
    pub replies: Vec<(Token, R)>,
}

impl<R> Default for Turn<R> {
    fn default() -> Self {
        Self { records: Vec::new(), replies: Vec::new() }
    }
}

impl<R> Turn<R> {
    /// Answers.
    pub fn reply(&mut self, to: Token, reply: R) {
        self.replies.push((to, reply));
    }

    /// Writes down.
    pub fn write(&mut self, record: Record) {
        self.records.push(record);
    }
}

/// The state of a coordinator, and how requests, time and records change it.
pub trait Machine {
    /// What it is asked.
    type Request;
    /// What it answers.
    type Reply;

    /// Takes in a record of the log while the shard is loaded, in order. The records of [`Turn`]s do not come here: their effect is
    /// in the state already. A record that says nothing known is passed over.
    fn replay(&mut self, record: &Record);

    /// Everything is replayed; requests come now.
    fn handle_loaded(&mut self, context: &Context) -> Turn<Self::Reply>;

    /// A request. The reply is in this turn or in a later one.
    fn handle(&mut self, context: &Context, from: Token, request: Self::Request) -> Turn<Self::Reply>;

    /// The time of [`Self::next_deadline`] has come, or a later one.
    fn on_deadline(&mut self, context: &Context) -> Turn<Self::Reply>;

    /// Whether a planted bug of the shard's is switched on (see `quipu_env::Probe`). Never in production.
    fn planted(&self, _name: &'static str) -> bool {
        false
    }

    /// When [`Self::on_deadline`] is to be called.
    fn next_deadline(&self) -> Option<Instant>;
}
