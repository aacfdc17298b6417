//! `plan`: prints the plan of a seed, or a plan as it is understood.

use clap::Args;

use super::{Done, source::Source};

/// Prints the plan of a seed: edit it, and run it with `run --plan FILE`.
#[derive(Args, Debug)]
pub(super) struct Arguments {
    #[command(flatten)]
    source: Source,
}

pub(super) fn run(arguments: &Arguments) -> Done {
    print!("{}", arguments.source.read()?.to_text());
    Ok(())
}
