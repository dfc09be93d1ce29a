// The panel about one run: what it was, its workflow, and its spans in order.

import { attr, byId, el, keyed, show, svg, text } from "./dom.js";
import { badge, call, progress, sessionHash as hashOf } from "./parts.js";
import { stamp } from "./time.js";

function fact() {
  const name = el("dt");
  const value = el("dd", { class: "mono" });
  return { node: el("div", {}, name, value), update: (f) => (text(name, f.name), text(value, f.value)) };
}

function relative() {
  const name = el("bdi");
  const anchor = el("a", { class: "name" }, name);
  const relation = el("span", { class: "faint" });
  const mark = badge();
  return {
    node: el("li", { class: "line" }, relation, anchor, mark.node),
    update(other) {
      text(relation, other.relation);
      text(name, other.agent);
      attr(anchor, "href", hashOf(other.session));
      mark.update(other.status, other.tone);
      show(mark.node, Boolean(other.status));
    },
  };
}

function span() {
  const name = el("bdi", { class: "span-name" });
  const mark = el("span", { class: "dot" });
  const status = el("span", { class: "status" });
  const fill = el("span");
  const time = el("span", { class: "num" });
  const error = el("bdi", { class: "why" });
  const more = el("bdi", { class: "faint note-text mono" });
  const label = el("span", { class: "span-label" }, mark, name, status);
  const node = el("li", { class: "span" }, el("div", { class: "span-line" }, label, el("span", { class: "track" }, fill), time), error, more);
  return {
    node,
    update(s) {
      text(name, s.name);
      attr(name, "title", s.name);
      text(status, s.status === "ok" ? "" : s.status);
      attr(node, "data-tone", s.tone);
      attr(node, "data-kind", s.kind);
      node.style.setProperty("--depth", s.depth);
      fill.style.left = `min(${s.left * 100}%, 100% - 2px)`;
      fill.style.width = `max(2px, ${s.width * 100}%)`;
      if (s.since) stamp(time, s.since, "for");
      else {
        stamp(time, null);
        text(time, s.took);
        attr(time, "title", `began ${new Date(s.started).toLocaleString()}`);
      }
      text(error, s.error);
      text(more, s.note);
    },
  };
}

function picture(parent, plan) {
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
  parent.replaceChildren(svg("svg", { viewBox: `0 0 ${plan.width} ${plan.height}`, width: plan.width, height: plan.height, role: "img", "aria-label": "Workflow" },
    svg("defs", {}, arrow), ...edges, ...nodes));
}

async function copy(button, source) {
  try {
    await navigator.clipboard.writeText(source.textContent);
  } catch {
    getSelection().selectAllChildren(source); // then Ctrl+C does it
    return;
  }
  button.textContent = "copied";
  setTimeout(() => (button.textContent = "copy"), 1500);
}

function section(title, ...children) {
  const node = el("section", {}, el("h3", {}, title), ...children);
  return { node, show: (visible) => show(node, visible) };
}

function build(panel) {
  const name = el("bdi");
  const heading = el("h2", { id: "panel-h", tabindex: "-1" }, name);
  const mark = badge();
  const close = el("a", { class: "close", href: "#/", "aria-label": "Close", title: "Close (Esc)" }, "✕");
  const message = el("p", { class: "none" });
  const sub = el("p", { class: "faint" });
  const [time, took] = [el("span"), el("span")];
  const why = el("p", { class: "reason" });
  const facts = el("dl", { class: "facts" });
  const related = el("ul", { class: "related" });
  const step = el("bdi", { class: "step" });
  const bar = progress();
  const position = el("span", { class: "position" });
  const drawn = el("div", { class: "scroll" });
  const mermaid = el("pre", { tabindex: "0" });
  const button = el("button", { type: "button" }, "copy");
  button.addEventListener("click", () => copy(button, mermaid));
  const calls = el("ul", { class: "calls" });
  const spans = el("ol", { class: "spans" });
  const spansMore = el("p", { class: "none" });
  const doing = section("In flight", calls);
  const workflow = section("Workflow", el("div", { class: "line" }, step, position, bar.node), drawn,
    el("details", {}, el("summary", {}, "Mermaid text"), button, mermaid));
  const list = section("Spans", spans, spansMore);
  const body = el("div", {}, sub, el("p", {}, time, took), why, doing.node, related, facts, workflow.node, list.node);
  panel.replaceChildren(el("header", { class: "line" }, mark.node, heading, close), message, body);
  let plan = "";
  return {
    heading,
    message(words) {
      text(message, words);
      show(message, Boolean(words));
    },
    clear(id) {
      text(name, `run ${id.slice(0, 12)}`);
      mark.update("", "idle");
      show(body, false);
    },
    update(run) {
      const running = run.status === "running";
      show(body, true);
      text(name, run.agent);
      mark.update(run.status, run.tone);
      text(sub, [run.where, run.part_of ? `part of ${run.part_of}` : "", `${run.calls} calls`, run.errors && `${run.errors} errors`].filter(Boolean).join(" · "));
      if (running) stamp(time, run.started, "for");
      else stamp(time, run.ended, "ago");
      text(took, running ? " so far" : run.ending && `, ${run.ending}`);
      text(why, run.reason);
      show(why, Boolean(run.reason));
      keyed(calls, run.in_flight, call);
      doing.show(run.in_flight.length > 0);
      text(step, run.step);
      text(position, run.position);
      bar.update(run.fraction, run.step);
      workflow.show(run.steps.length > 0);
      if (plan !== (plan = JSON.stringify(run.drawing))) picture(drawn, run.drawing);
      text(mermaid, run.mermaid);
      keyed(spans, run.spans, span);
      list.show(run.spans.length > 0);
      text(spansMore, run.spans_more);
      keyed(related, run.related, relative);
      keyed(facts, run.facts, fact);
    },
  };
}

// The page of one run.
export function mount(parent, params) {
  const node = el("section", { id: "panel", class: "panel", "aria-labelledby": "panel-h" });
  const id = params[0];
  parent.append(node);
  let drawn = build(node);
  let status = null;
  let last = 0;
  let timer = null;
  let mounted = true;

  async function load() {
    last = Date.now();
    try {
      const answer = await fetch(`/api/session/${encodeURIComponent(id)}/view`);
      const run = await answer.json();
      if (!mounted) return;
      if (answer.ok) {
        status = run.status;
        drawn.message("");
        drawn.update(run);
      } else {
        status = null;
        drawn.clear(id);
        drawn.message(answer.status === 404 ? "No run of this id is known. It may have been cleared." : run.error);
      }
    } catch {
      if (mounted && status === null) drawn.message("The server does not answer.");
    }
  }

  function refresh() {
    if (timer !== null) return;
    timer = setTimeout(() => {
      timer = null;
      if (mounted) load();
    }, Math.max(0, last + 1000 - Date.now()));
  }

  drawn.clear(id);
  drawn.message("Loading…");
  const again = setInterval(() => status === "running" && refresh(), 2000);
  load();
  return {
    update: refresh,
    unmount() {
      mounted = false;
      clearInterval(again);
      clearTimeout(timer);
    },
  };
}
