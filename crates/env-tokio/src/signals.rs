//! The signals that ask a process to stop, for the process's entry point.
//!
//! Not part of [`quipu_env::Env`]: the simulator stops a node by calling the broker's `shutdown` itself.

use std::io;

use tokio::signal::unix::{self, SignalKind};

/// A request from outside to stop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Signal {
    /// SIGINT, usually from the keyboard.
    Interrupt,
    /// SIGTERM, usually from a service manager.
    Terminate,
}

/// Receives [`Signal`]s from the moment it is made; until then, and never again after, they have their default effect.
#[derive(Debug)]
pub struct Signals {
    interrupt: unix::Signal,
    terminate: unix::Signal,
}

impl Signals {
    /// Catches SIGINT and SIGTERM. To be called on a shard. Errors: those of the system.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: unix::signal(SignalKind::interrupt())?,
            terminate: unix::signal(SignalKind::terminate())?,
        })
    }

    /// The next signal. Cancel-safe.
    pub async fn next(&mut self) -> Signal {
        std::future::poll_fn(|context| {
            if self.terminate.poll_recv(context).is_ready() {
                return std::task::Poll::Ready(Signal::Terminate);
            }
            self.interrupt.poll_recv(context).map(|_| Signal::Interrupt)
        })
        .await
    }
}
