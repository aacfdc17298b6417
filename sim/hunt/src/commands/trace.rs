//! `trace`: what happened in a run, as text or as a page.

use std::{
    io::{self, Write as _},
    path::PathBuf,
};

use clap::Args;
use quipu_hunt::{
    EVENTS_MAX, Outcome, Plan,
    trace::{
        Kind, Timeline,
        page::{self, Heading},
        text::{self, Filter},
    },
};

use super::{
    Done, Failed,
    run::{failure, tell_verdict},
    source::{Source, commit, write},
};

/// Tells what happened in a run: one line for each event, with its time in seconds, its lane (the world, a machine), what it was
/// and its details.
///
/// Routine (messages that arrive, reads, repeated marks) is only counted, unless --all or --what asks for it. Lines that begin with
/// `!` are violations, and the operations that show them. With --html the run is drawn as one page that needs nothing else: open it
/// in any browser; it begins at the violation. Ends with the same lines as `run`, and with the same exit status.
#[derive(Args, Debug)]
pub(super) struct Arguments {
    #[command(flatten)]
    source: Source,
    /// Write a page to this file, and no text unless --out is there as well.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write the text to this file.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Only this lane and what concerns it: world, broker, auditor, or a client's name (may be given more than once).
    #[arg(long, value_name = "NAME")]
    lane: Vec<String>,
    /// Only this kind of event, routine included (may be given more than once).
    #[arg(long, value_name = "KIND")]
    what: Vec<Kind>,
    /// Only from this time on, in seconds.
    #[arg(long, value_name = "S", value_parser = seconds)]
    from: Option<u64>,
    /// Only before this time, in seconds.
    #[arg(long, value_name = "S", value_parser = seconds)]
    until: Option<u64>,
    /// Routine as well.
    #[arg(long)]
    all: bool,
    /// End the run after so many events, and show those: for one that does not end by itself.
    #[arg(long, value_name = "N", default_value_t = EVENTS_MAX)]
    events: u64,
}

/// Nanoseconds, from seconds with a fraction.
fn seconds(text: &str) -> Result<u64, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    let duration = core::time::Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())?;
    u64::try_from(duration.as_nanos()).map_err(|_| "too long".to_owned())
}

pub(super) fn run(arguments: &Arguments) -> Done {
    let plan = arguments.source.read()?;
    let mut options = arguments.source.bugs.options();
    (options.keep_trace, options.event_limit) = (true, Some(arguments.events));
    let outcome = quipu_hunt::run(&plan, &options);
    let timeline = Timeline::new(&plan, &outcome);
    let filter = filter(arguments, &timeline)?;
    if let Some(file) = &arguments.html {
        write(file, &page::html(&timeline, &heading(&plan, arguments, &outcome)))?;
        println!("{}: {} events in {} lanes", file.display(), timeline.events.len(), timeline.lanes.len());
    }
    match &arguments.out {
        Some(file) => write(file, &text::text(&timeline, &filter))?,
        None if arguments.html.is_none() => print(&text::text(&timeline, &filter))?,
        None => {}
    }
    tell_verdict(&plan, &arguments.source, &outcome)
}

fn filter(arguments: &Arguments, timeline: &Timeline) -> Result<Filter, Failed> {
    let lane = |name: &String| {
        timeline.lane(name).ok_or_else(|| {
            let names: Vec<&str> = timeline.lanes.iter().map(|lane| lane.name.as_str()).collect();
            Failed::Usage(format!("--lane {name}: there are only {}", names.join(", ")))
        })
    };
    Ok(Filter {
        lanes: arguments.lane.iter().map(lane).collect::<Result<_, _>>()?,
        kinds: arguments.what.clone(),
        from: arguments.from,
        until: arguments.until,
        all: arguments.all,
    })
}

fn heading(plan: &Plan, arguments: &Arguments, outcome: &Outcome) -> Heading {
    Heading {
        seed: plan.seed,
        commit: commit(),
        checker: outcome.failed_checker().map(str::to_owned),
        failure: failure(outcome),
        hash: format!("{:016x}", outcome.hash),
        replay: arguments.source.replay(),
    }
}

/// To stdout. Whoever reads it may stop reading.
fn print(text: &str) -> Done {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failed::Told),
        written => written.map_err(Failed::io("stdout")),
    }
}
