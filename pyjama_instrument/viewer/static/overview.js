// Draws the overview from the view model. What to show, and in which words, was decided by the server.

import { attr, byId, el, keyed, show, text } from "./dom.js";
import { stamp } from "./time.js";

export const hashOf = (session) => `#/session/${encodeURIComponent(session)}`;

function link(session, node) {
  attr(node, "href", session ? hashOf(session) : null);
}

export function badge() {
  const node = el("span", { class: "badge" });
  return { node, update: (status, tone) => (text(node, status), attr(node, "data-tone", tone)) };
}

function tile() {
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
      attr(node, "data-tone", t.tone);
    },
  };
}

function note() {
  const node = el("p", { class: "note", role: "status" });
  return { node, update: (n) => (text(node, n.text), attr(node, "class", `note ${n.tone}`)) };
}

const MARKS = { done: "✓", running: "▸", error: "✕", crashed: "✕", cancelled: "–", skipped: "·", pending: "·" };

export function chip() {
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

export function progress() {
  const fill = el("span");
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

export function call() {
  const name = el("bdi", { class: "mono" });
  const time = el("span", { class: "faint" });
  const node = el("li", { class: "call" }, name, time);
  return { node, update: (c) => (text(name, c.tool), stamp(time, c.since, "for")) };
}

function subtitle(run) {
  return [run.where, run.part_of ? `part of ${run.part_of}` : "", ...run.tags].filter(Boolean).join(" · ");
}

// A run under way, or one that went wrong.
function card() {
  const name = el("bdi");
  const agent = el("a", { class: "name" }, name);
  const mark = badge();
  const sub = el("bdi", { class: "faint sub" });
  const why = el("bdi", { class: "why" });
  const step = el("bdi", { class: "step" });
  const position = el("span", { class: "position" });
  const bar = progress();
  const chips = el("ul", { class: "chips" });
  const calls = el("ul", { class: "calls" });
  const more = el("span", { class: "faint" });
  const count = el("span");
  const errors = el("span", { class: "errors" });
  const time = el("div");
  const took = el("div", { class: "faint" });
  const node = el("article", { class: "row" },
    el("div", { class: "who" }, agent, el("div", { class: "line" }, mark.node, sub)),
    el("div", { class: "steps" }, el("div", { class: "line" }, step, position, bar.node), chips),
    el("div", { class: "doing" }, why, calls, more),
    el("div", { class: "sums" }, time, took, el("div", { class: "faint" }, count, errors)));
  return {
    node,
    update(run) {
      const running = run.status === "running";
      attr(node, "data-tone", run.tone);
      attr(node, "data-agent", run.agent);
      mark.update(running ? "" : run.status, run.tone);
      text(name, run.agent);
      attr(agent, "title", run.agent);
      link(run.session, agent);
      text(sub, subtitle(run));
      text(why, run.reason);
      text(step, run.step);
      text(position, run.position);
      bar.update(run.fraction, run.step);
      keyed(chips, run.steps, chip);
      keyed(calls, run.in_flight, call);
      text(more, run.in_flight_more ? `and ${run.in_flight_more} more` : running && !run.in_flight.length ? "no call under way" : "");
      text(count, run.calls === "" ? "" : `${run.calls} call${run.calls === "1" ? "" : "s"}`);
      text(errors, run.errors ? `${run.errors} error${run.errors === "1" ? "" : "s"}` : "");
      if (running) stamp(time, run.started, "for");
      else stamp(time, run.ended || run.seen, "ago");
      text(took, run.ending);
    },
  };
}

function cell(kind = "td", name = "") {
  return el(kind, { class: name });
}

function pastRow() {
  const agentName = el("bdi");
  const agent = el("a", { class: "name" }, agentName);
  const parent = el("bdi", { class: "faint sub" });
  const mark = badge();
  const [steps, calls, errors, took, ended] = [cell("td", "num"), cell("td", "num"), cell("td", "num errors"), cell("td", "num"), cell("td", "num faint")];
  const node = el("tr", {}, el("th", { scope: "row" }, agent, parent), el("td", {}, mark.node), steps, calls, errors, took, ended);
  return {
    node,
    update(run) {
      text(agentName, run.agent);
      attr(agent, "title", [run.agent, subtitle(run)].filter(Boolean).join("\n"));
      link(run.session, agent);
      mark.update(run.status, run.tone);
      text(parent, run.part_of ? `part of ${run.part_of}` : "");
      text(steps, run.position.replace(" done", ""));
      text(calls, run.calls);
      text(errors, run.errors);
      text(took, run.took);
      stamp(ended, run.ended, "ago");
    },
  };
}

function toolRow() {
  const name = el("bdi", { class: "mono" });
  const share = el("span", { class: "share", "aria-hidden": "true" });
  const names = ["calls", "errors", "p50", "p95", "p99", "total"];
  const cells = names.map((key) => cell("td", key === "errors" ? "num errors" : "num"));
  const node = el("tr", {}, el("th", { scope: "row" }, name, share), ...cells);
  return {
    node,
    update(tool) {
      text(name, tool.tool);
      share.style.width = `${tool.share * 100}%`;
      names.forEach((key, at) => text(cells[at], tool[key]));
      attr(cells[1], "title", tool.last_error && `last: ${tool.last_error}`);
      attr(node, "title", tool.success === "–" ? "" : `${tool.success} successful`);
    },
  };
}

function logLine() {
  const mark = badge();
  const agent = el("bdi", { class: "agent" });
  const tool = el("bdi", { class: "mono tool" });
  const time = el("span", { class: "faint" });
  const node = el("li", {}, mark.node, tool, agent, time);
  return {
    node,
    update(entry) {
      mark.update(entry.status, entry.tone);
      text(agent, entry.agent);
      text(tool, entry.tool);
      stamp(time, entry.at, "ago");
    },
  };
}

function more(id, number) {
  text(byId(id), number ? `and ${number} more that are not shown` : "");
}

export function draw(view) {
  document.title = view.title;
  text(byId("store"), view.store || "");
  text(byId("empty-store"), view.store || "the store");
  keyed(byId("notes"), view.notes.map((n, at) => ({ key: at, ...n })), note);
  show(byId("overview"), true);
  show(byId("empty"), view.empty);
  show(byId("columns"), !view.empty);
  show(byId("totals"), !view.empty);
  keyed(byId("totals"), view.totals, tile);
  keyed(byId("active"), view.active, card);
  keyed(byId("attention"), view.attention, card);
  keyed(byId("past"), view.past, pastRow);
  keyed(byId("tools"), view.tools, toolRow);
  keyed(byId("log"), view.log, logLine);
  text(byId("active-n"), view.active.length ? String(view.active.length + view.active_more) : "");
  text(byId("attention-n"), String(view.attention.length));
  text(byId("past-n"), String(view.past.length + view.past_more));
  text(byId("tools-n"), view.tools.length ? String(view.tools.length + view.tools_more) : "");
  show(byId("active-none"), !view.active.length);
  show(byId("wrong"), view.attention.length > 0);
  show(byId("past-runs"), view.past.length > 0);
  show(byId("log-none"), !view.log.length);
  more("active-more", view.active_more);
  more("past-more", view.past_more);
  more("tools-more", view.tools_more);
}
