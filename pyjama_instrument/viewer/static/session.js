// The page of one session: its head, its spans on a time line, the chosen span in full, and its relatives.

import { attr, el, keyed, show, svg, text } from "./dom.js";
import { setServerTime, stamp } from "./time.js";
import { waterfall } from "./waterfall.js";

const PAUSE = 700; // between two questions about a session that goes on
const LONG_PAUSE = 5000; // about one that has ended: its relatives may change
const hashOf = (session) => `#/session/${encodeURIComponent(session)}`;

function copier(what, read) {
  const button = el("button", { type: "button", class: "copy", "aria-label": `Copy ${what}` }, "copy");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(read().textContent);
      button.textContent = "copied";
    } catch {
      getSelection().selectAllChildren(read()); // then Ctrl+C does it
      button.textContent = "press Ctrl+C";
    }
    setTimeout(() => (button.textContent = "copy"), 1500);
  });
  return button;
}

function press(label, act, attributes = {}) {
  const button = el("button", { type: "button", ...attributes }, label);
  button.addEventListener("click", act);
  return button;
}

function badge() {
  const node = el("span", { class: "badge" });
  return { node, update: (status, tone) => (text(node, status), attr(node, "data-tone", tone), show(node, Boolean(status))) };
}

function pair(extra) {
  const [name, value, note] = [el("dt"), el("dd"), el("small")];
  const node = el("div", { class: extra }, name, value);
  return {
    node,
    update(f) {
      text(name, f.label ?? f.name);
      text(note, f.note);
      text(value, f.value);
      if (f.note) value.append(note);
      attr(node, "data-tone", f.tone);
    },
  };
}

function relative() {
  const name = el("bdi");
  const link = el("a", { class: "name" }, name);
  const mark = badge();
  const [why, when, sums] = [el("bdi", { class: "why" }), el("span", { class: "faint" }), el("span", { class: "faint" })];
  return {
    node: el("li", {}, mark.node, link, why, sums, when),
    update(other) {
      text(name, other.agent);
      attr(link, "href", hashOf(other.session));
      mark.update(other.status, other.tone);
      text(why, other.why);
      text(sums, [other.calls, other.took].filter(Boolean).join(" · "));
      stamp(when, other.started, "ago");
    },
  };
}

function relatives(title) {
  const [list, more, number] = [el("ul", { class: "kin" }), el("p", { class: "none" }), el("span", { class: "n" })];
  const node = el("section", {}, el("h2", {}, title, " ", number), list, more);
  return {
    node,
    update(some) {
      show(node, some.rows.length > 0);
      text(number, some.rows.length > 1 ? String(some.rows.length) : "");
      keyed(list, some.rows, relative);
      text(more, some.more);
    },
  };
}

function picture(parent, plan, words) {
  const [width, height] = plan.box;
  const arrow = svg("marker", { id: "arrow", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto" },
    svg("path", { d: "M0 0L8 4L0 8z" }));
  const edges = plan.edges.map((corners, at) =>
    svg("polyline", { class: `edge ${plan.nodes[at].state}`, points: corners.map((c) => c.join(",")).join(" "), "marker-end": "url(#arrow)" }));
  const nodes = plan.nodes.map((n) => {
    const label = svg("text", { x: n.x + width / 2, y: n.y + height / 2 + 4 });
    label.textContent = n.label;
    const title = svg("title");
    title.textContent = n.title;
    return svg("g", { class: `node ${n.state}` }, title, svg("rect", { x: n.x, y: n.y, width, height, rx: 7 }), label);
  });
  parent.replaceChildren(svg("svg", { viewBox: `0 0 ${plan.width} ${plan.height}`, width: plan.width, height: plan.height, role: "img", "aria-label": words },
    svg("defs", {}, arrow), ...edges, ...nodes));
}

function header(showSpan) {
  const [name, mark] = [el("bdi"), badge()];
  const heading = el("h1", { tabindex: "-1" }, name);
  const id = el("code", { class: "faint" });
  const [process, began, took, ended] = [el("span"), el("span"), el("span"), el("span")];
  const parent = relatives("Part of");
  const [title, words, seen] = [el("strong"), el("bdi"), el("span")];
  const look = press("Show it", () => showSpan(look.dataset.span));
  const verdict = el("div", { class: "verdict", role: "alert" }, el("p", {}, title), el("p", {}, words, " ", seen), look);
  const [tiles, facts] = [el("dl", { class: "totals sums" }), el("dl", { class: "facts" })];
  const [step, position, bar] = [el("bdi", { class: "step" }), el("span", { class: "position" }), el("progress", { max: "1" })];
  const drawn = el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Drawing of the workflow" });
  const mermaid = el("pre", { tabindex: "0" });
  const workflow = el("section", {}, el("h2", {}, "Workflow"), el("div", { class: "line" }, step, position, bar), drawn,
    el("details", {}, el("summary", {}, "Mermaid"), copier("the diagram", () => mermaid), mermaid));
  let plan = "";
  return {
    heading,
    node: el("div", {}, el("a", { class: "back", href: "#/" }, "← Overview"),
      el("div", { class: "line" }, heading, mark.node),
      el("p", { class: "faint sub" }, began, took, ended, process, el("span", {}, id, " ", copier("the session’s id", () => id))),
      verdict, tiles, facts, parent.node, workflow),
    update(h) {
      document.title = h.title;
      text(name, h.agent);
      mark.update(h.status, h.tone);
      text(id, h.session);
      text(process, h.process);
      const date = (ms) => (ms ? new Date(ms).toLocaleString() : "");
      text(began, h.started ? `began ${date(h.started)}` : "");
      if (h.ended === null) stamp(took, h.started, "for");
      else {
        stamp(took, null);
        text(took, h.took && `took ${h.took}`);
      }
      text(ended, h.ended ? `${h.status === "crashed" ? "last sign of life" : "ended"} ${date(h.ended)}` : "");
      show(verdict, h.verdict !== null);
      if (h.verdict) {
        attr(verdict, "data-tone", h.verdict.tone);
        text(title, h.verdict.title);
        text(words, h.verdict.text);
        stamp(seen, h.verdict.tone === "dead" && h.ended, "ago");
        attr(look, "data-span", h.verdict.span);
        show(look, Boolean(h.verdict.span));
      }
      keyed(tiles, h.tiles, () => pair("tile"));
      keyed(facts, h.facts, () => pair(""));
      parent.update(h.parent);
      show(workflow, h.drawing.nodes.length > 0);
      text(step, h.step);
      text(position, h.position);
      show(bar, h.fraction !== null);
      bar.value = h.fraction ?? 0;
      attr(bar, "aria-label", `Workflow ${h.position}`);
      if (plan !== (plan = JSON.stringify(h.drawing))) picture(drawn, h.drawing, h.steps);
      text(mermaid, h.mermaid);
    },
  };
}

// The chosen span in full.
function details(close, showSpan) {
  const [name, mark] = [el("bdi"), badge()];
  const heading = el("h2", { tabindex: "-1" }, name);
  const [kind, began] = [el("p", { class: "faint" }), el("p", { class: "faint" })];
  const above = press("", () => showSpan(above.dataset.span), { class: "link" });
  const up = el("p", {}, "inside ", above);
  const facts = el("dl", { class: "facts" });
  const error = el("bdi", { class: "reason" });
  const key = el("code");
  const block = (title) => {
    const value = el("pre", { tabindex: "0" });
    const node = el("section", {}, el("h3", {}, title, " ", copier(title.toLowerCase(), () => value)), value);
    return { node, update: (words) => (text(value, words), show(node, Boolean(words))) };
  };
  const [trace, given, result] = [block("Traceback"), block("Arguments"), block("Result")];
  const message = el("p", { class: "none" });
  const body = el("div", {}, kind, began, up, error, trace.node, given.node, result.node, facts,
    el("p", { class: "faint" }, "span ", key, " ", copier("the span’s id", () => key)));
  const node = el("aside", { class: "span-details", "aria-label": "Span", hidden: true },
    el("div", { class: "line" }, heading, mark.node, press("✕", close, { class: "close", "aria-label": "Close", title: "Close (Esc)" })), message, body);
  return {
    node,
    heading,
    update(s, words = "") {
      text(message, words);
      show(body, s !== null);
      if (!s) return;
      text(name, s.name);
      mark.update(s.status, s.tone);
      text(kind, s.kind);
      text(began, `began ${new Date(s.started).toLocaleString()}`);
      show(up, s.above !== null);
      text(above, s.above ? s.above.name : "");
      attr(above, "data-span", s.above && s.above.key);
      text(error, s.error);
      show(error, Boolean(s.error));
      trace.update(s.traceback.join("\n"));
      given.update(s.arguments);
      result.update(s.result);
      keyed(facts, s.facts, () => pair(""));
      text(key, s.key);
    },
  };
}

export function mount(parent, [id], query, api) {
  const url = `/api/session/${encodeURIComponent(id)}`;
  let [version, running, mounted, last, timer] = ["", true, true, 0, null];
  let asked = 0;
  let drawnRow = "";

  function choose(key) {
    if (!spans.has(key)) return;
    spans.choose(key);
    open(key);
    area.scrollIntoView({ block: "nearest" });
  }

  const top = header(choose);
  const detail = details(close, choose);
  const message = el("p", { class: "none", role: "status" }, "Loading…");
  const spans = waterfall({
    changed: () => api.setQuery(spans.state()),
    opened: (key) => (open(key), detail.heading.focus({ preventScroll: true })),
    selected: (key) => !detail.node.hidden && key && open(key),
  });
  const search = el("input", { type: "search", placeholder: "Find spans", "aria-label": "Find spans by name, status or error" });
  const errors = press("", () => spans.filter(search.value, errors.getAttribute("aria-pressed") !== "true"), { "aria-pressed": "false" });
  const number = el("span", { class: "faint", role: "status" });
  search.addEventListener("input", () => spans.filter(search.value, errors.getAttribute("aria-pressed") === "true"));
  const bar = el("div", { class: "wf-tools" }, search, errors, number,
    press("collapse all", () => spans.collapse(true)), press("expand all", () => spans.collapse(false)),
    press("−", () => spans.zoomBy(2), { "aria-label": "Zoom out", title: "Zoom out (-)" }),
    press("+", () => spans.zoomBy(0.5), { "aria-label": "Zoom in", title: "Zoom in (+)" }),
    press("fit", () => spans.zoomToChosen(), { "aria-label": "Zoom to the chosen span", title: "Zoom to the chosen span (z)" }),
    press("all", () => spans.zoomOut(), { "aria-label": "Whole time line", title: "Whole time line (0)" }));
  const more = el("p", { class: "none" });
  const area = el("div", { class: "wf-area" }, spans.node, detail.node);
  const [children, siblings] = [relatives("Child sessions"), relatives("Sessions of the same agent")];
  const body = el("div", { hidden: true }, top.node, el("section", {}, el("h2", {}, "Spans"), bar, area, more), children.node, siblings.node);
  const root = el("article", { class: "session" }, message, body);

  async function open(key) {
    show(detail.node, true);
    const ticket = (asked += 1);
    drawnRow = JSON.stringify(spans.row(key));
    await new Promise((done) => setTimeout(done, 40)); // whoever holds j down is not asked about each row
    if (ticket !== asked) return;
    try {
      const answer = await fetch(`${url}/span?key=${encodeURIComponent(key)}`);
      const span = await answer.json();
      if (ticket === asked && mounted) detail.update(answer.ok ? span : null, answer.ok ? "" : span.error);
    } catch {
      if (ticket === asked) detail.update(null, "The server does not answer.");
    }
  }

  function close() {
    asked += 1;
    show(detail.node, false);
    spans.node.focus({ preventScroll: true });
  }

  function drawBar() {
    const { all, shown, errors: wrong } = spans.count();
    const { q, only } = spans.state();
    if (document.activeElement !== search) search.value = q;
    text(errors, `${wrong} error${wrong === 1 ? "" : "s"}`);
    show(errors, wrong > 0);
    attr(errors, "aria-pressed", String(only === "errors"));
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
      top.update(answer.head);
      children.update(answer.head.children);
      siblings.update(answer.head.siblings);
      text(more, answer.head.more);
    }
    spans.update(answer);
    drawBar();
    const wanted = first ? query.get("span") : null;
    if (wanted) choose(wanted);
    else if (first) top.heading.focus({ preventScroll: true });
    if (!detail.node.hidden && spans.chosen && JSON.stringify(spans.row(spans.chosen)) !== drawnRow) open(spans.chosen);
  }

  async function load() {
    last = Date.now();
    try {
      const answer = await fetch(`${url}/view?since=${encodeURIComponent(version)}`);
      const view = await answer.json();
      if (!mounted) return;
      if (answer.ok) return draw(view);
      version = "";
      show(body, false);
      text(message, answer.status === 404 ? "No session of this id is known. It may have been cleared." : view.error);
      show(message, true);
    } catch {
      if (mounted && !version) text(message, "The server does not answer.");
    }
  }

  function refresh() {
    if (timer !== null || !mounted) return;
    timer = setTimeout(async () => {
      await load();
      timer = null;
    }, Math.max(0, last + (running ? PAUSE : LONG_PAUSE) - Date.now()));
  }

  function key(event) {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || body.hidden) return;
    const at = document.activeElement;
    if (event.key === "Escape") {
      if (at === search && search.value) spans.filter((search.value = ""), false);
      else if (at === search) spans.node.focus();
      else if (!detail.node.hidden) close();
      else api.go("#/");
    } else if (/^(INPUT|TEXTAREA|SELECT)$/.test(at.tagName)) {
      if (event.key !== "Enter" || at !== search) return;
      spans.node.focus();
    } else if (event.key === "/") search.focus();
    else if (/^(j|k|z|0|\+|=|-)$/.test(event.key) || [document.body, top.heading, spans.node].includes(at)) {
      if (!spans.press(event.key)) return;
      if (event.key !== "Enter" && !detail.node.contains(at)) spans.node.focus({ preventScroll: true });
    } else return;
    drawBar();
    event.preventDefault();
  }

  spans.restore(query);
  search.value = query.get("q") || "";
  for (const control of [search, errors, bar]) control.addEventListener(control === search ? "input" : "click", drawBar);
  document.addEventListener("keydown", key);
  const poll = setInterval(() => running && refresh(), 2000);
  parent.replaceChildren(root);
  load();
  return {
    update: refresh,
    unmount() {
      mounted = false;
      clearInterval(poll);
      clearTimeout(timer);
      document.removeEventListener("keydown", key);
      spans.stop();
      root.remove();
    },
  };
}
