// Starts the page: connection, overview, the page of a session, and the clock.

import { attr, byId, show, text } from "./dom.js";
import { connect } from "./live.js";
import { draw } from "./overview.js";
import { mount } from "./session.js";
import { setServerTime, tick } from "./time.js";

const STATES = { live: "live", polling: "every 2 s", gone: "server gone" };

let page = null;
let shown = "";
let last = null;

const api = {
  go: (hash) => (location.hash = hash),
  setQuery(values) {
    const query = new URLSearchParams(Object.entries(values).filter(([, value]) => value));
    history.replaceState(null, "", `${location.hash.split("?")[0]}${query.size ? `?${query}` : ""}`);
  },
};

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return null;
  }
}

function follow() {
  if (location.hash.startsWith("#/run/")) history.replaceState(null, "", location.hash.replace("#/run/", "#/session/"));
  const [path, query] = location.hash.split("?");
  const id = path.startsWith("#/session/") && decoded(path.slice("#/session/".length));
  if (path === shown && page) return;
  shown = path;
  if (page) page.unmount();
  page = id ? mount(byId("page"), [id], new URLSearchParams(query), api) : null;
  show(byId("page"), Boolean(id));
  show(byId("overview"), !id && last !== null);
  if (!id && last) draw(last);
}

connect({
  onView(view) {
    setServerTime(view.now);
    last = view;
    if (page) page.update(view);
    else draw(view);
  },
  onState(state) {
    attr(byId("link"), "data-state", state);
    text(byId("link"), STATES[state]);
    show(byId("gone"), state === "gone");
    document.body.classList.toggle("stale", state === "gone");
  },
});

window.addEventListener("hashchange", follow);
follow();
setInterval(tick, 1000);
