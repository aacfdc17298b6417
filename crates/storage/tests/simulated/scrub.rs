//! Scrubbing: every byte of complete segments is read again from the device, and damage is noted before anybody asks for it.

use std::{path::Path, sync::Arc};

use quipu_sim::{NodeConfig, Sim, SimConfig};
use quipu_storage::{LogOptions, ReadError, ScrubPlace};

use crate::{
    driver::{DIR, Driver, History, small_options},
    model::partition,
};

fn values(number: u8) -> Vec<Vec<u8>> {
    vec![vec![number; 400]; 2]
}

#[test]
fn damage_is_found_before_anybody_reads_it() {
    drop(Sim::new(11, SimConfig::default()).run(|world| async move {
        let node = world.node("node", NodeConfig::default());
        let rotting = node.clone();
        let started = node.start(move |env| async move {
            let log_options = LogOptions { segment_bytes: 3000, ..LogOptions::default() };
            let mut driver = Driver::open(env, small_options(), log_options, Arc::new(History::default())).await;
            for number in 0..14 {
                driver.append(0, 0, None, &values(number)).await;
            }
            driver.acknowledge().await;
            driver.store.checkpoint().await.expect("a checkpoint");
            let log = driver.log(0);
            let dir = format!("{DIR}/seg/{}", partition(0));
            let names = rotting.with_disk(|disk| disk.list(Path::new(&dir))).expect("a directory");
            let files: Vec<_> = names.iter().map(|name| Path::new(&dir).join(name)).collect();
            assert!(files.len() >= 4, "{files:?}");
            let mut place = ScrubPlace::default();
            let mut bytes = 0;
            while let Some(scrubbed) = log.scrub(&mut place).await {
                scrubbed.result.expect("it is sound");
                bytes += scrubbed.bytes;
            }
            assert!(bytes > 0 && bytes < log.size_bytes(), "{bytes}: all but the open segment");
            assert!(log.scrub(&mut place).await.is_none(), "that was all");
            // Two segments rot; both are found, and what lies between is not.
            for file in [&files[0], &files[2]] {
                rotting.with_disk(|disk| disk.flip_bit(file, 1000, 2)).expect("the byte is there");
            }
            let (mut place, mut found) = (ScrubPlace::default(), 0);
            while let Some(scrubbed) = log.scrub(&mut place).await {
                if let Err(error) = scrubbed.result {
                    assert!(matches!(error, ReadError::Damaged { .. }), "{error}");
                    found += 1;
                }
            }
            assert_eq!((found, log.damage().len()), (2, 2), "{:?}", log.damage());
            let offsets = log.offsets();
            let bad = &log.damage()[0];
            assert!(log.read(bad.start, offsets.log_end, 1, true).await.is_err(), "nobody gets it");
            assert_eq!(log.fault(), None, "the rest is served");
        });
        started.join().await.expect("the process comes to its end");
    }));
}
