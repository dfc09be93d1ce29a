// The spans of a run as a tree on a time line. Only the visible rows are in the document.
//
// Rows come from the server (viewer/spans.py). Their times are µs after the run's start; `end` is null while a span runs.

import { attr, el, keyed, show, text } from "./dom.js";
import { serverNow, relativeTime } from "./relative_time.js";

const [AT, PARENT, KEY, NAME, KIND, STATUS, TONE, START, END, TOOK, ERROR] = Array(11).keys();
const HEIGHT = 26;
const BEYOND = 6; // rows drawn above and below the visible ones
const MARKS = { bad: "✕", dead: "✕", warn: "–", live: "▸" };
const TENS = [1, 2, 5, 10, 20, 50, 100, 200, 500];
const SIXTIES = [1, 2, 5, 10, 20, 30];
const TICKS = [["µs", 1, TENS], ["ms", 1e3, TENS], ["s", 1e6, SIXTIES], ["min", 6e7, SIXTIES], ["h", 3.6e9, [1, 2, 6, 24, 100, 1e3, 1e4]]]
  .flatMap(([unit, size, steps]) => steps.map((n) => ({ unit, size, step: n * size })));
const reducedMotion = matchMedia("(prefers-reduced-motion: reduce)");
const wrong = (row) => row[TONE] === "bad" || row[TONE] === "dead";

// `changed()` is called when the address has to change, `opened(key)` when a row's details are to be shown,
// `selected(key)` when another row is selected.
export function waterfall({ changed, opened, selected }) {
  let rows = [];
  let children = []; // for each row, the positions of its children
  let shown = []; // the positions of the displayed rows, in display order
  let level = [];
  let index = new Map(); // position in `rows` → position in `shown`
  let places = new Map(); // key → position in `rows`
  let begin = 0;
  let last = 1; // the end of the last ended span
  let growing = false;
  let range = null; // [from, to] while zoomed in
  let chosen = null; // a key
  let query = "";
  let errors = false; // show only these
  let closed = new Set();
  let round = 0; // rows drawn in an earlier round are out of date
  let [width, height] = [600, 600];

  const ruler = el("div", { class: "wf-ruler" });
  const map = el("canvas", { class: "wf-map", title: "Drag to zoom in; double-click to show the whole run" });
  const lens = el("div", { class: "wf-lens", hidden: true });
  const axis = el("div", { class: "wf-axis", role: "img", "aria-label": "Time line" }, map, lens, ruler);
  const column = (name, ...inside) => el("div", { role: "columnheader", class: name }, ...inside);
  const top = el("div", { role: "rowgroup", class: "wf-top" }, el("div", { class: "wf-row", role: "row", "aria-rowindex": 1 },
    column("wf-name", "Span"), column("", axis), column("num", "Took")));
  const space = el("div", { class: "wf-space", role: "rowgroup" });
  const node = el("div", { class: "wf", role: "treegrid", tabindex: 0, "aria-label": "Spans" }, top, space);
  const pool = [];

  const now = () => serverNow() * 1000 - begin;
  const endOf = (row) => row[END] ?? now();
  const whole = () => (growing ? Math.max(last, now()) : last);
  const view = () => range || [0, whole()];
  const filtered = () => Boolean(query || errors);
  const open = (at) => filtered() || !closed.has(rows[at][KEY]);

  // -- which rows, in which order

  function buildTree() {
    children = rows.map(() => []);
    last = 1;
    growing = false;
    for (const row of rows) {
      if (row[PARENT] >= 0) children[row[PARENT]].push(row[AT]);
      if (row[END] === null) growing = true;
      last = Math.max(last, row[END] ?? row[START]);
    }
    for (const list of children) list.sort((a, b) => rows[a][START] - rows[b][START] || a - b);
    layoutRows();
  }

  function layoutRows() {
    const wanted = filtered() ? matchingRows() : null;
    shown = [];
    index = new Map();
    const stack = rows.length ? [[0, 1]] : [];
    while (stack.length) {
      const [at, depth] = stack.pop();
      if (wanted && !wanted.has(at)) continue;
      level[at] = depth;
      index.set(at, shown.length);
      shown.push(at);
      if (open(at)) for (const child of children[at].toReversed()) stack.push([child, depth + 1]);
    }
    attr(node, "aria-rowcount", shown.length + 1);
    space.style.height = `${shown.length * HEIGHT}px`;
    redraw();
  }

  // The rows that match the filter, and all their ancestors.
  function matchingRows() {
    const wanted = new Set();
    for (const row of rows) {
      const words = `${row[NAME]} ${row[STATUS] || "ok"} ${row[ERROR]}`.toLowerCase();
      if ((errors && !wrong(row)) || !words.includes(query.toLowerCase())) continue;
      for (let at = row[AT]; at >= 0 && !wanted.has(at); at = rows[at][PARENT]) wanted.add(at);
    }
    return wanted;
  }

  // -- drawing

  function createRow() {
    const cell = (name, ...inside) => el("div", { role: "gridcell", class: name }, ...inside);
    const [twist, mark, word, name, why, bar] = ["wf-twist", "wf-mark", "wf-word", "", "wf-why", "wf-bar"].map((name) => el("bdi", { class: name }));
    const [first, took] = [cell("wf-name", twist, mark, word, name, why), cell("num")];
    return { node: el("div", { class: "wf-row", role: "row" }, first, cell("wf-track", bar), took), first, twist, mark, word, name, why, bar, took };
  }

  function fillRow(s, place) {
    const at = (s.at = shown[place]);
    const row = rows[at];
    const inside = children[at].length;
    s.node.id = `row-${at}`;
    s.node.style.transform = `translateY(${place * HEIGHT}px)`;
    s.node.dataset.tone = row[TONE];
    s.node.dataset.kind = row[KIND];
    attr(s.node, "aria-rowindex", place + 2);
    attr(s.node, "aria-level", level[at]);
    attr(s.node, "aria-expanded", inside ? String(open(at)) : null);
    attr(s.node, "aria-selected", String(row[KEY] === chosen));
    s.first.style.paddingLeft = `${Math.min(level[at] - 1, 20) * 14 + 4}px`;
    s.first.title = row[NAME];
    text(s.twist, inside ? (open(at) ? "▾" : "▸") : "");
    text(s.mark, row[STATUS] && (MARKS[row[TONE]] || ""));
    text(s.word, row[STATUS]);
    text(s.name, row[NAME]);
    text(s.why, row[ERROR]);
    if (row[END] === null) relativeTime(s.took, Math.round((begin + row[START]) / 1000), "for");
    else {
      if (s.took.dataset.at) relativeTime(s.took, null);
      text(s.took, row[TOOK]);
    }
  }

  function placeBar(s, [from, to]) {
    const row = rows[s.at];
    const [start, end] = [Math.max(row[START], from), Math.min(endOf(row), to)];
    show(s.bar, end >= start);
    s.bar.style.left = `min(${((start - from) / (to - from)) * 100}%, 100% - 3px)`;
    s.bar.style.width = `max(3px, ${(Math.max(0, end - start) / (to - from)) * 100}%)`;
  }

  function drawRows() {
    const first = Math.max(0, Math.floor(node.scrollTop / HEIGHT) - BEYOND);
    const end = Math.min(shown.length, first + Math.ceil(height / HEIGHT) + 2 * BEYOND);
    while (pool.length < end - first) {
      pool.push(createRow());
      round += 1; // another slot shows each row now
    }
    const part = view();
    pool.forEach((s, n) => {
      const place = first + (((n - first) % pool.length) + pool.length) % pool.length;
      if (place >= end) return s.node.remove();
      if (!s.node.parentNode) space.append(s.node);
      const stale = s.place !== place || s.round !== round;
      if (stale) fillRow(s, place);
      if (stale || growing) placeBar(s, part);
      [s.place, s.round] = [place, round];
    });
    const active = index.get(places.get(chosen));
    attr(node, "aria-activedescendant", active >= first && active < end ? `row-${places.get(chosen)}` : null);
    drawRuler(part);
  }

  function drawRuler([from, to]) {
    const { unit, size, step } = TICKS.find((tick) => tick.step * width >= (to - from) * 70) || TICKS.at(-1);
    const marks = [];
    for (let at = Math.ceil(from / step) * step; at <= to && marks.length < 40; at += step) {
      marks.push({ key: at, words: `${(at / size).toLocaleString()} ${unit}`, left: `${((at - from) / (to - from)) * 100}%` });
    }
    keyed(ruler, marks, mark);
  }

  function mark() {
    const tick = el("span");
    return { node: tick, update: ({ words, left }) => (text(tick, words), (tick.style.left = left)) };
  }

  function placeLens([from, to]) {
    lens.style.left = `${(from / whole()) * 100}%`;
    lens.style.width = `${((Math.min(to, whole()) - from) / whole()) * 100}%`;
  }

  // The overview of all spans, with the zoomed part marked.
  function drawMap() {
    show(lens, range !== null);
    placeLens(view());
    const tall = 28;
    [map.width, map.height] = [width * devicePixelRatio, tall * devicePixelRatio];
    const pen = map.getContext("2d");
    pen.scale(devicePixelRatio, devicePixelRatio);
    const style = getComputedStyle(node);
    const colours = {};
    const [each, unit] = [tall / Math.max(shown.length, 8), width / whole()];
    for (const loud of [false, true]) {
      for (const [place, at] of shown.entries()) {
        const row = rows[at];
        if (wrong(row) !== loud) continue;
        pen.fillStyle = colours[row[TONE]] ||= style.getPropertyValue(`--${row[TONE]}`) || "gray";
        pen.fillRect(row[START] * unit, place * each, Math.max(1, (endOf(row) - row[START]) * unit), Math.max(1, each));
      }
    }
  }

  function redraw() {
    round += 1;
    drawRows();
    drawMap();
  }

  // -- zoom

  function zoom(from, to) {
    const all = whole();
    const length = Math.min(Math.max(to - from, 5), all);
    const start = Math.min(Math.max(from, 0), all - length);
    range = length >= all * 0.999 ? null : [Math.round(start), Math.round(start + length)];
    redraw();
    changed();
  }

  function zoomBy(factor) {
    const [from, to] = view();
    const row = rows[places.get(chosen)];
    const middle = Math.min(Math.max(row ? (row[START] + endOf(row)) / 2 : (from + to) / 2, from), to);
    zoom(middle - (middle - from) * factor, middle + (to - middle) * factor);
  }

  function zoomToChosen() {
    const row = rows[places.get(chosen)];
    if (!row) return;
    const margin = Math.max((endOf(row) - row[START]) * 0.05, 2);
    zoom(row[START] - margin, endOf(row) + margin);
  }

  let drag = null; // start and end of the part being selected on the map
  function timeOf(event) {
    const box = map.getBoundingClientRect();
    return Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1) * whole();
  }
  const ends = () => drag.toSorted((a, b) => a - b);
  map.addEventListener("pointerdown", (event) => {
    drag = [timeOf(event)];
    map.setPointerCapture(event.pointerId);
  });
  map.addEventListener("pointermove", (event) => {
    if (!drag) return;
    drag[1] = timeOf(event);
    show(lens, true);
    placeLens(ends());
  });
  map.addEventListener("lostpointercapture", () => {
    const [from, to] = ends();
    drag = null;
    if (to - from > whole() / 200) zoom(from, to); // otherwise it was a click
    else drawMap();
  });
  map.addEventListener("dblclick", () => zoom(0, whole()));

  // -- selection

  function choose(key) {
    chosen = key;
    reveal(places.get(key));
    round += 1;
    drawRows();
    changed();
    selected(key);
  }

  function reveal(at) {
    let moved = false;
    for (let up = rows[at][PARENT]; up >= 0; up = rows[up][PARENT]) moved = closed.delete(rows[up][KEY]) || moved;
    if (!index.has(at) && filtered()) [query, errors, moved] = ["", false, true];
    if (moved) layoutRows();
    const [start, room] = [index.get(at) * HEIGHT, node.clientHeight - top.offsetHeight];
    node.scrollTop = Math.min(Math.max(node.scrollTop, start + HEIGHT - room), start);
  }

  function move(by) {
    if (!shown.length) return;
    const place = index.get(places.get(chosen)) ?? (by > 0 ? -1 : shown.length);
    choose(rows[shown[Math.min(Math.max(place + by, 0), shown.length - 1)]][KEY]);
  }

  function toggle(at) {
    const key = rows[at][KEY];
    if (!closed.delete(key)) closed.add(key);
    layoutRows();
    changed();
  }

  // Collapses or expands all rows. The first row, the run itself, stays open.
  function collapseAll(all) {
    closed = new Set(all ? rows.filter((row) => row[AT] && children[row[AT]].length).map((row) => row[KEY]) : []);
    layoutRows();
    changed();
  }

  function expandOrMove(right) {
    const at = places.get(chosen);
    if (at === undefined) return move(1);
    const wide = children[at].length > 0 && open(at);
    if (right) return wide ? move(1) : children[at].length ? toggle(at) : undefined;
    if (wide && !filtered()) return toggle(at);
    return rows[at][PARENT] >= 0 ? choose(rows[rows[at][PARENT]][KEY]) : undefined;
  }

  const keys = {
    j: () => move(1), k: () => move(-1), ArrowDown: () => move(1), ArrowUp: () => move(-1),
    ArrowRight: () => expandOrMove(true), ArrowLeft: () => expandOrMove(false),
    Home: () => move(-Infinity), End: () => move(Infinity),
    Enter: () => (chosen === null ? move(1) : opened(chosen)),
    "+": () => zoomBy(0.5), "-": () => zoomBy(2), 0: () => zoom(0, whole()), z: zoomToChosen,
    c: () => collapseAll(true), e: () => collapseAll(false),
  };

  space.addEventListener("click", (event) => {
    const s = pool.find((candidate) => candidate.node.contains(event.target));
    if (!s) return;
    if (event.target === s.twist && children[s.at].length) return toggle(s.at);
    choose(rows[s.at][KEY]);
    return opened(chosen);
  });

  // -- updates

  let scrollFrame = 0;
  node.addEventListener("scroll", () => (scrollFrame = scrollFrame || requestAnimationFrame(() => ((scrollFrame = 0), drawRows()))), { passive: true });
  const resizeObserver = new ResizeObserver(() => {
    [width, height] = [axis.clientWidth || 600, node.clientHeight || 600];
    redraw();
  });
  resizeObserver.observe(node);
  let mapDrawnAt = 0;
  let [timer, frame] = [null, 0];

  // Redraws while a span runs, whenever its bar has grown by half a pixel. Requests no frames once all have ended.
  function animate() {
    if (!growing || timer !== null) return;
    const pause = reducedMotion.matches ? 1000 : Math.max(60, whole() / 2000 / width);
    timer = setTimeout(() => (frame = requestAnimationFrame(drawFrame)), pause);
  }

  function drawFrame(time) {
    timer = null;
    animate();
    drawRows();
    if (time - mapDrawnAt < 1000 || drag) return;
    mapDrawnAt = time;
    drawMap();
  }

  return {
    node,
    choose,
    // Whether the key is a shortcut of the waterfall.
    handleKey: (key) => Object.hasOwn(keys, key) && (keys[key](), true),
    chosen: () => chosen,
    row: (key) => rows[places.get(key)],
    count: () => ({ all: rows.length, shown: shown.length, wrong: rows.filter((row) => wrong(row) && row[KIND] === "tool").length }),
    // The state to keep in the address.
    state: () => ({
      span: chosen || "", q: query, only: errors ? "errors" : "", t: range ? range.join("-") : "",
      closed: closed.size > 60 ? "" : [...closed].join("."),
    }),
    restore(state) {
      query = state.get("q") || "";
      errors = state.get("only") === "errors";
      closed = new Set((state.get("closed") || "").split("."));
      const match = /^(\d{1,15})-(\d{1,15})$/.exec(state.get("t"));
      if (match && Number(match[1]) < Number(match[2])) range = [Number(match[1]), Number(match[2])];
    },
    filter(words, onlyErrors) {
      [query, errors] = [words, onlyErrors];
      node.scrollTop = 0;
      layoutRows();
      changed();
    },
    update(answer) {
      begin = answer.begin;
      if (answer.full) [rows, places] = [[], new Map()];
      for (const row of answer.rows) {
        rows[row[AT]] = row;
        places.set(row[KEY], row[AT]);
      }
      if (answer.rows.length) buildTree();
      animate();
    },
    stop() {
      clearTimeout(timer);
      cancelAnimationFrame(frame);
      resizeObserver.disconnect();
    },
  };
}
