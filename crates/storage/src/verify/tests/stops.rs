//! Whatever way a store stops, `verify` finds nothing wrong with it; and one that runs, it leaves alone.

use core::time::Duration;
use std::{path::PathBuf, sync::Arc};

use quipu_env::{Clock, Disk, Env};
use quipu_sim::{PowerCut, crash::CrashTest, disk::Count};

use super::kit::*;
use crate::verify::{VerifyError, verify};

#[test]
fn a_clean_stop_leaves_nothing_wrong() {
    in_directory("clean", |env, dir| async move {
        stopped(&env, &dir).await;
        let report = report(&env, &dir).await;
        assert!(report.ok && report.cut.is_empty(), "{report:?}");
        let files: Vec<&str> = report.live.iter().map(|live| live.file.as_str()).collect();
        assert!(files.contains(&"superblock") && files.contains(&"manifest"), "{files:?}");
        let segments = report.live.iter().filter(|live| live.what.contains("batches of partition")).count();
        assert!(segments > 5, "{segments} segments");
        assert!(report.live.iter().any(|live| live.what.contains("footer")), "{:?}", report.live);
    });
}

#[test]
fn a_kill_leaves_nothing_wrong() {
    in_directory("kill", |env, dir| async move {
        killed(&env, &dir).await;
        let report = report(&env, &dir).await;
        assert!(report.ok, "{:?}", report.damaged);
        assert!(report.live.iter().any(|live| live.file.starts_with("wal/")), "{:?}", report.live);
    });
}

#[test]
fn a_running_store_is_left_alone() {
    in_directory("held", |env, dir| async move {
        let store = open(&env, &dir).await;
        match verify(&env, &dir).await {
            Err(error @ VerifyError::Held { pid, .. }) => {
                assert_eq!(pid, Some(std::process::id()));
                assert_eq!(error.exit_status(), 69);
                assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
            }
            other => panic!("{other:?}"),
        }
        store.close().await.expect("a clean stop");
    });
}

#[test]
fn nothing_is_written() {
    in_directory("trace", |env, dir| async move {
        killed(&env, &dir).await;
        env.disk().remove(&dir.join("lock")).await.expect("remove");
        let before = env.disk().list(&dir).await.expect("list");
        // Groups without proof are cut, which at a start would be kept in a file.
        let end = report(&env, &dir).await.live.into_iter().rfind(|live| live.file.starts_with("wal/"));
        let end = end.expect("live groups");
        patch(&env, &dir.join(&end.file), end.to - 9000, &[0; 9000]).await;
        report(&env, &dir).await;
        assert_eq!(env.disk().list(&dir).await.expect("list"), before);
    });
}

#[test]
fn other_directories_are_told_apart() {
    in_directory("other", |env, dir| async move {
        let missing = verify(&env, &dir.join("missing")).await;
        assert!(matches!(missing, Err(VerifyError::Io { .. })), "{missing:?}");
        let empty = verify(&env, &dir).await;
        assert!(matches!(empty, Err(VerifyError::NotADataDirectory { .. })), "{empty:?}");
    });
}

/// The power goes at each write and sync: what that leaves is torn at most, never damaged.
#[test]
fn a_power_cut_leaves_nothing_wrong() {
    let test = CrashTest {
        count: Count::Changes,
        step: 3,
        outcomes: vec![PowerCut::LoseAll, PowerCut::KeepAll, PowerCut::Random, PowerCut::Random],
        crash_recovery: false,
        ..CrashTest::new(5)
    };
    let dir = || PathBuf::from("/data");
    let crashes = test.run(
        move |env, _history: Arc<()>| async move {
            let store = open(&env, &dir()).await;
            fill(&store).await;
            // The proof of the last group comes after a pause.
            env.clock().sleep(Duration::from_millis(5)).await;
            store.close().await.expect("a clean stop");
        },
        move |env, _| async move {
            match verify(&env, &dir()).await {
                Ok(report) => assert!(report.ok, "{:?}", report.damaged),
                Err(error) => {
                    let names = env.disk().list(&dir()).await.unwrap_or_default();
                    assert!(!names.iter().any(|name| name == "superblock" || name == "manifest"), "{error}: {names:?}");
                }
            }
        },
    );
    assert!(crashes.crashes > 100, "{crashes:?}");
}
