//! One thing that a client does, as it stands in a plan: a line of words.
//!
//! ```text
//! produce TOPIC PARTITION:COUNTxBYTES ..   one request with a batch for each partition
//! poll TOPIC TIMES                         fetch all partitions so often, from where the client stands
//! follow TOPIC                             fetch until the workload is over and all of it was read
//! seek TOPIC PERMILLE                      stand there: 0 is a log's start, 1000 its end
//! create TOPIC PARTITIONS                  make a topic
//! delete TOPIC                             delete it
//! grow TOPIC PARTITIONS                    give it more partitions
//! alter TOPIC NAME=VALUE                   set one of its properties
//! replace TOPIC NAME=VALUE                 set one of its properties, and all others back
//! reassign TOPIC PARTITION NODE,NODE..     move a partition to these brokers, by their numbers
//! delete-records TOPIC PARTITION PERMILLE  delete so much of a log
//! ask WHAT                                 a request that changes nothing
//! sleep MILLISECONDS
//! join GROUP TOPIC,TOPIC..                 become a member of a group that reads these topics
//! take TIMES                               poll so often as a member, and commit as the client does
//! serve                                    take until the workload is over and the group has read everything, then leave
//! leave                                    leave the group
//! crash MILLISECONDS                       the client's process ends without a word; another one goes on so much later
//! garbage BYTES | half BYTES | huge | storm CONNECTIONS     what no client does
//! ```
//!
//! Not here: how a client does it ([`crate::workload`]).

use core::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A batch to produce.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BatchSpec {
    /// Where to.
    pub partition: i32,
    /// Records.
    pub count: u32,
    /// Bytes of each value, beside what names it.
    pub bytes: u32,
}

/// A request that changes nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Question {
    /// ApiVersions.
    Versions,
    /// Metadata of all topics.
    Metadata,
    /// DescribeCluster.
    Cluster,
    /// DescribeLogDirs.
    LogDirs,
    /// DescribeConfigs of all topics.
    Configs,
    /// DescribeTopicPartitions.
    TopicPartitions,
    /// FindCoordinator.
    Coordinator,
    /// OffsetForLeaderEpoch.
    Epochs,
    /// ListConfigResources.
    ConfigResources,
    /// ListOffsets by timestamp.
    Times,
    /// ListOffsets for the record with the largest timestamp.
    MaxTimes,
    /// What members of a group ask, of one that there is not.
    Groups,
    /// DescribeQuorum, ElectLeaders of all partitions, UnregisterBroker and UpdateFeatures of what there is not.
    Quorum,
    /// Requests that have to be refused.
    Mistakes,
}

impl Question {
    /// All of them, with their words.
    pub const ALL: &'static [(&'static str, Self)] = &[
        ("versions", Self::Versions),
        ("metadata", Self::Metadata),
        ("cluster", Self::Cluster),
        ("log-dirs", Self::LogDirs),
        ("configs", Self::Configs),
        ("topic-partitions", Self::TopicPartitions),
        ("coordinator", Self::Coordinator),
        ("epochs", Self::Epochs),
        ("config-resources", Self::ConfigResources),
        ("times", Self::Times),
        ("max-times", Self::MaxTimes),
        ("groups", Self::Groups),
        ("quorum", Self::Quorum),
        ("mistakes", Self::Mistakes),
    ];

    fn word(self) -> &'static str {
        Self::ALL.iter().find(|(_, question)| *question == self).map(|(word, _)| *word).expect("all are listed")
    }
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Operation {
    /// Produces a batch to each of several partitions, in one request.
    Produce {
        /// The topic.
        topic: String,
        /// Each partition once.
        batches: Vec<BatchSpec>,
    },
    /// Fetches.
    Poll {
        /// The topic.
        topic: String,
        /// How often.
        times: u32,
    },
    /// Fetches until the workload is over and everything was read.
    Follow {
        /// The topic.
        topic: String,
    },
    /// Goes elsewhere in all partitions.
    Seek {
        /// The topic.
        topic: String,
        /// Where, in thousandths of the log.
        permille: u32,
    },
    /// Makes a topic.
    Create {
        /// Its name.
        topic: String,
        /// Its partitions.
        partitions: i32,
    },
    /// Deletes a topic.
    Delete {
        /// Its name.
        topic: String,
    },
    /// Adds partitions.
    Grow {
        /// The topic.
        topic: String,
        /// How many it has then.
        partitions: i32,
    },
    /// Sets a property.
    Alter {
        /// The topic.
        topic: String,
        /// Kafka's name for it.
        name: String,
        /// Its value.
        value: String,
    },
    /// Sets a property, and all others back to their defaults.
    Replace {
        /// The topic.
        topic: String,
        /// Kafka's name for it.
        name: String,
        /// Its value.
        value: String,
    },
    /// Moves a partition to other brokers.
    Reassign {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The brokers' numbers, the preferred leader first.
        brokers: Vec<i32>,
    },
    /// Deletes the beginning of a log.
    DeleteRecords {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// How much of it, in thousandths.
        permille: u32,
    },
    /// Asks.
    Ask(Question),
    /// Does nothing.
    Sleep {
        /// For how long, milliseconds.
        ms: u64,
    },
    /// Becomes a member of a group.
    Join {
        /// The group.
        group: String,
        /// What it reads.
        topics: Vec<String>,
    },
    /// Polls as a member.
    Take {
        /// How often.
        times: u32,
    },
    /// Polls as a member until the workload is over and the group has read everything, and leaves.
    Serve,
    /// Leaves the group.
    Leave,
    /// The process ends, and another one goes on with what follows.
    Crash {
        /// How much later, milliseconds.
        ms: u64,
    },
    /// Sends bytes that mean nothing, on a connection of its own.
    Garbage {
        /// How many.
        bytes: u32,
    },
    /// Sends the beginning of a request, and leaves.
    Half {
        /// Bytes that it says will come.
        bytes: u32,
    },
    /// Says that a request of two gibibytes will come.
    Huge,
    /// Opens many connections, and leaves.
    Storm {
        /// How many.
        connections: u32,
    },
}

impl Operation {
    /// The topic that it is about, if it is one.
    #[must_use]
    pub fn topic(&self) -> Option<&str> {
        match self {
            Self::Produce { topic, .. }
            | Self::Poll { topic, .. }
            | Self::Follow { topic }
            | Self::Seek { topic, .. }
            | Self::Create { topic, .. }
            | Self::Delete { topic }
            | Self::Grow { topic, .. }
            | Self::Alter { topic, .. }
            | Self::Replace { topic, .. }
            | Self::Reassign { topic, .. }
            | Self::DeleteRecords { topic, .. } => Some(topic),
            _ => None,
        }
    }

    /// Whether only a member of a group, or a process that may end, does it.
    #[must_use]
    pub const fn is_of_members(&self) -> bool {
        matches!(self, Self::Join { .. } | Self::Take { .. } | Self::Serve | Self::Leave | Self::Crash { .. })
    }

    /// The same with less in it, smallest first.
    #[must_use]
    pub fn simpler(&self) -> Vec<Self> {
        match self {
            Self::Produce { topic, batches } => simpler_batches(batches)
                .into_iter()
                .map(|batches| Self::Produce { topic: topic.clone(), batches })
                .collect(),
            Self::Poll { topic, times } if *times > 1 => vec![Self::Poll { topic: topic.clone(), times: 1 }],
            Self::Sleep { ms } if *ms > 1 => vec![Self::Sleep { ms: ms / 2 }],
            Self::Take { times } if *times > 1 => vec![Self::Take { times: 1 }, Self::Take { times: times / 2 }],
            Self::Crash { ms } if *ms > 1 => vec![Self::Crash { ms: ms / 2 }],
            Self::Storm { connections } if *connections > 1 => vec![Self::Storm { connections: connections / 2 }],
            _ => Vec::new(),
        }
    }
}

fn simpler_batches(batches: &[BatchSpec]) -> Vec<Vec<BatchSpec>> {
    let each = |change: &dyn Fn(BatchSpec) -> BatchSpec| batches.iter().map(|batch| change(*batch)).collect();
    let mut simpler: Vec<Vec<BatchSpec>> = Vec::new();
    if batches.len() > 1 {
        simpler.extend(batches.iter().map(|batch| vec![*batch]));
    }
    simpler.push(each(&|batch| BatchSpec { count: 1, bytes: 0, ..batch }));
    simpler.push(each(&|batch| BatchSpec { count: 1, ..batch }));
    simpler.push(each(&|batch| BatchSpec { bytes: 0, ..batch }));
    simpler.push(each(&|batch| BatchSpec { count: batch.count.div_ceil(2), bytes: batch.bytes / 2, ..batch }));
    simpler.retain(|other| other != batches);
    simpler
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Produce { topic, batches } => {
                write!(f, "produce {topic}")?;
                batches
                    .iter()
                    .try_for_each(|BatchSpec { partition, count, bytes }| write!(f, " {partition}:{count}x{bytes}"))
            }
            Self::Poll { topic, times } => write!(f, "poll {topic} {times}"),
            Self::Follow { topic } => write!(f, "follow {topic}"),
            Self::Seek { topic, permille } => write!(f, "seek {topic} {permille}"),
            Self::Create { topic, partitions } => write!(f, "create {topic} {partitions}"),
            Self::Delete { topic } => write!(f, "delete {topic}"),
            Self::Grow { topic, partitions } => write!(f, "grow {topic} {partitions}"),
            Self::Alter { topic, name, value } => write!(f, "alter {topic} {name}={value}"),
            Self::Replace { topic, name, value } => write!(f, "replace {topic} {name}={value}"),
            Self::Reassign { topic, partition, brokers } => {
                let brokers: Vec<String> = brokers.iter().map(i32::to_string).collect();
                write!(f, "reassign {topic} {partition} {}", brokers.join(","))
            }
            Self::DeleteRecords { topic, partition, permille } => {
                write!(f, "delete-records {topic} {partition} {permille}")
            }
            Self::Ask(question) => write!(f, "ask {}", question.word()),
            Self::Sleep { ms } => write!(f, "sleep {ms}"),
            Self::Join { group, topics } => write!(f, "join {group} {}", topics.join(",")),
            Self::Take { times } => write!(f, "take {times}"),
            Self::Serve => f.write_str("serve"),
            Self::Leave => f.write_str("leave"),
            Self::Crash { ms } => write!(f, "crash {ms}"),
            Self::Garbage { bytes } => write!(f, "garbage {bytes}"),
            Self::Half { bytes } => write!(f, "half {bytes}"),
            Self::Huge => f.write_str("huge"),
            Self::Storm { connections } => write!(f, "storm {connections}"),
        }
    }
}

impl From<Operation> for String {
    fn from(operation: Operation) -> Self {
        operation.to_string()
    }
}

impl TryFrom<String> for Operation {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// The words of an operation, taken one by one.
struct Words<'a> {
    text: &'a str,
    left: core::str::SplitWhitespace<'a>,
}

impl<'a> Words<'a> {
    fn word(&mut self, what: &str) -> Result<&'a str, String> {
        self.left.next().ok_or_else(|| format!("operation {:?}: {what} is missing", self.text))
    }

    fn topic(&mut self) -> Result<String, String> {
        self.word("the topic").map(str::to_owned)
    }

    fn number<T: FromStr>(&mut self, what: &str) -> Result<T, String> {
        let word = self.word(what)?;
        word.parse().map_err(|_| format!("operation {:?}: {what} is {word:?}, which is no such number", self.text))
    }

    fn property(&mut self) -> Result<(String, String), String> {
        let word = self.word("NAME=VALUE")?;
        let (name, value) =
            word.split_once('=').ok_or_else(|| format!("operation {:?}: {word:?} is not NAME=VALUE", self.text))?;
        Ok((name.to_owned(), value.to_owned()))
    }

    fn brokers(&mut self) -> Result<Vec<i32>, String> {
        let word = self.word("the brokers")?;
        let number =
            |part: &str| part.parse().map_err(|_| format!("operation {:?}: {word:?} is not NODE,NODE..", self.text));
        word.split(',').map(number).collect()
    }

    fn batch(&self, word: &str) -> Result<BatchSpec, String> {
        let parts = word.split_once(':').and_then(|(partition, rest)| {
            let (count, bytes) = rest.split_once('x')?;
            Some(BatchSpec {
                partition: partition.parse().ok()?,
                count: count.parse().ok().filter(|count| *count > 0)?,
                bytes: bytes.parse().ok()?,
            })
        });
        parts.ok_or_else(|| format!("operation {:?}: {word:?} is not PARTITION:COUNTxBYTES", self.text))
    }
}

impl FromStr for Operation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = Words { text, left: text.split_whitespace() };
        let operation = match words.word("the first word")? {
            "produce" => {
                let topic = words.topic()?;
                let rest: Vec<&str> = words.left.by_ref().collect();
                let batches = rest.into_iter().map(|word| words.batch(word)).collect::<Result<Vec<_>, _>>()?;
                if batches.is_empty() {
                    return Err(format!("operation {text:?}: PARTITION:COUNTxBYTES is missing"));
                }
                Self::Produce { topic, batches }
            }
            "poll" => Self::Poll { topic: words.topic()?, times: words.number("how often")? },
            "follow" => Self::Follow { topic: words.topic()? },
            "seek" => Self::Seek { topic: words.topic()?, permille: words.number("where in thousandths")? },
            "create" => Self::Create { topic: words.topic()?, partitions: words.number("the number of partitions")? },
            "delete" => Self::Delete { topic: words.topic()? },
            "grow" => Self::Grow { topic: words.topic()?, partitions: words.number("the number of partitions")? },
            "alter" => {
                let (topic, (name, value)) = (words.topic()?, words.property()?);
                Self::Alter { topic, name, value }
            }
            "replace" => {
                let (topic, (name, value)) = (words.topic()?, words.property()?);
                Self::Replace { topic, name, value }
            }
            "reassign" => Self::Reassign {
                topic: words.topic()?,
                partition: words.number("the partition")?,
                brokers: words.brokers()?,
            },
            "delete-records" => Self::DeleteRecords {
                topic: words.topic()?,
                partition: words.number("the partition")?,
                permille: words.number("how much in thousandths")?,
            },
            "ask" => {
                let word = words.word("what to ask")?;
                let known = Question::ALL.iter().find(|(name, _)| *name == word);
                let names: Vec<&str> = Question::ALL.iter().map(|(name, _)| *name).collect();
                let unknown = || format!("operation {text:?}: nobody can ask {word:?}, only {}", names.join(", "));
                Self::Ask(known.ok_or_else(unknown)?.1)
            }
            "sleep" => Self::Sleep { ms: words.number("how long in milliseconds")? },
            "join" => {
                let group = words.word("the group")?.to_owned();
                Self::Join { group, topics: words.word("the topics")?.split(',').map(str::to_owned).collect() }
            }
            "take" => Self::Take { times: words.number("how often")? },
            "serve" => Self::Serve,
            "leave" => Self::Leave,
            "crash" => Self::Crash { ms: words.number("how long in milliseconds")? },
            "garbage" => Self::Garbage { bytes: words.number("how many bytes")? },
            "half" => Self::Half { bytes: words.number("how many bytes")? },
            "huge" => Self::Huge,
            "storm" => Self::Storm { connections: words.number("how many connections")? },
            other => {
                return Err(format!(
                    "operation {text:?}: there is no {other:?}; there are produce, poll, follow, seek, create, delete, \
                     grow, alter, replace, reassign, delete-records, ask, sleep, join, take, serve, leave, crash, garbage, half, \
                     huge and storm"
                ));
            }
        };
        match words.left.next() {
            None => Ok(operation),
            Some(more) => Err(format!("operation {text:?}: nothing is expected at {more:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_printed_as_they_are_read() {
        for text in [
            "produce a 0:3x100 2:1x0",
            "poll a 5",
            "follow a",
            "seek a 500",
            "create a 3",
            "delete a",
            "grow a 5",
            "alter a segment.bytes=1000",
            "replace a segment.ms=30",
            "reassign a 1 3,1",
            "delete-records a 0 1000",
            "ask log-dirs",
            "sleep 20",
            "join g a,b",
            "take 3",
            "serve",
            "leave",
            "crash 100",
            "garbage 7",
            "half 100",
            "huge",
            "storm 30",
        ] {
            assert_eq!(text.parse::<Operation>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_wrong_with_an_operation_is_named() {
        let error = |text: &str| text.parse::<Operation>().unwrap_err();
        assert!(error("").contains("the first word is missing"));
        assert!(error("produce a").contains("PARTITION:COUNTxBYTES is missing"));
        assert!(error("produce a 0:0x1").contains("\"0:0x1\" is not PARTITION:COUNTxBYTES"));
        assert!(error("poll a often").contains("how often is \"often\""));
        assert!(error("follow a b").contains("nothing is expected at \"b\""));
        assert!(error("ask why").contains("nobody can ask \"why\""));
        assert!(error("dance").contains("there is no \"dance\""));
    }

    #[test]
    fn simpler_ones_are_simpler() {
        let operation: Operation = "produce a 0:8x100 1:2x0".parse().unwrap();
        let simpler: Vec<String> = operation.simpler().iter().map(ToString::to_string).collect();
        assert_eq!(simpler[0], "produce a 0:8x100");
        assert!(simpler.contains(&"produce a 0:1x0 1:1x0".to_owned()), "{simpler:?}");
        assert!("produce a 0:1x0".parse::<Operation>().unwrap().simpler().is_empty());
    }
}
