//! One partition replica as a pure state machine: elections seal, logs are adopted, records appended and acknowledged, the high
//! watermark moves, configurations change, damaged replicas are rebuilt.
//!
//! ```text
//! shell: events (metadata, messages, synced, time, clients) -> Replica::handle -> effects (writes, sends, replies) -> shell
//! ```
//!
//! Invariants
//! - No I/O, no clock, no chance, no async: the same events give the same effects.
//! - Nothing from outside makes it panic: what is impossible becomes [`Effect::Refused`].
//! - Records are offsets here. Their bytes stay with the shell, which moves what effects name.
//!
//! | what | module of `replica` |
//! |---|---|
//! | elections: seal, reports, adoption in pieces, activation | `elect` |
//! | appends, divergence, label, the follower's high watermark | `follow` |
//! | produce, commit, deletions, answers to clients | `lead` |
//! | what each follower is sent | `peers` |
//! | configurations: who leaves, who returns, pending changes | `change` |
//! | damage, wiped and restored disks, repair | `suspect` |
//! | durable steps under way, acknowledgements, failed writes | `writes` |
//!
//! Not here: framing and flow control between brokers, producer state, segments, elections (`quipu-controller`), what the metadata
//! log says (`quipu-metadata`). Read `replica` next, then `event` and `effect`; `message` has the protocol at a glance.

mod effect;
mod epochs;
mod event;
pub mod limits;
mod message;
mod partition;
mod refusal;
mod replica;

pub use effect::{Ask, Effect, GiveUp, Reply, Source, Write, WriteId};
pub use epochs::{EpochStart, EpochTable, LogShape};
pub use event::{Acks, BatchShape, DurableState, Event, Identity, RequestId, Verdict};
pub use message::{Append, Message, Piece, Progress, Report};
pub use partition::{
    BrokerView, Configuration, ConfigurationVersion, Member, PartitionDefect, PartitionState, Sender, Settings,
};
pub use refusal::{Malformed, Refusal, RequestError};
pub use replica::{Replica, RoleKind};
