//! A non-blocking socket that joins a reactor late.

use std::{
    io,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use tokio::io::unix::AsyncFd;

/// A socket, registered with the reactor of the shard that first waits for it.
///
/// Sockets are accepted on one shard and often served on another. Were they registered at once, each readiness would arrive
/// at the accepting shard and be handed over.
#[derive(Debug)]
pub(super) struct Socket {
    // Dropped first: a socket leaves its reactor before it is closed.
    registered: OnceLock<AsyncFd<Arc<OwnedFd>>>,
    registering: Mutex<()>,
    fd: Arc<OwnedFd>,
}

impl Socket {
    pub(super) fn new(fd: OwnedFd) -> Self {
        Self { registered: OnceLock::new(), registering: Mutex::new(()), fd: Arc::new(fd) }
    }

    pub(super) const fn fd(&self) -> &Arc<OwnedFd> {
        &self.fd
    }

    /// The registered socket, registered now if it was not. To be called on a shard. Errors: the system's, for instance no
    /// memory for one more watch.
    #[expect(unsafe_code, reason = "tokio takes no descriptor's word for living long enough")]
    pub(super) fn registered(&self) -> io::Result<&AsyncFd<Arc<OwnedFd>>> {
        if let Some(registered) = self.registered.get() {
            return Ok(registered);
        }
        // The two halves of a connection may come at the same time from two shards.
        let _one_at_a_time = self.registering.lock().unwrap_or_else(PoisonError::into_inner);
        if self.registered.get().is_none() {
            // SAFETY: the `Arc` inside keeps this very descriptor open until the registration is gone.
            let registered = unsafe { AsyncFd::register(Arc::clone(&self.fd)) }?;
            self.registered.set(registered).expect("nobody else registers");
        }
        Ok(self.registered.get().expect("set above"))
    }
}
