//! A client of Kafka-compatible brokers: producer, consumer, admin, on any [`Env`]: tokio for applications, the simulator for
//! workloads that must replay from a seed.
//!
//! ```no_run
//! # use quipu_client::*;
//! # async fn example<E: quipu_env::Env>(env: E) -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::connect(env, ClientConfig::bootstrap("127.0.0.1:9092")?).await?;
//! client.admin().create_topics(vec![NewTopic::new("orders", 3)], false).await.remove(0).1?;
//!
//! let producer = client.producer(ProducerConfig::default())?;
//! let delivery = producer.send(ProducerRecord::new("orders", "a knot").with_key("customer 7")).await?;
//! let landed = delivery.await?;
//! producer.close().await;
//!
//! let mut consumer = client.consumer(ConsumerConfig::default())?;
//! consumer.assign([(TopicPartition::new("orders", landed.partition), Position::Start)]);
//! for record in consumer.poll(core::time::Duration::from_secs(1)).await? {
//!     assert_eq!(record.value.as_deref(), Some(&b"a knot"[..]));
//! }
//!
//! // Or with others, in a group that keeps how far it has read:
//! let mut member = client.group_consumer(GroupConfig::new("workers"))?;
//! member.subscribe(Subscription::topics(["orders"]))?;
//! for record in member.poll(core::time::Duration::from_secs(1)).await? {
//!     // What was done, now or in the next poll, is committed by itself; `auto_commit: None` leaves that to `member.commit()`.
//! }
//! member.close().await?;
//! # Ok(())
//! # }
//! ```
//!
//! `examples/produce.rs` and `examples/consume.rs` run on tokio.
//!
//! What to rely on
//! - **Producer.** With idempotence (the default) a record that was acknowledged is in the log once, in order; one that was not
//!   says whether it may be there ([`Written`]). Memory is bounded; [`Producer::send`] waits when it is used up.
//! - **Consumer.** Records of a partition come in order, none twice, none skipped in silence: a log that was truncated or deleted
//!   under the consumer is an error ([`ConsumerError`]) unless it was told otherwise ([`OffsetReset`]).
//! - **Group consumer.** Each record of the group's topics is given to some member at least once; what was given and not committed is
//!   given again when a partition changes hands. A commit that the group does not take is an error ([`GroupError`]).
//! - **Errors** say whose they are ([`ErrorKind`]): passing trouble was tried again until a time-out, everything else comes at once.
//!
//! Invariants
//! - All time, chance, tasks and sockets come from the [`Env`]; in the simulator the same seed is the same run.
//! - Every wait ends: at a time-out of the settings.
//!
//! Not here: transactions, TLS and SASL, which come with the brokers' own. Read `client` next.

mod admin;
mod backoff;
#[doc(hidden)]
pub mod bench;
mod client;
mod cluster;
mod config;
mod connection;
mod consumer;
mod error;
mod group;
mod pool;
mod producer;
mod refresh;

pub use admin::{
    Admin, ConfigChange, ConfigEntry, ConfigOperation, ConfigResource, ConfigSource, Coordinator, CoordinatorKind,
    EpochEnd, GroupDescription, GroupListing, GroupMember, GroupOffset, GroupProtocolType, GroupState, ListedOffset,
    LogDir, LogDirPartition, NewPartitions, NewTopic, OffsetSpec, ProducerIdentity, Quorum, QuorumReplica, TopicName,
};
pub use client::Client;
pub use cluster::{Broker, Cluster, Partition, Topic, TopicPartition};
pub use config::{BrokerAddress, ClientConfig};
pub use consumer::{Consumer, ConsumerConfig, ConsumerError, ConsumerRecord, Isolation, OffsetReset, Position};
pub use error::{ClientError, ErrorKind};
pub use group::{
    Assignor, Commit, GroupConfig, GroupConsumer, GroupError, GroupMembership, GroupProtocol, OffsetToCommit,
    RebalanceListener, Subscription,
};
pub use producer::{
    Acks, Delivery, Header, Producer, ProducerConfig, ProducerError, ProducerRecord, RecordMetadata, Written, murmur2,
    partition_for_key,
};

#[doc(no_inline)]
pub use quipu_base::{BrokerId, LeaderEpoch, Offset, PartitionIndex, Timestamp, TopicId};
#[doc(no_inline)]
pub use quipu_env::Env;
#[doc(no_inline)]
pub use quipu_protocol::ErrorCode;
#[doc(no_inline)]
pub use quipu_records::{Codec, TimestampType};
