//! The cluster itself: made once, and led by one controller at a time.
//!
//! Who votes is decided by the metadata quorum; the records here tell those who only read the log.

use quipu_base::{BrokerId, ClusterId, ControllerEpoch, DirectoryId};
use quipu_metadata::{
    Image, MetadataRecord,
    codec::FORMAT_VERSION,
    record::{FeatureRange, Voter},
};

use crate::{Context, ControllerError, Decision, Request, draft::Draft};

/// The feature whose level is the newest record format that may be written.
pub const METADATA_VERSION: &str = "metadata.version";

/// The feature whose level 1 says that groups may be of the consumer protocol (KIP-848).
pub const GROUP_VERSION: &str = "group.version";

/// The level of [`METADATA_VERSION`]; 1, the lowest there is, before the cluster is made.
#[must_use]
pub fn metadata_version(image: &Image) -> i16 {
    image.feature_level(METADATA_VERSION).max(1)
}

/// Makes the cluster, on an empty metadata log: the first that leads the quorum asks for it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bootstrap {
    /// Drawn at random.
    pub cluster_id: ClusterId,
    /// The node that leads.
    pub node: BrokerId,
    /// Its data directory.
    pub directory_id: DirectoryId,
    /// The epoch that it leads in.
    pub controller_epoch: ControllerEpoch,
    /// All that vote, the leader included.
    pub voters: Vec<Voter>,
}

impl Bootstrap {
    /// The levels of features that this build can work with, for a broker's registration.
    #[must_use]
    pub fn supported_features() -> Vec<FeatureRange> {
        let range = |name: &str, level_max| FeatureRange { name: name.to_owned(), level_min: 1, level_max };
        vec![range(METADATA_VERSION, i16::from(FORMAT_VERSION)), range(GROUP_VERSION, 1)]
    }
}

impl Request for Bootstrap {
    type Reply = ();

    /// Errors: [`ControllerError::ClusterExists`], [`ControllerError::NotAVoter`].
    fn decide(&self, image: &Image, _: &mut Context<'_>) -> Result<Decision<()>, ControllerError> {
        if let Some(cluster_id) = image.cluster_id() {
            return Err(ControllerError::ClusterExists { cluster_id });
        }
        let mut draft = Draft::new(image);
        draft.push(epoch_start(self.node, self.directory_id, self.controller_epoch, &self.voters)?);
        draft.push(MetadataRecord::Cluster { cluster_id: self.cluster_id });
        for FeatureRange { name, level_max, .. } in Self::supported_features() {
            draft.push(MetadataRecord::Feature { name, level: level_max });
        }
        Ok(draft.finish((), false))
    }
}

/// A voter begins to lead the metadata quorum of a cluster that exists. On a single node: at every start but the first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StartEpoch {
    /// The node that leads.
    pub node: BrokerId,
    /// Its data directory.
    pub directory_id: DirectoryId,
    /// Later than all before it.
    pub controller_epoch: ControllerEpoch,
    /// All that vote, the leader included.
    pub voters: Vec<Voter>,
}

impl Request for StartEpoch {
    type Reply = ();

    /// Errors: [`ControllerError::NoCluster`], [`ControllerError::NotAVoter`], [`ControllerError::StaleControllerEpoch`].
    fn decide(&self, image: &Image, _: &mut Context<'_>) -> Result<Decision<()>, ControllerError> {
        let known = image.controller().ok_or(ControllerError::NoCluster)?;
        let record = epoch_start(self.node, self.directory_id, self.controller_epoch, &self.voters)?;
        if self.controller_epoch <= known.controller_epoch {
            let (current, found) = (known.controller_epoch, self.controller_epoch);
            return Err(ControllerError::StaleControllerEpoch { current, found });
        }
        let mut draft = Draft::new(image);
        draft.push(record);
        Ok(draft.finish((), false))
    }
}

fn epoch_start(
    node: BrokerId,
    directory_id: DirectoryId,
    controller_epoch: ControllerEpoch,
    voters: &[Voter],
) -> Result<MetadataRecord, ControllerError> {
    if !voters.contains(&Voter { node, directory_id }) {
        return Err(ControllerError::NotAVoter { node, directory_id });
    }
    Ok(MetadataRecord::EpochStart { controller_epoch, controller: node, voters: voters.to_vec() })
}
