//! Resident memory under a load of everything that wants some at once stays below the sum of the budgets plus 64 MiB.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::thread;

use flate2::{Compression, write::GzEncoder};
use quipu_testkit::batch::{self, Producer};
use quipu_testkit::wire::{Body, Wire, frame};

use crate::subject::ours;

const MIB: u64 = 1 << 20;
/// The defaults of `memory_requests_bytes`, `memory_tail_bytes` and `memory_replies_bytes`.
const BUDGETS_BYTES: u64 = (128 + 128 + 64) * MIB;
const TIME: i64 = 1_700_000_000_000;
/// Where a batch's records begin, and from where on its checksum covers it.
const RECORDS: usize = 61;
const CHECKED: usize = 21;

/// A batch of `mebibytes` of zeros, gzipped to a thousandth of that.
fn bomb(mebibytes: usize) -> Vec<u8> {
    let plain = batch::build(&vec![vec![0; 1 << 20]; mebibytes], TIME, Producer::NONE);
    let mut encoder = GzEncoder::new(plain[..RECORDS].to_vec(), Compression::best());
    encoder.write_all(&plain[RECORDS..]).unwrap();
    let mut batch = encoder.finish().unwrap();
    batch[22] |= 1;
    let length = i32::try_from(batch.len() - 12).unwrap();
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = batch::crc32c(&batch[CHECKED..]);
    batch[17..CHECKED].copy_from_slice(&crc.to_be_bytes());
    batch
}

/// Sends bombs, each of which is to be compressed anew, and one that is too large.
fn send_bombs(address: SocketAddr) {
    const MESSAGE_TOO_LARGE: i16 = 10;
    let mut wire = Wire::connect(address).unwrap();
    for mebibytes in [1, 60, 3] {
        assert_eq!(wire.produce("anew", 0, &bomb(mebibytes)).unwrap().error, 0, "{mebibytes} MiB");
    }
    assert_eq!(wire.produce("anew", 0, &bomb(65)).unwrap().error, MESSAGE_TOO_LARGE);
}

fn fill_the_tail(address: SocketAddr) {
    let mut wire = Wire::connect(address).unwrap();
    let values: Vec<Vec<u8>> = (0..1000_u32).map(|number| vec![number.to_le_bytes()[0]; 900]).collect();
    let batch = batch::build(&values, TIME, Producer::NONE);
    for _ in 0..100 {
        assert_eq!(wire.produce("plain", 0, &batch).unwrap().error, 0);
    }
}

/// A frame of 40 MiB of which half comes.
fn send_half_a_frame(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(&(40_i32 << 20).to_be_bytes()).unwrap();
    stream.set_write_timeout(Some(std::time::Duration::from_secs(2))).unwrap();
    // The broker takes as much as it has memory for.
    drop(stream.write_all(&vec![0; 20 << 20]));
    stream
}

/// Asks for far more than it reads, which is nothing.
fn ask_and_not_read(address: SocketAddr) -> TcpStream {
    let fetch = Body::new().i32(-1).i32(0).i32(1).i32(50 << 20).i8(0);
    let fetch = fetch.i32(1).string("plain").i32(1).i32(0).i64(0).i32(50 << 20).into_bytes();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nonblocking(true).unwrap();
    let requests: Vec<u8> = (0..100).flat_map(|number| frame(1, 4, number, &fetch)).collect();
    drop(stream.write(&requests));
    stream
}

#[test]
fn memory_stays_within_the_budgets() {
    let Some((mut broker, _scratch)) = ours("memory") else { return };
    let mut wire = broker.wire().unwrap();
    wire.create_topic("plain", 1, &[]).unwrap();
    wire.create_topic("anew", 1, &[("compression.type", "zstd")]).unwrap();
    let address = broker.address();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(move || send_bombs(address));
            scope.spawn(move || fill_the_tail(address));
        }
        let halves: Vec<_> = (0..6).map(|_| scope.spawn(move || send_half_a_frame(address))).collect();
        let deaf: Vec<TcpStream> = (0..10).map(|_| ask_and_not_read(address)).collect();
        for half in halves {
            drop(half.join().unwrap());
        }
        drop(deaf);
    });
    let peak_bytes = broker.process().memory().unwrap().peak_bytes;
    assert!(peak_bytes < BUDGETS_BYTES + 64 * MIB, "{} MiB", peak_bytes / MIB);
    assert_eq!(wire.list_offset("plain", 0, -1).unwrap().1, 400_000);
}
