//! Reading and printing until there is an end: of the records wanted, of the reader, or by a signal.

use std::{
    collections::BTreeMap,
    io::{self, ErrorKind, Write},
    ops::ControlFlow,
    pin::pin,
    time::{Duration, Instant},
};

use quipu_client::{
    Client, ClientConfig, ConsumerConfig, ConsumerError, ConsumerRecord, Env, GroupError, Offset, TopicPartition,
};
use quipu_env_tokio::{Signals, TokioEnv};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{
    Format,
    member::{Committed, Source},
};
use crate::{FAILED, client::Failure};

/// How long to wait for records before looking whether anybody still reads.
const WAIT: Duration = Duration::from_millis(500);
/// How long whoever reads may take, after a signal, before something is said.
const PATIENCE: Duration = Duration::from_secs(1);
/// After so long without records it is looked whether the brokers can be reached.
const QUIET: Duration = Duration::from_secs(5);

/// Where to end, by partition.
pub(super) type Ends = BTreeMap<TopicPartition, Offset>;

/// A topic being read.
pub(super) struct Reading {
    pub(super) env: TokioEnv,
    /// How the brokers are reached.
    pub(super) config: ClientConfig,
    pub(super) source: Source,
    pub(super) signals: Signals,
    /// Where to end; none is nowhere.
    pub(super) ends: Option<Ends>,
    /// Records still to print; none is without end.
    pub(super) left: Option<u64>,
    pub(super) format: Format,
    /// Whether trouble was told that is not over.
    pub(super) is_troubled: bool,
}

impl Reading {
    /// Reads, then leaves the group if it is a member of one: what was printed is committed even if something else went wrong.
    pub(super) async fn run(mut self) -> Result<(), Failure> {
        let outcome = self.read().await;
        let Self { source, mut signals, .. } = self;
        tokio::select! { biased;
            _ = signals.next() => std::process::exit(i32::from(FAILED)),
            closed = source.close() => outcome.and(closed),
        }
    }

    async fn read(&mut self) -> Result<(), Failure> {
        let mut last_news = Instant::now();
        while self.left != Some(0) && !self.is_at_end().await? {
            let polled = tokio::select! { biased;
                _ = self.signals.next() => return Ok(()),
                polled = self.source.poll(WAIT) => polled,
            };
            let records = match polled {
                Ok(records) => records,
                Err(GroupError::Consumer(error)) => return Err(self.explain(error).await),
                Err(error @ GroupError::Stale { .. }) => {
                    eprintln!("quipu: {error}; some records may be printed twice");
                    continue;
                }
                Err(error) => return Err(Failure::Group(error)),
            };
            if !records.is_empty() {
                last_news = Instant::now();
                if self.print(records).await?.is_break() {
                    return Ok(());
                }
            } else if !somebody_reads() {
                return Ok(());
            } else if last_news.elapsed() > QUIET {
                last_news = Instant::now();
                if self.look_for_trouble().await?.is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// The consumer waits for brokers as long as it takes, and does not tell. Where there is an end to reach, trouble is a failure;
    /// else it is told once. `Break`: a signal came.
    async fn look_for_trouble(&mut self) -> Result<ControlFlow<()>, Failure> {
        let partitions = self.source.assignment();
        let looked = tokio::select! { biased;
            _ = self.signals.next() => return Ok(ControlFlow::Break(())),
            looked = look(&self.env, &self.config, &partitions) => looked,
        };
        match looked {
            Ok(()) => self.is_troubled = false,
            Err(failure) if self.ends.is_some() => return Err(failure),
            Err(failure) if !self.is_troubled => {
                self.is_troubled = true;
                eprintln!("quipu: waiting: {failure}");
            }
            Err(_) => {}
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Whether all is read that there was at the start.
    async fn is_at_end(&mut self) -> Result<bool, Failure> {
        match &self.ends {
            Some(ends) => self.source.is_at(ends).await,
            None => Ok(false),
        }
    }

    /// Prints what is wanted of these. `Break`: nobody reads any more, or a signal came.
    async fn print(&mut self, records: Vec<ConsumerRecord>) -> Result<ControlFlow<()>, Failure> {
        let mut out = Vec::new();
        let mut printed = Committed::default();
        for record in &records {
            if self.left == Some(0) {
                break;
            }
            if self.is_beyond(record) {
                continue;
            }
            self.format.write(record, &mut out);
            printed.note(record);
            self.left = self.left.map(|left| left - 1);
        }
        // Whoever reads slowly must not hold up the shard, which has connections and signals to look after.
        let env = self.env.clone();
        let mut write = pin!(env.offload(Duration::ZERO, move || write(&out)));
        let (written, flow) = tokio::select! { biased;
            _ = self.signals.next() => (self.interrupted(write).await, ControlFlow::Break(())),
            written = &mut write => (written, ControlFlow::Continue(())),
        };
        match written {
            Ok(()) => {
                self.source.note(printed);
                Ok(flow)
            }
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(ControlFlow::Break(())),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits for a write, which can't be called off, until the next signal.
    async fn interrupted(&mut self, mut write: impl Future<Output = io::Result<()>> + Unpin) -> io::Result<()> {
        tokio::select! { biased;
            written = &mut write => return written,
            _ = self.signals.next() => std::process::exit(i32::from(FAILED)),
            () = tokio::time::sleep(PATIENCE) => {}
        }
        eprintln!("quipu: waiting until what was read is written; Ctrl-C again ends at once");
        tokio::select! { biased;
            written = write => written,
            _ = self.signals.next() => std::process::exit(i32::from(FAILED)),
        }
    }

    /// Whether it came after the start, where that counts.
    fn is_beyond(&self, record: &ConsumerRecord) -> bool {
        let Some(ends) = &self.ends else { return false };
        let partition = TopicPartition::new(record.topic.clone(), record.partition);
        ends.get(&partition).is_some_and(|end| record.offset >= *end)
    }

    /// What to do about a partition that can't be read on.
    async fn explain(&self, error: ConsumerError) -> Failure {
        match error {
            error if self.source.is_group() => Failure::Consumer(error),
            ConsumerError::OffsetOutOfRange { partition, position } => {
                let asked = std::slice::from_ref(&partition);
                let reader = self.source.reader();
                let start = reader.beginning_offsets(asked).await.ok().and_then(|offsets| offsets.first().copied());
                let end = reader.end_offsets(asked).await.ok().and_then(|offsets| offsets.first().copied());
                let range = match (start, end) {
                    (Some(start), Some(end)) => format!("its first one is {start}, the next to come {end}"),
                    _ => "it was deleted, or does not exist yet".to_owned(),
                };
                Failure::Said(format!(
                    "{partition} has no offset {position}: {range}; --from start begins at the first"
                ))
            }
            ConsumerError::TruncationDetected { partition, position, diverging } => {
                let next = diverging.unwrap_or(position);
                Failure::Said(format!(
                    "{partition}: the log was truncated below offset {position}, up to which it was printed; go on with \
                     --partition {} --from {next}",
                    partition.partition
                ))
            }
            ConsumerError::Corrupt { partition, position, cause } => Failure::Said(format!(
                "{partition}: the batch at offset {position} is damaged: {cause}; --partition {} with --from a later offset goes on \
                 without it",
                partition.partition
            )),
            error => Failure::Consumer(error),
        }
    }
}

/// Asks the brokers for these partitions' ends, by a client of its own: a new one tells at once what an old one hopes to get over.
///
/// Errors: nobody answers, or a partition has no leader.
async fn look(env: &TokioEnv, config: &ClientConfig, partitions: &[TopicPartition]) -> Result<(), Failure> {
    let client = Client::connect(env.clone(), config.clone()).await?;
    client.consumer(ConsumerConfig::default())?.end_offsets(partitions).await?;
    Ok(())
}

fn write(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()
}

/// Whether stdout still leads anywhere, as far as that can be told without writing.
fn somebody_reads() -> bool {
    let stdout = rustix::stdio::stdout();
    let mut descriptors = [PollFd::new(&stdout, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    // What can't be asked is found out when it is written to.
    poll(&mut descriptors, Some(&now)).is_err() || !descriptors[0].revents().contains(PollFlags::ERR)
}
