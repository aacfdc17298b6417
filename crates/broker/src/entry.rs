//! The production entry: a broker on the real system, until a signal ends it.

use std::{
    io::Write,
    process::{self, ExitCode},
};

use quipu_env_tokio::{Options, Runtime, Signals, TokioEnv, keep_freed_memory};

use crate::{Broker, Config, StartError};

/// Runs a broker until SIGTERM or SIGINT. The first one finishes what is in flight, checkpoints and ends with status 0 (at once
/// if the broker has not begun to serve); a second one ends the process at once with status 1. Whatever is left undone then, the
/// next start recovers.
///
/// Prints one line to stdout when every partition is served: `quipu: ready on HOST:PORT`. Everything else goes to
/// `tracing`, which the caller has set up.
#[must_use]
pub fn main(config: Config) -> ExitCode {
    keep_freed_memory();
    let shards = match config.shards {
        0 => (Options::default().shards / 2).max(1),
        shards => shards,
    };
    let runtime = match TokioEnv::start(Options { shards }) {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "the system gives no more threads or files");
            return ExitCode::from(1);
        }
    };
    match serve(&runtime, config) {
        Ok(status) => status,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::from(error.exit_status())
        }
    }
}

fn serve(runtime: &Runtime, config: Config) -> Result<ExitCode, StartError> {
    let env = runtime.env();
    runtime.block_on(async move {
        let mut signals = match Signals::new() {
            Ok(signals) => signals,
            Err(error) => {
                tracing::error!(%error, "signals can't be caught");
                return Ok(ExitCode::from(1));
            }
        };
        let broker = tokio::select! { biased;
            broker = Broker::start(config, env) => broker?,
            signal = signals.next() => {
                tracing::info!(?signal, "stopping before the start was done; the next start recovers");
                // Not by way of the runtime's end, which waits for what the disk was told.
                process::exit(0);
            }
        };
        announce(&broker);
        let signal = signals.next().await;
        tracing::info!(?signal, "stopping: a second signal ends at once");
        let stopped = tokio::select! { biased;
            stopped = broker.shutdown() => stopped,
            signal = signals.next() => {
                tracing::warn!(?signal, "ending at once; the next start recovers");
                process::exit(1);
            }
        };
        Ok(match stopped {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                tracing::error!(%error, "the last checkpoint failed; the next start recovers, nothing is lost");
                ExitCode::from(1)
            }
        })
    })
}

/// Says that the broker is ready, on stdout. A reader that is gone does not stop a broker.
fn announce(broker: &Broker<TokioEnv>) {
    let mut stdout = std::io::stdout().lock();
    let told = writeln!(stdout, "quipu: ready on {}", broker.address()).and_then(|()| stdout.flush());
    if let Err(error) = told {
        tracing::warn!(%error, "nobody reads stdout");
    }
}
