//! The cluster itself: made once, and led by one controller at a time.
//!
//! Until the metadata log has its quorum, the one node that has it is the one voter; the records are the same.

use quipu_base::{BrokerId, ClusterId, ControllerEpoch, DirectoryId};
use quipu_metadata::{
    Image, MetadataRecord,
    codec::FORMAT_VERSION,
    record::{FeatureRange, Voter},
};

use crate::{Context, ControllerError, Decision, Request, draft::Draft};

/// The feature whose level is the newest record format that may be written.
pub const METADATA_VERSION: &str = "metadata.version";

/// Makes a cluster of one voter, on an empty metadata log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bootstrap {
    /// Drawn at random.
    pub cluster_id: ClusterId,
    /// The one voter.
    pub node: BrokerId,
    /// Its data directory.
    pub directory_id: DirectoryId,
}

impl Bootstrap {
    /// The levels of features that this build can work with, for a broker's registration.
    #[must_use]
    pub fn supported_features() -> Vec<FeatureRange> {
        vec![FeatureRange { name: METADATA_VERSION.to_owned(), level_min: 1, level_max: i16::from(FORMAT_VERSION) }]
    }
}

impl Request for Bootstrap {
    type Reply = ();

    /// Errors: [`ControllerError::ClusterExists`].
    fn decide(&self, image: &Image, _: &mut Context<'_>) -> Result<Decision<()>, ControllerError> {
        if let Some(cluster_id) = image.cluster_id() {
            return Err(ControllerError::ClusterExists { cluster_id });
        }
        let mut draft = Draft::new(image);
        draft.push(MetadataRecord::EpochStart {
            controller_epoch: ControllerEpoch(1),
            controller: self.node,
            voters: vec![Voter { node: self.node, directory_id: self.directory_id }],
        });
        draft.push(MetadataRecord::Cluster { cluster_id: self.cluster_id });
        draft.push(MetadataRecord::Feature { name: METADATA_VERSION.to_owned(), level: i16::from(FORMAT_VERSION) });
        Ok(draft.finish((), false))
    }
}

/// A voter begins to lead the metadata quorum. On a single node: at every start but the first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StartEpoch {
    /// The node that leads.
    pub node: BrokerId,
    /// Its data directory.
    pub directory_id: DirectoryId,
    /// Later than all before it.
    pub controller_epoch: ControllerEpoch,
}

impl Request for StartEpoch {
    type Reply = ();

    /// Errors: [`ControllerError::NoCluster`], [`ControllerError::NotAVoter`], [`ControllerError::StaleControllerEpoch`].
    fn decide(&self, image: &Image, _: &mut Context<'_>) -> Result<Decision<()>, ControllerError> {
        let known = image.controller().ok_or(ControllerError::NoCluster)?;
        let voter = Voter { node: self.node, directory_id: self.directory_id };
        if !known.voters.contains(&voter) {
            return Err(ControllerError::NotAVoter { node: self.node, directory_id: self.directory_id });
        }
        if self.controller_epoch <= known.controller_epoch {
            let (current, found) = (known.controller_epoch, self.controller_epoch);
            return Err(ControllerError::StaleControllerEpoch { current, found });
        }
        let mut draft = Draft::new(image);
        draft.push(MetadataRecord::EpochStart {
            controller_epoch: self.controller_epoch,
            controller: self.node,
            voters: known.voters.to_vec(),
        });
        Ok(draft.finish((), false))
    }
}
