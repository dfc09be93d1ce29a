// Starts the page: connection, pages, clear dialog, keyboard shortcuts and clock.

import { attr, byId, el, keyed, show, text } from "./dom.js";
import { mount as activityPage } from "./activity.js";
import { connect } from "./live_updates.js";
import { mount as overviewPage } from "./overview.js";
import { copyButton } from "./components.js";
import { router } from "./router.js";
import { mount as runPage } from "./run_page.js";
import { setServerTime, updateRelativeTimes } from "./relative_time.js";
import { mount as toolsPage } from "./tools.js";

const STATES = { live: "live", polling: "updates every 2 s", gone: "disconnected" };

const viewQuery = (page, values, query) => `?${new URLSearchParams([["page", page], ...values, ...query])}`;

const pages = {
  overview: { mount: overviewPage, parent: () => "#/", watch: (params, query) => viewQuery("overview", [], query) },
  tools: {
    mount: toolsPage,
    parent: (params) => (params[0] ? "#/tools" : "#/"),
    watch: (params, query) => (params[0] ? viewQuery("tool", [["name", params[0]]], []) : viewQuery("tools", [], query)),
  },
  activity: { mount: activityPage, parent: () => "#/", watch: (params, query) => viewQuery("activity", [], query) },
  run: { mount: runPage, parent: () => "#/", watch: () => viewQuery("overview", [], []) },
  missing: { mount: notFoundPage, parent: () => "#/", watch: () => viewQuery("overview", [], []) },
};

// For addresses without a page, such as a mistyped one.
function notFoundPage(parent) {
  const address = location.hash;
  const heading = el("h2", { tabindex: -1 }, "Page not found");
  parent.append(el("section", { class: "empty", id: "missing" }, heading, el("p", {}, "There is no page at ", el("code", {}, address), "."),
    el("p", {}, el("a", { href: "#/" }, "Overview"), " · ", el("a", { href: "#/tools" }, "Tools"), " · ", el("a", { href: "#/activity" }, "Activity"))));
  return { update: () => (document.title = "Page not found · pyjama"), unmount() {} };
}

function notice() {
  const node = el("p", { class: "note", role: "status" });
  return { node, update: (n) => (text(node, n.text), attr(node, "class", `note ${n.tone}`)) };
}

const live = connect({
  onView(view) {
    setServerTime(view.now);
    document.title = view.title;
    text(byId("store"), view.store || "");
    text(byId("empty-store"), view.store || "the store");
    keyed(byId("notes"), view.notes.map((n, at) => ({ key: at, ...n })), notice);
    const empty = view.empty && !["run", "missing"].includes(routes.page);
    show(byId("empty"), empty);
    show(byId("page"), !empty);
    show(byId("clear"), view.clearable && !view.empty);
    routes.update(view);
  },
  onState(state) {
    attr(byId("link"), "data-state", state);
    text(byId("link"), STATES[state]);
    show(byId("gone"), state === "gone");
    document.body.classList.toggle("stale", state === "gone");
  },
});

const routes = router(byId("page"), pages, {
  onPage(name) {
    for (const link of byId("nav").children) attr(link, "aria-current", link.dataset.page === name ? "page" : null);
  },
  onWatch: (search, fresh) => live.watch(search, fresh),
});

byId("skip").addEventListener("click", (event) => {
  event.preventDefault();
  byId("main").focus();
});
byId("empty-more").append(copyButton("Copy", () => byId("start").textContent));

// ── clear ────────────────────────────────────────────────────────────────────────────────────────────

async function clear() {
  const answer = await fetch("api/token");
  const { token } = answer.ok ? await answer.json() : {};
  const done = await fetch("api/clear", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ token }) });
  if (!done.ok) throw new Error((await done.json()).error);
}

byId("clear").addEventListener("click", () => {
  text(byId("confirm-error"), "");
  byId("confirm").showModal();
});
byId("confirm-yes").addEventListener("click", async () => {
  try {
    await clear();
    byId("confirm").close();
  } catch (error) {
    text(byId("confirm-error"), `Not cleared: ${error.message}`);
  }
});

// ── keyboard ─────────────────────────────────────────────────────────────────────────────────────────

function focusRow(by) {
  const rows = [...byId("main").querySelectorAll("a[data-nav][href]")].filter((row) => row.offsetParent);
  const at = rows.indexOf(document.activeElement);
  const next = rows[at < 0 ? (by > 0 ? 0 : rows.length - 1) : Math.min(Math.max(at + by, 0), rows.length - 1)];
  if (!next) return;
  next.focus({ preventScroll: true });
  next.scrollIntoView({ block: "nearest" });
}

function focusSearch() {
  const field = byId("page").querySelector("input[type=search]");
  if (field) field.select();
  else routes.up();
}

const SHORTCUTS = {
  "/": focusSearch,
  j: () => focusRow(1),
  k: () => focusRow(-1),
  p: () => byId("pause")?.click(),
  1: () => (location.hash = "#/"),
  2: () => (location.hash = "#/tools"),
  3: () => (location.hash = "#/activity"),
  "?": () => byId("help").showModal(),
  Escape: () => routes.up(),
};

// On the window, so that pages handle keys first and can call preventDefault().
addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (event.target.matches("input, textarea, select")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const act = SHORTCUTS[event.key];
  if (!act) return;
  event.preventDefault();
  act();
});
byId("keys").addEventListener("click", SHORTCUTS["?"]);
for (const dialog of document.querySelectorAll("dialog")) dialog.addEventListener("keydown", (event) => event.stopPropagation());

setInterval(updateRelativeTimes, 1000);
