// The overview: running runs, problems and finished runs. The server decides what to show and writes all texts.

import { attr, el, keyed, show, text } from "./dom.js";
import { activityRow } from "./activity.js";
import { badge, button, inFlightCall, stepChip, filterLinks, copyButton, exportLinks, progressBar, searchBox, runHash, sparkline, tile } from "./components.js";
import { relativeTime } from "./relative_time.js";
import { toolRow } from "./tools.js";

function linkToRun(session, node) {
  attr(node, "href", session ? runHash(session) : null);
  attr(node, "data-nav", session ? "run" : null);
}

function subtitle(run) {
  return [run.process, run.part_of ? `child of ${run.part_of}` : "", ...run.tags].filter(Boolean).join(" · ");
}

const plural = (number, noun) => `${number} ${noun}${number === "1" ? "" : "s"}`;

// A running, failed or crashed run.
function runCard() {
  const name = el("bdi");
  const agent = el("a", { class: "name" }, name);
  const mark = badge();
  const sub = el("bdi", { class: "faint sub" });
  const why = el("bdi", { class: "why" });
  const step = el("bdi", { class: "step" });
  const done = el("span", { class: "position", title: "steps done" });
  const bar = progressBar();
  const chips = el("ul", { class: "chips" });
  const calls = el("ul", { class: "calls" });
  const more = el("span", { class: "faint" });
  const line = sparkline("calls in the last minute");
  const count = el("span");
  const errors = el("div", { class: "errors" });
  const time = el("span");
  const took = el("div", { class: "faint" });
  const seen = el("span");
  const last = el("div", { class: "faint" }, "last event ", seen);
  const node = el("article", { class: "row" },
    el("div", { class: "who" }, agent, el("div", { class: "line" }, mark.node, sub)),
    el("div", { class: "steps" }, el("div", { class: "line" }, step, done, bar.node), chips),
    el("div", { class: "doing" }, why, calls, more),
    el("div", { class: "pulse" }, line.node, el("div", { class: "faint" }, count), errors),
    el("div", { class: "sums" }, time, took, last));
  return {
    node,
    update(run) {
      const running = run.status === "running";
      attr(node, "data-tone", run.tone);
      mark.update(running ? "" : run.status, run.tone);
      text(name, run.agent);
      attr(agent, "title", run.agent);
      linkToRun(run.session, agent);
      text(sub, subtitle(run));
      text(why, run.reason);
      text(step, run.step);
      text(done, run.done);
      bar.update(run.fraction, run.step);
      keyed(chips, run.steps, stepChip);
      keyed(calls, run.in_flight, inFlightCall);
      text(more, run.in_flight_more ? `and ${run.in_flight_more} more` : running && !run.in_flight.length ? "no call in progress" : "");
      line.update(running ? run.sparkline : "");
      text(count, run.calls === "" ? "" : plural(run.calls, "call"));
      text(errors, run.errors && plural(run.errors, "error"));
      if (running) relativeTime(time, run.started, "for");
      else relativeTime(time, run.ended || run.seen, "ago");
      text(took, run.ending);
      show(last, running);
      relativeTime(seen, running ? run.seen : null, "ago");
    },
  };
}

const cell = (name = "") => el("td", { class: name });

function pastRunRow() {
  const agentName = el("bdi");
  const agent = el("a", { class: "name" }, agentName);
  const parent = el("bdi", { class: "faint sub" });
  const mark = badge();
  const [steps, calls, errors, took, ended] = [cell("num"), cell("num"), cell("num errors"), cell("num"), cell("num faint")];
  const node = el("tr", {}, el("th", { scope: "row" }, agent, parent), el("td", {}, mark.node), steps, calls, errors, took, ended);
  return {
    node,
    update(run) {
      text(agentName, run.agent);
      attr(agent, "title", [run.agent, subtitle(run)].filter(Boolean).join("\n"));
      linkToRun(run.session, agent);
      mark.update(run.status, run.tone);
      text(parent, run.part_of ? `child of ${run.part_of}` : run.reason);
      text(steps, run.done);
      text(calls, run.calls);
      text(errors, run.errors);
      text(took, run.took);
      relativeTime(ended, run.ended, "ago");
    },
  };
}

const tableHead = (...names) => el("thead", {}, el("tr", {}, ...names.map((name, at) => el("th", { scope: "col", class: at && name !== "Status" ? "num" : null }, name))));

function section(id, title, ...children) {
  const count = el("span", { class: "n" });
  const node = el("section", { id: `${id}-section`, "aria-labelledby": `${id}-h` }, el("h2", { id: `${id}-h` }, title, " ", count), ...children);
  return { node, update: (number, visible) => (text(count, number ? String(number) : ""), show(node, visible)) };
}

function scrollArea(label, ...children) {
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label }, ...children);
}

export function mount(parent, params, query, api) {
  const totals = el("dl", { id: "totals", class: "totals", "aria-label": "Totals" });
  const active = el("div", { id: "active", class: "rows" });
  const attention = el("div", { id: "attention", class: "rows" });
  const past = el("tbody", { id: "past" });
  const tools = el("tbody", { id: "tools" });
  const log = el("ol", { id: "log", class: "log" });
  const idle = el("p", { class: "none" }, "Nothing is running.");
  const nothing = el("p", { class: "none", id: "no-match", role: "status" }, "No matching runs.");
  const more = () => button("", () => api.setQuery({ show: String(Number(query.get("show") || 100) + 400) }), { class: "more" });
  const [activeMore, pastMore] = [more(), more()];
  const running = section("active", "Running now", active, idle, activeMore);
  const wrong = section("attention", "Problems", attention);
  const over = section("past", "Finished", scrollArea("Finished", el("table", {}, tableHead("Agent", "Status", "Steps", "Calls", "Errors", "Took", "Ended"), past)), pastMore);
  const top = section("tools", "Tools by total time", scrollArea("Tools", el("table", {}, tableHead("Tool", "Calls", "Errors", "p50", "p95", "Total"), tools)), el("a", { class: "more", href: "#/tools" }, "All tools"));
  const activity = section("log", "Activity", log, el("a", { class: "more", href: "#/activity" }, "All activity"));
  const headName = el("bdi");
  const headWhen = el("span");
  const headline = el("a", { id: "headline", class: "headline" }, headName, " ", headWhen);
  const bar = el("div", { class: "tools-bar", role: "search" },
    searchBox(query, api, "Search agents, tags, tools, steps"),
    filterLinks("#/", query, "status", [["", "All"], ["running", "Running"], ["wrong", "Problems"], ["finished", "Finished"]]),
    copyButton("Copy JSON", async () => (await fetch("api/data")).text()));
  parent.append(totals, headline, bar, el("div", { id: "columns", class: "columns" },
    el("div", { class: "wide" }, nothing, running.node, wrong.node, over.node), el("div", { class: "narrow" }, top.node, activity.node)), el("p", { class: "faint" }, exportLinks("Export all runs:", "api/export")));
  const moreText = (node, number) => (text(node, number ? `Show ${number} more` : ""), show(node, number > 0));
  return {
    update(view) {
      const filtered = Boolean(query.get("q") || query.get("status"));
      keyed(totals, view.totals, tile);
      show(headline, Boolean(view.headline));
      if (view.headline) {
        text(headName, view.headline.text);
        relativeTime(headWhen, view.headline.at, "ago");
        attr(headline, "data-tone", view.headline.tone);
        attr(headline, "href", view.headline.target);
      }
      keyed(active, view.active, runCard);
      keyed(attention, view.attention, runCard);
      keyed(past, view.past, pastRunRow);
      keyed(tools, view.tools, toolRow(["calls", "errors", "p50", "p95", "total"]));
      keyed(log, view.log, activityRow);
      running.update(view.active.length + view.active_more, !filtered || view.active.length > 0);
      wrong.update(view.attention.length, view.attention.length > 0);
      over.update(view.past.length + view.past_more, view.past.length > 0);
      top.update(view.tools.length + view.tools_more, view.tools.length > 0);
      activity.update(0, view.log.length > 0);
      show(idle, !view.active.length);
      show(nothing, filtered && !view.found);
      moreText(activeMore, view.active_more);
      moreText(pastMore, view.past_more);
    },
    unmount() {},
  };
}
