//! Feature levels are raised, once every broker can work with them.
//!
//! A level is never lowered: what was written in a newer format stays in the logs.

use quipu_metadata::{
    Image, MetadataRecord,
    record::{BrokerState, FeatureRange},
};
use serde::{Deserialize, Serialize};

use crate::{Bootstrap, Context, ControllerError, Decision, Request, draft::Draft};

/// Features are to be at other levels: all of them, or none.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct UpdateFeatures {
    /// Which, and at what levels.
    pub updates: Vec<(String, i16)>,
    /// Whether only to say what would happen.
    pub validate_only: bool,
}

impl Request for UpdateFeatures {
    type Reply = ();

    /// A level that is in force already is no change.
    ///
    /// Errors: [`ControllerError::InvalidFeatureUpdate`].
    fn decide(&self, image: &Image, _: &mut Context<'_>) -> Result<Decision<()>, ControllerError> {
        let mut draft = Draft::new(image);
        for (index, (name, level)) in self.updates.iter().enumerate() {
            if self.updates[..index].iter().any(|(other, _)| other == name) {
                let why = format!("The request has the feature {name} twice.");
                return Err(ControllerError::InvalidFeatureUpdate(why));
            }
            check_update(image, name, *level)?;
            if image.feature_level(name) != *level {
                draft.push(MetadataRecord::Feature { name: name.clone(), level: *level });
            }
        }
        Ok(draft.finish((), self.validate_only))
    }
}

fn check_update(image: &Image, name: &str, level: i16) -> Result<(), ControllerError> {
    let decline = |why: String| Err(ControllerError::InvalidFeatureUpdate(why));
    let own = Bootstrap::supported_features();
    if own.iter().all(|range| range.name != name) {
        let names: Vec<&str> = own.iter().map(|range| range.name.as_str()).collect();
        return decline(format!("There is no feature {name:?}: there are {}.", names.join(" and ")));
    }
    let current = image.feature_level(name);
    if level < current {
        return decline(format!(
            "{name} is at level {current} and cannot be lowered to {level}: what was written since could not be read."
        ));
    }
    if let Some(range) = own.iter().find(|range| range.name == name && level > range.level_max) {
        return decline(format!("{name} can be at most {} in the controller's release, not {level}.", range.level_max));
    }
    let supports = |features: &[FeatureRange]| {
        features.iter().any(|range| range.name == name && (range.level_min..=range.level_max).contains(&level))
    };
    let lacks = |(_, state): &(_, &BrokerState)| !supports(&state.registration.features);
    match image.brokers().find(lacks) {
        Some((broker, _)) => decline(format!(
            "Broker {broker} cannot work with level {level} of {name}: bring it to a newer release, or unregister it."
        )),
        None => Ok(()),
    }
}
