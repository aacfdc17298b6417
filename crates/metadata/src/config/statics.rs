//! The `[defaults]` of the configuration file: broker configs under Kafka's own names.

use std::collections::BTreeMap;

use super::{key::ConfigError, tables::Lookup};

/// Broker configs fixed when the broker starts. Holds only what [`ConfigKey::accept`](super::ConfigKey::accept) took.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StaticConfig {
    values: BTreeMap<&'static str, String>,
}

impl StaticConfig {
    /// Nothing set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a broker config. A later value replaces an earlier one.
    ///
    /// Errors: [`ConfigError`], whose text is fit for whoever wrote the file.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), ConfigError> {
        let key = Lookup::broker(name).known(name)?;
        let value = key.accept(value)?;
        self.values.insert(key.name, value.to_string());
        Ok(())
    }

    /// The value set, if any.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// All values set, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.values.iter().map(|(name, value)| (*name, value.as_str()))
    }
}
