//! One config: its name, type, default, and which values it takes.
//!
//! Read `tables` for the configs there are.

use core::fmt;
use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::client_metrics::ClientPattern;

/// The type of a config's value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConfigType {
    /// `true` or `false`, in any case.
    Boolean,
    /// Any text.
    String,
    /// 32 bits, signed.
    Int,
    /// 64 bits, signed.
    Long,
    /// 64 bits, with a decimal point.
    Double,
    /// Texts separated by commas.
    List,
}

impl ConfigType {
    /// The number that Kafka's `DescribeConfigs` has for it.
    #[must_use]
    pub const fn code(self) -> i8 {
        match self {
            Self::Boolean => 1,
            Self::String => 2,
            Self::Int => 3,
            Self::Long => 5,
            Self::Double => 6,
            Self::List => 7,
        }
    }
}

/// Which values a config takes, besides being of its type.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Check {
    /// Any.
    Any,
    /// A number no less than that.
    AtLeast(i64),
    /// A number from the first to the second, both included.
    Between(i64, i64),
    /// One of these texts, or a list of these.
    OneOf(&'static [&'static str]),
    /// A list of at least one of these texts, each once.
    SomeOf(&'static [&'static str]),
    /// The level of `gzip`: the library's own choice (-1), or 1 to 9.
    GzipLevel,
    /// A list of which clients are meant: see `client_metrics`.
    Patterns,
    /// A part of a whole, from 0 to 1. (A number with a decimal point and no such check is at least 1.)
    Share,
}

/// How a config relates to what the product does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    /// Setting it takes effect.
    Works,
    /// Its only value is its default, which states what happens anyway.
    Fixed {
        /// What happens, and so why no other value is taken. A sentence without a full stop.
        why: &'static str,
    },
}

/// One config that we know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConfigKey {
    /// Kafka's name.
    pub name: &'static str,
    /// The type of its value.
    pub kind: ConfigType,
    /// What holds if nothing is set; for [`Status::Fixed`] the only value.
    pub default: &'static str,
    /// Whether setting it takes effect.
    pub status: Status,
    /// Of a topic's or a group's config: the broker's config that it falls back to.
    pub broker_name: Option<&'static str>,
    /// Of a broker's config: whether it can be set while the broker runs.
    pub dynamic: bool,
    /// What it is for, in one line.
    pub doc: &'static str,
    pub(super) check: Check,
}

/// A config's value, of its type.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// Of [`ConfigType::Boolean`].
    Boolean(bool),
    /// Of [`ConfigType::String`].
    String(String),
    /// Of [`ConfigType::Int`].
    Int(i32),
    /// Of [`ConfigType::Long`].
    Long(i64),
    /// Of [`ConfigType::Double`]: a finite number.
    Double(f64),
    /// Of [`ConfigType::List`].
    List(Vec<String>),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean(value) => value.fmt(f),
            Self::String(value) => f.write_str(value),
            Self::Int(value) => value.fmt(f),
            Self::Long(value) => value.fmt(f),
            Self::Double(value) => value.fmt(f),
            Self::List(values) => f.write_str(&values.join(",")),
        }
    }
}

/// Why a config is not taken. Kafka's `INVALID_CONFIG`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ConfigError {
    /// Kafka has no config of that name.
    Unknown {
        /// The name.
        name: String,
    },
    /// Kafka has it, we do not yet.
    NotYet {
        /// The name.
        name: String,
        /// What it needs, or what to use instead. A sentence without a full stop.
        why: Cow<'static, str>,
    },
    /// Only one value says what happens, and this is not it.
    Fixed {
        /// The name.
        name: Cow<'static, str>,
        /// The value given.
        value: String,
        /// The only value.
        only: Cow<'static, str>,
        /// What happens. A sentence without a full stop.
        why: Cow<'static, str>,
    },
    /// Not of the type, or out of range.
    Invalid {
        /// The name.
        name: Cow<'static, str>,
        /// The value given.
        value: String,
        /// What it should be.
        expected: String,
    },
    /// It does not go with the others.
    Together {
        /// Which, and why. A sentence without a full stop.
        why: String,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { name } => write!(f, "Unknown config name: {name}."),
            Self::NotYet { name, why } => write!(f, "{name} is not supported by Quipu: {why}."),
            Self::Fixed { name, value, only, why } => {
                write!(f, "{name}={value} is not supported by Quipu: {why}, so the only value taken is {only:?}.")
            }
            Self::Together { why } => write!(f, "{why}."),
            Self::Invalid { name, value, expected } => {
                write!(f, "Invalid value {value:?} for {name}: it must be {expected}.")
            }
        }
    }
}

impl core::error::Error for ConfigError {}

impl ConfigKey {
    /// The value that `text` spells, if it may be set.
    ///
    /// Errors: [`ConfigError::Invalid`] if it is not of the type or out of range, [`ConfigError::Fixed`] if it does not state
    /// what happens.
    pub fn accept(&self, text: &str) -> Result<Value, ConfigError> {
        let value = self.parse(text).filter(|value| self.is_in_range(value)).ok_or_else(|| ConfigError::Invalid {
            name: self.name.into(),
            value: text.to_owned(),
            expected: self.expected(),
        })?;
        match self.status {
            Status::Fixed { why } if value != self.default_value() => Err(ConfigError::Fixed {
                name: self.name.into(),
                value: text.to_owned(),
                only: self.default.into(),
                why: why.into(),
            }),
            _ => Ok(value),
        }
    }

    /// The value that holds if nothing is set.
    #[must_use]
    pub fn default_value(&self) -> Value {
        self.parse(self.default).expect("a test reads every default of the tables")
    }

    pub(super) fn parse(&self, text: &str) -> Option<Value> {
        let text = text.trim();
        match self.kind {
            ConfigType::Boolean if text.eq_ignore_ascii_case("true") => Some(Value::Boolean(true)),
            ConfigType::Boolean if text.eq_ignore_ascii_case("false") => Some(Value::Boolean(false)),
            ConfigType::Boolean => None,
            ConfigType::String => Some(Value::String(text.to_owned())),
            ConfigType::Int => text.parse().ok().map(Value::Int),
            ConfigType::Long => text.parse().ok().map(Value::Long),
            ConfigType::Double => text.parse().ok().filter(|value: &f64| value.is_finite()).map(Value::Double),
            ConfigType::List if text.is_empty() => Some(Value::List(Vec::new())),
            ConfigType::List => Some(Value::List(text.split(',').map(|item| item.trim().to_owned()).collect())),
        }
    }

    pub(super) fn is_in_range(&self, value: &Value) -> bool {
        let number = match value {
            Value::Int(value) => i64::from(*value),
            Value::Long(value) => *value,
            Value::Double(value) => return self.is_fraction(*value),
            Value::Boolean(_) => return true,
            Value::String(value) => return self.is_listed(value),
            Value::List(values) if matches!(self.check, Check::SomeOf(_)) => {
                let is_repeated = |(index, value): (usize, &String)| values[..index].contains(value);
                return !values.is_empty()
                    && values.iter().all(|value| self.is_listed(value))
                    && !values.iter().enumerate().any(is_repeated);
            }
            Value::List(values) if self.check == Check::Patterns => {
                return values.iter().all(|value| ClientPattern::parse(value).is_some());
            }
            Value::List(values) => return values.iter().all(|value| self.is_listed(value)),
        };
        match self.check {
            Check::Any => true,
            Check::AtLeast(least) => number >= least,
            Check::Between(least, most) => (least..=most).contains(&number),
            Check::GzipLevel => number == -1 || (1..=9).contains(&number),
            Check::OneOf(_) | Check::SomeOf(_) | Check::Share | Check::Patterns => false,
        }
    }

    fn is_fraction(&self, value: f64) -> bool {
        match self.check {
            Check::Share => (0.0..=1.0).contains(&value),
            _ => value >= 1.0,
        }
    }

    fn is_listed(&self, text: &str) -> bool {
        match self.check {
            Check::OneOf(values) | Check::SomeOf(values) => values.contains(&text),
            _ => true,
        }
    }

    fn expected(&self) -> String {
        let kind = match self.kind {
            ConfigType::Boolean => return "true or false".to_owned(),
            ConfigType::String => "a text",
            ConfigType::Int => "a 32-bit integer",
            ConfigType::Long => "a 64-bit integer",
            ConfigType::Double if self.check == Check::Share => return "a number from 0 to 1".to_owned(),
            ConfigType::Double => return "a number of at least 1".to_owned(),
            ConfigType::List => "a list, separated by commas,",
        };
        match self.check {
            Check::Any | Check::Share => kind.to_owned(),
            Check::Patterns => format!("{kind} of NAME=REGEX with NAME one of {}", ClientPattern::NAMES.join(", ")),
            Check::AtLeast(least) => format!("{kind} of at least {least}"),
            Check::Between(least, most) => format!("{kind} from {least} to {most}"),
            Check::GzipLevel => format!("{kind} from 1 to 9, or -1"),
            Check::SomeOf(values) => format!("{kind} of at least one of {}, each once", values.join(", ")),
            Check::OneOf(values) if self.kind == ConfigType::List => format!("{kind} of {}", values.join(", ")),
            Check::OneOf(values) => format!("one of {}", values.join(", ")),
        }
    }
}
