//! End to end: the real binary, real sockets, real Kafka clients.
//!
//! Every test starts a broker of its own on a fresh directory. With `QUIPU_E2E_SUBJECT=kafka` the tests that hold for any
//! Kafka broker run against Apache Kafka instead: what they expect is then checked against the original; those about our own
//! process, files and command line are skipped, and say so.
//!
//! - [`subject`]: the broker under test. [`text`]: lines to send.
//! - [`kcat`], [`librdkafka`], [`python`], [`java`]: produce and consume with each client. [`codecs`]: is it compressed as asked?
//! - [`command_line`]: our own topic, produce and consume commands, against Apache Kafka as well.
//! - [`main_job`]: a text file of 100 MB in and out.
//! - [`cleanup`]: topics that expire and compact.
//! - [`admin`]: topics, partitions, configs, deleted records.
//! - [`crash`]: `kill -9` in the middle. [`failed_sync`]: EIO from the kernel. [`syscalls`]: is it synced before it is acknowledged? [`disk_full`].
//! - [`cluster`]: three nodes, any of which is lost; what happened is checked as the simulator's histories are.
//! - [`hostile`]: frames that no client sends. [`startup`]: directories, ports, settings. [`directories`]: those that must not be
//!   served. [`signals`]: SIGTERM at awkward moments. [`tour`]: the README's lines.
//!
//! Read [`subject`] next.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

mod admin;
mod cleanup;
mod cluster;
mod codecs;
mod command_line;
mod crash;
mod directories;
mod disk_full;
mod failed_sync;
mod groups;
mod hostile;
mod java;
mod kcat;
mod librdkafka;
mod main_job;
mod memory;
mod python;
mod signals;
mod startup;
mod subject;
mod syscalls;
mod text;
mod tour;
