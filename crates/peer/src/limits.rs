//! Every bound of the crate: why it has its size, and what happens when it is reached.
//!
//! Not here: the bounds that a caller may set ([`crate::Settings`]); these are their defaults.

use core::time::Duration;

use quipu_base::limits::{KIB, MIB, REQUEST_BYTES_MAX};

/// Header of one frame. A Raft message is one, with an entry of 16 MiB at most; one Seal for each of 10,000 partitions takes some
/// 600 KiB. A longer one is neither sent nor read.
pub const HEADER_BYTES_MAX: usize = 20 * MIB;
/// A header up to this size is copied behind its prefix, so that both are one segment; a longer one is not copied.
pub const HEADER_COPIED_BYTES_MAX: usize = 16 * KIB;
/// Body of one frame: a batch may be as large as a request that brought it. A longer one is neither sent nor read.
pub const BODY_BYTES_MAX: usize = REQUEST_BYTES_MAX;
/// A frame of the handshake. A longer one ends the connection: nobody is known yet who might send more.
pub const HELLO_BYTES_MAX: usize = 2 * KIB;
/// Characters of a release's name in a hello, and of a refusal's sentence. More is cut off.
pub const TEXT_CHARS_MAX: usize = 400;

/// Bytes that wait in one link or are on their way into its socket ([`crate::Settings::queue_bytes`]). More is refused with
/// [`crate::Dropped::Full`], but for one larger frame at a time.
pub const QUEUE_BYTES: usize = 16 * MIB;
/// Frames that wait in one link. More is refused with [`crate::Dropped::Full`].
pub const QUEUE_FRAMES: usize = 4096;
/// Bytes of one link's frames that were received and are not yet handled ([`crate::Settings::inbox_bytes`]). At the bound the
/// connection is not read; one larger frame goes alone.
pub const INBOX_BYTES: usize = 16 * MIB;
/// Connections from other nodes, those without a handshake among them. Further ones are closed at once.
pub const INCOMING_MAX: usize = 4096;

/// Nodes that may be known. One that calls beyond it is heard, but can't be answered before it is named.
pub const NODES_MAX: usize = 4096;
/// Bytes gathered for one write.
pub const GATHER_BYTES: usize = MIB;
/// Room for what is read when it is not known how much comes.
pub const READ_BYTES: usize = 16 * KIB;
/// Memory that a frame gets before its bytes are there. More grows as they come.
pub const FRAME_FIRST_BYTES: usize = 4 * MIB;

/// An attempt to connect, and after that the handshake, each take this long at most.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// First pause after an attempt that came to nothing.
pub const BACKOFF: Duration = Duration::from_millis(20);
/// Longest pause: what a node that comes back waits at most, if it does not call first.
pub const BACKOFF_MAX: Duration = Duration::from_millis(500);
/// Pause after a refusal that somebody has to do something about.
pub const REFUSED_PAUSE: Duration = Duration::from_secs(5);
/// Pause when the system refuses to accept.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// While something is under way, who receives says this often how much came.
pub const PULSE: Duration = Duration::from_millis(250);
/// A link whose other side says nothing for this long while something is under way is given up. Long enough for a node that
/// stands still for a second.
pub const SILENCE: Duration = Duration::from_secs(2);

const _: () = {
    assert!(HEADER_BYTES_MAX + BODY_BYTES_MAX < u32::MAX as usize, "a frame's length fits its field");
    assert!(HELLO_BYTES_MAX >= 4 * TEXT_CHARS_MAX + 64, "a refusal fits, whatever its characters");
    assert!(SILENCE.as_millis() >= 4 * PULSE.as_millis(), "some pulses may be late");
    assert!(READ_BYTES <= FRAME_FIRST_BYTES);
};
