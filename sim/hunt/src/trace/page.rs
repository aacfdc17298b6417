//! The trace as one page: a lane for each machine, time across, messages as arrows, faults as bands. It needs nothing but a browser.
//!
//! Its parts stand in `page/`: `model.js` (the run, and what of it is in view), `draw.js` (the canvases), `controls.js` (mouse, keys,
//! search, the list at the side), a style and a shell. The timeline goes along as JSON. An event is an array of: begin, end (null: none), lane, other lanes, kind, name, text, answer (null: none), flags (1 failed,
//! 2 routine, 4 evidence). Times are nanoseconds.
//!
//! Invariants
//! - The page asks for no other file and no network.
//! - No text of a run can end the script that holds it: `<` is written as an escape.
//! - When it is drawn, the root element says so: `data-ready="lanes=N events=N violations=N"`.
//!
//! Not here: what the events are (`timeline`).

use serde::Serialize;
use serde_json::{Value as Json, json};

use super::timeline::{Event, Lane, Timeline};

const SHELL: &str = include_str!("page/shell.html");
const STYLE: &str = include_str!("page/style.css");
const SCRIPTS: [&str; 3] =
    [include_str!("page/model.js"), include_str!("page/draw.js"), include_str!("page/controls.js")];

/// What stands at the page's head.
#[derive(Clone, Debug, Serialize)]
pub struct Heading {
    /// The seed of the plan.
    pub seed: u64,
    /// What was run.
    pub commit: String,
    /// The check that failed; none if all is well.
    pub checker: Option<String>,
    /// The violations, with the operations that show them; some lines.
    pub failure: String,
    /// The run's hash.
    pub hash: String,
    /// The command that runs the same again.
    pub replay: String,
}

/// The page.
#[must_use]
pub fn html(timeline: &Timeline, heading: &Heading) -> String {
    let events: Vec<Json> = timeline.events.iter().map(event).collect();
    let data = Data { heading, lanes: &timeline.lanes, end: timeline.end, events };
    let data = serde_json::to_string(&data).expect("all of it can be written").replace('<', "\\u003c");
    let title = match &heading.checker {
        Some(checker) => format!("seed {}: {checker}", heading.seed),
        None => format!("seed {}: ok", heading.seed),
    };
    // The data comes last: nothing is looked for in it.
    let page = SHELL.replace("{{title}}", &escape(&title)).replace("{{style}}", STYLE);
    page.replace("{{script}}", &SCRIPTS.concat()).replace("{{data}}", &data)
}

#[derive(Serialize)]
struct Data<'a> {
    heading: &'a Heading,
    lanes: &'a [Lane],
    end: u64,
    events: Vec<Json>,
}

fn event(event: &Event) -> Json {
    let Event { at, until, lane, others, kind, name, text, answer, has_failed, is_routine, is_evidence } = event;
    let flags = u8::from(*has_failed) | u8::from(*is_routine) << 1 | u8::from(*is_evidence) << 2;
    json!([at, until, lane, others, kind, name, text, answer, flags])
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
