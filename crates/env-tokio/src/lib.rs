//! [`quipu_env::Env`] on the real system: tokio runtimes, kernel sockets, files through plain threads.
//!
//! Invariants
//! - A shard is one thread with one single-threaded runtime. A socket is served by the reactor of the shard that first reads
//!   or writes it, so a connection accepted on one shard and moved to another costs no hop afterwards.
//! - No shard ever waits for the disk, but for pages that `sendfile` does not find in the page cache. File operations run on
//!   threads of their own: two for [`Lane::Wal`](quipu_env::Lane), four for everything else.
//! - A panic in a task, in an I/O thread or in offloaded work ends the process. A broker that lost a task must not limp on.
//! - This is the only crate of the product that may hold `unsafe`, each block with its `// SAFETY:`.
//!
//! Not here: any decision about what to read, write, send or retry. Timers have tokio's granularity of 1 ms, rounded up.
//!
//! Read [`runtime`](crate::Runtime) next, then `disk` and `net`.

mod clock;
mod disk;
mod fatal;
mod memory;
mod net;
mod runtime;
mod signals;
mod workers;

pub use clock::{TokioClock, TokioSleep};
pub use disk::{TokioDisk, TokioFile, TokioLock};
pub use memory::keep_freed_memory;
pub use net::{TokioListener, TokioNet, TokioReader, TokioWriter};
pub use runtime::{Options, Runtime, TokioEnv, TokioTask};
pub use signals::{Signal, Signals};
