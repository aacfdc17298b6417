//! The way of lines into a topic: which became of each, and what is told in the end.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::ControlFlow,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use quipu_client::{
    Acks, ClientError, Delivery, ErrorCode, Header, Offset, PartitionIndex, Producer, ProducerError, ProducerRecord,
    RecordMetadata,
};
use quipu_env_tokio::{Signals, TokioEnv};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{
    DELIVERIES_MAX,
    lines::{Block, ReadError},
    progress::{Progress, size},
};
use crate::{
    FAILED,
    output::{Output, count},
};

/// Lines on their way.
pub(super) struct Job {
    pub(super) producer: Producer<TokioEnv>,
    pub(super) topic: Arc<str>,
    pub(super) partition: Option<PartitionIndex>,
    pub(super) separator: Option<Vec<u8>>,
    pub(super) headers: Vec<Header>,
    pub(super) record_bytes_max: usize,
    /// Lines by number that were taken and whose outcome is not known.
    pub(super) deliveries: VecDeque<(u64, Delivery)>,
    pub(super) tally: Tally,
    pub(super) progress: Progress,
}

/// Why a job ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ended {
    /// The source ended, or a line failed.
    Done,
    /// Somebody wanted it to.
    Interrupted,
    /// Somebody wanted it to at once: what is not acknowledged yet may be written or not.
    GivenUp,
}

/// What became of lines.
#[derive(Default)]
pub(super) struct Tally {
    taken: u64,
    taken_bytes: u64,
    delivered: u64,
    failed: u64,
    /// The first that failed, and why.
    failure: Option<(u64, String)>,
    partitions: BTreeMap<PartitionIndex, Landed>,
}

/// Records of one partition.
struct Landed {
    count: u64,
    first: Option<Offset>,
    last: Option<Offset>,
}

impl Tally {
    fn deliver(&mut self, metadata: &RecordMetadata) {
        self.delivered += 1;
        let landed = self.partitions.entry(metadata.partition).or_insert(Landed { count: 0, first: None, last: None });
        landed.count += 1;
        landed.first = landed.first.into_iter().chain(metadata.offset).min();
        landed.last = landed.last.max(metadata.offset);
    }

    fn fail(&mut self, line: u64, why: String) {
        self.failed += 1;
        if self.failure.as_ref().is_none_or(|(first, _)| line < *first) {
            self.failure = Some((line, why));
        }
    }
}

impl Job {
    /// Sends what comes, until there is no more, a line fails, or a signal comes; then waits for what was taken.
    pub(super) async fn run(
        &mut self,
        mut blocks: mpsc::Receiver<Result<Block, ReadError>>,
        signals: &mut Signals,
    ) -> Ended {
        let mut ended = Ended::Done;
        loop {
            let step = tokio::select! { biased;
                _ = signals.next() => {
                    ended = Ended::Interrupted;
                    break;
                }
                step = self.step(&mut blocks) => step,
            };
            if step.is_break() {
                break;
            }
        }
        // A file that is longer than what was read can't stop the end.
        drop(blocks);
        tokio::select! { biased;
            _ = signals.next() => ended = Ended::GivenUp,
            () = self.finish() => {}
        }
        self.progress.clear();
        ended
    }

    /// Sends the next block. `Break`: there is none, or a line failed.
    async fn step(&mut self, blocks: &mut mpsc::Receiver<Result<Block, ReadError>>) -> ControlFlow<()> {
        let block = match blocks.recv().await {
            Some(Ok(block)) => block,
            Some(Err(ReadError::TooLong { line })) => {
                self.tally.fail(line, self.too_long());
                return ControlFlow::Break(());
            }
            Some(Err(ReadError::Io(error))) => {
                let why = format!("the input cannot be read any further: {error}");
                self.tally.fail(self.tally.taken + 1, why);
                return ControlFlow::Break(());
            }
            None => return ControlFlow::Break(()),
        };
        let bytes = block.len() as u64;
        for (number, line) in block.lines() {
            match self.producer.send(self.record(line)).await {
                Ok(delivery) => self.deliveries.push_back((number, delivery)),
                Err(error) => {
                    self.tally.fail(number, self.reason(&error));
                    return ControlFlow::Break(());
                }
            }
            self.tally.taken += 1;
        }
        self.tally.taken_bytes += bytes;
        self.settle().await;
        self.progress.show(self.tally.taken, self.tally.taken_bytes);
        if self.tally.failed > 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn record(&self, line: Bytes) -> ProducerRecord {
        let (key, value) = match &self.separator {
            None => (None, line),
            Some(separator) => split(&line, separator),
        };
        ProducerRecord {
            topic: Arc::clone(&self.topic),
            partition: self.partition,
            key,
            value: Some(value),
            headers: self.headers.clone(),
            timestamp: None,
        }
    }

    /// Takes the outcomes that are known; waits for some if too many are not.
    async fn settle(&mut self) {
        while let Some((line, delivery)) = self.deliveries.front_mut() {
            let line = *line;
            let outcome = match now(delivery) {
                Poll::Ready(outcome) => outcome,
                Poll::Pending if self.deliveries.len() > DELIVERIES_MAX => {
                    let (_, delivery) = self.deliveries.front_mut().expect("it was there just now");
                    delivery.await
                }
                Poll::Pending => return,
            };
            self.deliveries.pop_front();
            self.settled(line, outcome);
        }
    }

    /// Waits until every outcome is known.
    async fn finish(&mut self) {
        self.producer.close().await;
        while let Some((line, delivery)) = self.deliveries.front_mut() {
            let line = *line;
            let outcome = delivery.await;
            self.deliveries.pop_front();
            self.settled(line, outcome);
        }
    }

    fn settled(&mut self, line: u64, outcome: Result<RecordMetadata, ProducerError>) {
        match outcome {
            Ok(metadata) => self.tally.deliver(&metadata),
            Err(error) => {
                let why = self.reason(&error);
                self.tally.fail(line, why);
            }
        }
    }

    fn reason(&self, error: &ProducerError) -> String {
        match &error.cause {
            ClientError::Refused { code: ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge, .. } => {
                self.too_long()
            }
            _ => error.to_string(),
        }
    }

    fn too_long(&self) -> String {
        let (topic, limit) = (&self.topic, self.record_bytes_max);
        format!(
            "it is too long: a record of {topic} may have {limit} bytes, with all that belongs to it; `quipu topic alter {topic} \
             --config max.message.bytes=N` changes that"
        )
    }

    /// Tells what became of the lines. The exit status.
    pub(super) fn tell(&self, ended: Ended, file: Option<&str>, acks: Acks, output: &mut Output) -> u8 {
        let tally = &self.tally;
        // Once nobody reads, it is no use to write; the status stands.
        let _told = if output.json {
            output.json(&self.summary())
        } else {
            let done = if acks == Acks::None { "sent" } else { "delivered" };
            let records = count(usize::try_from(tally.delivered).unwrap_or(usize::MAX), "record");
            output.line(&format!("{records} {done} to {} ({})", self.topic, size(tally.taken_bytes)))
        };
        if let Some((line, why)) = &tally.failure {
            let name = file.unwrap_or("stdin");
            eprintln!(
                "quipu: {name}, line {line}: {why}; {} delivered, {} not, and no line after {} was sent",
                tally.delivered,
                tally.failed,
                line.max(&tally.taken)
            );
            return FAILED;
        }
        match (ended, file) {
            (Ended::Done, _) | (Ended::Interrupted, None) => 0,
            (Ended::Interrupted, Some(name)) => {
                eprintln!("quipu: interrupted: {name} was sent up to line {}, and no further", tally.taken);
                FAILED
            }
            (Ended::GivenUp, _) => {
                let open = self.deliveries.len();
                eprintln!(
                    "quipu: given up: it is not known whether {} written",
                    match open {
                        1 => "1 record was".to_owned(),
                        _ => format!("{open} records were"),
                    }
                );
                FAILED
            }
        }
    }

    fn summary(&self) -> Value {
        let partition = |(partition, landed): (&PartitionIndex, &Landed)| {
            json!({
                "partition": partition.0,
                "records": landed.count,
                "first_offset": landed.first.map(|offset| offset.0),
                "last_offset": landed.last.map(|offset| offset.0),
            })
        };
        json!({
            "topic": &*self.topic,
            "delivered": self.tally.delivered,
            "failed": self.tally.failed,
            "unknown": self.deliveries.len(),
            "partitions": self.tally.partitions.iter().map(partition).collect::<Vec<_>>(),
        })
    }
}

/// Looks at an outcome without waiting for it.
fn now(delivery: &mut Delivery) -> Poll<Result<RecordMetadata, ProducerError>> {
    Pin::new(delivery).poll(&mut Context::from_waker(Waker::noop()))
}

/// Key and value of a line.
fn split(line: &Bytes, separator: &[u8]) -> (Option<Bytes>, Bytes) {
    match line.windows(separator.len()).position(|window| window == separator) {
        Some(at) => (Some(line.slice(..at)), line.slice(at + separator.len()..)),
        None => (None, line.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_split_at_the_first_separator() {
        for (line, separator, key, value) in [
            ("k:v:w", ":", Some("k"), "v:w"),
            ("k", ":", None, "k"),
            (":v", ":", Some(""), "v"),
            ("k:", ":", Some("k"), ""),
            ("a=>b=>c", "=>", Some("a"), "b=>c"),
            ("a", "longer than the line", None, "a"),
            ("", ":", None, ""),
        ] {
            let (found, rest) = split(&Bytes::from_static(line.as_bytes()), separator.as_bytes());
            assert_eq!((found.as_deref(), &*rest), (key.map(str::as_bytes), value.as_bytes()), "{line}");
        }
    }
}
