// Components that several pages use. Each is {node, update(…)}.

import { attr, el, show, svg, text } from "./dom.js";
import { relativeTime } from "./relative_time.js";

export const runHash = (id) => `#/run/${encodeURIComponent(id)}`;
export const toolHash = (name) => `#/tools/${encodeURIComponent(name)}`;

export function badge() {
  const node = el("span", { class: "badge" });
  return { node, update: (status, tone) => (text(node, status), attr(node, "data-tone", tone)) };
}

export function tile() {
  const value = el("dd");
  const name = el("dt");
  const anchor = el("a");
  const node = el("div", { class: "tile" }, name, value);
  value.append(anchor);
  return {
    node,
    update(t) {
      text(name, t.label);
      text(anchor, t.value);
      attr(anchor, "href", t.target);
      attr(anchor, "aria-label", t.target && `${t.label}: ${t.value}`);
      attr(node, "data-tone", t.tone);
    },
  };
}

const MARKS = { done: "✓", running: "▸", error: "✕", crashed: "✕", cancelled: "–", skipped: "·", pending: "·" };

export function stepChip() {
  const mark = el("span", { "aria-hidden": "true" });
  const name = el("bdi");
  const node = el("li", { class: "chip" }, mark, name);
  return {
    node,
    update(step) {
      text(mark, MARKS[step.state] || "·");
      text(name, step.brief ? "" : step.name + (step.times > 1 ? ` ×${step.times}` : ""));
      attr(node, "data-state", step.state);
      attr(node, "title", `${step.name}: ${step.state}`);
    },
  };
}

export function progressBar() {
  const fill = el("div");
  const node = el("div", { class: "bar", role: "progressbar", "aria-valuemin": "0", "aria-valuemax": "100" }, fill);
  return {
    node,
    update(fraction, label) {
      show(node, fraction !== null);
      if (fraction === null) return;
      attr(node, "aria-valuenow", Math.round(fraction * 100));
      attr(node, "aria-label", label || "progress");
      fill.style.width = `${fraction * 100}%`;
    },
  };
}

export function inFlightCall() {
  const name = el("bdi", { class: "mono" });
  const time = el("span", { class: "faint" });
  const node = el("li", { class: "call" }, name, time);
  return { node, update: (c) => (text(name, c.tool), relativeTime(time, c.since, "for")) };
}

// A sparkline: one bar for each digit from 0 to 9.
export function sparkline(label) {
  const path = svg("path");
  const node = svg("svg", { class: "spark", viewBox: "0 0 60 18", width: 60, height: 18, role: "img", "aria-label": label }, path);
  return {
    node,
    update(digits) {
      node.style.display = digits ? "" : "none";
      attr(path, "d", [...digits].map((d, at) => (d === "0" ? `M${2 * at} 17h1.4v1h-1.4z` : `M${2 * at} 18v${-2 * d}h1.4v${2 * d}z`)).join(""));
    },
  };
}

// A bar chart of [[height, text]] or [[height, part, text]]: heights from 0 to 1, of which `part` is red; texts on hover.
export function barChart(parent, items, label, extra = []) {
  const width = 1000 / items.length;
  const rect = (at, height, name) => svg("rect", { class: name, x: at * width, y: 100 - 100 * height, width: width * 0.86, height: 100 * height });
  const nodes = items.map((item, at) => {
    const words = item.at(-1);
    const title = svg("title");
    title.textContent = words;
    const hover = svg("rect", { class: "hover", x: at * width, y: 0, width, height: 100 });
    return svg("g", {}, ...(words ? [title] : []), hover, rect(at, item[0], "bar-all"), ...(item.length > 2 ? [rect(at, item[1], "bar-bad")] : []));
  });
  parent.replaceChildren(svg("svg", { viewBox: "0 0 1000 100", preserveAspectRatio: "none", role: "img", "aria-label": label }, ...nodes, ...extra));
}

export function button(label, onclick, attributes = {}) {
  const node = el("button", { type: "button", ...attributes }, label);
  node.addEventListener("click", () => onclick(node));
  return node;
}

// A button that copies the result of `get()`, which may be a promise. If the browser refuses, `source` is selected, so
// that you can press Ctrl+C.
export function copyButton(label, get, attributes = {}, source = null) {
  return button(label, async (node) => {
    let result = "Copied";
    try {
      await navigator.clipboard.writeText(await get());
    } catch {
      result = source ? "Press Ctrl+C" : "Copy failed";
      if (source) getSelection().selectAllChildren(source);
    }
    text(node, result);
    setTimeout(() => text(node, label), 1500);
  }, attributes);
}

const FORMATS = [["html", "HTML report"], ["chrome-trace", "Perfetto trace"], ["jsonl", "JSON Lines"], ["csv", "CSV"]];

// Links that download what `path` exports, in each format.
export function exportLinks(words, path) {
  const links = FORMATS.map(([format, label]) => el("a", { download: true, href: `${path}?format=${format}` }, label));
  return el("span", { class: "exports" }, words, ...links.flatMap((link, at) => [at ? " · " : " ", link]));
}

// A search field. Its text becomes the parameter `name` of the address.
export function searchBox(query, api, label, name = "q") {
  const node = el("input", { type: "search", placeholder: label, "aria-label": label, spellcheck: "false", autocomplete: "off", maxlength: 300 });
  let timer = null;
  node.value = query.get(name) || "";
  node.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => node.isConnected && api.setQuery({ [name]: node.value.trim(), show: "" }), 150);
  });
  return node;
}

// Links that set a filter to one of its values: [[value, label]].
export function filterLinks(path, query, name, values) {
  const links = values.map(([value, label]) => {
    const link = el("a", {}, label);
    link.addEventListener("click", () => attr(link, "href", hash(value)));
    return [value, link];
  });
  function hash(value) {
    const next = new URLSearchParams(query);
    next.delete("show");
    if (value) next.set(name, value);
    else next.delete(name);
    return next.size ? `${path}?${next}` : path;
  }
  for (const [value, link] of links) {
    attr(link, "href", hash(value));
    attr(link, "aria-current", (query.get(name) || "") === value ? "true" : null);
  }
  return el("div", { class: "choice", role: "group", "aria-label": name }, ...links.map(([, link]) => link));
}
