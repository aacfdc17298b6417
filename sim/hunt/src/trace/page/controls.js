// Mouse, keys, search, what is shown, and the list at the side.

const AROUND = 14;
let isAsked = false;

// Draws soon, once for all that changed meanwhile.
function redraw() {
  if (isAsked) return;
  isAsked = true;
  requestAnimationFrame(() => {
    isAsked = false;
    draw();
  });
}

function make(tag, text, className) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (className) element.className = className;
  return element;
}

function choose(event) {
  chosen = event;
  tellChosen();
  redraw();
}

function tellChosen() {
  const details = byId("details");
  document.documentElement.dataset.chosen = chosen ? chosen.index : "";
  if (!chosen) {
    details.replaceChildren(make("div", "Click an event to see it here.", "hint"));
    byId("around").replaceChildren();
    return;
  }
  const title = make("div", undefined, chosen.failed ? "failed" : "");
  title.append(make("b", chosen.name), ` ${chosen.kind}`);
  const list = make("dl");
  const add = (name, value) => value && list.append(make("dt", name), make("dd", value));
  add("time", `${seconds(chosen.at)} s`);
  add("took", took(chosen));
  add("lane", lanes[chosen.lane].name);
  add(chosen.kind === "message" ? "to" : "concerns", chosen.others.map((other) => lanes[other].name).join(", "));
  add("what", chosen.text);
  add("answer", chosen.answer);
  details.replaceChildren(title, list);
  tellAround();
}

// Its neighbours in time, of all that is shown.
function tellAround() {
  const shown = events.filter((event) => isShown(event) && isMatch(event) || event === chosen);
  const place = shown.indexOf(chosen);
  const items = shown.slice(Math.max(0, place - AROUND), place + AROUND + 1).map((event) => {
    const item = make("li", undefined, `${event === chosen ? "chosen" : ""} ${event.failed ? "failed" : ""}`);
    item.append(make("time", seconds(event.at)), ` ${lanes[event.lane].name} `, make("b", event.name), ` ${event.text}`);
    item.title = words(event);
    item.onclick = () => {
      reveal(event);
      choose(event);
    };
    return item;
  });
  byId("around").replaceChildren(...items);
}

function words(event) {
  const to = event.kind === "message" ? ` → ${event.others.map((other) => lanes[other].name).join(", ")}` : "";
  const lasting = event.until !== null && event.until > event.at ? `  (${took(event)})` : "";
  return [
    `${seconds(event.at)} s${lasting}  ${lanes[event.lane].name}${to}`,
    `${event.kind}: ${event.name} ${event.text}`,
    event.answer ? `→ ${event.answer}` : "",
  ].filter(Boolean).join("\n");
}

function hover(event, x, y) {
  if (event !== hovered) {
    hovered = event;
    redraw();
  }
  canvas.classList.toggle("over", event !== null);
  const tip = byId("tip");
  tip.style.display = event ? "block" : "none";
  if (!event) return;
  tip.textContent = words(event);
  const stage = byId("stage");
  tip.style.left = `${Math.max(4, Math.min(x + 14, stage.clientWidth - tip.offsetWidth - 6))}px`;
  tip.style.top = `${y + 18 + tip.offsetHeight > stage.clientHeight ? Math.max(2, y - tip.offsetHeight - 10) : y + 18}px`;
}

function listenToMouse() {
  let drag = null;
  canvas.addEventListener("wheel", (input) => {
    if (input.shiftKey || Math.abs(input.deltaX) > Math.abs(input.deltaY)) {
      const by = ((input.deltaX || input.deltaY) / (width - NAMES)) * (view.until - view.from);
      setView(view.from + by, view.until + by);
    } else {
      zoom(Math.exp(Math.max(-200, Math.min(200, input.deltaY)) * 0.0022), timeAt(Math.max(input.offsetX, NAMES)));
    }
    input.preventDefault();
    redraw();
  }, { passive: false });
  canvas.addEventListener("pointerdown", (input) => {
    drag = { x: input.clientX, from: view.from, until: view.until, isMoved: false };
    if (input.isTrusted) canvas.setPointerCapture(input.pointerId);
  });
  canvas.addEventListener("pointermove", (input) => {
    if (!drag) return hover(at(input.offsetX, input.offsetY), input.offsetX, input.offsetY + 46 - byId("scroll").scrollTop);
    if (Math.abs(input.clientX - drag.x) > 3) drag.isMoved = true;
    if (!drag.isMoved) return undefined;
    const by = ((drag.x - input.clientX) / (width - NAMES)) * (drag.until - drag.from);
    setView(drag.from + by, drag.until + by);
    canvas.classList.add("dragged");
    return redraw();
  });
  canvas.addEventListener("pointerup", (input) => {
    if (drag && !drag.isMoved) choose(at(input.offsetX, input.offsetY));
    canvas.classList.remove("dragged");
    drag = null;
  });
  canvas.addEventListener("pointerleave", () => hover(null));
  const go = (input) => {
    const time = ((input.offsetX - NAMES) / (width - NAMES)) * end;
    const half = (view.until - view.from) / 2;
    setView(time - half, time + half);
    redraw();
  };
  overview.addEventListener("pointerdown", go);
  overview.addEventListener("pointermove", (input) => input.buttons && go(input));
}

function tellMatches() {
  const { matches, set, place } = search;
  byId("matches").textContent = set === null ? "" : place < 0 ? `${matches.length} found` : `${place + 1} of ${matches.length}`;
  byId("next").disabled = byId("previous").disabled = matches.length === 0;
}

function stepSearch(by) {
  step(by);
  tellMatches();
  tellChosen();
  redraw();
}

const commands = {
  closer: () => zoom(0.6, chosen && inView(chosen) ? chosen.at : (view.from + view.until) / 2),
  farther: () => zoom(1 / 0.6, (view.from + view.until) / 2),
  whole: () => setView(-end, 2 * end),
  violation: toViolation,
  left: () => setView(view.from - (view.until - view.from) / 8, view.until - (view.until - view.from) / 8),
  right: () => setView(view.from + (view.until - view.from) / 8, view.until + (view.until - view.from) / 8),
};

function obey(name) {
  commands[name]();
  tellChosen();
  redraw();
}

function listenToKeys() {
  const keys = { "+": "closer", "=": "closer", "-": "farther", Home: "whole", v: "violation", ArrowLeft: "left", ArrowRight: "right" };
  const input = byId("search");
  document.addEventListener("keydown", (key) => {
    if (key.target === input) {
      if (key.key === "Enter") stepSearch(key.shiftKey ? -1 : 1);
      if (key.key === "Escape") input.blur();
      return;
    }
    if (key.ctrlKey || key.metaKey || key.altKey) return;
    if (key.key === "/") {
      input.focus();
      key.preventDefault();
    } else if (key.key === "n" || key.key === "N") {
      stepSearch(key.key === "n" ? 1 : -1);
    } else if (key.key === "Escape") {
      choose(null);
    } else if (keys[key.key]) {
      obey(keys[key.key]);
      key.preventDefault();
    }
  });
  input.addEventListener("input", () => {
    find(input.value);
    tellMatches();
    redraw();
  });
  byId("next").onclick = () => stepSearch(1);
  byId("previous").onclick = () => stepSearch(-1);
  for (const name of ["closer", "farther", "whole", "violation"]) byId(name).onclick = () => obey(name);
  byId("violation").disabled = violations.length === 0;
}

// What the colours mean, how often each is there, and a tick to hide it.
function makeLegend() {
  const names = { violation: "violation", operation: "client operation", "crash-point": "crash point", sync: "disk sync", write: "disk write", read: "disk read" };
  const labels = STYLES.map((style) => {
    const count = events.filter((event) => event.style === style).length;
    const label = make("label");
    const box = make("input");
    [box.type, box.checked, box.name] = ["checkbox", true, style];
    box.onchange = () => {
      if (box.checked) hidden.delete(style);
      else hidden.add(style);
      tellChosen();
      redraw();
    };
    const patch = make("i");
    patch.style.background = `var(--${style})`;
    label.append(box, patch, names[style] || style, make("span", count.toLocaleString("en"), "count"));
    return count ? label : null;
  });
  byId("legend").append(...labels.filter(Boolean), make("span", "wheel: zoom · drag: move · click: details · v: violation · /: search", "help"));
}

function makeHead() {
  const { heading } = run;
  const verdict = byId("verdict");
  verdict.textContent = heading.checker ? `FAIL ${heading.checker}` : "ok";
  verdict.classList.toggle("failed", heading.checker !== null);
  byId("run").textContent = `seed ${heading.seed} · commit ${heading.commit} · ${seconds(run.end, 3)} s · ${events.length.toLocaleString("en")} events · hash ${heading.hash}`;
  byId("replay").textContent = heading.replay;
  byId("failure").textContent = heading.failure.trim();
}

function begin() {
  readColors();
  makeHead();
  makeLegend();
  listenToMouse();
  listenToKeys();
  tellMatches();
  layOut();
  toViolation();
  tellChosen();
  draw();
  new ResizeObserver(() => {
    layOut();
    draw();
  }).observe(byId("stage"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    readColors();
    draw();
  });
  document.documentElement.dataset.ready = `lanes=${lanes.length} events=${events.length} violations=${violations.length}`;
}

begin();
