// The tools page, a table to sort and search, and the page of a single tool.

import { attr, el, keyed, show, svg, text } from "./dom.js";
import { activityRow } from "./activity.js";
import { barChart, button, filterLinks, copyButton, searchBox, sparkline, tile, toolHash } from "./components.js";

const COLUMNS = [["tool", "Tool"], ["calls", "Calls"], ["errors", "Errors"], ["success", "Success"], ["now", "Calls/s"], ["p50", "p50"], ["p95", "p95"], ["p99", "p99"], ["total", "Total time"]];

// A row of these columns; a wide row also has a sparkline and the last error.
export const toolRow = (columns, wide = false) => () => {
  const name = el("bdi", { class: "mono" });
  const anchor = el("a", { class: wide ? "name" : null, "data-nav": wide ? "tool" : null }, name);
  const share = el("span", { class: "share", "aria-hidden": "true" });
  const line = sparkline("calls in the last minute");
  const error = el("bdi", { class: "why one-line" });
  const cells = columns.map((key) => el("td", { class: key === "errors" ? "num errors" : "num" }));
  const node = el("tr", {}, el("th", { scope: "row" }, anchor, share), ...cells);
  if (wide) node.append(el("td", {}, line.node), el("td", { class: "last-error" }, error));
  return {
    node,
    update(tool) {
      text(name, tool.tool);
      attr(anchor, "title", tool.tool);
      attr(anchor, "href", toolHash(tool.key));
      share.style.width = `${tool.share * 100}%`;
      cells.forEach((cell, at) => text(cell, tool[columns[at]]));
      line.update(tool.sparkline);
      text(error, tool.last_error);
      attr(error, "title", tool.last_error);
    },
  };
};

const wideToolRow = toolRow(COLUMNS.slice(1).map(([key]) => key), true);

function toolTable(parent, query, api) {
  const body = el("tbody", { id: "tools-body" });
  let sort = "";
  const heads = COLUMNS.map(([key, label]) => {
    const press = button(label, () => {
      const first = key === "tool" ? key : `-${key}`;
      api.setQuery({ sort: sort === first ? (key === "tool" ? "-tool" : key) : first });
    });
    return [key, el("th", { scope: "col", class: key === "tool" ? null : "num" }, press)];
  });
  const found = el("span", { class: "faint", role: "status" });
  const nothing = el("p", { class: "none" }, "No matching tools.");
  const more = button("", () => api.setQuery({ show: "2500" }), { class: "more" });
  parent.append(
    el("h2", {}, "Tools ", found),
    el("div", { class: "tools-bar", role: "search" }, searchBox(query, api, "Search tools and their errors"),
      filterLinks("#/tools", query, "status", [["", "All"], ["wrong", "With errors"]])),
    el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Tools" }, el("table", { class: "all-tools" },
      el("thead", {}, el("tr", {}, ...heads.map(([, node]) => node), el("th", { scope: "col" }, "Last minute"), el("th", { scope: "col" }, "Last error"))), body)),
    nothing, more);
  return {
    update(view) {
      if (!view.rows) return;
      sort = view.sort;
      for (const [key, node] of heads) attr(node, "aria-sort", sort === key ? "ascending" : sort === `-${key}` ? "descending" : null);
      keyed(body, view.rows, wideToolRow);
      text(found, view.found === view.all ? view.all : `${view.found} of ${view.all}`);
      show(nothing, !view.rows.length);
      text(more, view.more ? `Show ${view.more} more` : "");
      show(more, view.more > 0);
    },
    unmount() {},
  };
}

function toolPage(parent, name) {
  const title = el("bdi", { class: "mono" });
  const facts = el("dl", { class: "totals facts-row", "aria-label": "Figures" });
  const error = el("p", { class: "reason" });
  const missing = el("p", { class: "none" }, "No tool has this name, or its totals were cleared.");
  const chart = el("div", { class: "chart" });
  const marks = el("p", { class: "axis" });
  const line = el("div", { class: "chart" });
  const axis = el("p", { class: "axis" });
  const calls = el("ol", { class: "log wide-log", "aria-label": "Latest calls" });
  const body = el("div", {}, facts, error,
    el("section", {}, el("h3", {}, "Call durations"), chart, marks),
    el("section", {}, el("h3", {}, "Calls in the last ten minutes"), line, axis),
    el("section", {}, el("h3", {}, "Latest calls"), calls,
      el("a", { class: "more", href: `#/activity?${new URLSearchParams({ tool: name })}` }, "All calls of this tool")));
  parent.append(el("p", {}, el("a", { href: "#/tools" }, "← Tools")),
    el("div", { class: "line tool-head" }, el("h2", {}, title), copyButton("Copy name", () => name),
      copyButton("Copy JSON", async () => JSON.stringify(await (await fetch("api/data")).json().then((data) => data.metrics.tools[name] ?? null), null, 2))),
    missing, body);
  let drawn = ["", ""];

  function drawHistogram(shown) {
    if (drawn[0] === (drawn[0] = JSON.stringify(shown))) return;
    if (!shown) return chart.replaceChildren();
    const lines = shown.marks.map(([label, along]) => svg("line", { class: `mark ${label}`, x1: along * 1000, x2: along * 1000, y1: 0, y2: 100 }));
    barChart(chart, shown.bars, `Latency histogram, from ${shown.low} to ${shown.high}`, lines);
    marks.replaceChildren(el("span", {}, shown.low), el("span", {}, shown.marks.map(([label, , time]) => `${label} ${time}`).join(" · ")), el("span", {}, shown.high));
  }

  function drawTimeline(shown) {
    if (drawn[1] === (drawn[1] = JSON.stringify(shown))) return;
    if (!shown) return line.replaceChildren();
    barChart(line, shown.bars, "Calls in the last ten minutes", shown.unknown ? [svg("rect", { class: "unknown", x: 0, y: 0, width: 1000 * shown.unknown, height: 100 })] : []);
    axis.replaceChildren(el("span", {}, shown.unknown ? "10 min ago (grey: no data)" : "10 min ago"), el("span", {}, `peak: ${shown.top} calls in ${shown.seconds} s`), el("span", {}, "now"));
  }

  return {
    update(view) {
      if (view.tool === undefined) return;
      text(title, view.name);
      show(missing, view.tool === null);
      show(body, view.tool !== null);
      if (view.tool === null) return;
      keyed(facts, view.facts, tile);
      text(error, view.last_error && `Last error: ${view.last_error}`);
      show(error, Boolean(view.last_error));
      drawHistogram(view.histogram);
      drawTimeline(view.timeline);
      keyed(calls, view.calls, activityRow);
    },
    unmount() {},
  };
}

export function mount(parent, params, query, api) {
  return params.length && params[0] ? toolPage(parent, params[0]) : toolTable(parent, query, api);
}
