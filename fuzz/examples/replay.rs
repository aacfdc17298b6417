//! Feeds files to a target, on stable: `cargo run -p quipu-fuzz --example replay TARGET FILE...`

#![expect(clippy::print_stdout, reason = "a command line tool")]

use std::{env, fs, process::ExitCode};

use quipu_fuzz::TARGETS;

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let name = arguments.next().unwrap_or_default();
    let Some(target) = TARGETS.iter().find(|target| target.name == name) else {
        let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
        println!("usage: replay TARGET FILE...; targets: {}", names.join(" "));
        return ExitCode::from(2);
    };
    for path in arguments {
        match fs::read(&path) {
            Ok(input) => println!("{path}: {:?}", (target.run)(&input)),
            Err(error) => {
                println!("{path}: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}
