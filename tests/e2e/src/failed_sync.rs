//! A sync of the write-ahead log that fails: the broker ends with status 74 before it acknowledges, and all that it had
//! acknowledged is there at the next start.
//!
//! The failure is made by strace, which lets the kernel's `fdatasync` answer EIO.

use std::time::Duration;

use quipu_testkit::batch::{self, Producer};
use quipu_testkit::broker::{Broker, Options};
use quipu_testkit::clients::Client;
use quipu_testkit::scratch::Scratch;

use crate::subject::skipped_against_kafka;

/// Each thread's first syncs go well: the start needs a few.
const GOOD_SYNCS: usize = 60;

#[test]
fn a_failed_sync_of_the_log_ends_the_broker_unacknowledged() {
    let test = "a_failed_sync_of_the_log_ends_the_broker_unacknowledged";
    if skipped_against_kafka(test) || !Client::Strace.check(test) {
        return;
    }
    let scratch = Scratch::new("failed-sync").unwrap();
    let log = scratch.join("data").join("wal").join("0000");
    let mut options = Options::new(scratch.join("data")).unwrap();
    let inject = format!("inject=fdatasync:error=EIO:when={}+", GOOD_SYNCS + 1);
    let strace =
        ["strace", "-D", "-f", "-o", "/dev/null", "-P", log.to_str().unwrap(), "-e", "trace=fdatasync", "-e", &inject];
    options.wrapper = strace.into_iter().map(Into::into).collect();
    let mut broker = Broker::start_with(options).unwrap();
    let mut wire = broker.wire().unwrap();
    wire.create_topic("kept", 1, &[]).unwrap();
    let mut acknowledged = 0;
    loop {
        let batch = batch::build(&[format!("{acknowledged}")], 1_700_000_000_000, Producer::NONE);
        match wire.produce("kept", 0, &batch) {
            Ok(produced) => assert_eq!((produced.error, produced.base_offset), (0, acknowledged)),
            Err(_) => break,
        }
        acknowledged += 1;
        assert!(acknowledged < 10_000, "no sync failed");
    }
    let status = broker.process().wait(Duration::from_secs(30)).unwrap();
    assert_eq!(status.code(), Some(74), "{}", broker.process().log());
    let said = broker.process().log();
    assert!(said.contains("wal"), "the message names the file: {said}");
    assert!(acknowledged > 0, "some were acknowledged before");

    let broker = Broker::start(scratch.join("data")).unwrap();
    let records = batch::records(&broker.wire().unwrap().fetch_all("kept", 0, 0).unwrap()).unwrap();
    let values: Vec<_> = records.into_iter().map(|(_, value)| String::from_utf8(value).unwrap()).collect();
    let expected: Vec<_> = (0..acknowledged).map(|number| number.to_string()).collect();
    // The last one was written and not acknowledged: it may be there or not.
    assert_eq!(values[..expected.len()], expected);
    assert!(values.len() <= expected.len() + 1, "{} records for {} acknowledged", values.len(), expected.len());
}
