//! A decision in the making: the records so far, and the image as it will be once they are applied.
//!
//! Invariants
//! - Every record has been applied to the draft's image, so none is ever written that the image would refuse: a metadata
//!   log that contradicts itself would stop every node that reads it.
//! - No record takes a newer format than `metadata.version` allows: nodes of an older release could not read it.
//! - Later items of a request see what earlier ones did.

use quipu_metadata::{Delta, Image, MetadataRecord, codec};

use crate::{Decision, metadata_version};

pub(crate) struct Draft {
    image: Image,
    records: Vec<MetadataRecord>,
    delta: Delta,
}

impl Draft {
    pub(crate) fn new(image: &Image) -> Self {
        Self { image: image.clone(), records: Vec::new(), delta: Delta::default() }
    }

    pub(crate) fn image(&self) -> &Image {
        &self.image
    }

    pub(crate) fn record_count(&self) -> usize {
        self.records.len()
    }

    /// # Panics
    /// If the image refuses the record, or older nodes could not read it: a fault of ours, found before anything is written.
    pub(crate) fn push(&mut self, record: MetadataRecord) {
        let version = i16::from(codec::version_of(&record));
        let level = metadata_version(&self.image);
        assert!(
            version <= level,
            "at metadata.version {level} the controller decided {record:?}, of version {version}"
        );
        let applied = self.image.apply(self.image.next_offset(), &record, &mut self.delta);
        assert!(applied.is_ok(), "the controller decided what cannot be: {record:?}: {applied:?}");
        self.records.push(record);
    }

    /// Pushes the first `count_max`. How many are left.
    pub(crate) fn push_some(&mut self, mut records: Vec<MetadataRecord>, count_max: usize) -> usize {
        let left = records.len().saturating_sub(count_max);
        records.truncate(count_max);
        records.into_iter().for_each(|record| self.push(record));
        left
    }

    /// The decision, or only its reply.
    pub(crate) fn finish<R>(self, reply: R, validate_only: bool) -> Decision<R> {
        let records = if validate_only { Vec::new() } else { self.records };
        Decision { records, reply }
    }
}
