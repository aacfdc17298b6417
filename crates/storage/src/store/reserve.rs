//! Room for several frames at once.

use quipu_env::Env;

use super::Store;
use crate::{Reservation, StoreFull, tail::frame_cost, wal::Class};

impl<E: Env> Store<E> {
    /// Room for one frame of each of these payload sizes, in bytes, in their order. The memory is taken at once, so that no two
    /// requests hold a part each and wait for the other; the WAL's space, of which there is more than of memory, is waited for
    /// in turn.
    ///
    /// Errors: [`StoreFull`] when waiting is no use.
    pub async fn reserve_many(&self, payloads: &[usize], class: Class) -> Result<Vec<Reservation<E>>, StoreFull> {
        let shared = self.shared();
        let total = payloads.iter().map(|bytes| frame_cost(*bytes)).sum();
        let mut memory = shared.catalog.tail.reserve(total, class).await?;
        let mut reservations = Vec::with_capacity(payloads.len());
        for bytes in payloads {
            let tail = memory.split(frame_cost(*bytes));
            let wal = shared.wal().reserve_space(*bytes, class).await.map_err(|error| {
                tracing::debug!(%error, bytes, "no WAL space");
                StoreFull
            })?;
            reservations.push(Reservation { tail, wal });
        }
        Ok(reservations)
    }
}
