//! `quipu log reidentify`.

use std::{path::Path, process::ExitCode};

use quipu_env_tokio::TokioEnv;
use quipu_storage::reidentify;
use serde::Serialize;

use super::LogError;
use crate::output::Output;

/// What is printed with `--json`.
#[derive(Serialize)]
struct Reidentified {
    node: i32,
    before: String,
    directory: String,
}

pub(super) async fn run(env: &TokioEnv, directory: &Path, mut output: Output) -> Result<ExitCode, LogError> {
    let (before, now) = reidentify(env, directory).await.map_err(LogError::Reidentify)?;
    let (node, before, id) = (now.node_id, before.directory_id.to_string(), now.directory_id.to_string());
    // Whether anybody reads it or not, it is done.
    let _told = if output.json {
        output.json(&Reidentified { node: node.0, before, directory: id })
    } else {
        output.line(&format!("{}: node {node}, directory {id} (it was {before})", directory.display()))
    };
    Ok(output.finish(0)?)
}
