//! The cluster itself: its members, their directories, producer ids, coordinators.

use std::collections::BTreeMap;

use quipu_base::{BrokerId, PartitionIndex, ProducerEpoch, ProducerId};
use quipu_env::Env;
use quipu_protocol::messages::{
    describe_cluster::{DescribeClusterBroker, DescribeClusterRequest},
    describe_log_dirs::{DescribeLogDirsRequest, DescribeLogDirsResult},
    find_coordinator::FindCoordinatorRequest,
    init_producer_id::InitProducerIdRequest,
};

use super::{Admin, Outcome, check, expect_reply};
use crate::{Broker, BrokerAddress, ClientError, Cluster, TopicPartition, connection::Answer, pool::Target};

/// A data directory of a broker.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogDir {
    /// Its absolute path on the broker's machine.
    pub path: String,
    /// Size of the file system in bytes, if the broker tells.
    pub total_bytes: Option<u64>,
    /// Bytes free, if the broker tells.
    pub usable_bytes: Option<u64>,
    /// What lies in it, in order; an error if the directory is offline.
    pub partitions: Outcome<BTreeMap<TopicPartition, LogDirPartition>>,
}

/// A partition's replica in a data directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogDirPartition {
    /// Bytes of all its segments.
    pub bytes: u64,
    /// Records behind the high watermark, or, of a copy being made, behind the present replica.
    pub offset_lag: u64,
    /// Whether this replica is a copy being made that will replace the present one.
    pub is_future: bool,
}

/// Who an idempotent producer is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProducerIdentity {
    /// Its id.
    pub id: ProducerId,
    /// Its epoch.
    pub epoch: ProducerEpoch,
}

/// What is coordinated.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum CoordinatorKind {
    /// A consumer group.
    Group,
    /// A transactional id.
    Transaction,
    /// A partition of a share group.
    Share,
}

/// Who coordinates a group or a transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Coordinator {
    /// The broker.
    pub id: BrokerId,
    /// Where it listens.
    pub address: BrokerAddress,
}

impl<E: Env> Admin<E> {
    /// The cluster's id, its brokers and its controller. The topics of this [`Cluster`] are empty.
    ///
    /// Errors: what went wrong last, after [`crate::ClientConfig::api_timeout`].
    pub async fn describe_cluster(&self) -> Outcome<Cluster> {
        let mut retry = self.client.retry("describe the cluster");
        loop {
            let asked = self.ask_any(DescribeClusterRequest::default(), 0).await;
            let described = asked.and_then(|answer| {
                let response = expect_reply!(answer, DescribeCluster);
                let message = response.error_message.as_deref();
                check(|| "describe the cluster".to_owned(), response.error_code, message).map(|()| response)
            });
            match described {
                Ok(response) => {
                    let mut cluster = Cluster::default();
                    cluster.id = Some(response.cluster_id.to_string());
                    cluster.controller = Some(BrokerId(response.controller_id)).filter(|id| id.0 >= 0);
                    cluster.brokers = response.brokers.iter().filter_map(broker).collect();
                    return Ok(cluster);
                }
                Err(error) => retry.pause(&error).await?,
            }
        }
    }

    /// Data directories of these brokers, with all that lies in them.
    ///
    /// Errors of a broker: what went wrong last, after [`crate::ClientConfig::api_timeout`].
    pub async fn describe_log_dirs(&self, brokers: Vec<BrokerId>) -> Vec<(BrokerId, Outcome<Vec<LogDir>>)> {
        let mut rounds = self.rounds("describe log directories", brokers);
        while let Some(open) = rounds.next().await {
            if let Err(error) = self.client.known_cluster().await {
                rounds.settle_all(open.iter().map(|(at, _)| *at), &error);
                continue;
            }
            let post = |(at, id): (usize, BrokerId)| {
                let request = DescribeLogDirsRequest { topics: None };
                (at, id, self.client.post(Target::Broker(id), request, 1..=i16::MAX))
            };
            let pending: Vec<_> = open.into_iter().map(post).collect();
            for (at, id, call) in pending {
                let outcome = call.wait(self.client.shared()).await.and_then(|answer| {
                    let response = expect_reply!(answer, DescribeLogDirs);
                    check(|| format!("describe log directories of broker {id}"), response.error_code, None)?;
                    Ok(response.results.iter().map(log_dir).collect())
                });
                rounds.settle(at, outcome);
            }
        }
        rounds.finish()
    }

    /// A fresh producer id, as an idempotent producer gets one. With `transactional_id`: the id that belongs to it, under a new
    /// epoch, which fences every earlier holder.
    ///
    /// Errors: what went wrong last, after [`crate::ClientConfig::api_timeout`].
    pub async fn init_producer_id(&self, transactional_id: Option<&str>) -> Outcome<ProducerIdentity> {
        let mut retry = self.client.retry("ask for a producer id");
        loop {
            let request = InitProducerIdRequest {
                transactional_id: transactional_id.map(Into::into),
                transaction_timeout_ms: 60_000,
                ..Default::default()
            };
            let asked = match transactional_id {
                None => self.ask_any(request, 0).await,
                Some(id) => match self.coordinator_once(CoordinatorKind::Transaction, id).await {
                    Ok(found) => self.client.call(Target::Broker(found.id), request, 0..=i16::MAX).await,
                    Err(error) => Err(error),
                },
            };
            let given = asked.and_then(|answer| {
                let response = expect_reply!(answer, InitProducerId);
                check(|| "ask for a producer id".to_owned(), response.error_code, None)?;
                let id = ProducerId(response.producer_id);
                Ok(ProducerIdentity { id, epoch: ProducerEpoch(response.producer_epoch) })
            });
            match given {
                Ok(identity) => return Ok(identity),
                Err(error) => retry.pause(&error).await?,
            }
        }
    }

    /// Who coordinates this group, transaction or share partition.
    ///
    /// Errors: what went wrong last, after [`crate::ClientConfig::api_timeout`]: COORDINATOR_NOT_AVAILABLE as long as there is none.
    pub async fn find_coordinator(&self, kind: CoordinatorKind, key: &str) -> Outcome<Coordinator> {
        let mut retry = self.client.retry(format!("find the coordinator of {key}"));
        loop {
            match self.coordinator_once(kind, key).await {
                Ok(coordinator) => return Ok(coordinator),
                Err(error) => retry.pause(&error).await?,
            }
        }
    }

    pub(crate) async fn coordinator_once(&self, kind: CoordinatorKind, key: &str) -> Outcome<Coordinator> {
        let key_type = match kind {
            CoordinatorKind::Group => 0,
            CoordinatorKind::Transaction => 1,
            CoordinatorKind::Share => 2,
        };
        let request = FindCoordinatorRequest { key_type, coordinator_keys: vec![key.into()], ..Default::default() };
        let response = expect_reply!(self.ask_any(request, 4).await?, FindCoordinator);
        let found = response.coordinators.first().ok_or_else(super::left_out)?;
        check(|| format!("find the coordinator of {key}"), found.error_code, found.error_message.as_deref())?;
        let port = u16::try_from(found.port).map_err(|_| super::left_out())?;
        Ok(Coordinator { id: BrokerId(found.node_id), address: BrokerAddress::new(&found.host, port) })
    }

    pub(super) async fn ask_any(
        &self,
        request: impl Into<quipu_protocol::Request>,
        version_min: i16,
    ) -> Result<Answer, ClientError> {
        let target = self.client.any_broker().await?;
        self.client.call(target, request, version_min..=i16::MAX).await
    }
}

fn broker(broker: &DescribeClusterBroker) -> Option<(BrokerId, Broker)> {
    let port = u16::try_from(broker.port).ok()?;
    let id = BrokerId(broker.broker_id);
    let rack = broker.rack.as_ref().map(ToString::to_string);
    Some((id, Broker { id, address: BrokerAddress::new(&broker.host, port), rack }))
}

fn log_dir(directory: &DescribeLogDirsResult) -> LogDir {
    let checked = check(|| format!("read {}", directory.log_dir), directory.error_code, None);
    let mut partitions = BTreeMap::new();
    for topic in &directory.topics {
        for partition in &topic.partitions {
            let key = TopicPartition::new(&*topic.name, PartitionIndex(partition.partition_index));
            let found = LogDirPartition {
                bytes: u64::try_from(partition.partition_size).unwrap_or(0),
                offset_lag: u64::try_from(partition.offset_lag).unwrap_or(0),
                is_future: partition.is_future_key,
            };
            partitions.insert(key, found);
        }
    }
    LogDir {
        path: directory.log_dir.to_string(),
        total_bytes: u64::try_from(directory.total_bytes).ok(),
        usable_bytes: u64::try_from(directory.usable_bytes).ok(),
        partitions: checked.map(|()| partitions),
    }
}
