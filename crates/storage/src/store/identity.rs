//! Who a data directory is, as its superblock has it.
//!
//! Invariant: a cluster id, once set, never changes.

use core::fmt;
use std::{path::Path, sync::Arc};

use quipu_base::{BrokerEpoch, BrokerId, ClusterId, DirectoryId};
use quipu_env::Env;
use rand::RngExt as _;

use super::{OpenError, Shared, Store, open::hold};
use crate::{
    lock,
    superblock::{self, Superblock, SuperblockError},
};

/// Who a data directory is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    /// The cluster that it belongs to, once it has joined one.
    pub cluster_id: Option<ClusterId>,
    /// The node that it belongs to.
    pub node_id: BrokerId,
    /// The directory itself.
    pub directory_id: DirectoryId,
    /// The broker's last registration.
    pub broker_epoch: Option<BrokerEpoch>,
}

impl Identity {
    pub(super) const fn of(superblock: &Superblock) -> Self {
        Self {
            cluster_id: superblock.cluster_id,
            node_id: superblock.node_id,
            directory_id: superblock.directory_id,
            broker_epoch: superblock.broker_epoch,
        }
    }
}

/// Why an identity was not stored.
#[derive(Debug)]
pub enum IdentityError {
    /// The directory belongs to another cluster.
    OtherCluster {
        /// That cluster.
        stored: ClusterId,
        /// The one that was to be stored.
        given: ClusterId,
    },
    /// The superblock can't be written.
    Superblock(SuperblockError),
}

impl fmt::Display for IdentityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherCluster { stored, given } => write!(
                f,
                "the data directory belongs to cluster {stored}, not to {given}: use another directory, or the right cluster"
            ),
            Self::Superblock(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for IdentityError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::OtherCluster { .. } => None,
            Self::Superblock(error) => Some(error),
        }
    }
}

impl From<SuperblockError> for IdentityError {
    fn from(error: SuperblockError) -> Self {
        Self::Superblock(error)
    }
}

impl<E: Env> Store<E> {
    /// Who the data directory is.
    pub async fn identity(&self) -> Identity {
        Identity::of(&*self.shared().superblock.lock().await)
    }

    /// Says that the directory belongs to this cluster; durable when it returns.
    ///
    /// Errors: `OtherCluster` if it belongs to another one, `Superblock`.
    pub async fn set_cluster_id(&self, cluster_id: ClusterId) -> Result<(), IdentityError> {
        change(self.shared(), |superblock| match superblock.cluster_id {
            Some(stored) if stored != cluster_id => Err(IdentityError::OtherCluster { stored, given: cluster_id }),
            _ => {
                superblock.cluster_id = Some(cluster_id);
                Ok(())
            }
        })
        .await
    }

    /// Stores the broker's registration; durable when it returns.
    ///
    /// Errors: `Superblock`.
    pub async fn set_broker_epoch(&self, broker_epoch: BrokerEpoch) -> Result<(), IdentityError> {
        change(self.shared(), |superblock| {
            superblock.broker_epoch = Some(broker_epoch);
            Ok(())
        })
        .await
    }
}

/// Gives a data directory that no broker uses another id, and makes it forget its registration: what a copy needs that takes the place
/// of a lost directory. Others then take it for a new disk, and nothing that it may have promised after the copy was made
/// counts. Answers who it was and who it is; durable when it returns. What is in it stays as it is.
///
/// Errors: `Held`, `Damaged` if it is no data directory, `Superblock`, `Io`.
pub async fn reidentify<E: Env>(env: &E, directory: &Path) -> Result<(Identity, Identity), OpenError> {
    let not_one = || OpenError::Damaged { path: directory.to_owned(), why: "it has no superblock".to_owned() };
    // Looked for before the lock is made: nothing is to appear in what is no data directory.
    superblock::read(env.disk(), directory).await?.ok_or_else(not_one)?;
    let _held = hold(env, directory).await?;
    let mut superblock = superblock::read(env.disk(), directory).await?.ok_or_else(not_one)?;
    let before = Identity::of(&superblock);
    superblock.directory_id = DirectoryId(env.rng("storage.directory").random());
    superblock.broker_epoch = None;
    superblock::write(env.disk(), directory, &mut superblock).await?;
    Ok((before, Identity::of(&superblock)))
}

async fn change<E: Env>(
    shared: &Arc<Shared<E>>,
    edit: impl FnOnce(&mut Superblock) -> Result<(), IdentityError>,
) -> Result<(), IdentityError> {
    let mut superblock = shared.superblock.lock().await;
    let mut next = superblock.clone();
    edit(&mut next)?;
    // What was synced so far must be found by the next start.
    next.synced_up_to = next.synced_up_to.max(lock(&shared.catalog.apply).group);
    superblock::write(shared.env.disk(), &shared.options.directory, &mut next).await?;
    *superblock = next;
    Ok(())
}
