// The page: one image large, its neighbours small, and a key for everything.

import { Grid } from "./grid.js";
import { Images, Painter } from "./pixels.js";
import { Saver } from "./saving.js";
import { View } from "./view.js";

const AHEAD = 8; // images fetched before they are asked for
const BEFORE = 4; // neighbours shown on either side
const SMALL = 64; // pixels of a neighbour
const MOST_WAITING = 50; // marks not on disk, above which the page waits
const $ = (id) => document.getElementById(id);

const answer = await fetch("api/queue");
if (!answer.ok) {
  $("saved").textContent = "The images cannot be had; load the page again.";
  throw new Error(`queue: ${answer.status}`);
}
const { labels, skipped, form, tasks, faults: presets } = await answer.json();
const images = new Images(form);
const painter = new Painter(form);
const saver = new Saver(document.querySelector("meta[name=csrf]").content, showSaved);
const middle = Math.floor(form.depth / 2);
const good = labels[0];
const bad = labels[labels.length - 1];
const undone = []; // of every label: [index, label before, faults before], newest last
tasks.forEach((task, index) => task.label !== null && undone.push([[index, null, []]]));
const times = []; // seconds of the labels since the page was opened

let at = 0; // index of the shown task; tasks.length at the end
let chosen = new Set(); // faults of the shown image
let shownSince = performance.now();
let away = 0; // ms of it with the page hidden

const tone = (label) => {
  if (label === null) return "";
  if (label === skipped) return "skipped";
  const { score } = labels.find((one) => one.name === label);
  return score > 0.5 ? "good" : score < 0.5 ? "bad" : "unsure";
};

// ---- what is shown

async function show(index) {
  at = index;
  const ended = at >= tasks.length;
  $("end").hidden = !ended;
  chosen = new Set(ended ? [] : tasks[at].faults);
  const image = ended ? null : tasks[at].image;
  if (!ended && !images.now(image)) {
    $("stage").ariaBusy = "true";
    view.show(null); // the one before is not to be taken for this one
    try {
      await images.get(image);
    } catch {
      showSaved(saver.waiting.length, "an image cannot be had; is the server running?");
      setTimeout(() => at === index && show(index), 1000);
      return;
    }
    if (at !== index) return; // gone on meanwhile
  }
  $("stage").ariaBusy = "false";
  view.show(image);
  $("stage").dataset.place = ended ? "" : tasks[at].place;
  shownSince = performance.now();
  away = 0;
  showAnswer();
  showPace();
  showStrip();
  preload();
}

function showAnswer() {
  const label = at < tasks.length ? tasks[at].label : null;
  for (const button of $("answers").children) {
    button.classList.toggle("now", button.dataset.label === label);
  }
  $("said").hidden = label === null;
  $("said").textContent = label === null ? "" : `labelled ${label}`;
  const names = new Set([...presets, ...chosen]);
  $("faults").replaceChildren(
    ...Array.from(names, (name, number) => {
      const button = document.createElement("button");
      button.type = "button";
      button.ariaPressed = String(chosen.has(name));
      if (number < 9) button.append(keycap(String(number + 1)));
      button.append(name);
      button.addEventListener("click", () => fault(name));
      return button;
    }),
  );
}

function keycap(text) {
  const key = document.createElement("kbd");
  key.textContent = text;
  return key;
}

function showPace() {
  const done = tasks.filter((task) => task.label !== null && task.label !== skipped).length;
  const left = tasks.length - done;
  $("bar").ariaValueMax = tasks.length;
  $("bar").ariaValueNow = done;
  $("bar").firstElementChild.style.width = `${(100 * done) / Math.max(1, tasks.length)}%`;
  const recent = times.slice(-50).sort((a, b) => a - b);
  const each = recent[Math.floor(recent.length / 2)];
  const pace = each && left ? ` · ${each.toFixed(1)} s each · ${duration(each * left)} left` : "";
  $("pace").textContent = `${done} of ${tasks.length}${pace}`;
}

function duration(seconds) {
  const minutes = Math.ceil(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

function showSaved(waiting, failure) {
  const box = $("saved");
  box.className = failure ? "failing" : waiting ? "waiting" : "";
  const what = waiting === 1 ? "1 label" : `${waiting} labels`;
  box.textContent = failure
    ? (waiting ? `${what} not saved: ` : "") + failure
    : waiting
      ? `saving ${what}`
      : "all saved";
}

function showStrip() {
  // Of the neighbours the boxes stay; what is in them changes.
  const boxes = $("strip").children;
  for (let offset = -BEFORE; offset <= BEFORE; offset++) {
    const box = boxes[offset + BEFORE];
    const task = tasks[at + offset];
    box.style.visibility = task ? "" : "hidden";
    box.className = task ? tone(task.label) : "";
    if (!task || box.dataset.image === task.image) continue;
    box.dataset.image = "";
    const pixels = images.now(task.image);
    if (pixels) {
      painter.paint(box.firstElementChild, pixels, middle, SMALL);
      box.dataset.image = task.image;
    }
    box.firstElementChild.style.visibility = pixels ? "" : "hidden";
  }
}

async function preload() {
  const from = at;
  for (let index = Math.max(0, at - BEFORE); index <= at + AHEAD && index < tasks.length; index++) {
    try {
      await images.get(tasks[index].image);
    } catch {
      return; // it is asked for again when it is to be shown
    }
    if (at !== from) return;
    if (Math.abs(index - at) <= BEFORE) showStrip();
  }
}

// ---- what is said

function seconds() {
  return Math.max(0, (performance.now() - shownSince - away) / 1000);
}

function mark(batch, spent) {
  undone.push(batch.map(([index]) => [index, tasks[index].label, tasks[index].faults]));
  write(batch, spent);
}

function write(batch, spent) {
  for (const [index, label, faults] of batch) Object.assign(tasks[index], { label, faults });
  saver.add(
    batch.map(([index, label, faults]) => ({
      place: tasks[index].place,
      label,
      faults,
      seconds: Math.min(86400, spent),
    })),
  );
}

function say(label) {
  if (at >= tasks.length || $("stage").ariaBusy === "true" || saver.waiting.length > MOST_WAITING) {
    return;
  }
  const spent = seconds();
  if (label !== skipped) times.push(spent);
  mark([[at, label, [...chosen]]], spent);
  show(next());
}

function next() {
  const open = (task) => task.label === null;
  const after = tasks.findIndex((task, index) => index > at && open(task));
  if (after >= 0) return after;
  const any = tasks.findIndex(open);
  if (any >= 0) return any;
  const later = tasks.findIndex((task, index) => index > at && task.label === skipped);
  if (later >= 0) return later;
  const put = tasks.findIndex((task) => task.label === skipped);
  return put >= 0 && put !== at ? put : tasks.length;
}

function undo() {
  const batch = undone.pop();
  if (!batch) return;
  write(batch, 0);
  times.splice(times.length - batch.length, batch.length);
  if (grid.open) showGrid();
  else show(batch[0][0]);
}

function fault(name) {
  if (!chosen.delete(name)) chosen.add(name);
  showAnswer();
}

// ---- the large image, and many at once

const view = new View(images, painter, () => {
  for (const box of $("strip").children) box.dataset.image = "";
  showStrip();
});
const grid = new Grid(images, painter, middle, (indices, marked, spent) => {
  indices.forEach(() => times.push(spent));
  mark(
    indices.map((index, number) => [index, marked[number] ? bad.name : good.name, []]),
    spent,
  );
  showGrid();
});

function showGrid() {
  const open = tasks.flatMap((task, index) => (task.label === null ? [index] : []));
  if (!open.length) return leaveGrid();
  $("single").hidden = true;
  grid.root.hidden = false;
  grid.show(tasks, open);
  showPace();
  open.slice(24, 48).forEach((index) => images.get(tasks[index].image).catch(() => {}));
}

function leaveGrid() {
  grid.root.hidden = true;
  $("single").hidden = false;
  const first = tasks.findIndex((task) => task.label === null);
  show(first >= 0 ? first : tasks.length);
  $("stage").focus();
}

// ---- keys

const move = (step) => show(Math.min(tasks.length, Math.max(0, at + step)));
const actions = {
  u: undo,
  s: () => say(skipped),
  t: () => $("free").focus(),
  g: showGrid,
  i: () => $("image").classList.toggle("pixels"),
  w: () => view.asAtFirst(),
  "+": () => view.zoomBy(1.25),
  "=": () => view.zoomBy(1.25),
  "-": () => view.zoomBy(0.8),
  0: () => (view.fit(), view.paint()),
  ArrowLeft: () => move(-1),
  ArrowRight: () => move(1),
  ArrowUp: () => view.scroll(1),
  ArrowDown: () => view.scroll(-1),
};
for (const { key, name } of labels) actions[key] = () => say(name);

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target === $("free")) return freeKey(event);
  if (event.target === $("slices") && event.key.startsWith("Arrow")) return; // its own keys
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (grid.open) {
    if (grid.key(key)) event.preventDefault();
    else if (key === "g" || key === "Escape") leaveGrid();
    else if (key === "u") undo();
    return;
  }
  const digit = /^[1-9]$/.test(key) ? $("faults").children[Number(key) - 1] : undefined;
  const action = digit ? () => digit.click() : actions[key];
  if (!action) return;
  event.preventDefault();
  // A key held down is one answer, but goes on scrolling and zooming.
  if (!event.repeat || key.startsWith("Arrow") || "+=-".includes(key)) action();
});

function freeKey(event) {
  if (event.key !== "Enter" && event.key !== "Escape") return;
  event.preventDefault();
  const text = $("free").value.trim();
  if (event.key === "Enter" && text && chosen.size < 20) chosen.add(text);
  $("free").value = "";
  $("stage").focus();
  showAnswer();
}

document.addEventListener("visibilitychange", () => {
  const now = performance.now();
  if (document.hidden) away -= now;
  else away += now;
});

// ---- begin

for (const { name, key } of labels) {
  const button = document.createElement("button");
  button.type = "button";
  button.dataset.label = name;
  button.className = tone(name);
  button.append(keycap(key === " " ? "Space" : key), name);
  button.addEventListener("click", () => (say(name), $("stage").focus()));
  $("answers").append(button);
}
for (let offset = -BEFORE; offset <= BEFORE; offset++) {
  const box = document.createElement("button");
  box.type = "button";
  box.ariaCurrent = String(offset === 0);
  box.ariaLabel = offset ? `neighbour ${offset}` : "this image";
  box.append(document.createElement("canvas"));
  box.addEventListener("click", () => (move(offset), $("stage").focus()));
  $("strip").append(box);
}
$("undo").addEventListener("click", () => (undo(), $("stage").focus()));
$("skip").addEventListener("click", () => (say(skipped), $("stage").focus()));
$("grid-enter").addEventListener("click", () => grid.finish());
$("grid-leave").addEventListener("click", leaveGrid);
$("grid-bad").textContent = bad.name;
$("grid-good").textContent = good.name;
for (const row of document.querySelectorAll(".volume")) row.hidden = form.depth === 1;
showSaved(0, "");
const first = tasks.findIndex((task) => task.label === null);
const putOff = tasks.findIndex((task) => task.label === skipped);
await show(first >= 0 ? first : putOff >= 0 ? putOff : tasks.length);
$("stage").focus();
document.body.dataset.ready = "true";
