// The activity page: events as they happen, and older ones from the history on demand.

import { attr, el, keyed, show, text } from "./dom.js";
import { badge, button, filterLinks, searchBox, runHash, toolHash } from "./components.js";
import { relativeTime } from "./relative_time.js";

const MOST_OLDER = 5000;

export function activityRow() {
  const time = el("span", { class: "faint when" });
  const mark = badge();
  const what = el("bdi", { class: "mono tool" });
  const anchor = el("a", {}, what);
  const name = el("bdi");
  const agent = el("a", { class: "agent" }, name);
  const took = el("span", { class: "num faint" });
  const error = el("bdi", { class: "why" });
  const node = el("li", {}, time, mark.node, anchor, agent, took, error);
  return {
    node,
    update(entry) {
      relativeTime(time, entry.at, "ago");
      mark.update(entry.status, entry.tone);
      text(what, entry.kind === "call" || entry.kind === "run" ? entry.what : `${entry.kind} ${entry.what}`);
      attr(anchor, "href", entry.tool ? toolHash(entry.tool) : null);
      text(name, entry.agent);
      attr(agent, "href", entry.session && runHash(entry.session));
      attr(agent, "data-nav", entry.session && "run");
      text(took, entry.took);
      text(error, entry.error);
      attr(node, "data-tone", entry.tone);
    },
  };
}

// A field that filters by an exact name and suggests the known ones.
function nameField(query, api, name, label) {
  const list = el("datalist", { id: `${name}-names` });
  const node = el("input", { type: "text", list: `${name}-names`, placeholder: label, "aria-label": label, autocomplete: "off", spellcheck: "false" });
  node.value = query.get(name) || "";
  node.addEventListener("change", () => api.setQuery({ [name]: node.value }));
  let known = "";
  return {
    node: el("span", {}, node, list),
    update(names) {
      if (known === (known = JSON.stringify(names))) return;
      list.replaceChildren(...names.map((value) => el("option", { value })));
    },
  };
}

export function mount(parent, params, query, api) {
  const rows = el("ol", { id: "entries", class: "log wide-log", "aria-label": "Activity" });
  const agents = nameField(query, api, "agent", "Agent");
  const tools = nameField(query, api, "tool", "Tool");
  const nothing = el("p", { class: "none", role: "status" });
  const state = el("span", { class: "faint", role: "status" });
  let shown = [];
  let older = null;
  let paused = false;
  let latest = null;
  let loading = false;
  const pause = button("Pause", () => setPaused(!paused), { id: "pause", "aria-pressed": "false" });
  const loader = button("Load older entries", loadOlder, { id: "older", class: "more" });

  function setPaused(value) {
    paused = value;
    attr(pause, "aria-pressed", String(paused));
    text(pause, paused ? "Resume" : "Pause");
    if (!paused && latest) showLatest(latest);
    showState();
  }

  function showState() {
    if (!paused) return text(state, "live");
    const known = new Set(shown.map((entry) => entry.key));
    const fresh = latest ? latest.rows.filter((entry) => !known.has(entry.key)).length : 0;
    text(state, fresh ? `paused, ${fresh === latest.rows.length ? "more than " : ""}${fresh} new` : "paused");
  }

  function render(note = "") {
    keyed(rows, shown, activityRow);
    show(loader, older !== null && shown.length < MOST_OLDER);
    text(nothing, note || (shown.length ? (older === null ? "No older entries." : "") : "No matching entries."));
  }

  function showLatest(view) {
    shown = view.rows;
    older = view.older;
    render();
  }

  // Pauses first, so that the entries do not move while you read them.
  async function loadOlder() {
    if (loading || older === null) return;
    loading = true;
    if (!paused) setPaused(true);
    attr(loader, "aria-busy", "true");
    try {
      const answer = await fetch(`api/activity?${new URLSearchParams([...query, ["before", older]])}`);
      if (!answer.ok) throw new Error();
      const past = await answer.json();
      if (!rows.isConnected || !paused) return;
      const known = new Set(shown.map((entry) => entry.key));
      shown = [...shown, ...past.rows.filter((entry) => !known.has(entry.key))];
      older = past.older;
      render(past.rows.length || older === null ? "" : `No matching entries since ${new Date(past.at).toLocaleString()}.`);
    } catch {
      text(nothing, "The dashboard did not respond. Try again.");
    } finally {
      loading = false;
      attr(loader, "aria-busy", null);
    }
  }

  parent.append(
    el("h2", {}, "Activity ", state),
    el("div", { class: "tools-bar", role: "search" }, searchBox(query, api, "Search names, statuses, errors"), agents.node, tools.node,
      filterLinks("#/activity", query, "status", [["", "All"], ["wrong", "Problems"], ["ok", "OK"], ["cancelled", "Cancelled"], ["started", "Started"]]), pause),
    rows, nothing, loader);
  return {
    update(view) {
      if (!view.agents) return;
      agents.update(view.agents);
      tools.update(view.tools);
      latest = view;
      if (!paused) showLatest(view);
      showState();
    },
    toggle: () => setPaused(!paused),
    unmount() {},
  };
}
