// The canvases. Each frame draws what is in view; of many marks of one sort on one pixel, one is drawn. `drawn` keeps where things
// stand, for the mouse.

const NAMES = 112;
const AXIS = 26;
const ROW = 15;
const MONO = "11px ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace";
const SANS = "12px system-ui, 'DejaVu Sans', sans-serif";

const canvas = byId("lanes");
const overview = byId("overview");
const pen = canvas.getContext("2d");
const brush = overview.getContext("2d");
const color = {};
let drawn = [];
let width = 0;
let taken = new Set();
let worded = [];

function readColors() {
  const style = getComputedStyle(document.documentElement);
  for (const name of [...STYLES, "ground", "panel", "line", "ink", "faint"]) color[name] = style.getPropertyValue(`--${name}`).trim();
}

// Heights: each lane has rows for operations (the world: faults), one for what product code tells, its life, one for its disk.
function layOut() {
  const needs = lanes.map((lane) => {
    const disk = lane.hasDisk ? 26 : 0;
    const points = lane.hasPoints || lane.index === 0 ? 16 : 0;
    return 14 + lane.operationRows * ROW + points + disk + 8;
  });
  const room = byId("scroll").clientHeight - AXIS;
  const spare = Math.max(0, room - needs.reduce((sum, need) => sum + need, 0)) / Math.max(1, lanes.length - 1);
  let y = AXIS;
  lanes.forEach((lane, index) => {
    lane.top = y;
    lane.height = Math.max(needs[index], 34) + (index === 0 ? 0 : Math.min(spare, 90));
    const pad = (lane.height - needs[index]) / 2;
    lane.rows = y + pad + 7;
    lane.points = lane.rows + lane.operationRows * ROW + 8;
    lane.life = lane.rows + lane.operationRows * ROW + (lane.hasPoints || index === 0 ? 16 : 0) + 6;
    lane.disk = lane.life + 8;
    y += lane.height;
  });
  width = canvas.parentElement.clientWidth;
  size(canvas, pen, width, Math.max(y, room + AXIS - 4));
  size(overview, brush, width, 46);
}

function size(target, context, wide, high) {
  const ratio = window.devicePixelRatio || 1;
  target.width = Math.round(wide * ratio);
  target.height = Math.round(high * ratio);
  target.style.height = `${high}px`;
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
}

const xOf = (time) => NAMES + ((time - view.from) / (view.until - view.from)) * (width - NAMES);
const timeAt = (x) => view.from + ((x - NAMES) / (width - NAMES)) * (view.until - view.from);
const inView = (event) => event.at <= view.until && (event.until ?? event.at) >= view.from;
const strength = (event) => (isMatch(event) ? 1 : 0.1);
const stands = (event) => event === chosen || event === hovered || (search.set !== null && isMatch(event));

function draw() {
  drawn = [];
  taken = new Set();
  worded = [];
  const high = canvas.height / (window.devicePixelRatio || 1);
  pen.clearRect(0, 0, width, high);
  pen.textBaseline = "middle";
  drawGround(high);
  pen.save();
  pen.beginPath();
  pen.rect(NAMES, 0, width - NAMES, high);
  pen.clip();
  const seen = events.filter((event) => isShown(event) && inView(event));
  const of = (kind) => seen.filter((event) => event.kind === kind);
  of("fault").forEach((event) => drawBand(event, high));
  lanes.forEach(drawLives);
  drawMessages(of("message"));
  of("disk").forEach(drawDisk);
  for (const kind of ["mark", "crash-point", "probe", "note", "fault-happened"]) of(kind).forEach(drawPoint);
  of("process").forEach(drawProcess);
  of("operation").forEach((event) => drawBar(event, event.failed ? color.violation : color.operation));
  of("fault").forEach(drawFault);
  of("violation").forEach((event, index) => drawViolation(event, high, index));
  pen.restore();
  drawOverview();
  document.documentElement.dataset.view = `${Math.round(view.from)}-${Math.round(view.until)}`;
}

function drawGround(high) {
  lanes.forEach((lane) => {
    pen.fillStyle = lane.index % 2 ? color.ground : color.panel;
    pen.fillRect(0, lane.top, width, lane.height);
    pen.fillStyle = color.ink;
    pen.font = `600 ${SANS}`;
    pen.textAlign = "left";
    pen.fillText(lane.name, 10, lane.index === 0 ? lane.top + lane.height / 2 : lane.life, NAMES - 16);
  });
  const step = niceStep((view.until - view.from) / Math.max(2, (width - NAMES) / 110));
  const digits = Math.max(0, Math.min(9, Math.ceil(-Math.log10(step / 1e9) - 1e-9)));
  pen.font = MONO;
  pen.textAlign = "center";
  for (let time = Math.ceil(view.from / step) * step; time <= view.until; time += step) {
    const x = xOf(time);
    if (x < NAMES || time < 0) continue;
    pen.fillStyle = color.line;
    pen.fillRect(Math.round(x), AXIS - 5, 1, high);
    pen.fillStyle = color.faint;
    if (x > NAMES + 20) pen.fillText(`${seconds(time, digits)} s`, x, AXIS / 2);
  }
  pen.fillStyle = color.line;
  pen.fillRect(NAMES - 1, 0, 1, high);
}

function niceStep(least) {
  const power = 10 ** Math.floor(Math.log10(least));
  return [1, 2, 5, 10].map((times) => times * power).find((step) => step >= least);
}

// What a fault strikes is tinted as long as it lasts.
function drawBand(event, high) {
  const from = xOf(event.at);
  const wide = Math.max(1, xOf(event.until ?? event.at) - from);
  const struck = event.others.length ? event.others.map((other) => lanes[other]) : [];
  pen.fillStyle = color.fault;
  if (!struck.length && event.name === "heal") {
    pen.globalAlpha = 0.7;
    pen.fillStyle = color.probe;
    pen.fillRect(from, AXIS, 1, high);
  }
  pen.globalAlpha = 0.14 * strength(event);
  struck.forEach((lane) => pen.fillRect(from, lane.top, wide, lane.height));
  pen.globalAlpha = 0.55 * strength(event);
  struck.forEach((lane) => pen.fillRect(from, lane.top, 1, lane.height));
  pen.globalAlpha = 1;
}

function drawLives(lane) {
  if (lane.index === 0) return;
  pen.strokeStyle = color.line;
  pen.lineWidth = 1;
  line(NAMES, lane.life, width, lane.life);
  if (hidden.has("process")) return;
  pen.fillStyle = color.process;
  for (const life of lane.lives) {
    const from = Math.max(NAMES, xOf(life.from));
    const until = Math.min(width, xOf(life.until ?? end));
    if (until > from) pen.fillRect(from, lane.life - 1.5, Math.max(1, until - from), 3);
  }
}

function line(x0, y0, x1, y1) {
  pen.beginPath();
  pen.moveTo(x0, y0);
  pen.lineTo(x1, y1);
  pen.stroke();
}

// Whether nothing of that sort stands on that pixel yet.
function isFree(event, ...places) {
  if ((event.evidence && event.kind !== "violation") || stands(event)) return true;
  const key = `${event.style}${event.lane}:${isMatch(event)}:${places.map(Math.round).join()}`;
  return !taken.has(key) && taken.add(key) !== undefined;
}

function drawMessages(list) {
  const isCrowded = list.length > 400;
  for (const event of list) {
    const from = lanes[event.lane];
    const to = lanes[event.others[0] ?? event.lane];
    const [x0, y0] = [xOf(event.at), from.life];
    const isLost = event.until === null;
    const x1 = isLost ? x0 + 14 : xOf(event.until);
    const y1 = isLost ? y0 + (to.life - y0) * 0.3 : to.life;
    if (!isFree(event, x0, x1, y1)) continue;
    pen.globalAlpha = strength(event) * (stands(event) || event.failed ? 1 : isCrowded ? 0.28 : 0.75);
    pen.strokeStyle = pen.fillStyle = event.failed ? color.violation : color.message;
    pen.lineWidth = stands(event) ? 2 : 1;
    line(x0, y0, x1, y1);
    if (isLost) drawCross(x1, y1, 3);
    else if (!isCrowded || stands(event)) drawHead(x0, y0, x1, y1);
    if (list.length < 60 && Math.abs(y1 - y0) > 24) drawWords(`${event.name} ${event.text.split(",")[0]}`, (x0 + x1) / 2 + 5, (y0 + y1) / 2);
    drawn.push({ event, x0, y0, x1, y1, reach: 4 });
  }
  pen.globalAlpha = 1;
}

// Words that would stand on others are left out.
function drawWords(words, x, y) {
  pen.font = MONO;
  const right = x + pen.measureText(words).width;
  if (worded.some((other) => x < other.right && right > other.x && Math.abs(y - other.y) < ROW - 2)) return;
  worded.push({ x, right, y });
  pen.textAlign = "left";
  pen.globalAlpha *= 0.8;
  pen.fillText(words, x, y);
}

function drawHead(x0, y0, x1, y1) {
  const angle = Math.atan2(y1 - y0, x1 - x0);
  pen.beginPath();
  pen.moveTo(x1, y1);
  pen.lineTo(x1 - 7 * Math.cos(angle - 0.4), y1 - 7 * Math.sin(angle - 0.4));
  pen.lineTo(x1 - 7 * Math.cos(angle + 0.4), y1 - 7 * Math.sin(angle + 0.4));
  pen.fill();
}

function drawCross(x, y, reach) {
  line(x - reach, y - reach, x + reach, y + reach);
  line(x - reach, y + reach, x + reach, y - reach);
}

function ring(event, x, y, wide, high) {
  if (!stands(event) && !event.evidence) return;
  pen.globalAlpha = 1;
  pen.strokeStyle = event === chosen || event === hovered ? color.ink : event.evidence ? color.violation : color.ink;
  pen.lineWidth = 1.5;
  pen.strokeRect(x - 2.5, y - 2.5, wide + 5, high + 5);
}

function drawDisk(event) {
  const lane = lanes[event.lane];
  const x = xOf(event.at);
  const wide = Math.max(event.style === "sync" ? 3 : 1.5, xOf(event.until ?? event.at) - x);
  const high = { sync: 14, write: 10, read: 5 }[event.style];
  if (!isFree(event, x, wide)) return;
  pen.globalAlpha = strength(event) * (event.style === "sync" ? 0.75 : 1);
  pen.fillStyle = event.failed ? color.violation : color[event.style];
  pen.fillRect(x, lane.disk, wide, high);
  if (wide > 90) {
    pen.save();
    pen.beginPath();
    pen.rect(x, lane.disk, wide, 14);
    pen.clip();
    pen.fillStyle = event.style === "sync" ? color.ground : color.ink;
    pen.font = MONO;
    pen.textAlign = "left";
    pen.fillText(`${event.name} ${event.text}`, Math.max(x, NAMES) + 4, lane.disk + 7);
    pen.restore();
  }
  ring(event, x, lane.disk, wide, high);
  pen.globalAlpha = 1;
  drawn.push({ event, x0: x, y0: lane.disk, x1: x + wide, y1: lane.disk + 14, box: true });
}

function drawPoint(event) {
  const lane = lanes[event.lane];
  const x = xOf(event.at);
  if (!isFree(event, x)) return;
  const [reach, y] = [event.style === "mark" || event.style === "crash-point" ? 2 : 3, lane.points];
  pen.globalAlpha = strength(event);
  pen.fillStyle = color[event.style];
  pen.beginPath();
  if (event.style === "probe") pen.arc(x, y, reach, 0, 7);
  else pen.rect(x - reach, y - reach + (event.style === "probe" ? 0 : 4), reach * 2, reach * 2);
  pen.fill();
  ring(event, x - reach, y - reach, reach * 2, reach * 2);
  pen.globalAlpha = 1;
  drawn.push({ event, x0: x - 3, y0: y - 4, x1: x + 3, y1: y + 6, box: true });
}

function drawProcess(event) {
  const lane = lanes[event.lane];
  const x = xOf(event.at);
  if (!isFree(event, x)) return;
  pen.globalAlpha = strength(event);
  pen.strokeStyle = pen.fillStyle = event.failed ? color.violation : color.process;
  pen.lineWidth = 2;
  if (event.name === "end" && event.failed) drawCross(x, lane.life, 5);
  else pen.fillRect(x - 1, lane.life - 6, 2, 12);
  ring(event, x - 5, lane.life - 6, 10, 12);
  pen.globalAlpha = 1;
  drawn.push({ event, x0: x - 5, y0: lane.life - 6, x1: x + 5, y1: lane.life + 6, box: true });
}

// A bar with its words, in its row.
function drawBar(event, fill) {
  const lane = lanes[event.lane];
  const x = xOf(event.at);
  const y = lane.rows + event.row * ROW;
  const isOpen = event.until === null && event.kind === "operation";
  const wide = Math.max(2.5, xOf(isOpen ? end : (event.until ?? event.at)) - x);
  if (!isFree(event, x, wide, y)) return;
  pen.globalAlpha = strength(event) * (isOpen ? 0.35 : event.routine ? 0.45 : 0.9);
  pen.fillStyle = fill;
  pen.beginPath();
  pen.roundRect(x, y, wide, ROW - 3, wide > 6 ? 3 : 1);
  pen.fill();
  if (wide > 34) {
    pen.save();
    pen.clip();
    pen.globalAlpha = strength(event);
    pen.fillStyle = isOpen ? color.ink : color.ground;
    pen.font = MONO;
    pen.textAlign = "left";
    const answer = event.answer && event.kind === "operation" ? ` → ${event.answer}` : "";
    pen.fillText(`${event.name} ${event.text}${answer}`, Math.max(x, NAMES) + 4, y + 6.5);
    pen.restore();
  }
  ring(event, x, y, wide, ROW - 3);
  pen.globalAlpha = 1;
  drawn.push({ event, x0: x, y0: y, x1: x + wide, y1: y + ROW - 3, box: true });
}

function drawFault(event) {
  drawBar(event, event.name === "heal" ? color.probe : color.fault);
  const x = xOf(event.at);
  const wide = xOf(event.until ?? event.at) - x;
  if (wide > 34) return;
  pen.font = MONO;
  pen.textAlign = "left";
  pen.globalAlpha = strength(event);
  pen.fillStyle = event.name === "heal" ? color.probe : color.fault;
  const key = `label${event.row}:${Math.round(x / 70)}`;
  if (!taken.has(key)) pen.fillText(event.name, x + Math.max(wide, 3) + 3, lanes[0].rows + event.row * ROW + 6.5);
  taken.add(key);
  pen.globalAlpha = 1;
}

function drawViolation(event, high, index) {
  const x = xOf(event.at);
  if (index > 0 && !isFree(event, x)) return;
  pen.globalAlpha = strength(event) * (index === 0 || event === chosen ? 1 : 0.35);
  pen.fillStyle = color.violation;
  pen.fillRect(x - 1, index === 0 ? 0 : AXIS, event === chosen || index === 0 ? 2 : 1, high);
  if (index === 0) {
    const words = `✕ ${event.name}`;
    pen.font = `600 ${SANS}`;
    const wide = pen.measureText(words).width + 14;
    const left = x + wide > width ? x - wide : x;
    pen.fillRect(left, 2, wide, AXIS - 6);
    pen.fillStyle = color.ground;
    pen.textAlign = "left";
    pen.fillText(words, left + 7, AXIS / 2 - 1);
    drawn.push({ event, x0: left, y0: 2, x1: left + wide, y1: AXIS - 4, box: true });
  }
  pen.globalAlpha = 1;
  drawn.push({ event, x0: x - 2, y0: 0, x1: x + 2, y1: high, box: true });
}

// The whole run in small: how much happens when, faults, matches, and what is in view.
function drawOverview() {
  const high = 46;
  const wide = width - NAMES;
  const place = (time) => NAMES + (time / end) * wide;
  const counts = new Array(Math.max(1, Math.floor(wide / 2))).fill(0);
  const found = new Set();
  for (const event of events) {
    const slot = Math.min(counts.length - 1, Math.floor((event.at / end) * counts.length));
    if (isShown(event)) counts[slot] += 1;
    if (search.set !== null && search.set.has(event.index)) found.add(slot);
  }
  const most = Math.log1p(Math.max(...counts));
  brush.clearRect(0, 0, width, high);
  brush.textBaseline = "middle";
  brush.font = SANS;
  brush.fillStyle = color.faint;
  brush.fillText("whole run", 10, high / 2);
  brush.fillStyle = color.fault;
  brush.globalAlpha = 0.3;
  events.filter((event) => event.kind === "fault" && event.name !== "heal" && isShown(event)).forEach((event) => {
    brush.fillRect(place(event.at), 0, Math.max(1, place(event.until ?? event.at) - place(event.at)), high);
  });
  brush.globalAlpha = 1;
  counts.forEach((count, slot) => {
    const tall = most ? (Math.log1p(count) / most) * (high - 12) : 0;
    brush.fillStyle = found.has(slot) ? color.ink : color.message;
    if (tall) brush.fillRect(NAMES + slot * 2, high - tall, 1.5, tall);
    if (found.has(slot)) brush.fillRect(NAMES + slot * 2 - 0.5, 0, 2.5, 5);
  });
  brush.fillStyle = color.violation;
  violations.forEach((event) => brush.fillRect(place(event.at) - 1, 0, 2, high));
  brush.strokeStyle = color.ink;
  brush.lineWidth = 1.5;
  const left = Math.max(NAMES, place(view.from));
  brush.strokeRect(left, 1, Math.max(4, Math.min(width - 1, place(view.until)) - left), high - 2);
}

// What stands at that place, the smallest first; none if nothing does.
function at(x, y) {
  let best = null;
  let least = Infinity;
  for (const item of drawn) {
    const distance = item.box ? fromBox(item, x, y) : fromLine(item, x, y);
    const size = distance <= (item.reach || 3) ? distance + (item.box ? Math.min(2, (item.x1 - item.x0) / 100) : 1) : Infinity;
    if (size <= least && size < Infinity) [best, least] = [item.event, size];
  }
  return best;
}

function fromBox({ x0, y0, x1, y1 }, x, y) {
  return Math.hypot(Math.max(x0 - x, 0, x - x1), Math.max(y0 - y, 0, y - y1));
}

function fromLine({ x0, y0, x1, y1 }, x, y) {
  const length = (x1 - x0) ** 2 + (y1 - y0) ** 2;
  const part = length ? Math.max(0, Math.min(1, ((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / length)) : 0;
  return Math.hypot(x - x0 - part * (x1 - x0), y - y0 - part * (y1 - y0));
}
