// The page of one run: header, waterfall of spans, details of the selected span, related runs.

import { attr, el, keyed, show, svg, text } from "./dom.js";
import { badge, button, copyButton, exportLinks, progressBar, runHash } from "./components.js";
import { setServerTime, relativeTime } from "./relative_time.js";
import { waterfall } from "./waterfall.js";

const POLL_RUNNING = 700; // ms
const POLL_ENDED = 5000; // the related runs of an ended run may still change
const TOOLS = [["collapse", "Collapse all", "c"], ["expand", "Expand all", "e"], ["−", "Zoom out", "-"], ["+", "Zoom in", "+"],
  ["zoom to span", "Zoom to the selected span", "z"], ["show all", "Show the whole run", "0"]];

const copyTextButton = (what, source) => copyButton("copy", () => source.textContent, { class: "copy", "aria-label": `Copy ${what}` }, source);

// A text followed by a relative time.
function labelledTime() {
  const [words, time] = [el("bdi"), el("span")];
  return { node: el("span", {}, words, " ", time), update: (m) => (text(words, m.text), relativeTime(time, m.at, m.mode)) };
}

function factItem(f) {
  const [name, value, note] = [el("dt"), el("dd"), el("dd", { class: "beside" })];
  return {
    node: el("div", { class: f.tone && "tile" }, name, value, note),
    update(f) {
      text(name, f.name);
      if (f.at) relativeTime(value, f.at, "ago");
      else text(value, f.value);
      attr(value, "data-tone", f.tone);
      text(note, f.note || "");
    },
  };
}

function relatedRunItem() {
  const [name, mark, why, sums, when] = [el("bdi"), badge(), el("bdi", { class: "why" }), el("span"), el("span")];
  const link = el("a", { class: "name" }, name);
  return {
    node: el("li", {}, mark.node, link, why, sums, when),
    update(other) {
      text(name, other.agent);
      attr(link, "href", runHash(other.session));
      mark.update(other.status, other.tone);
      text(why, other.why);
      text(sums, other.summary);
      relativeTime(when, other.started, "ago");
    },
  };
}

function relatedRuns({ title }) {
  const list = el("ul", { class: "related" });
  return { node: el("section", {}, el("h2", {}, title), list), update: (related) => keyed(list, related.rows, relatedRunItem) };
}

function textBlock({ title }) {
  const words = el("pre", { tabindex: 0 });
  return { node: el("section", {}, el("h3", {}, title, copyTextButton(title, words)), words), update: (b) => text(words, b.text) };
}

function workflowDiagram(plan, words) {
  const [width, height] = plan.box;
  const arrow = svg("marker", { id: "arrow", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto" }, svg("path", { d: "M0 0L8 4L0 8z" }));
  const edges = plan.edges.map((corners) => svg("polyline", { class: "edge", points: corners.join(" "), "marker-end": "url(#arrow)" }));
  const nodes = plan.nodes.map((n) => svg("g", { class: `node ${n.state}` }, svg("title", {}, n.title),
    svg("rect", { x: n.x, y: n.y, width, height, rx: 7 }), svg("text", { x: n.x + width / 2, y: n.y + height / 2 + 4 }, n.label)));
  return svg("svg", { width: plan.width, height: plan.height, role: "img", "aria-label": words }, svg("defs", {}, arrow), ...edges, ...nodes);
}

function runHeader(url, showSpan) {
  const [name, mark, times, id] = [el("bdi"), badge(), el("span", { class: "times" }), el("code")];
  const heading = el("h1", { tabindex: -1 }, name);
  const [title, words] = [el("strong"), labelledTime()];
  const goTo = button("Go to the span", () => showSpan(goTo.value));
  const problem = el("div", { class: "problem", role: "alert" }, title, words.node, goTo);
  const [tiles, facts] = [el("dl", { class: "totals" }), el("dl", { class: "facts" })];
  const [step, done, bar] = [el("bdi", { class: "step" }), el("span", { class: "position" }), progressBar()];
  const [drawn, mermaid] = [el("div", { class: "scroll", tabindex: 0 }), textBlock({ title: "Mermaid" })];
  const workflow = el("section", {}, el("h2", {}, "Workflow"), el("div", { class: "line" }, step, done, bar.node), drawn,
    el("details", {}, el("summary", {}, "Mermaid source"), mermaid.node));
  let plan = "";
  return {
    heading,
    node: el("header", {}, el("a", { class: "back", href: "#/" }, "← Overview"), el("div", { class: "line" }, heading, mark.node),
      el("p", { class: "faint" }, times, el("span", {}, id, " ", copyTextButton("the run’s id", id)), exportLinks("Export this run:", `${url}/export`)), problem, tiles, facts, workflow),
    update(head) {
      text(name, head.agent);
      mark.update(head.status, head.tone);
      text(id, head.session);
      keyed(times, head.times, labelledTime);
      show(problem, head.problem !== null);
      if (head.problem) {
        attr(problem, "data-tone", head.problem.tone);
        text(title, head.problem.title);
        words.update(head.problem);
        goTo.value = head.problem.span;
        show(goTo, head.problem.span !== "");
      }
      keyed(tiles, head.tiles, factItem);
      keyed(facts, head.facts, factItem);
      show(workflow, head.diagram.nodes.length > 0);
      text(step, head.step);
      text(done, head.done && `${head.done} done`);
      bar.update(head.fraction, "Workflow");
      if (plan !== (plan = JSON.stringify(head.diagram))) drawn.replaceChildren(workflowDiagram(head.diagram, head.steps));
      mermaid.update({ text: head.mermaid });
    },
  };
}

// The details of the selected span.
function spanDetails(close) {
  const [name, mark, error, facts, blocks] = [el("bdi"), badge(), el("bdi", { class: "reason" }), el("dl", { class: "facts" }), el("div")];
  const heading = el("h2", { tabindex: -1 }, name);
  const session = el("a", {}, "Open this run");
  return {
    node: el("aside", { "aria-label": "Span", hidden: true },
      el("div", { class: "line" }, heading, mark.node, button("✕", close, { "aria-label": "Close", title: "Close (Esc)" })), session, error, blocks, facts),
    heading,
    update(span) {
      text(name, span.name);
      mark.update(span.status, span.tone);
      text(error, span.error);
      show(error, span.error !== "");
      attr(session, "href", span.session && runHash(span.session));
      show(session, Boolean(span.session));
      keyed(blocks, span.blocks, textBlock);
      keyed(facts, span.facts, factItem);
    },
  };
}

export function mount(parent, [id], query, api) {
  const url = `api/session/${encodeURIComponent(id)}`;
  let version = "";
  let running = true;
  let mounted = true;
  let last = 0; // the time of the last poll
  let timer = null;
  let later = null;
  let ticket = 0; // number of the latest request for a span
  let known = ""; // the row for which the details were requested
  let title = "";

  const top = runHeader(url, choose);
  const detail = spanDetails(close);
  const message = el("p", { class: "none", role: "status" }, "Loading…");
  const spans = waterfall({
    changed() {
      clearTimeout(later); // browsers limit how often the address may change, such as while a key is held down
      later = setTimeout(() => api.setQuery(spans.state()), 100);
      drawTools();
    },
    opened(key) {
      open(key);
      detail.heading.focus({ preventScroll: true });
    },
    selected: (key) => !detail.node.hidden && open(key),
  });
  const search = el("input", { type: "search", placeholder: "Find spans", "aria-label": "Find spans by name, status or error" });
  search.addEventListener("input", () => spans.filter(search.value, only()));
  const errors = button("", () => spans.filter(search.value, !only()));
  const only = () => spans.state().only !== "";
  const number = el("span", { class: "faint", role: "status" });
  const tools = el("div", { class: "wf-tools" }, search, errors, number,
    ...TOOLS.map(([label, title, key]) => button(label, () => spans.handleKey(key), { title: `${title} (${key})`, "aria-label": title })));
  const [area, more, related] = [el("div", { class: "wf-area" }, spans.node, detail.node), el("p", { class: "none" }), el("div")];
  const body = el("div", { hidden: true }, top.node, el("section", {}, el("h2", {}, "Spans"), tools, area, more), related);
  const root = el("article", { class: "session" }, message, body);

  function choose(key) {
    if (!spans.row(key)) return;
    spans.choose(key);
    open(key);
    area.scrollIntoView({ block: "nearest" });
  }

  async function open(key) {
    show(detail.node, true);
    known = JSON.stringify(spans.row(key));
    const mine = (ticket += 1);
    await new Promise((done) => setTimeout(done, 40)); // no request for each row while j is held down
    if (mine !== ticket) return;
    let span = { name: "", error: "The dashboard did not respond.", facts: [], blocks: [] };
    try {
      const answer = await fetch(`${url}/span?key=${encodeURIComponent(key)}`);
      span = { ...span, ...(await answer.json()) };
    } catch {}
    if (mine === ticket) detail.update(span);
  }

  function close() {
    ticket += 1;
    show(detail.node, false);
    spans.node.focus({ preventScroll: true });
  }

  function drawTools() {
    const { all, shown, wrong } = spans.count();
    if (document.activeElement !== search) search.value = spans.state().q;
    text(errors, `${wrong} problem${wrong === 1 ? "" : "s"}`);
    show(errors, wrong > 0 || only());
    attr(errors, "aria-pressed", String(only()));
    text(number, `${shown === all ? "" : `${shown.toLocaleString()} of `}${all.toLocaleString()} spans`);
  }

  function draw(answer) {
    setServerTime(answer.now);
    const first = version === "";
    version = answer.version;
    show(message, false);
    show(body, true);
    if (answer.head) {
      running = answer.head.status === "running";
      document.title = title = answer.head.title;
      top.update(answer.head);
      keyed(related, answer.head.related, relatedRuns);
      text(more, answer.head.more);
    }
    spans.update(answer);
    drawTools();
    const wanted = first && query.get("span");
    if (wanted) choose(wanted);
    else if (first) top.heading.focus({ preventScroll: true });
    const row = spans.row(spans.chosen());
    if (row && !detail.node.hidden && JSON.stringify(row) !== known) open(spans.chosen());
  }

  async function poll() {
    last = Date.now();
    try {
      const answer = await fetch(`${url}/view?since=${encodeURIComponent(version)}`);
      const view = await answer.json();
      if (!mounted) return;
      if (answer.ok) return draw(view);
      version = "";
      show(body, false);
      text(message, answer.status === 404 ? "No run has this id, or it was cleared." : view.error);
      show(message, true);
    } catch {
      if (!version) text(message, "The dashboard did not respond.");
    }
  }

  function schedulePoll() {
    if (title) document.title = title;
    if (timer !== null) return;
    timer = setTimeout(async () => {
      await poll();
      timer = null;
    }, Math.max(0, last + (running ? POLL_RUNNING : POLL_ENDED) - Date.now()));
  }

  function escape(at) {
    if (at === search) {
      search.value = "";
      spans.filter("", only());
      spans.node.focus();
    } else if (!detail.node.hidden) close();
    else api.go("#/");
  }

  function key(event) {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || body.hidden) return;
    const at = document.activeElement;
    if (event.key === "Escape") escape(at);
    else if (at === search && event.key === "Enter") spans.node.focus();
    else if (/^(INPUT|TEXTAREA|SELECT)$/.test(at.tagName)) return;
    else if (event.key === "/") search.focus();
    else if (event.key.length > 1 && at !== spans.node && at.matches("a, button, summary, [tabindex='0']")) return;
    else if (!spans.handleKey(event.key)) return;
    else if (event.key !== "Enter" && !detail.node.contains(at)) spans.node.focus({ preventScroll: true });
    event.preventDefault();
  }

  spans.restore(query);
  document.addEventListener("keydown", key);
  const interval = setInterval(() => running && schedulePoll(), 2000);
  parent.replaceChildren(root);
  poll();
  return {
    update: schedulePoll,
    unmount() {
      mounted = false;
      clearInterval(interval);
      clearTimeout(timer);
      clearTimeout(later);
      document.removeEventListener("keydown", key);
      spans.stop();
      root.remove();
    },
  };
}
