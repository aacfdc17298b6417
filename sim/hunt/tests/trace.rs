//! The trace: as text it tells all that happened, as a page it works in a browser.

#![expect(clippy::unwrap_used, reason = "a test ends at what it does not expect")]

use core::time::Duration;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use quipu_hunt::{
    Options, Outcome, Plan, run, swarm,
    trace::{
        Kind, Timeline, WORLD,
        page::{self, Heading},
        text::{self, Filter},
    },
};
use quipu_testkit::{clients, paths, process};

/// As many as the page must be readable at, and more.
const MANY: usize = 20_000;
/// In which a browser must have drawn them, its own start included.
const SOON: Duration = Duration::from_secs(20);

/// A browser without a screen makes frames when it likes, or none: here each comes as soon as it is asked for.
const FRAMES: &str = "<script>window.requestAnimationFrame = (frame) => setTimeout(frame, 0)</script>";

/// What a visitor does, and what the page shows: put at the end of a page, it tells in `data-check`.
const VISITOR: &str = r##"<script>
(async () => {
  const root = document.documentElement;
  const lanes = document.getElementById("lanes");
  const drawn = () => new Promise((done) => setTimeout(() => setTimeout(done, 0), 0));
  const press = (key, target = document) => target.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
  const box = lanes.getBoundingClientRect();
  const mouse = (Kind, type, x, y, more) =>
    lanes.dispatchEvent(new Kind(type, { clientX: box.left + x, clientY: box.top + y, bubbles: true, ...more }));
  const told = { opened: root.dataset.view, chosen: root.dataset.chosen };
  const dots = lanes.getContext("2d").getImageData(0, 0, lanes.width, lanes.height).data;
  told.red = 0;
  for (let dot = 0; dot < dots.length; dot += 4) told.red += dots[dot] === 208 && dots[dot + 1] === 2 && dots[dot + 2] === 27;
  press("Home");
  await drawn();
  told.whole = root.dataset.view;
  mouse(WheelEvent, "wheel", 400, 60, { deltaY: -200, cancelable: true });
  await drawn();
  told.zoomed = root.dataset.view;
  mouse(PointerEvent, "pointerdown", 400, 60);
  mouse(PointerEvent, "pointermove", 300, 60);
  mouse(PointerEvent, "pointerup", 300, 60);
  await drawn();
  told.dragged = root.dataset.view;
  const search = document.getElementById("search");
  search.value = "broker sync_data";
  search.dispatchEvent(new Event("input"));
  told.found = document.getElementById("matches").textContent;
  press("Enter", search);
  await drawn();
  told.place = document.getElementById("matches").textContent;
  told.details = document.getElementById("details").textContent;
  told.around = document.getElementById("around").children.length;
  press("v");
  await drawn();
  told.back = root.dataset.view;
  root.dataset.check = btoa(unescape(encodeURIComponent(JSON.stringify(told))));
})();
</script>
"##;

fn broken() -> (Plan, Outcome) {
    let options = Options { keep_trace: true, ..Options::with_planted(&["broker.acknowledge-unsynced".to_owned()]) };
    let runs = (0..100).map(swarm::plan).map(|plan| (run(&plan, &options), plan));
    let (outcome, plan) = runs.into_iter().find(|(outcome, _)| !outcome.violations.is_empty()).unwrap();
    (plan, outcome)
}

#[test]
fn a_run_that_is_cut_short_leaves_its_trace() {
    let options = Options { keep_trace: true, event_limit: Some(2000), ..Options::default() };
    let plan = swarm::plan(3);
    let outcome = run(&plan, &options);
    assert_eq!(outcome.failed_checker(), Some("livelock"));
    assert!(outcome.event_count >= 2000 && outcome.virtual_time > Duration::ZERO);
    let timeline = Timeline::new(&plan, &outcome);
    assert!(timeline.events.len() > 100, "{} events are left", timeline.events.len());
    let text = text::text(&timeline, &Filter { all: true, ..Filter::default() });
    // What the plan ends later still stands behind it.
    let last = text.lines().rfind(|line| line.starts_with('!')).unwrap_or_else(|| panic!("no violation: {text}"));
    assert!(last.contains("livelock"), "{last}");
}

fn heading(plan: &Plan, outcome: &Outcome) -> Heading {
    Heading {
        seed: plan.seed,
        commit: "none".to_owned(),
        checker: outcome.failed_checker().map(str::to_owned),
        failure: "</script><script>document.title = 'taken over'</script>".to_owned(),
        hash: format!("{:016x}", outcome.hash),
        replay: "cargo xtask sim run".to_owned(),
    }
}

fn times(text: &str) -> Vec<f64> {
    let times = text.lines().filter_map(|line| line[1..].split_whitespace().next());
    times.filter(|word| *word != ".").map(|word| word.parse().unwrap()).collect()
}

#[test]
fn the_text_tells_everything_in_the_order_of_time() {
    let (plan, outcome) = broken();
    let timeline = Timeline::new(&plan, &outcome);
    let counted = |kind: Kind| timeline.events.iter().filter(|event| event.kind == kind).count();
    assert_eq!(counted(Kind::Operation), outcome.history.ops.len());
    assert_eq!(counted(Kind::Violation), outcome.violations.len());
    assert!(
        [Kind::Message, Kind::Disk, Kind::Fault, Kind::Probe, Kind::Process].into_iter().all(|kind| counted(kind) > 0)
    );
    let everything = text::text(&timeline, &Filter { all: true, ..Filter::default() });
    assert!(everything.lines().count() >= timeline.events.len());
    assert!(times(&everything).is_sorted());
    let first = &outcome.violations[0];
    let line = everything.lines().find(|line| line.starts_with('!') && line.contains(&first.message)).unwrap();
    assert!(line.contains(&first.checker) && line.contains("world"), "{line}");
    assert_eq!(everything, text::text(&Timeline::new(&plan, &outcome), &Filter { all: true, ..Filter::default() }));
}

#[test]
fn routine_is_counted_and_filters_leave_out_the_rest() {
    let (plan, outcome) = broken();
    let timeline = Timeline::new(&plan, &outcome);
    let usual = text::text(&timeline, &Filter::default());
    let left_out: usize = usual
        .lines()
        .filter(|line| line.trim_start().starts_with(". "))
        .flat_map(|line| line.split_whitespace().filter_map(|word| word.parse::<usize>().ok()))
        .sum();
    let everything = text::text(&timeline, &Filter { all: true, ..Filter::default() });
    assert!(left_out > 100, "{left_out}");
    assert_eq!(times(&usual).len() + left_out, times(&everything).len());

    let broker = timeline.lane("broker").unwrap();
    let filter = Filter { lanes: vec![broker], kinds: vec![Kind::Message], ..Filter::default() };
    let messages = text::text(&timeline, &filter);
    let is_of_broker = |line: &str| line.contains(" message ") && line.contains("broker");
    assert!(messages.lines().count() > 100 && messages.lines().all(is_of_broker));

    let (from, until) = (10_000_000, 20_000_000);
    let part = text::text(&timeline, &Filter { from: Some(from), until: Some(until), ..Filter::default() });
    assert!(!part.is_empty() && times(&part).iter().all(|time| (0.01..0.02).contains(time)));
}

#[test]
fn a_violation_stands_where_it_showed_and_so_do_its_operations() {
    let (plan, outcome) = broken();
    let timeline = Timeline::new(&plan, &outcome);
    let violation = timeline.violation().unwrap();
    assert_eq!((violation.lane, Some(violation.at)), (WORLD, outcome.violations.iter().filter_map(|it| it.at).min()));
    let shown: BTreeMap<u64, usize> = outcome
        .violations
        .iter()
        .flat_map(|violation| &violation.ops)
        .map(|op| (outcome.history.ops[*op].invoked, *op))
        .collect();
    let marked = |at: &u64| timeline.events.iter().any(|event| event.is_evidence && event.at == *at);
    assert!(shown.keys().all(marked), "{shown:?}");
}

/// The browser; none where there is none, which CI does not excuse.
fn browser(test: &str) -> Option<PathBuf> {
    let found = ["chromium", "chromium-browser", "google-chrome"].iter().find_map(|name| paths::program(name));
    if found.is_none() {
        assert!(!clients::in_ci(), "{test} needs Chromium (Debian: apt-get install chromium)");
        clients::skip(test, "no Chromium on the PATH");
    }
    found
}

/// The page as it stands in the browser after the visitor.
fn visit(browser: &Path, name: &str, page: &str) -> String {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&dir).unwrap();
    let file = dir.join("page.html");
    let page = page.replace("<head>", &format!("<head>{FRAMES}")).replace("</body>", &format!("{VISITOR}</body>"));
    fs::write(&file, page).unwrap();
    let mut command = Command::new(browser);
    command.args(["--headless", "--disable-gpu", "--no-sandbox", "--no-first-run", "--force-device-scale-factor=1"]);
    command.args(["--window-size=1400,900", "--virtual-time-budget=10000", "--dump-dom"]);
    command.arg(format!("--user-data-dir={}", dir.join("profile").display()));
    command.arg(format!("file://{}", file.display()));
    String::from_utf8(process::run("chromium", command, &[], Duration::from_secs(120)).unwrap()).unwrap()
}

/// An attribute of the root element.
fn attribute<'a>(dom: &'a str, name: &str) -> &'a str {
    let root = dom.split("<html").nth(1).unwrap().split('>').next().unwrap();
    let rest = root.split(&format!("{name}=\"")).nth(1).unwrap_or_else(|| panic!("no {name}: {root}"));
    rest.split('"').next().unwrap()
}

fn told(dom: &str) -> serde_json::Value {
    // Base64, so that nothing of it is changed on the way.
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bits, mut held, mut bytes) = (0_u32, 0, Vec::new());
    for digit in attribute(dom, "data-check").chars().filter(|digit| *digit != '=') {
        bits = bits << 6 | u32::try_from(alphabet.find(digit).unwrap()).unwrap();
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from(bits >> held & 0xff).unwrap());
        }
    }
    serde_json::from_slice(&bytes).unwrap()
}

/// From and until of a view.
fn view(told: &serde_json::Value, name: &str) -> (i64, i64) {
    let text = told[name].as_str().unwrap_or_else(|| panic!("{name}: {told}"));
    let split = text[1..].find('-').unwrap() + 1;
    (text[..split].parse().unwrap(), text[split + 1..].parse().unwrap())
}

fn check(dom: &str, timeline: &Timeline) {
    let violations = timeline.events.iter().filter(|event| event.kind == Kind::Violation).count();
    let ready = format!("lanes={} events={} violations={violations}", timeline.lanes.len(), timeline.events.len());
    assert_eq!(attribute(dom, "data-ready"), ready);
    let told = told(dom);
    let violation = timeline.violation().unwrap();
    let at = i64::try_from(violation.at).unwrap();
    let (from, until) = view(&told, "opened");
    assert!(from <= at && at <= until, "it opens at the violation ({at}): {told}");
    let chosen: usize = told["chosen"].as_str().unwrap().parse().unwrap();
    assert_eq!(timeline.events[chosen].kind, Kind::Violation);
    assert!(told["red"].as_u64().unwrap() > 200, "the violation is seen: {told}");
    let span = |name| view(&told, name).1 - view(&told, name).0;
    let end = i64::try_from(timeline.end).unwrap();
    assert!(span("whole") >= end && span("zoomed") < span("whole"), "the wheel zooms: {told}");
    assert!(view(&told, "dragged").0 > view(&told, "zoomed").0, "the mouse moves it: {told}");
    assert!((span("dragged") - span("zoomed")).abs() <= 2, "moving does not zoom: {told}");
    // What is searched is "broker", and so every broker of a cluster.
    let is_broker = |lane: usize| timeline.lanes[lane].name.contains("broker");
    let is_found = |event: &&quipu_hunt::trace::Event| event.name == "sync_data" && is_broker(event.lane);
    let found = timeline.events.iter().filter(is_found).count();
    assert_eq!(told["found"], format!("{found} found"));
    assert!(told["place"].as_str().unwrap().ends_with(&format!(" of {found}")), "{told}");
    assert!(told["details"].as_str().unwrap().contains("sync_data"), "{told}");
    assert!(told["around"].as_u64().unwrap() > 1, "{told}");
    assert_eq!(told["back"], told["opened"]);
    assert!(!dom.contains("<title>taken over"), "the run's words are only words");
}

#[test]
fn the_page_needs_no_other_file() {
    let (plan, outcome) = broken();
    let page = page::html(&Timeline::new(&plan, &outcome), &heading(&plan, &outcome));
    for outside in ["http:", "https:", "src=", "href=", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert_eq!(page.matches("</script>").count(), 2, "the data's and the page's own");
    assert!(!page.contains("{{"), "nothing is left to be filled in");
}

#[test]
fn the_page_works_in_a_browser() {
    let Some(browser) = browser("the_page_works_in_a_browser") else { return };
    let (plan, outcome) = broken();
    let timeline = Timeline::new(&plan, &outcome);
    let dom = visit(&browser, "page", &page::html(&timeline, &heading(&plan, &outcome)));
    check(&dom, &timeline);
}

#[test]
fn a_page_of_many_events_is_ready_soon() {
    let Some(browser) = browser("a_page_of_many_events_is_ready_soon") else { return };
    let (plan, outcome) = broken();
    let mut timeline = Timeline::new(&plan, &outcome);
    let (once, end) = (timeline.events.clone(), timeline.end);
    // The same again, and again, one after the other.
    while timeline.events.len() < MANY {
        let by = timeline.end;
        timeline.events.extend(once.iter().filter(|event| event.kind != Kind::Violation).cloned().map(|mut event| {
            event.at += by;
            event.until = event.until.map(|until| until + by);
            event
        }));
        timeline.end += end;
    }
    let page = page::html(&timeline, &heading(&plan, &outcome));
    let begin = Instant::now();
    let dom = visit(&browser, "many", &page);
    let took = begin.elapsed();
    check(&dom, &timeline);
    assert!(took < SOON, "{} events took {took:?}", timeline.events.len());
}
