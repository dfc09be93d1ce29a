// The spans of a session as a tree on a time line. Only the rows in sight are in the document.
//
// A row is what the server sends (viewer/spans.py): [at, parent, key, name, kind, status, tone, start, end, took,
// error], times in µs after the session's beginning; `end` is null while the span goes on.

import { attr, el, show, text } from "./dom.js";
import { serverNow, stamp } from "./time.js";

const [AT, PARENT, KEY, NAME, KIND, STATUS, TONE, START, END, TOOK, ERROR] = Array(11).keys();
const HEIGHT = 26;
const BEYOND = 8; // rows drawn above and below those in sight
const INDENT = 14;
const MOST_INDENT = 20;
const TICK_STEPS = [1, 2, 5].flatMap((n) => [0, 1, 2, 3, 4, 5, 6].map((e) => n * 10 ** e))
  .concat([10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400].map((s) => s * 1e6))
  .sort((a, b) => a - b);
const MARKS = { bad: "✕", dead: "✕", warn: "–", live: "▸" };
const still = matchMedia("(prefers-reduced-motion: reduce)");

function clock(us, step, to) {
  const digits = (unit) => Math.max(0, Math.ceil(-Math.log10(step / unit) - 1e-9));
  if (to < 1e3) return `${us.toFixed(digits(1))} µs`;
  if (to < 1e6) return `${(us / 1e3).toFixed(digits(1e3))} ms`;
  if (to < 120e6) return `${(us / 1e6).toFixed(digits(1e6))} s`;
  const two = (n) => String(Math.floor(n)).padStart(2, "0");
  const seconds = us / 1e6;
  const rest = digits(1e6) ? (seconds % 60).toFixed(digits(1e6)).padStart(3 + digits(1e6), "0") : two(seconds % 60);
  const minutes = Math.floor(seconds / 60);
  return minutes < 60 ? `${minutes}:${rest}` : `${Math.floor(minutes / 60)}:${two(minutes % 60)}:${rest}`;
}

// `changed()` is called when something that belongs in the address has changed, `opened(key)` when a row is to be
// shown in full, `selected(key)` when another row has been chosen.
export function waterfall({ changed, opened, selected }) {
  let rows = [];
  let kids = [];
  let shown = []; // places in `rows`, in the order on the page
  let level = [];
  let index = new Map(); // place in `rows` → place in `shown`
  let places = new Map(); // key → place in `rows`
  let begin = 0;
  let last = 1; // the end of all that has ended
  let growing = false;
  let range = null; // [from, to] while zoomed in
  let chosen = null; // a key
  let query = "";
  let errorsOnly = false;
  let closed = new Set();
  let stamped = 0; // counts what makes drawn rows stale

  const ruler = el("div", { class: "wf-ruler", "aria-hidden": "true" });
  const map = el("canvas", { class: "wf-map", "aria-hidden": "true", title: "Drag to look at a part; double-click for all" });
  const lens = el("div", { class: "wf-lens", hidden: true });
  const axis = el("div", { role: "columnheader", class: "wf-axis", "aria-label": "Time line" }, map, lens, ruler);
  const head = el("div", { class: "wf-row wf-head", role: "row", "aria-rowindex": "1" },
    el("div", { role: "columnheader", class: "wf-name" }, "Span"), axis, el("div", { role: "columnheader", class: "num" }, "Took"));
  const space = el("div", { class: "wf-space", role: "rowgroup" });
  const node = el("div", { class: "wf", role: "treegrid", tabindex: "0", "aria-label": "Spans", "aria-multiselectable": "false" },
    el("div", { role: "rowgroup", class: "wf-top" }, head), space);
  const pool = [];

  const nowUs = () => serverNow() * 1000 - begin;
  const whole = () => Math.max(last, growing ? nowUs() : 1);
  const view = () => range || [0, whole()];

  // ── which rows, in which order ──────────────────────────────────────────────────────────────────────

  function arrange() {
    kids = rows.map(() => []);
    last = 1;
    growing = false;
    for (const row of rows) {
      if (row[PARENT] >= 0 && kids[row[PARENT]]) kids[row[PARENT]].push(row[AT]);
      if (row[END] === null) growing = true;
      last = Math.max(last, row[END] ?? row[START]);
    }
    for (const list of kids) list.sort((a, b) => rows[a][START] - rows[b][START] || a - b);
    order();
  }

  function order() {
    const wanted = matching();
    shown = [];
    index = new Map();
    const stack = rows.length ? [[0, 1]] : [];
    while (stack.length) {
      const [at, depth] = stack.pop();
      if (wanted && !wanted.has(at)) continue;
      level[at] = depth;
      index.set(at, shown.length);
      shown.push(at);
      if (wanted || !closed.has(rows[at][KEY])) for (let k = kids[at].length - 1; k >= 0; k -= 1) stack.push([kids[at][k], depth + 1]);
    }
    stamped += 1;
    attr(node, "aria-rowcount", shown.length + 1);
    space.style.height = `${shown.length * HEIGHT}px`;
    draw();
    drawMap();
  }

  // The rows that are asked for and all that they hang from; null if all are.
  function matching() {
    if (!query && !errorsOnly) return null;
    const words = query.toLowerCase();
    const wanted = new Set();
    for (const row of rows) {
      if (errorsOnly && !["bad", "dead"].includes(row[TONE])) continue;
      if (!`${row[NAME]} ${row[STATUS] || "ok"} ${row[ERROR]}`.toLowerCase().includes(words)) continue;
      for (let at = row[AT]; at >= 0 && !wanted.has(at); at = rows[at][PARENT]) wanted.add(at);
    }
    return wanted;
  }

  // ── drawing ─────────────────────────────────────────────────────────────────────────────────────────

  function slot() {
    const twist = el("span", { class: "wf-twist", "aria-hidden": "true" });
    const name = el("bdi");
    const mark = el("span", { class: "wf-mark" });
    const why = el("bdi", { class: "wf-why" });
    const bar = el("span", { class: "wf-bar" });
    const took = el("div", { role: "gridcell", class: "num" });
    const first = el("div", { role: "gridcell", class: "wf-name" }, twist, mark, name, why);
    const line = el("div", { class: "wf-row", role: "row" }, first, el("div", { role: "gridcell", class: "wf-track" }, bar), took);
    return { node: line, first, twist, mark, name, why, bar, took, at: -1, place: -1, stamped: -1 };
  }

  function fill(s, place) {
    const at = shown[place];
    const row = rows[at];
    s.at = at;
    s.node.id = `row-${at}`;
    s.node.style.transform = `translateY(${place * HEIGHT}px)`;
    s.node.dataset.tone = row[TONE];
    s.node.dataset.kind = row[KIND];
    attr(s.node, "aria-rowindex", place + 2);
    attr(s.node, "aria-level", level[at]);
    attr(s.node, "aria-expanded", kids[at].length ? String(open(at)) : null);
    attr(s.node, "aria-selected", String(row[KEY] === chosen));
    s.first.style.paddingLeft = `${Math.min(level[at] - 1, MOST_INDENT) * INDENT + 4}px`;
    text(s.twist, kids[at].length ? (open(at) ? "▾" : "▸") : "");
    text(s.name, row[NAME]);
    attr(s.first, "title", row[NAME]);
    text(s.mark, row[STATUS] ? `${MARKS[row[TONE]] || ""} ${row[STATUS]}` : "");
    text(s.why, row[ERROR] || (open(at) || !kids[at].length ? "" : `+${below(at)}`));
    if (row[END] === null) stamp(s.took, Math.round((begin + row[START]) / 1000), "for");
    else {
      stamp(s.took, null);
      text(s.took, row[TOOK]);
    }
  }

  const open = (at) => Boolean(query || errorsOnly) || !closed.has(rows[at][KEY]);

  function below(at) {
    let number = 0;
    const stack = [at];
    while (stack.length) for (const kid of kids[stack.pop()]) (number += 1), stack.push(kid);
    return number;
  }

  function stretch(s, [from, to]) {
    const row = rows[s.at];
    const start = Math.max(row[START], from);
    const end = Math.min(row[END] ?? nowUs(), to);
    const away = end < from || start > to;
    show(s.bar, !away);
    if (away) return;
    s.bar.style.left = `min(${((start - from) / (to - from)) * 100}%, 100% - 3px)`;
    s.bar.style.width = `max(3px, ${(Math.max(0, end - start) / (to - from)) * 100}%)`;
  }

  function draw() {
    const top = node.scrollTop;
    const first = Math.max(0, Math.floor(top / HEIGHT) - BEYOND);
    const end = Math.min(shown.length, Math.ceil((top + (node.clientHeight || 600)) / HEIGHT) + BEYOND);
    while (pool.length < Math.min(end - first, shown.length)) {
      pool.push(slot());
      for (const s of pool) s.place = -1; // the rule below which slot shows which place has changed
      space.append(pool.at(-1).node);
    }
    const span = view();
    const used = new Set();
    for (let place = first; place < end; place += 1) {
      const s = pool[place % pool.length];
      used.add(s);
      if (s.place !== place || s.stamped !== stamped) {
        fill(s, place);
        s.place = place;
        s.stamped = stamped;
        stretch(s, span);
      } else if (rows[s.at][END] === null || (growing && !range)) stretch(s, span);
    }
    for (const s of pool) if (s.node.hidden === used.has(s)) s.node.hidden = !used.has(s);
    const active = places.has(chosen) && index.get(places.get(chosen));
    attr(node, "aria-activedescendant", typeof active === "number" && active >= first && active < end ? `row-${places.get(chosen)}` : null);
    drawRuler(span);
  }

  let ruled = "";
  function drawRuler([from, to]) {
    const width = ruler.clientWidth;
    const step = TICK_STEPS.find((s) => s >= ((to - from) * 90) / Math.max(width, 90)) || 86400e6 * Math.ceil((to - from) / 86400e6 / 5);
    const key = `${width} ${from} ${to}`;
    if (key === ruled) return;
    ruled = key;
    const ticks = [];
    for (let at = Math.ceil(from / step) * step; at <= to; at += step) ticks.push(at);
    while (ruler.children.length < ticks.length) ruler.append(el("span"));
    [...ruler.children].forEach((tick, n) => {
      show(tick, n < ticks.length);
      if (n >= ticks.length) return;
      text(tick, clock(ticks[n], step, to));
      tick.style.left = `${((ticks[n] - from) / (to - from)) * 100}%`;
    });
  }

  // All spans in small, with the part that is being looked at.
  function drawMap() {
    const all = whole();
    show(lens, Boolean(range));
    if (range) {
      lens.style.left = `${(range[0] / all) * 100}%`;
      lens.style.width = `${Math.max(0.4, ((Math.min(range[1], all) - range[0]) / all) * 100)}%`;
    }
    const [width, height] = [map.clientWidth, map.clientHeight];
    if (!width) return;
    const scale = devicePixelRatio || 1;
    map.width = width * scale;
    map.height = height * scale;
    const pen = map.getContext("2d");
    const style = getComputedStyle(node);
    const colours = Object.fromEntries(["ok", "live", "bad", "dead", "warn", "idle"].map((tone) => [tone, style.getPropertyValue(`--wf-${tone}`)]));
    pen.scale(scale, scale);
    const each = height / Math.max(shown.length, 8);
    const now = nowUs();
    for (const loud of [false, true]) {
      shown.forEach((at, place) => {
        const row = rows[at];
        if ((row[TONE] === "bad" || row[TONE] === "dead") !== loud) return;
        pen.fillStyle = colours[row[TONE]] || colours.idle;
        pen.fillRect((Math.max(0, row[START]) / all) * width, place * each, Math.max(1, (((row[END] ?? now) - row[START]) / all) * width), Math.max(1, each));
      });
    }
  }

  // ── the part of the time line that is looked at ─────────────────────────────────────────────────────

  function zoom(from, to) {
    const all = whole();
    const width = Math.min(Math.max(to - from, 5), all);
    const start = Math.min(Math.max(from, 0), all - width);
    range = width >= all * 0.999 ? null : [Math.round(start), Math.round(start + width)];
    stamped += 1;
    draw();
    drawMap();
    changed();
  }

  function zoomBy(factor, about = null) {
    const [from, to] = view();
    const row = rows[places.get(chosen)];
    const middle = about ?? (row ? Math.min(Math.max((row[START] + (row[END] ?? nowUs())) / 2, from), to) : (from + to) / 2);
    zoom(middle - (middle - from) * factor, middle + (to - middle) * factor);
  }

  function zoomToChosen() {
    const row = rows[places.get(chosen)];
    if (!row) return;
    const end = row[END] ?? nowUs();
    const margin = Math.max((end - row[START]) * 0.05, 2);
    zoom(row[START] - margin, end + margin);
  }

  const fraction = (event) => {
    const box = map.getBoundingClientRect();
    return Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1);
  };
  let dragged = null;
  axis.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    dragged = { from: fraction(event), base: event.target === ruler || event.target.parentNode === ruler ? view() : [0, whole()] };
    axis.setPointerCapture(event.pointerId);
  });
  axis.addEventListener("pointermove", (event) => {
    if (!dragged) return;
    dragged.to = fraction(event);
    const [from, to] = [dragged.from, dragged.to].sort((a, b) => a - b).map((f) => (dragged.base[0] + f * (dragged.base[1] - dragged.base[0])) / whole());
    show(lens, true);
    lens.style.left = `${from * 100}%`;
    lens.style.width = `${(to - from) * 100}%`;
  });
  axis.addEventListener("pointerup", () => {
    const drag = dragged;
    dragged = null;
    if (!drag || drag.to === undefined || Math.abs(drag.to - drag.from) < 0.005) return drawMap();
    const [from, to] = [drag.from, drag.to].sort((a, b) => a - b).map((f) => drag.base[0] + f * (drag.base[1] - drag.base[0]));
    return zoom(from, to);
  });
  axis.addEventListener("pointercancel", () => ((dragged = null), drawMap()));
  axis.addEventListener("dblclick", () => zoom(0, whole()));
  node.addEventListener("wheel", (event) => {
    if (!event.ctrlKey) return;
    event.preventDefault();
    const [from, to] = view();
    zoomBy(event.deltaY > 0 ? 1.25 : 0.8, from + fraction(event) * (to - from));
  }, { passive: false });

  // ── choosing ────────────────────────────────────────────────────────────────────────────────────────

  function choose(key) {
    const at = places.get(key);
    chosen = at === undefined ? null : key;
    if (at !== undefined) reveal(at);
    stamped += 1;
    draw();
    changed();
    selected(chosen);
  }

  function reveal(at) {
    let hidden = false;
    for (let up = rows[at][PARENT]; up >= 0; up = rows[up][PARENT]) hidden = closed.delete(rows[up][KEY]) || hidden;
    if (!index.has(at) && (query || errorsOnly)) {
      query = "";
      errorsOnly = false;
      hidden = true;
    }
    if (hidden) order();
    const [top, room] = [index.get(at) * HEIGHT, node.clientHeight - head.offsetHeight];
    if (top < node.scrollTop) node.scrollTop = top;
    else if (top + HEIGHT > node.scrollTop + room) node.scrollTop = top + HEIGHT - room;
  }

  function move(by) {
    if (!shown.length) return;
    const place = index.get(places.get(chosen)) ?? (by > 0 ? -1 : shown.length);
    choose(rows[shown[Math.min(Math.max(place + by, 0), shown.length - 1)]][KEY]);
  }

  function toggle(at, wide) {
    if (!kids[at].length) return;
    if (wide) closed.delete(rows[at][KEY]);
    else closed.add(rows[at][KEY]);
    order();
    changed();
  }

  function sideways(right) {
    const at = places.get(chosen);
    if (at === undefined) return move(1);
    const wide = kids[at].length && open(at);
    if (right) return kids[at].length && !wide ? toggle(at, true) : wide ? move(1) : undefined;
    if (wide && !query && !errorsOnly) return toggle(at, false);
    return rows[at][PARENT] >= 0 ? choose(rows[rows[at][PARENT]][KEY]) : undefined;
  }

  const page = () => Math.max(1, Math.floor(node.clientHeight / HEIGHT) - 2);
  const keys = {
    j: () => move(1), ArrowDown: () => move(1), k: () => move(-1), ArrowUp: () => move(-1),
    ArrowRight: () => sideways(true), ArrowLeft: () => sideways(false),
    PageDown: () => move(page()), PageUp: () => move(-page()), Home: () => move(-Infinity), End: () => move(Infinity),
    Enter: () => (chosen === null ? move(1) : opened(chosen)),
    "+": () => zoomBy(0.5), "=": () => zoomBy(0.5), "-": () => zoomBy(2), 0: () => zoom(0, whole()), z: zoomToChosen,
  };

  // Whether the key meant something here.
  function press(key) {
    if (!Object.hasOwn(keys, key)) return false;
    keys[key]();
    return true;
  }

  space.addEventListener("click", (event) => {
    const line = event.target.closest(".wf-row");
    const s = pool.find((candidate) => candidate.node === line);
    if (!s) return;
    if (event.target === s.twist && kids[s.at].length) return toggle(s.at, !open(s.at));
    choose(rows[s.at][KEY]);
    return opened(chosen);
  });
  space.addEventListener("dblclick", (event) => {
    const s = pool.find((candidate) => candidate.node.contains(event.target));
    if (s && event.target !== s.twist) toggle(s.at, !open(s.at));
  });

  // ── living ──────────────────────────────────────────────────────────────────────────────────────────

  let asked = 0;
  function soon() {
    asked = asked || requestAnimationFrame(() => ((asked = 0), draw()));
  }
  node.addEventListener("scroll", soon, { passive: true });
  const watcher = new ResizeObserver(() => (soon(), drawMap()));
  watcher.observe(node);

  let drawn = 0;
  let mapped = 0;
  let frame = requestAnimationFrame(function live(time) {
    frame = requestAnimationFrame(live);
    if (!growing || time - drawn < (still.matches ? 1000 : 66)) return;
    drawn = time;
    draw();
    if (time - mapped > 1000) {
      mapped = time;
      drawMap();
    }
  });

  return {
    node,
    press,
    choose,
    zoomBy,
    zoomToChosen,
    zoomOut: () => zoom(0, whole()),
    get chosen() {
      return chosen;
    },
    row: (key) => rows[places.get(key)],
    has: (key) => places.has(key),
    count: () => ({ all: rows.length, shown: shown.length, errors: rows.filter((row) => row[TONE] === "bad" || row[TONE] === "dead").length }),
    // What belongs in the address.
    state: () => ({
      span: chosen || "",
      q: query,
      only: errorsOnly ? "errors" : "",
      closed: closed.size > 60 ? "" : [...closed].join(" "),
      t: range ? range.join("-") : "",
    }),
    restore(state) {
      query = state.get("q") || "";
      errorsOnly = state.get("only") === "errors";
      closed = new Set((state.get("closed") || "").split(" ").filter(Boolean));
      const match = /^(\d{1,15})-(\d{1,15})$/.exec(state.get("t") || "");
      range = match && Number(match[1]) < Number(match[2]) ? [Number(match[1]), Number(match[2])] : null;
    },
    filter(words, errors) {
      query = words;
      errorsOnly = errors;
      node.scrollTop = 0;
      order();
      changed();
    },
    // All rows at once; the topmost, which is the session itself, stays open.
    collapse(all) {
      closed = new Set(all ? rows.filter((row) => row[AT] && kids[row[AT]].length).map((row) => row[KEY]) : []);
      order();
      changed();
    },
    update(answer) {
      begin = answer.begin;
      if (answer.full) {
        rows = [];
        places = new Map();
      }
      for (const row of answer.rows) {
        rows[row[AT]] = row;
        places.set(row[KEY], row[AT]);
      }
      if (answer.rows.length || answer.full) arrange();
    },
    stop() {
      cancelAnimationFrame(frame);
      cancelAnimationFrame(asked);
      watcher.disconnect();
    },
  };
}
