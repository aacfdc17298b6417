//! Links between the nodes of a cluster.
//!
//! A link is one way: whoever has something to send to a node opens a connection for that [`Lane`] to the node's peer listener, and
//! answers come over the other node's own link. So each lane is in order, and none waits for another.
//!
//! ```text
//! Peers::send -> queue of the link -> connection made when first needed -> the other node's reader -> inbox that `deliver` named
//! ```
//!
//! Invariants
//! - [`Peers::send`] never waits. What a link can't take is refused to the caller; what was queued when a link breaks is lost, and
//!   [`PeerEvent`] says so. Nothing is sent twice, nothing overtakes.
//! - Nothing is delivered before both sides know who the other is: cluster, node, directory, start, registration.
//! - A node has one link per lane to each other node; a newer connection takes the place of an older one.
//! - Every queue is bounded in bytes and in frames; a connection whose inbox is full is not read, and its sender's queue fills.
//! - A link with nothing under way sends nothing and has no timer.
//!
//! Deliberately not here: what frames say (Raft, requests, replication), who is in the cluster, encryption. A frame may be lost with
//! its link; whoever needs an answer asks again.
//!
//! Read `hello` for the handshake, `frame` for the bytes, `outgoing` and `incoming` for the two ends of a link.

mod backoff;
mod events;
pub mod frame;
pub mod hello;
mod incoming;
pub mod limits;
mod outgoing;
mod peers;

pub use events::{Events, PeerEvent};
pub use frame::Frame;
pub use hello::{Lane, Own, PeerIdentity, Refusal, RefusalCode};
pub use incoming::Received;
pub use peers::{Deliver, Dropped, Expected, FileOf, PeerAddress, Peers, Settings};
